"""The wheel holds every package. An editable install would hide one that pyproject.toml forgot."""

import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if path.parent.name != "pocketgenie")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build in a copy, so that an old build/ cannot lend the wheel its files."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("pocketgenie", *FOLDERS):
        shutil.copytree(
            ROOT / name, source / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__")
        )
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def read(wheel, name):
    (entry,) = (entry for entry in wheel.namelist() if entry.endswith(f".dist-info/{name}"))
    return wheel.read(entry).decode()


def test_every_file_of_every_package_is_in_the_wheel(wheel):
    wanted = {f"pocketgenie/{path.name}" for path in (ROOT / "pocketgenie").iterdir() if path.is_file()}
    for folder in FOLDERS:
        files = (path.relative_to(ROOT) for path in (ROOT / folder).rglob("*") if path.is_file())
        wanted |= {f"pocketgenie/{path}" for path in files if "__pycache__" not in path.parts}
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == wanted
    assert {"pocketgenie/py.typed", "pocketgenie/cli.py"} <= held
    assert any(name.startswith("pocketgenie/genie/configs/") for name in held)


def test_the_links_name_the_same_folders():
    links = {
        path.name: str(path.readlink()) for path in (ROOT / "pocketgenie").iterdir() if path.is_symlink()
    }
    assert links == {folder: f"../{folder}" for folder in FOLDERS}


def test_the_wheel_has_the_command_and_the_licence(wheel):
    assert "pocketgenie = pocketgenie.cli:main" in read(wheel, "entry_points.txt")
    assert "Apache License" in read(wheel, "licenses/LICENSE")


def test_the_base_install_is_free_of_torch(wheel):
    required = Parser().parsestr(read(wheel, "METADATA")).get_all("Requires-Dist", [])
    base = {re.split(r"[^A-Za-z0-9_.-]", line)[0] for line in required if "extra ==" not in line}
    assert base == {"numpy", "onnxruntime", "pillow", "psutil", "pydantic", "rich", "textual", "typer"}
