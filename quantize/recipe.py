"""How each precision is made: the one place that knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx

from pocketgenie.errors import UserError
from pocketgenie.export.manifest import Precision, Target
from pocketgenie.genie.contract import World
from pocketgenie.quantize.calibration import LIMIT, Samples, record
from pocketgenie.quantize.gptq import Rounded, fit
from pocketgenie.quantize.halves import PRODUCTS, deciding, float_tensors, is_memory, to_fp16
from pocketgenie.quantize.int4 import to_int4
from pocketgenie.quantize.int8 import PERCENTILE, Form, to_int8_cpu, to_int8_qdq
from pocketgenie.quantize.optimum import to_int8_optimum
from pocketgenie.quantize.products import Bits, layer_of, merged, products
from pocketgenie.quantize.proof import count_products
from pocketgenie.quantize.storage import exact_in_float16, narrow_tables
from pocketgenie.runtimes.session import Array

Convert = Callable[[str, onnx.ModelProto], onnx.ModelProto]

KEPT = ("encode", "infer_action")
"""Graphs that stay float32: they read a real picture, once per start and never while playing, and whatever
they read otherwise the whole play repeats. At float16 one token in 190 of real frames fell on the other side
of its latent's rounding, which moved the figures of L4 by 0.2 dB; with these two left alone, by 0.00."""

HEAD = "dynamics.head"
"""The one product that decides and is int8 nevertheless (its sums are float32, and so is the sampling): in
the embedded world 3 MB of 16 and a sixth of the time. With it in int8 as well, on inputs met in play: KL
0.00055 in place of 0.00044, top-1 99.0 % in place of 98.8 %; in the form qdq KL 0.0010 in place of 0.0009."""

ROLLOUTS, WINDOWS = 8, 3
"""Calibration: roll-outs, and how many times the memory's length each goes on."""


def precision_pass(
    precision: Precision,
    world: World,
    clips: Array | None,
    target: Target = "onnx",
    assignment: Mapping[str, Bits] | None = None,
    form: Form | None = None,
) -> tuple[Convert, dict[str, str]]:
    """What turns the exporter's float32 graphs into a precision's, and the facts for the manifest.

    clips: uint8 [N, T, H, W, 3], played for the ranges of int8 in the form qdq and for the rounding of int4,
    which is to nearest without them. assignment: for `mixed`, layer (products.groups) -> its bits; layers
    that it leaves out stay float32. What is not quantized is float32 for the CPU and float16 for TensorRT.
    The facts are whole once the graphs went through. Raises UserError.
    """
    facts: dict[str, str] = {}
    if precision == "fp32":
        return lambda name, model: model, facts
    facts["float32"] = f"{', '.join(KEPT)}; norms, softmax, residuals, sampling, and products that decide"
    if precision == "fp16":
        facts["products"] = "float16"
        return lambda name, model: model if name in KEPT else _halved(model), facts
    facts["float32"] += ", but for the head"
    form = form or ("qdq" if target == "tensorrt" else "cpu")
    facts["form"] = form
    samples: Samples = {}
    if form == "qdq" and clips is None:
        raise UserError("int8 takes its ranges from clips; give some with --clips FILE.npz")
    fits = clips is not None and (precision == "int4" or "int4" in (assignment or {}).values())
    if clips is not None and (form == "qdq" or fits):
        frames = WINDOWS * world.spec.memories["dynamics"].slots
        samples = record(world, clips, rollouts=ROLLOUTS, frames=frames, seed=0)
        facts["calibration"] = f"{LIMIT} calls of each graph in play"
    if form == "qdq":
        facts["ranges"] = f"{PERCENTILE} % of the values"
    if fits:
        facts["rounding"] = "int4 by GPTQ"
    rest = "float16" if target == "tensorrt" else "float32"
    facts["products"] = f"{precision} with weights, {rest} without"
    if assignment is not None:
        facts["layers"] = ", ".join(f"{layer} {bits}" for layer, bits in sorted(assignment.items()))

    rounded: dict[bytes, Rounded] = {}
    small = rest == "float32"  # TensorRT stores what it reads in float16 as float16 by itself

    def convert(name: str, model: onnx.ModelProto) -> onnx.ModelProto:
        if name in KEPT:
            return exact_in_float16(model) if small else model
        quantized = narrow_tables(merged(model)) if small else merged(model)
        chosen = _chosen(quantized, precision, assignment)
        if names := chosen["int8"]:  # before int4, behind whose operators onnx knows no shapes
            if form == "qdq":
                quantized = to_int8_qdq(quantized, names, samples[name])
            else:
                quantized = {"cpu": to_int8_cpu, "optimum": to_int8_optimum}[form](quantized, names)
        if names := chosen["int4"]:
            if fits:
                rounded.update(fit(quantized, names, samples[name], rounded))
            quantized = to_int4(quantized, names, form, rounded)
        if name == "play":
            facts["quantized"] = "{} of {} products with weights of `play`".format(*count_products(quantized))
        return exact_in_float16(quantized) if small else _halved(quantized)

    return convert, facts


def _halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """Products in float16. A graph without any, and without a memory that others share, stays as it is: a
    world of tokens looks its pictures up."""
    edges = (value.name for value in (*model.graph.input, *model.graph.output))
    multiplies = any(node.op_type in PRODUCTS for node in model.graph.node)
    return to_fp16(model) if multiplies or any(map(is_memory, edges)) else model


def _chosen(
    model: onnx.ModelProto, precision: Precision, assignment: Mapping[str, Bits] | None
) -> dict[Bits, list[str]]:
    """Bits -> names of the products that get them. Products that decide stay float32, but for the HEAD."""
    decides = deciding(model.graph, float_tensors(model))
    chosen: dict[Bits, list[str]] = {"fp32": [], "int8": [], "int4": []}
    for node in products(model.graph):
        layer = layer_of(node.input[1])
        bits: Bits = "int4" if precision == "int4" else "int8"
        if precision == "mixed":
            bits = (assignment or {}).get(layer, "fp32")
        elif layer == HEAD:
            bits = "int8"
        elif node.output[0] in decides:
            bits = "fp32"
        chosen[bits].append(node.name)
    return chosen
