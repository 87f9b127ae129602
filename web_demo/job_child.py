"""The process of a job: reads its order from standard input, prints progress as lines of JSON (jobs.py)."""

from __future__ import annotations

import json
import sys
from typing import Annotated

from pydantic import Field, TypeAdapter

from pocketgenie.errors import UserError
from pocketgenie.web_demo.jobs import CheckOrder, ExportOrder, Order


def tell(**said: str) -> None:
    """One line for the parent."""
    print(json.dumps(said), flush=True)


def check(order: CheckOrder) -> str:
    """`check` with its report -> the verdicts in words"""
    from pocketgenie.runtimes.check import check as run
    from pocketgenie.runtimes.lineup import Options
    from pocketgenie.runtimes.publish import publish

    def report(what: str) -> None:
        tell(at=what)

    document, shown = run(order.bundle, order.runtimes, Options(frames=order.frames), report)
    report("writing the report")
    publish(order.bundle, document, shown)
    return "; ".join(f"{row.name}: {row.status}" for row in document.runtimes)


def export(order: ExportOrder) -> str:
    """`export` -> what was made in words"""
    from pocketgenie.export.world import ExportOptions, export_checkpoint

    tell(at="reading the checkpoint")
    options = ExportOptions(target=order.target, precision=order.precision, cards=order.cards)
    manifest = export_checkpoint(order.checkpoint, order.destination, options, lambda what: tell(at=what))
    size = sum(entry.size for entry in manifest.files.values()) / 1e6
    return f"{order.destination.name}: {len(manifest.graphs)} graphs, {size:.1f} MB"


def main() -> int:
    """Carry the order out -> exit code"""
    adapter: TypeAdapter[Order] = TypeAdapter(Annotated[Order, Field(discriminator="kind")])
    order = adapter.validate_json(sys.stdin.read())
    try:
        tell(at="starting")
        tell(done=check(order) if isinstance(order, CheckOrder) else export(order))
    except UserError as error:
        tell(error=str(error))
        return 2
    except ModuleNotFoundError as error:
        tell(error=f"{error.name} is not installed; pip install 'pocketgenie[export]'")
        return 2
    except OSError as error:
        tell(error=f"{error.strerror or error}: {error.filename or 'while writing'}")
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
