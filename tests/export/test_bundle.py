"""A bundle is whole or not there at all, whatever happens; and what is altered is found."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from pocketgenie.errors import UserError
from pocketgenie.export import staging
from pocketgenie.export.bundle import amended, load_bundle, seal, staged
from pocketgenie.export.manifest import MANIFEST, Draft, GraphEntry
from pocketgenie.genie.spec import MemorySpec, WorldSpec

FILES = (
    "play.onnx",
    "weights.bin",
    "gallery/a.png",
    "clips.npz",
    "reference/world.json",
    "reference/dynamics.safetensors",
)
CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "ctypes.dlsym"}
"""Audit events that stand before a change of the disk, as does an `open` that is not for reading only."""


def draft(version: str) -> Draft:
    """What an exporter would say; `version` tells bundles apart."""
    spec = WorldSpec(
        name="tiny",
        height=16,
        width=16,
        grid=(2, 2),
        codebook=8,
        actions=3,
        steps=2,
        temperature=1.0,
        fps=10,
        memories={"dynamics": MemorySpec(slots=4, entry=(1, 2, 4, 1, 4))},
    )
    return Draft(
        spec=spec,
        target="onnx",
        precision="fp32",
        recipe={"version": version},
        graphs={"play": GraphEntry(file="play.onnx", data=("weights.bin",), inputs=(), outputs=())},
        gallery=("gallery/a.png",),
        clips="clips.npz",
        reference="reference",
        checkpoint_hash="0" * 64,
        versions={},
        licence="Apache-2.0",
    )


def write(destination: Path, version: str, size: int = 1000) -> None:
    """Write a whole bundle whose files all say `version`."""
    with staged(destination) as folder:
        for name in FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(f"{name} {version} ".encode() * (size // 20))
        seal(folder, draft(version))


def amend(destination: Path, version: str) -> None:
    """Write two reports."""
    with amended(destination) as folder:
        (folder / "charts").mkdir()
        (folder / "charts" / "fps.svg").write_text(f"fps {version}" * 10)
        (folder / "report.md").write_text(f"report {version}" * 10)


def version_of(destination: Path) -> str:
    """Which version lies there; it must be whole, and of one piece."""
    version = load_bundle(destination).manifest.recipe["version"]
    for name in FILES:
        assert (destination / name).read_bytes().startswith(f"{name} {version} ".encode())
    return version


def neighbours(destination: Path) -> set[str]:
    """What else lies beside and in a bundle, hidden things included."""
    hidden = {path.name for path in destination.glob(".*")}
    return hidden | {path.name for path in destination.parent.iterdir()} - {destination.name}


def in_child(work: Callable[[], None]) -> int:
    """Start `work` in a forked process -> its id."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except UserError as error:
            print(error, file=sys.stderr)
            os._exit(2)
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            os._exit(1)
        os._exit(0)
    return child


def ended(child: int) -> int:
    """Wait -> exit status, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write(tmp_path / "world", "old")
    return tmp_path / "world"


def test_a_bundle_comes_back_as_it_was_written(bundle: Path):
    loaded = load_bundle(bundle)
    assert set(loaded.manifest.files) == set(FILES)
    assert dict(loaded.manifest) == dict(draft("old")) | {
        name: getattr(loaded.manifest, name) for name in ("schema_version", "created", "files", "seal")
    }
    assert loaded.manifest.graph_files("play") == {"play.onnx", "weights.bin"}
    assert loaded.path("gallery/a.png").read_bytes().startswith(b"gallery/a.png old")
    assert neighbours(bundle) == set()


def test_a_newer_bundle_takes_the_place_of_the_older(bundle: Path):
    (bundle / "old.txt").touch()
    write(bundle, "new")
    assert version_of(bundle) == "new"
    assert not (bundle / "old.txt").exists()
    assert neighbours(bundle) == set()


def test_what_is_read_only_is_all_that_is_hashed(bundle: Path):
    flip(bundle / "clips.npz")
    load_bundle(bundle, only={"play.onnx", "weights.bin"}).verify({"gallery/a.png"})
    with pytest.raises(UserError, match=r"clips\.npz is altered"):
        load_bundle(bundle, only={"clips.npz"})


def flip(path: Path) -> None:
    """One bit, in the middle."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("name", [*FILES, "report.md", MANIFEST])
def test_one_flipped_bit_is_found(bundle: Path, name: str):
    amend(bundle, "1")
    load_bundle(bundle)
    flip(bundle / name)
    with pytest.raises(UserError, match=name):
        load_bundle(bundle)


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("what", ["gone", "cut", "folder", "pipe", "link out", "link in a circle"])
def test_what_is_no_longer_the_file_is_found(bundle: Path, name: str, what: str):
    path = bundle / name
    content = path.read_bytes()
    path.unlink()
    if what == "cut":
        path.write_bytes(content[:-1])
    elif what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "link out":
        (bundle.parent / "outside").write_bytes(content)
        path.symlink_to(bundle.parent / "outside")
    elif what == "link in a circle":
        path.symlink_to(path)
    with pytest.raises(UserError, match="no bundle" if (what, name) == ("gone", MANIFEST) else path.name):
        load_bundle(bundle)


