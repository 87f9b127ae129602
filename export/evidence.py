"""The proof in a report: parity with its bounds, what did not run, the files, where all of it comes from."""

from __future__ import annotations

from pocketgenie.export.figures import headline_row
from pocketgenie.export.manifest import Manifest
from pocketgenie.export.page import Block, Section, Table, Text
from pocketgenie.runtimes.bounds import BOUNDS
from pocketgenie.runtimes.quality import LEAST_DB, least_separation
from pocketgenie.runtimes.results import CheckDocument, ParityFigures, RuntimeRow, TeacherFigures

RUNGS = {
    "artefact": "L0 artefact",
    "pass_": "L1 pass",
    "frame": "L2 frame",
    "rollout": "L3 rollout",
    "world": "L4 world",
}
WORLD = {
    "recon_psnr_db": "reconstruction",
    "next_frame_psnr_db": "next frame",
    "rollout_psnr_db": "fourth frame",
    "delta_psnr_db": "controllability",
}
"""L4's figures; without reconstruction, those that are judged against the teacher."""
MEANING = (
    ("fps", "Frames per second. A frame counts when its pixels are in main memory, all copies included."),
    ("p50, p95", "Half of the frames, and 95 % of the frames, come at least this fast."),
    ("×", "How many times as fast; both were measured in turns, in one run on one machine."),
    (
        "paper's way",
        "25 refinement steps for a frame, and each recomputes the whole window of past frames.",
    ),
    (
        "project's way",
        "As the project that trained the world plays it: its sampler and steps, in PyTorch, each pass over "
        "the whole window of past frames.",
    ),
    ("cached reference", "The same PyTorch model; what past frames contribute is computed once and kept."),
    ("of the limit", "Share of the operations per second that plain matrix products reach on this machine."),
    ("token", "One of the discrete pieces of a frame. Equal tokens make equal frames."),
    ("top-1", "How often both find the same token the likeliest."),
    ("KL", "How far apart two probability distributions are; 0 for equal ones."),
    (
        "margin",
        "Where the tokens differ: how close the choice was. Next to nothing is a tie that rounding decides.",
    ),
    ("PSNR", "Likeness of two pictures in dB. 30 looks alike, 50 is a rounding error, 100 is equal."),
    ("controllability", "How much closer to the truth inferred actions lead than random ones, in dB."),
    (
        "separation",
        "How much further apart two actions lead than noise alone does from one action; 1 is chance.",
    ),
)


def parity(check: CheckDocument) -> list[Section]:
    """L0 to L4 of every runtime that was tried, each rung with its bounds and its verdict."""
    blocks: list[Block] = []
    ours = headline_row(check)
    for row in sorted(check.runtimes, key=lambda row: row is not ours):
        if any(figures is not None for _, figures in row.parity):
            rungs = [[RUNGS[field], _verdict(field, row), *_rung(field, row)] for field in RUNGS]
            blocks += [
                Text(f"**{row.name}** {row.precision}"),
                Table(("rung", "verdict", "figures", "bounds"), rungs),
            ]
    return [Section("Is it the same world?", blocks)] if blocks else []


def _verdict(field: str, row: RuntimeRow) -> str:
    if getattr(row.parity, field) is None:
        return "not run"
    return "falls short" if any(reason.startswith(RUNGS[field]) for reason in row.reasons) else "passed"


def _rung(field: str, row: RuntimeRow) -> tuple[str, str]:
    """Figures and bounds, in words."""
    told = _figures(row.parity)[field] or _reason(field, row)
    if field == "artefact":
        return told, "names, shapes and types as the manifest says"
    if (bounds := BOUNDS.get(row.precision)) is None:
        return told, ""
    match field:
        case "pass_":
            return told, f"logits within {bounds.max_abs:g}; KL ≤ {bounds.kl:g}; top-1 ≥ {bounds.top1:.1%}"
        case "world":
            return told, f"within {bounds.world_db:g} dB"
        case "frame" if bounds.near_tie is None:
            return told, f"equal tokens ≥ {bounds.token_match:.0%}"
        case "rollout" if bounds.near_tie is None:
            return told, "judged by L4: one other token makes another roll-out"
        case _:
            return told, f"equal tokens, PSNR ≥ {bounds.psnr_db:g} dB; or ties within {bounds.near_tie:g}"


def _reason(field: str, row: RuntimeRow) -> str:
    """Why a rung has no figures."""
    said = (reason.partition(": ") for reason in row.reasons)
    return "; ".join(why for rung, _, why in said if rung == RUNGS[field])


def _figures(parity: ParityFigures) -> dict[str, str]:
    told = dict.fromkeys(RUNGS, "")
    if parity.artefact:
        told["artefact"] = "; ".join(parity.artefact.problems) or "no problems"
    if one := parity.pass_:
        told["pass_"] = f"logits within {one.max_abs:.1g}; KL {one.kl:.1g}; top-1 {one.top1:.2%}"
    if frame := parity.frame:
        equal = f"{frame.token_match:.2%} equal tokens{_margin(frame.margin)}"
        told["frame"] = f"{equal}; PSNR {frame.psnr_db:.1f} dB"
    if played := parity.rollout:
        where = "all tokens equal"
        if played.first_difference is not None:
            where = f"first other token in frame {played.first_difference + 1}{_margin(played.margin)}"
        length = f"{played.rollouts} × {played.frames} frames"
        told["rollout"] = f"{length}: {where}; PSNR {played.psnr_db:.1f} dB"
    if world := parity.world:
        apart = {name: round(world[key], 3) + 0.0 for key, name in WORLD.items() if key in world}  # no -0
        told["world"] = ", ".join(f"{name} {value:+.3f} dB" for name, value in apart.items())
    return told


