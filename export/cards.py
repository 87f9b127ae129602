"""The NVIDIA cards that engines can be built for, by the names a person types. No torch, no TensorRT.

The list is TensorRT for RTX's own (version 1.7). The datacentre's H100, H200 and B200 are not on it: there
take `this` with the flavor `standard`, or the ONNX inside the bundle.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from pocketgenie.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Card:
    """What an engine is built for."""

    name: str
    """What a person types."""
    capability: str | None
    """CUDA compute capability; None where it is not fixed beforehand."""
    sdk: str | None
    """Member of TensorRT for RTX's ComputeCapability; None to name no target."""
    architecture: str
    examples: str
    choose: str
    """When to take it."""
    needs_gpu: bool = False


LIBRARIES: Final = {"rtx": "tensorrt_rtx", "standard": "tensorrt"}
"""Import name of each flavor's library."""
INSTALL: Final = {
    "rtx": "pip install 'pocketgenie[tensorrt]'",
    "standard": "pip install tensorrt cuda-bindings",
}

CARDS: Final = {
    card.name: card
    for card in (
        Card(
            name="rtx20",
            capability="7.5",
            sdk="SM75",
            architecture="Turing",
            examples="GeForce RTX 2060 to 2080 Ti, GTX 16, Quadro RTX, T4",
            choose="fp16; float32 products are slow there, and slow on the cards that share its file",
        ),
        Card(
            name="rtx30",
            capability="8.6",
            sdk="SM86",
            architecture="Ampere",
            examples="GeForce RTX 3050 to 3090 Ti, RTX A2000 to A6000, A10",
            choose="fp32, fp16 and int8",
        ),
        Card(
            name="rtx40",
            capability="8.9",
            sdk="SM89",
            architecture="Ada Lovelace",
            examples="GeForce RTX 4050 to 4090, RTX 2000 to 6000 Ada, L4, L40",
            choose="fp32, fp16 and int8; has fp8",
        ),
        Card(
            name="rtx50",
            capability="12.0",
            sdk="SM120",
            architecture="Blackwell",
            examples="GeForce RTX 5050 to 5090, RTX PRO Blackwell",
            choose="fp32, fp16 and int8; has fp8",
        ),
        Card(
            name="a100",
            capability="8.0",
            sdk="SM80",
            architecture="Ampere",
            examples="A100, A30",
            choose="a rented A100; newer datacentre cards (H100, H200, B200) are not the library's",
        ),
        Card(
            name="spark",
            capability="12.1",
            sdk="SM121",
            architecture="Blackwell",
            examples="DGX Spark (GB10)",
            choose="fp32, fp16 and int8; has fp8",
        ),
        Card(
            name="portable",
            capability=None,
            sdk=None,
            architecture="Ampere and newer",
            examples="any of the above but rtx20",
            choose="one file for a card that is not known yet",
        ),
        Card(
            name="this",
            capability=None,
            sdk="CURRENT",
            architecture="the GPU of this machine",
            examples="whatever nvidia-smi shows first",
            choose="built and played on the same machine",
            needs_gpu=True,
        ),
    )
}


def parse_cards(text: str) -> tuple[Card, ...]:
    """ "rtx30,rtx40" -> its cards, in this order. Raises UserError for a name that is not in CARDS, for one
    named twice, and for `portable` or `this` beside others."""
    names = [name.strip().lower() for name in text.split(",")]
    for name in names:
        if name not in CARDS:
            known = f"choose from {', '.join(CARDS)}"
            meant = _meant(name)
            raise UserError(
                f"no card is called {name!r}; {f'did you mean {meant}? ' if meant else ''}{known}"
            )
        if names.count(name) > 1:
            raise UserError(f"the card {name} is named twice; name it once")
        if len(names) > 1 and CARDS[name].capability is None:
            raise UserError(
                f"the card `{name}` stands alone; name it without others, or name only the others"
            )
    return tuple(CARDS[name] for name in names)


def card_for(capability: str) -> Card | None:
    """The card to build for, for a GPU of this compute capability ("8.9"); None where TensorRT for RTX has
    none: Hopper (9.0: H100, H200), Blackwell of the datacentre (10.0) and everything before Turing."""
    return next((card for card in CARDS.values() if card.capability == capability), None)


def _meant(name: str) -> str | None:
    """ "rtx 4090" -> "rtx40"; else the name that is spelt much the same."""
    if model := re.search(r"([2-5])0[5-9]0", name):
        return f"rtx{model[1]}0"
    return next(iter(get_close_matches(name, CARDS, n=1)), None)
