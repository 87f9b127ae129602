"""What a precision search may try, and in which order: functions of the sensitivities alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pocketgenie.export.manifest import Precision
from pocketgenie.quantize.pareto import TEACHERS, Decoder, Goal
from pocketgenie.quantize.products import Bits
from pocketgenie.quantize.recipe import HEAD
from pocketgenie.quantize.sensitivity import Sensitivity

PLAIN: dict[str, Precision] = {"fp32": "fp32", "int8": "int8", "int4": "int4"}
"""Forms in which all groups are alike."""
KEPT_SHARES = (0.25, 0.5)
"""Of a part's groups, those that stay float32 on the way from all int8 to all float32."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A world that plays: how many steps, whose decoder."""

    steps: int
    decoder: Decoder = "own"

    @property
    def name(self) -> str:
        return f"N={self.steps}" + (TEACHERS if self.decoder == "teacher" else "")


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A variant and the bits of each of its groups of products; groups that are not named are float32."""

    variant: Variant
    form: str
    bits: Mapping[str, Bits] = field(default_factory=dict)
    predicted_ms: float
    """Of a frame on one thread, by the sensitivities."""

    @property
    def name(self) -> str:
        return f"{self.variant.name} {self.form}"

    @property
    def precision(self) -> Precision:
        return PLAIN.get(self.form, "mixed")


def candidates(variant: Variant, sensitivity: Sensitivity) -> list[Candidate]:
    """The chain of one variant: fp32, int8, int8 but for its most sensitive groups, int8 and int4, int4."""
    groups = sensitivity.groups("int8")
    whole: dict[str, Bits] = {group: "int8" for group in groups}
    forms: dict[str, dict[str, Bits]] = {"fp32": {}, "int8": whole}
    for share in KEPT_SHARES:
        kept = most_sensitive(sensitivity, share)
        forms[f"int8, {len(kept)} fp32"] = {group: "int8" for group in groups if group not in kept}
    small = [group for group in sensitivity.groups("int4") if group != HEAD]  # which int4 leaves at int8
    if small:
        worst = most_sensitive(sensitivity, 0.5, "int4")
        forms["int8 + int4"] = whole | {group: "int4" for group in small if group not in worst}
        forms["int4"] = {group: bits for group, bits in whole.items() if group == HEAD}
        forms["int4"] |= dict.fromkeys(small, "int4")
    return [
        Candidate(
            variant=variant,
            form=form,
            bits=bits,
            predicted_ms=sensitivity.frame_ms(variant.steps, bits),
        )
        for form, bits in forms.items()
    ]


def most_sensitive(sensitivity: Sensitivity, share: float, bits: Bits = "int8") -> set[str]:
    """A share of each part's groups: those that harm most for what they save.

    What int8 saves is time, what int4 saves is bytes. Dynamics (KL) and decoder (pixels) have no common unit
    of harm, so that each part keeps its own share.
    """
    kept: set[str] = set()
    for graph in sensitivity.graphs:
        rows = [row for row in graph.rows if row.bits == bits]
        rows.sort(key=lambda row: -row.harm / (max(row.saved_mb, 1e-9) if bits == "int4" else row.share))
        kept |= {row.group for row in rows[: round(share * len(rows)) or 1]}
    return kept


def next_to_try(space: Sequence[Candidate], losses: Mapping[str, float], goal: Goal) -> Candidate | None:
    """The most promising candidate that was not run yet; None when all were. losses: dB, of those that were.

    First the first of the space (the checkpoint at float32), then each variant at int8, the fastest first. A
    variant that int8 takes over the budget is refined next, as far as that still promises more speed than
    what is within the budget already: at float32 first, for where that is over it too, nothing between helps.
    Where the smallest is wanted, int4 comes before that.
    """
    left = [candidate for candidate in space if candidate.name not in losses]
    within = {name for name, loss in losses.items() if loss <= goal.budget_db}
    best = min((one.predicted_ms for one in space if one.name in within), default=float("inf"))

    def over(name: str) -> bool:
        return name in losses and name not in within

    def rank(candidate: Candidate) -> tuple[int, bool, float]:
        form, variant, ms = candidate.form, candidate.variant.name, candidate.predicted_ms
        if candidate is space[0]:
            return 0, False, ms
        if form == "int8":
            return 1, False, ms
        if goal.fps is not None and "int4" in form:
            return 2, False, ms
        if "int4" not in form and over(f"{variant} fp32"):
            return 5, False, ms
        refines = "int4" not in form and over(f"{variant} int8") and ms < best
        return (3, form != "fp32", ms) if refines else (4, False, ms)

    return min(left, key=rank, default=None)
