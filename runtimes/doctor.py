"""Which runtimes work here, and what mends the others. Nothing is installed; torch is never imported here."""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Final, Literal

import psutil
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import Frozen
from pocketgenie.runtimes.machine import describe, versions
from pocketgenie.runtimes.table import RUNTIMES, Runtime
from pocketgenie.runtimes.worker import Worker, WorkerFailed

SCHEMA: Final = 1
TIMEOUT = 120.0  # seconds; importing torch from a cold disk takes many
INSTRUCTIONS = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "avx512_bf16", "amx_int8", "amx_bf16"),  # x86
    *("asimd", "asimddp", "i8mm", "bf16", "sve"),  # ARM
)
"""What decides how fast matrices are multiplied, by the names of /proc/cpuinfo."""


class Finding(Frozen):
    """One runtime, tried in a process of its own."""

    runtime: str
    description: str
    works: bool
    detail: str
    """What was found, or why it does not work."""
    mend: str
    """The command that mends it; empty where it works."""


class Report(Frozen):
    """What `doctor --json` writes."""

    schema_version: Literal[1] = SCHEMA
    runtimes: tuple[Finding, ...]
    machine: dict[str, str]
    versions: dict[str, str]


class Trial:
    """Imports a runtime and what it needs, and lets it try itself. Raises UserError for what is missing."""

    def __init__(self, row: Runtime) -> None:
        for name in row.needs:
            try:
                import_module(name)
            except ModuleNotFoundError as error:
                raise UserError(f"{error.name} is not installed") from None
        self.found: str = getattr(import_module(row.module), row.probe)()

    def answer(self) -> str:
        """What works."""
        return self.found


def examine(row: Runtime) -> Finding:
    """Try one runtime; a crash or a hang is a finding too."""
    try:
        with Worker(row.name, Trial, row, timeout=TIMEOUT) as worker:
            works, detail, mend = True, str(worker.call("answer")), ""
    except WorkerFailed as failure:
        works, (detail, _, mend) = False, str(failure).partition("; ")
        mend = mend or row.mend  # a runtime that knows better than its row says so
    return Finding(runtime=row.name, description=row.description, works=works, detail=detail, mend=mend)


def diagnose(rows: Iterable[Runtime] = RUNTIMES.values()) -> Report:
    """Try all runtimes, side by side, and look at the machine."""
    with ThreadPoolExecutor() as pool:
        findings = tuple(pool.map(examine, rows))
    return Report(runtimes=findings, machine=_machine(), versions=versions())


def render(report: Report) -> RenderableType:
    """For a terminal of 80 columns."""
    runtimes = Table("runtime", "here", "what was found", box=box.SIMPLE_HEAD)
    for finding in report.runtimes:
        here = Text("yes", "bold green") if finding.works else Text("no", "bold red")
        mend = (f"\n{finding.mend}", "bold") if finding.mend else ""
        runtimes.add_row(
            finding.runtime, here, Text.assemble(finding.detail, mend, (f"\n{finding.description}", "dim"))
        )
    return Group(runtimes, _facts(report.machine), Text(), _facts(report.versions))


def _facts(facts: Mapping[str, str]) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 1))
    for name, value in facts.items():
        table.add_row(Text(name, "dim"), Text(value))
    return table


def _machine() -> dict[str, str]:
    machine, memory, folder = describe(), psutil.virtual_memory(), Path.cwd()
    physical, logical = psutil.cpu_count(logical=False), psutil.cpu_count()
    return {
        "system": machine.system,
        "cpu": machine.cpu,
        "cores": f"{physical} physical, {logical} logical; a runtime takes {machine.cores}",
        "instructions": " ".join(name for name in INSTRUCTIONS if name in _cpu_flags()) or "unknown",
        "memory": f"{memory.total / 1e9:.1f} GB, {memory.available / 1e9:.1f} GB available",
        "gpu": _gpu(),
        "disk": f"{shutil.disk_usage(folder).free / 1e9:.1f} GB free at {folder}",
    }


def _cpu_flags() -> set[str]:
    """The CPU's features as Linux names them; empty elsewhere."""
    if platform.system() == "Linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("flags", "Features")):
                return set(line.partition(":")[2].split())
    return set()


def _gpu() -> str:
    """NVIDIA's cards and driver."""
    query = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        shown = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except FileNotFoundError:
        return "none (there is no nvidia-smi)"
    except (OSError, subprocess.SubprocessError) as error:
        return f"none (nvidia-smi: {error})"
    return "; ".join(shown.splitlines()) or "none"
