"""Folders that are replaced whole or not at all, whatever kills the process.

A folder NAME is prepared in `.NAME.part/new` beside it. Linux then exchanges the two in one step; elsewhere
the older one is `.NAME.old` between two renames, and `restore` puts it back if the process was killed there.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

from pocketgenie.errors import UserError

if sys.platform != "win32":
    import fcntl

DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
RENAME_EXCHANGE, AT_FDCWD = 2, -100  # linux/fs.h, linux/fcntl.h


def beside(folder: Path, what: str) -> Path:
    """The hidden neighbour `.NAME.what` of a folder."""
    return folder.with_name(f".{folder.name}.{what}")


@contextmanager
def workspace(work: Path) -> Iterator[Path]:
    """The empty folder `work/new`, for this process alone; `work` is gone in the end.

    What a killed process left in `work` is removed first. Raises UserError when another process is at work
    there, when the disk is full, and when somebody took the folder away.
    """
    with _lock(work):
        new = work / "new"
        _empty(work)
        try:
            new.mkdir()
            yield new
        except OSError as error:
            if not work.is_dir():
                raise UserError(f"{work.parent} was replaced meanwhile; run this again") from error
            if error.errno in DISK_FULL:
                raise no_space(work.parent, size_of(new)) from error
            raise
        finally:
            _empty(work)


def no_space(folder: Path, needed: int) -> UserError:
    """The disk that holds `folder` is full; `needed` is in bytes."""
    return UserError(
        f"no space left on {folder}; {needed / 1e6:.0f} MB are needed or more, "
        f"{shutil.disk_usage(folder).free / 1e6:.0f} MB are free: make room or choose another folder"
    )


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def swap(new: Path, destination: Path) -> None:
    """Put `new` at `destination`; what was there goes. At every moment one of the two is there and whole."""
    old = beside(destination, "old")
    try:
        if not destination.exists():
            os.rename(new, destination)
        elif not _exchange(new, destination):
            shutil.rmtree(old, ignore_errors=True)
            os.rename(destination, old)
            os.rename(new, destination)
    except OSError as error:
        if old.exists() and not destination.exists():
            os.rename(old, destination)
        raise UserError(f"cannot replace {destination} ({error.strerror}); choose another folder") from error
    flush_folder(destination.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore(destination: Path) -> None:
    """Put back the older folder where a process was killed between the two renames of `swap`."""
    if destination.exists() or not (old := beside(destination.resolve(), "old")).is_dir():
        return
    with _lock(beside(destination.resolve(), "part")):
        if not destination.exists():
            os.rename(old, destination.resolve())


def flush_folder(folder: Path) -> None:
    """Write a folder's names to the disk."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two folders in one step; False where the system cannot."""
    if sys.platform != "linux" or (renameat2 := getattr(ctypes.CDLL(None), "renameat2", None)) is None:
        return False
    paths = os.fsencode(one), os.fsencode(other)
    return bool(renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], RENAME_EXCHANGE) == 0)


@contextmanager
def _lock(work: Path) -> Iterator[None]:
    """Hold `work/lock`, which dies with the process. `work` is made first and removed in the end."""
    path = work / "lock"
    file = None
    while file is None:
        work.mkdir(exist_ok=True)
        file = _acquire(path)
    with file:
        try:
            yield
        finally:
            with suppress(OSError):
                path.unlink()
                work.rmdir()


def _empty(work: Path) -> None:
    """Remove all but the lock."""
    with suppress(FileNotFoundError):
        for path in work.iterdir():
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != "lock":
                path.unlink()


def _acquire(path: Path) -> IO[bytes] | None:
    """The locked file, or None where the process that held it has just removed it."""
    try:
        with ExitStack() as closing:
            file = closing.enter_context(open(path, "ab"))
            if sys.platform != "win32":
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return None
            closing.pop_all()
            return file
    except FileNotFoundError:
        return None
    except BlockingIOError:
        raise UserError(f"another process is writing in {path.parent}; wait until it ends") from None
