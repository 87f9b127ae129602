"""What a runtime has to hold to pass, per precision: one table."""

from __future__ import annotations

from dataclasses import dataclass

from pocketgenie.errors import UserError
from pocketgenie.runtimes.results import ParityFigures


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits of L1 to L4; the reason of each beside it."""

    max_abs: float
    """L1, of a logit. Logits are about 1..10; float32 sums of some hundred products differ by 1e-5 between
    libraries, a wrong operator changes far more."""
    top1: float
    """L1, agreement of the likeliest code: of a thousand tokens a rounding error may turn one near-tie."""
    near_tie: float
    """L2 and L3: tokens must be equal, unless the choices lay closer than this in the reference (ties.py).
    The same as `max_abs`: what rounding may do to a logit it may do to a choice."""
    psnr_db: float
    """L2 and L3, of frames from equal tokens: some values may be rounded to their neighbours (all of them off
    by one would be 48 dB)."""
    encode_match: float
    """L2, share of equal tokens of encoded pictures: as `top1`."""
    world_db: float
    """L4, |difference| of every dB figure: far below what a person sees, above what a near-tie moves."""


BOUNDS = {
    "fp32": Bounds(max_abs=1e-3, top1=0.999, near_tie=1e-3, psnr_db=50.0, encode_match=0.999, world_db=0.05),
}


def bounds_for(precision: str) -> Bounds:
    """The row of a precision. Raises UserError."""
    try:
        return BOUNDS[precision]
    except KeyError:
        raise UserError(
            f"there are no bounds for {precision}; add a row to runtimes/bounds.py beside {', '.join(BOUNDS)}"
        ) from None


def shortfalls(bounds: Bounds, parity: ParityFigures) -> list[str]:
    """What falls short, one line each. Rungs that are null did not run and are not judged here."""
    found: list[str] = []

    def least(rung: str, what: str, value: float, bound: float) -> None:
        if not value >= bound:
            found.append(f"{rung}: {what} {value:.6g} is below {bound:g}")

    def most(rung: str, what: str, value: float, bound: float) -> None:
        if not value <= bound:
            found.append(f"{rung}: {what} {value:.6g} is above {bound:g}")

    if parity.artefact:
        found += [f"L0 artefact: {problem}" for problem in parity.artefact.problems]
    if one := parity.pass_:
        most("L1 pass", "max abs difference of a logit", one.max_abs, bounds.max_abs)
        least("L1 pass", "top-1 agreement", one.top1, bounds.top1)
    if frame := parity.frame:
        least("L2 frame", "match of encoded tokens", frame.encode_match, bounds.encode_match)
        if frame.margin is None:
            least("L2 frame", "PSNR (dB) of equal tokens", frame.psnr_db, bounds.psnr_db)
        else:
            most("L2 frame", "margin of a differing token", frame.margin, bounds.near_tie)
    if rollout := parity.rollout:
        if rollout.margin is None:
            least("L3 rollout", "PSNR (dB) of equal tokens", rollout.psnr_db, bounds.psnr_db)
        else:
            where = f"margin at frame {rollout.first_difference}, the first that differs,"
            most("L3 rollout", where, rollout.margin, bounds.near_tie)
    for name, difference in (parity.world or {}).items():
        if name.endswith("_db"):
            most("L4 world", f"|difference| (dB) of {name}", abs(difference), bounds.world_db)
    return found