def test_a_linked_folder_that_leads_out_is_found(bundle: Path):
    (bundle / "reference").rename(bundle.parent / "elsewhere")
    (bundle / "reference").symlink_to(bundle.parent / "elsewhere")
    with pytest.raises(UserError, match="leaves the bundle"):
        load_bundle(bundle)


def test_a_link_to_a_bundle_is_the_bundle(bundle: Path):
    link = bundle.parent / "link"
    link.symlink_to(bundle)
    assert version_of(link) == "old"
    write(link, "new")
    assert link.is_symlink()
    assert version_of(bundle) == "new"


@pytest.mark.parametrize("what", ["missing", "file", "empty", "filled", "json"])
def test_only_a_bundle_is_loaded_or_replaced(tmp_path: Path, what: str):
    place = tmp_path / "place"
    if what == "file":
        place.write_text("a letter")
    elif what != "missing":
        place.mkdir()
    if what in ("filled", "json"):
        (place / (MANIFEST if what == "json" else "letter.txt")).write_text('["schema_version"]')
    with pytest.raises(UserError):
        load_bundle(place)
    if what in ("missing", "empty"):
        write(place, "new")
        assert version_of(place) == "new"
    else:
        with pytest.raises(UserError, match="choose another folder"):
            write(place, "new")
    assert neighbours(place) == set()


def test_an_error_or_an_interruption_changes_nothing(bundle: Path):
    for wrong in (ValueError, KeyboardInterrupt):
        with pytest.raises(wrong), staged(bundle) as folder:
            (folder / "play.onnx").write_text("half")
            raise wrong
        with pytest.raises(wrong), amended(bundle) as folder:
            (folder / "report.md").write_text("half")
            raise wrong
    assert version_of(bundle) == "old"
    assert not (bundle / "report.md").exists()
    assert neighbours(bundle) == set()


def test_reports_are_added_and_replaced(bundle: Path):
    amend(bundle, "1")
    first = load_bundle(bundle).manifest
    assert set(first.files) == {*FILES, "report.md", "charts/fps.svg"}
    amend(bundle, "2")
    assert load_bundle(bundle).manifest.created == first.created
    assert (bundle / "report.md").read_text().startswith("report 2")
    assert neighbours(bundle) == set()


def killed_at(change: int, work: Callable[[], None]) -> int:
    """Run `work` in a child that kills itself before the n-th change of the disk -> its exit status."""

    def child() -> None:
        left = change

        def hook(event: str, values: tuple) -> None:
            nonlocal left
            if event in CHANGES or (event == "open" and values[2] & (os.O_WRONLY | os.O_RDWR)):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        work()

    return ended(in_child(child))


@pytest.mark.parametrize("exchange", [True, False], ids=["exchange", "two renames"])
@pytest.mark.parametrize("older", [True, False], ids=["older", "none"])
def test_kill_before_every_change_of_an_export(tmp_path: Path, exchange: bool, older: bool, monkeypatch):
    if not exchange:
        monkeypatch.setattr(staging, "_exchange", lambda one, other: False)
    destination = tmp_path / "world"
    if older:
        write(destination, "old")
    seen, change, status = [], 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        status = killed_at(change, lambda: write(destination, "new"))
        if exchange and older:
            assert (destination / MANIFEST).exists()  # also for those who do not ask load_bundle
        try:
            seen.append(version_of(destination))
        except UserError as error:
            assert "is no bundle" in str(error)
            assert not older
            seen.append("none")
        write(destination, "old")
        assert neighbours(destination) == set()
        if not older:
            shutil.rmtree(destination)
        change += 1
    assert status == 0
    before = "old" if older else "none"
    assert seen == [before] * seen.count(before) + ["new"] * seen.count("new")  # it changes once, for good
    assert seen.count(before) > 10
    assert seen.count("new") > 2


def test_kill_before_every_change_of_an_amendment(bundle: Path):
    amend(bundle, "1")
    seen, change, status = set(), 0, -signal.SIGKILL
    while status == -signal.SIGKILL:
        status = killed_at(change, lambda: amend(bundle, "2"))
        assert version_of(bundle) == "old"
        named = load_bundle(bundle).manifest.files.keys() - set(FILES)
        seen.add((*sorted((bundle / name).read_text()[:8] for name in named),))
        amend(bundle, "1")
        assert load_bundle(bundle).manifest.files.keys() - set(FILES) == {"report.md", "charts/fps.svg"}
        assert neighbours(bundle) == set()
        change += 1
    assert status == 0
    assert seen == {("fps 1fps", "report 1"), (), ("fps 2fps", "report 2")}


