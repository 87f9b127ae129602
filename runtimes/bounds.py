"""What a runtime has to hold to pass, per precision: one table."""

from __future__ import annotations

from dataclasses import dataclass

from pocketgenie.errors import UserError
from pocketgenie.runtimes.results import ParityFigures


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """Limits of L1 to L4."""

    max_abs: float
    """L1, of a logit, which are about 1..10."""
    kl: float
    """L1, KL(reference || runtime) in nats: what all logits together change about the choice."""
    top1: float
    """L1, agreement of the likeliest code."""
    near_tie: float | None
    """L2 and L3: tokens must be equal, unless the choices lay closer than this in the reference (ties.py).
    The same as `max_abs`: what rounding may do to a logit it may do to a choice. None where choices further
    apart than a tie turn: L2 is then judged by `token_match`, and a roll-out not by its tokens at all, since
    one other token early on makes it another roll-out of the same world. Whether that world plays as well is
    what L4 asks."""
    token_match: float
    """L2, share of equal tokens in frames drawn once, where there is no `near_tie`."""
    psnr_db: float
    """L2 and L3, of frames from equal tokens (all values off by one would be 48 dB)."""
    encode_match: float
    """L2, share of equal tokens of encoded pictures: of a thousand a rounding error may turn one. The graph
    that encodes is float32 at every precision (quantize/recipe.py)."""
    world_db: float
    """L4, |difference| of every dB figure: what a few turned choices move in 32 clips."""


BOUNDS = {
    # Sums of some hundred products differ by 1e-5 between libraries, a wrong operator changes far more.
    "fp32": Bounds(
        max_abs=1e-3,
        kl=1e-6,
        top1=0.999,
        near_tie=1e-3,
        token_match=1.0,
        psnr_db=50.0,
        encode_match=0.999,
        world_db=0.05,
    ),
    # Float16 has 11 bits: 2^-11 of a hidden value, some ten times in a row. The embedded world has max_abs
    # 0.008, KL 7e-8, top-1 1.0, margin 0.0007, 76 dB, L4 0.00 dB. With 1 % of noise on the weights as well it
    # has 0.57, 7e-4, 0.981, 4.1, 27 dB and 0.28 dB.
    "fp16": Bounds(
        max_abs=3e-2,
        kl=1e-5,
        top1=0.995,
        near_tie=3e-2,
        token_match=1.0,
        psnr_db=50.0,
        encode_match=0.999,
        world_db=0.15,
    ),
    # 8 bits of weights and activations turn real choices. In the form cpu the embedded world has max_abs
    # 0.44, KL 5e-4, top-1 0.984, 98 % equal tokens, L4 0.36 dB; in the form qdq 0.71, 8e-4, 0.985, 92 % and
    # 0.56 dB (in frames drawn: -0.21 to +0.56; in pixels decoded: -0.20). With 5 % of noise on the weights as
    # well it has 1.4, 7e-3, 0.951, 89 % and 4.2 dB.
    "int8": Bounds(
        max_abs=1.5,
        kl=3e-3,
        top1=0.97,
        near_tie=None,
        token_match=0.90,
        psnr_db=40.0,
        encode_match=0.999,
        world_db=0.75,
    ),
    # 4 bits of weights in the layers, rounded by GPTQ, 8 in the head: the embedded world has max_abs 1.8, KL
    # 0.0052, top-1 0.963, 90 % equal tokens, L4 0.71 dB (in pixels decoded; in frames drawn 0.32). With 5 %
    # of noise on the weights as well it has 2.3, 0.013, 0.931, 91 % and 4.4 dB: logits and pixels tell,
    # tokens do not. Rounded to nearest it has 3.4, 0.013, 0.931, 90 % and 3.5 dB, which falls short too.
    # Frames of equal tokens lie 49 dB apart, rounded to nearest 39 dB.
    "int4": Bounds(
        max_abs=4.0,
        kl=1e-2,
        top1=0.945,
        near_tie=None,
        token_match=0.85,
        psnr_db=40.0,
        encode_match=0.999,
        world_db=1.25,
    ),
    # What the precision search chose is judged by its budget (--budget-db), whatever that is, on what it
    # made. Here it is only asked whether the form is whole: not worse than all of it in int4 rounded to
    # nearest, as the search does (figures above). With 10 % of noise on the weights as well that has 4.5,
    # 0.049, 0.874, 82 % and 9.2 dB.
    "mixed": Bounds(
        max_abs=5.0,
        kl=3e-2,
        top1=0.90,
        near_tie=None,
        token_match=0.85,
        psnr_db=30.0,
        encode_match=0.999,
        world_db=4.0,
    ),
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
        most("L1 pass", "KL (nats)", one.kl, bounds.kl)
        least("L1 pass", "top-1 agreement", one.top1, bounds.top1)
    if frame := parity.frame:
        least("L2 frame", "match of encoded tokens", frame.encode_match, bounds.encode_match)
        if frame.margin is None:
            least("L2 frame", "PSNR (dB) of equal tokens", frame.psnr_db, bounds.psnr_db)
        elif bounds.near_tie is None:
            least("L2 frame", "share of equal tokens", frame.token_match, bounds.token_match)
        else:
            most("L2 frame", "margin of a differing token", frame.margin, bounds.near_tie)
    if rollout := parity.rollout:
        if rollout.margin is None:
            least("L3 rollout", "PSNR (dB) of equal tokens", rollout.psnr_db, bounds.psnr_db)
        elif bounds.near_tie is not None:
            where = f"margin at frame {rollout.first_difference}, the first that differs,"
            most("L3 rollout", where, rollout.margin, bounds.near_tie)
    for name, difference in (parity.world or {}).items():
        if name.endswith("_db"):
            most("L4 world", f"|difference| (dB) of {name}", abs(difference), bounds.world_db)
    return found
