"""How each precision is made: the one place that knows."""

from __future__ import annotations

from collections.abc import Callable

import onnx

from pocketgenie.errors import UserError
from pocketgenie.export.manifest import Precision, Target
from pocketgenie.genie.contract import World
from pocketgenie.quantize.calibration import LIMIT, record
from pocketgenie.quantize.halves import to_fp16
from pocketgenie.quantize.int8 import PERCENTILE, count_products, to_int8
from pocketgenie.runtimes.session import Array

Convert = Callable[[str, onnx.ModelProto], onnx.ModelProto]

KEPT = ("encode", "infer_action")
"""Graphs that stay float32: they read a real picture, once per start and never while playing, and whatever
they read otherwise the whole play repeats. At float16 one token in 190 of real frames fell on the other side
of its latent's rounding, which moved the figures of L4 by 0.2 dB; with these two left alone, by 0.00."""

ROLLOUTS, WINDOWS = 8, 3
"""Calibration: roll-outs, and how many times the memory's length each goes on."""


def precision_pass(
    precision: Precision, world: World, clips: Array | None, target: Target = "onnx"
) -> tuple[Convert, dict[str, str]]:
    """What turns the exporter's float32 graphs into a precision's, and the facts for the manifest.

    clips: uint8 [N, T, H, W, 3], played for the ranges of int8. What int8 leaves in floats is float32 for the
    CPU and float16 for TensorRT. The facts are whole once the graphs went through. Raises UserError.
    """
    facts: dict[str, str] = {}
    if precision == "fp32":
        return lambda name, model: model, facts
    if precision not in ("fp16", "int8"):
        raise UserError(f"{precision} cannot be made yet; choose --precision fp32, fp16 or int8")
    facts["float32"] = f"{', '.join(KEPT)}; norms, softmax, residuals, sampling, and products that decide"
    if precision == "fp16":
        facts["products"] = "float16"
        return lambda name, model: model if name in KEPT else to_fp16(model), facts
    if clips is None:
        raise UserError("int8 takes its ranges from clips; give some with --clips FILE.npz")
    frames = WINDOWS * world.spec.memories["dynamics"].slots
    samples = record(world, clips, rollouts=ROLLOUTS, frames=frames, seed=0)
    rest = "float16" if target == "tensorrt" else "float32"
    facts["products"] = f"int8 with weights, {rest} without"
    facts["calibration"] = f"{PERCENTILE} % of the values in {LIMIT} calls of each graph in play"

    def convert(name: str, model: onnx.ModelProto) -> onnx.ModelProto:
        if name in KEPT:
            return model
        quantized = to_int8(model, samples.pop(name))
        if name == "play":
            facts["quantized"] = "{} of {} products with weights of `play`".format(*count_products(quantized))
        return to_fp16(quantized) if rest == "float16" else quantized

    return convert, facts