def test_kill_at_random_moments(bundle: Path):
    for round_ in range(12):
        child = in_child(lambda: again(100, lambda: write(bundle, "new", size=2_000_000)))
        time.sleep(random.uniform(0, 0.3))
        os.kill(child, signal.SIGKILL)
        assert ended(child) == -signal.SIGKILL
        assert version_of(bundle) in ("old", "new"), round_
    write(bundle, "last")
    assert version_of(bundle) == "last"
    assert neighbours(bundle) == set()


def test_one_writer_at_a_time(bundle: Path):
    with staged(bundle) as folder:
        assert ended(in_child(lambda: write(bundle, "other"))) == 2
        with pytest.raises(UserError, match="another process is writing"):
            write(bundle, "other")
        (folder / "play.onnx").touch()
        assert version_of(bundle) == "old"
        with amended(bundle) as reports, pytest.raises(UserError, match="another process is writing"):
            (reports / "report.md").touch()
            amend(bundle, "other")
        for name in FILES:
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(f"{name} mine ".encode())
        seal(folder, draft("mine"))
    assert version_of(bundle) == "mine"
    assert neighbours(bundle) == set()


def test_many_writers_at_once(bundle: Path):
    writers = [partial(write, bundle, f"v{number}", 50_000) for number in range(4)]
    works = [partial(attempt, writer) for writer in (*writers, partial(amend, bundle, "1"))]
    children = [in_child(partial(again, 30, work)) for work in works]
    assert [ended(child) for child in children] == [0] * 5
    assert version_of(bundle) in ("v0", "v1", "v2", "v3")
    assert neighbours(bundle) == set()


def again(times: int, work: Callable[[], None]) -> None:
    """Over and over."""
    for _ in range(times):
        work()


def attempt(work: Callable[[], None]) -> None:
    """Do it, or be told in words why not."""
    try:
        work()
    except UserError as error:
        assert any(
            words in str(error) for words in ("another process", "replaced meanwhile", "altered", "missing")
        ), error


def test_reports_of_a_bundle_that_was_replaced_meanwhile_are_given_up(bundle: Path):
    with pytest.raises(UserError, match="replaced meanwhile"), amended(bundle) as folder:
        (folder / "report.md").touch()
        write(bundle, "new")
    assert version_of(bundle) == "new"
    assert set(load_bundle(bundle).manifest.files) == set(FILES)
    assert neighbours(bundle) == set()


def test_too_little_space_is_said_before_anything_is_done(bundle: Path):
    with pytest.raises(UserError, match=r"no space left on .* MB are needed"), staged(bundle, needed=10**18):
        raise AssertionError("began all the same")
    assert neighbours(bundle) == set()


def test_a_file_limit_is_like_a_full_disk(bundle: Path, capfd: pytest.CaptureFixture[str]):
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        write(bundle, "new", size=1_000_000)

    assert ended(in_child(limited)) == 2
    assert "no space left on" in capfd.readouterr().err
    assert version_of(bundle) == "old"
    assert neighbours(bundle) == set()


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 2 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run(
            [mount, "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True
        ).returncode
    ):
        pytest.skip("mounting a small file system is not allowed here")
    yield disk
    subprocess.run(["umount", disk], check=True)


def test_a_full_disk_leaves_the_older_bundle(small_disk: Path):
    bundle = small_disk / "world"
    write(bundle, "old", size=100_000)
    for size in (150_000, 250_000, 900_000, 5_000_000):
        try:
            write(bundle, "new", size=size)
            write(bundle, "old", size=100_000)
        except UserError as error:
            assert "no space left on" in str(error)
            assert size > 200_000
        assert version_of(bundle) == "old"
        assert neighbours(bundle) == set()
    with pytest.raises(UserError, match="no space left on"), amended(bundle) as folder:
        (folder / "report.html").write_bytes(bytes(5_000_000))
    assert version_of(bundle) == "old"
    assert neighbours(bundle) == set()


def test_every_last_byte_of_a_disk(small_disk: Path):
    """Where exactly it is full does not matter: while files are written, hashed, or the manifest is."""
    bundle = small_disk / "world"
    write(bundle, "old")
    filler = small_disk / "filler"
    full = 0
    for pages in range(24):
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - 4096 * pages))
        for work in (lambda: write(bundle, "old"), lambda: amend(bundle, "1")):
            try:
                work()
            except UserError as error:
                assert "no space left on" in str(error)
                full += 1
            except OSError as error:
                assert error.errno in staging.DISK_FULL
                full += 1
            assert version_of(bundle) == "old"
            assert neighbours(bundle) <= {"filler"}
        filler.unlink()
    assert 10 < full < 48
