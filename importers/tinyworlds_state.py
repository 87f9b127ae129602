"""The plain values of a TinyWorlds `state.pt`, read without executing anything.

The file is a pickle that names classes of the project, so neither `weights_only` nor plain unpickling reads
it elsewhere. Here its opcodes are read as data: dicts, lists, strings and numbers come out; whatever a class
would make is one inert `Foreign`.
"""

from __future__ import annotations

import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pocketgenie.errors import UserError

LARGEST: Final = 1 << 24
"""Bytes; the files are some 3 KB."""


@dataclass(frozen=True)
class Foreign:
    """What a class of the project would have made."""


FOREIGN: Final = Foreign()
PLAIN: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
GIVEN: Final = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
EMPTY: Final = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
CALLS: Final = {"REDUCE": 2, "NEWOBJ": 2, "NEWOBJ_EX": 3, "BUILD": 2, "STACK_GLOBAL": 2, "BINPERSID": 1}
"""Opcodes that would make something of a class -> how many values they take."""


def read_state(path: Path) -> dict[str, Any]:
    """The dict that was saved at `path`. Raises UserError."""
    try:
        with zipfile.ZipFile(path) as archive:
            inside = next(item for item in archive.infolist() if item.filename.endswith("/data.pkl"))
            if inside.file_size > LARGEST:
                raise ValueError(f"{inside.file_size} bytes of state")
            state = plain_values(archive.read(inside))
    except FileNotFoundError:
        raise UserError(f"{path} is not there; copy the whole checkpoint directory") from None
    except UserError:
        raise
    except Exception as error:  # zip, zlib and pickle readers raise what they like on damaged bytes
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} is damaged or no PyTorch file ({why}); copy it again") from None
    if not isinstance(state, dict):
        raise UserError(f"{path} holds no training state; is it another project's?")
    return state


def plain_values(data: bytes) -> Any:
    """What a pickle stands for, classes left out. Raises ValueError, TypeError, IndexError, KeyError."""
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

    def since_mark() -> list[Any]:
        at = marks.pop()
        taken, stack[at:] = stack[at:], []
        return taken

    for opcode, arg, _ in pickletools.genops(data):
        name = opcode.name
        if name in ("PROTO", "FRAME"):
            continue
        if name == "STOP":
            return stack.pop()
        if name == "MARK":
            marks.append(len(stack))
        elif name in PLAIN:
            stack.append(PLAIN[name])
        elif name in GIVEN:
            stack.append(arg)
        elif name in EMPTY:
            stack.append(EMPTY[name]())
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[int(str(arg))] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo[int(str(arg))])
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif name == "TUPLE":
            stack.append(tuple(since_mark()))
        elif name in ("LIST", "DICT"):
            items = since_mark()
            stack.append(items if name == "LIST" else dict(zip(items[::2], items[1::2], strict=True)))
        elif name in ("APPEND", "APPENDS"):
            items = since_mark() if name == "APPENDS" else [stack.pop()]
            if isinstance(stack[-1], list):
                stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = since_mark() if name == "SETITEMS" else [stack.pop() for _ in range(2)][::-1]
            if isinstance(stack[-1], dict):
                stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(FOREIGN)
        elif name in CALLS:
            stack[-CALLS[name] :] = [FOREIGN]
        else:
            raise ValueError(f"opcode {name} is not known here")
    raise ValueError("it ends too early")