def _margin(margin: float | None) -> str:
    return "" if margin is None else f" (margin {margin:.1g})"


def by_teacher(found: TeacherFigures) -> Table:
    """L4 against the teacher: figures, differences, what is judged."""
    rows = []
    for field, name in WORLD.items():
        if field not in found.difference_db:
            continue
        error = f" ± {found.error_db[field]:.2f}" if field in found.error_db else ""
        judged = field in found.error_db
        verdict = "passed" if found.difference_db[field] >= LEAST_DB else "falls short"
        asked = f"{LEAST_DB:g} dB or better" if judged else ""
        own, teacher = (f"{figures[field]:.2f} dB" for figures in (found.own, found.teacher))
        change = f"{found.difference_db[field]:+.2f}{error} dB"
        rows.append([f"L4 {name}", verdict if judged else "", teacher, own, change, asked])
    if (field := "action_perplexity") in found.own:
        own, teacher = (f"{figures[field]:.2f}" for figures in (found.own, found.teacher))
        rows.append(["actions used (perplexity)", "", teacher, own, "", ""])
    least = least_separation(found)
    verdict = "passed" if found.separation >= least else "falls short"
    pair = " and ".join(str(action + 1) for action in found.hardest)
    own, teacher = f"{found.separation:.2f}", f"{found.separation_teacher:.2f}"
    rows.append([f"separation of actions (hardest: {pair})", verdict, teacher, own, "", f"≥ {least:.2f}"])
    return Table(("against the teacher", "verdict", "teacher", "this", "difference", "asked"), rows)


def not_run(check: CheckDocument) -> list[Section]:
    """Whatever did not run or falls short, with the reasons; nothing when all is well."""
    rows = [[row.name, row.status, reason] for row in check.runtimes for reason in row.reasons]
    rows += [["reference", "not run", reason] for reason in check.reference.reasons]
    table = Table(("runtime", "verdict", "reason"), rows)
    return [Section("What did not run or falls short", [table])] if rows else []


def engines(manifest: Manifest) -> list[Section]:
    """The TensorRT engines: for which cards, how large, how long they took to build."""
    if (built := manifest.engines) is None:
        return []
    sizes = {name: manifest.files[engine.file].size for name, engine in built.graphs.items()}
    rows = [
        [f"`{engine.file}`", _size(sizes[name]), f"{engine.build_seconds:.1f} s"]
        for name, engine in sorted(built.graphs.items(), key=lambda item: -sizes[item[0]])
    ]
    seconds = sum(engine.build_seconds for engine in built.graphs.values())
    rows.append(["all", _size(sum(sizes.values())), f"{seconds:.1f} s"])
    cards = ", ".join(built.cards)
    if built.capabilities:
        cards += f" (compute capability {', '.join(built.capabilities)})"
    told = (
        f"Built by {built.library} for {cards}; every file holds the code for all of them. "
        "They load in this version of the library; for another, export again."
    )
    return [Section("The engines", [Text(told), Table(("engine", "size", "build time"), rows)])]


def files(manifest: Manifest) -> Section:
    """Every file, the largest first."""
    ordered = sorted(manifest.files.items(), key=lambda item: (-item[1].size, item[0]))
    rows = [[f"`{path}`", _size(entry.size), f"`{entry.sha256[:12]}`"] for path, entry in ordered]
    total = _size(sum(entry.size for entry in manifest.files.values()))
    return Section(f"{len(rows)} files, {total}", [Table(("file", "size", "sha256"), rows)], folded=True)


def facts(manifest: Manifest, check: CheckDocument | None) -> Table:
    """Where it comes from and where it was measured."""
    spec = manifest.spec
    pieces = f"{spec.tokens} tokens of {spec.codebook} codes, {spec.actions} actions"
    rows = [
        ["world", f"{spec.name}, {spec.width}x{spec.height}: {pieces}, {spec.steps} steps, {spec.fps:g} fps"],
        ["made", f"{manifest.created}, {manifest.target} {manifest.precision}"],
        ["recipe", _pairs(manifest.recipe)],
        ["checkpoint", f"`{manifest.checkpoint_hash[:12]}`"],
        ["versions", _pairs(manifest.versions)],
        ["licence", manifest.licence],
    ]
    if check:
        place = check.machine
        rows += [
            ["checked", f"{check.created}, {_pairs(check.versions)}"],
            ["machine", f"{place.cpu}, {place.in_cores}, {place.memory_gb:.0f} GB, {place.system}"],
        ]
        if rate := place.matrix:
            rows.append(
                ["its limit", f"{rate.gflops:.0f} GFLOP/s of float32 matrix products ({rate.library})"]
            )
    return Table(("what", "which"), rows)


def _pairs(named: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in named.items())


def meaning() -> Section:
    """The figures in plain words."""
    return Section(
        "What the figures mean", [Table(("figure", "meaning"), [[f"**{a}**", b] for a, b in MEANING])]
    )


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB"
