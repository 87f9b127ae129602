"""What TensorRT for RTX refuses, or silently gets wrong: every such node of a graph, named before a build.

Each rule was established against the library (1.7.1.116); tests/export/test_lint.py shows each to be true
of the one that is installed. What no rule names is left to the library's own parser.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from pocketgenie.export.sites import CASTS, Site, sites

_UNSUPPORTED = """
AffineGrid Bernoulli BitCast BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor CenterCropPad Col2Im Compress
ConcatFromSequence ConvInteger CumProd DFT DeformConv Det DynamicQuantizeLinear ImageDecoder MatMulInteger
MaxRoiPool MaxUnpool MelWeightMatrix Multinomial NegativeLogLikelihoodLoss Optional OptionalGetElement
OptionalHasElement QLinearConv QLinearMatMul RegexFullMatch SequenceAt SequenceConstruct SequenceEmpty
SequenceErase SequenceInsert SequenceLength SequenceMap SoftmaxCrossEntropyLoss SplitToSequence StringConcat
StringNormalizer StringSplit SwiGLU TfIdfVectorizer Unique
"""
UNSUPPORTED: Final = frozenset(_UNSUPPORTED.split())
"""Operators of ONNX that the library's parser does not know."""
NO_PLUGIN: Final = frozenset({"NonMaxSuppression", "NonZero", "RoiAlign"})
"""Operators of ONNX that the parser knows, and this library has no code for."""
INTEGER: Final = {"DynamicQuantizeLinear", "MatMulInteger", "ConvInteger", "QLinearMatMul", "QLinearConv"}
DRAWN: Final = {"Multinomial", "Bernoulli"}
RANDOM: Final = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"}
QUANTIZE: Final = {"QuantizeLinear", "com.microsoft.QuantizeLinear"}
DEQUANTIZE: Final = {"DequantizeLinear", "com.microsoft.DequantizeLinear"}
_BORROWED = "Gelu GroupQueryAttention MultiHeadAttention RotaryEmbedding".split
MICROSOFT: Final = {f"com.microsoft.{name}" for name in _BORROWED()} | QUANTIZE | DEQUANTIZE
"""Operators of another domain that the parser knows and this library has code for."""
FOREIGN_TYPES: Final = {
    *(TensorProto.INT16, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64, TensorProto.UINT4),
    *(TensorProto.STRING, TensorProto.COMPLEX64, TensorProto.COMPLEX128),
    *(TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2, TensorProto.FLOAT8E5M2FNUZ),
}
FLOATS: Final = (TensorProto.FLOAT, TensorProto.DOUBLE)
FP8: Final = TensorProto.FLOAT8E4M3FN
TOPK_LIMIT: Final = 3840
HEAD: Final = range(9, 257)
"""Values of a head that fused attention takes."""

DECOMPOSE: Final = "write the attention as MatMul, Softmax, MatMul (torch does so at opset 20)"
SYMMETRIC: Final = "quantize to int8 with zero points of 0 (QInt8, symmetric)"
OUTSIDE: Final = "draw it on the host and make it an input of the graph"
ONNX_OWN: Final = "use ONNX's own operators"
NEWER: Final = "use float16 there, or leave rtx20 out of --cards"


@dataclass(frozen=True)
class Rule:
    name: str
    trouble: str
    mend: str
    silent: bool
    """The library builds it all the same, and computes something else."""
    broken: Callable[[Site], bool]


@dataclass(frozen=True)
class Finding:
    """One node that must be mended before a build."""

    rule: str
    node: str
    """Its name; where it has none, that of its first output."""
    operator: str
    trouble: str
    """What the library does with it."""
    mend: str

    def __str__(self) -> str:
        return f"{self.operator} node {self.node!r}: {self.trouble}; {self.mend}"


RULES: dict[str, Rule] = {}


def lint(model: ModelProto, capabilities: Collection[str]) -> list[Finding]:
    """Every node that TensorRT for RTX refuses or gets wrong, in order; subgraphs and functions too.

    `capabilities`: of the cards to build for, like "8.6"; none for a portable engine. Weights may be left
    outside of `model`.
    """
    return [
        Finding(rule.name, site.name, site.operator, rule.trouble, rule.mend)
        for site in sites(model, frozenset(capabilities))
        for rule in RULES.values()
        if rule.broken(site)
    ]


def _rule(
    trouble: str, mend: str, silent: bool = False
) -> Callable[[Callable[[Site], bool]], Callable[[Site], bool]]:
    """Put a rule into RULES, by its function's name."""

    def put(broken: Callable[[Site], bool]) -> Callable[[Site], bool]:
        name = broken.__name__.strip("_").replace("_", "-")
        RULES[name] = Rule(name, trouble, mend, silent, broken)
        return broken

    return put


@_rule(
    "uint8 is refused but at the graph's edge, between an input or output and a Cast",
    "put a Cast right behind the input or right before the output",
)
def _uint8(site: Site) -> bool:
    if site.operator in QUANTIZE | DEQUANTIZE | UNSUPPORTED:
        return False
    pixels = {name for name in (*site.node.input, *site.node.output) if site.type(name) == TensorProto.UINT8}
    read, made = (
        pixels.intersection(names) - site.scope.folded for names in (site.node.input, site.node.output)
    )
    if not made <= site.scope.outputs:
        return True
    return bool(read) and site.operator not in CASTS and not (site.operator == "Identity" and made)


@_rule(
    "an output that follows from uint8 constants is refused: it becomes int32",
    "compute it in int32 and put a Cast to uint8 before the output",
)
def _uint8_constant_output(site: Site) -> bool:
    return bool(site.scope.outputs.intersection(site.node.output) & site.scope.folded)


@_rule(
    "its type is refused: 16-bit or unsigned integers, text, complex numbers, fp8 other than e4m3fn",
    "use int32, int64, float16 or float32; for weights also int8, int4 or float8e4m3fn",
)
def _foreign_type(site: Site) -> bool:
    return bool(site.types & FOREIGN_TYPES)


@_rule(
    "float64 is computed in float32, and such inputs and outputs become float32",
    "export in float32",
    silent=True,
)
def _float64(site: Site) -> bool:
    computed = (name for name in site.node.input if name not in site.scope.constants)
    names = (*site.node.output, *computed) if site.operator != "Constant" else ()
    return any(site.type(name) == TensorProto.DOUBLE for name in names)


@_rule(
    "products of dynamically quantized or integer tensors are refused",
    "quantize statically: QuantizeLinear and DequantizeLinear around a MatMul, Gemm or Conv in float",
)
def _integer_products(site: Site) -> bool:
    return site.operator in INTEGER


@_rule("the operator is refused", OUTSIDE)
def _drawn(site: Site) -> bool:
    return site.operator in DRAWN


@_rule("its seed is ignored: no run can be repeated or compared", OUTSIDE, silent=True)
def _random(site: Site) -> bool:
    return site.operator in RANDOM


@_rule("the operator is refused", "write it with simpler operators")
def _unsupported(site: Site) -> bool:
    return site.operator in (UNSUPPORTED | NO_PLUGIN) - INTEGER - DRAWN


@_rule("an operator that is not ONNX's own is refused", ONNX_OWN)
def _foreign_operator(site: Site) -> bool:
    return site.operator not in MICROSOFT and not onnx.defs.has(site.node.op_type)


@_rule("its domain is ignored: it is read as ONNX's operator of the same name", ONNX_OWN, silent=True)
def _namesake(site: Site) -> bool:
    foreign = site.operator != site.node.op_type and site.operator not in MICROSOFT
    return foreign and onnx.defs.has(site.node.op_type)


@_rule("a zero point that is not 0, or is computed, is refused", SYMMETRIC)
def _zero_point(site: Site) -> bool:
    if site.operator not in QUANTIZE | DEQUANTIZE or not (name := site.source(2)):
        return False
    value = site.constant(name)
    return name not in site.scope.constants if value is None else bool(np.any(value != 0))


@_rule("quantization to uint8 becomes one to int8: values above 127 are cut off", SYMMETRIC, silent=True)
def _uint8_quantization(site: Site) -> bool:
    return site.operator in QUANTIZE and TensorProto.UINT8 in (
        site.type(site.node.output[0]),
        site.type(site.source(2)),
    )


@_rule("weights quantized to uint8 are refused", SYMMETRIC)
def _uint8_weights(site: Site) -> bool:
    uint8 = site.operator in DEQUANTIZE and site.type(site.node.input[0]) == TensorProto.UINT8
    return uint8 and site.maker(0) != "QuantizeLinear"


@_rule(
    "an int32 DequantizeLinear, as quantized biases have, is refused",
    "leave biases in float (QuantizeBias=False)",
)
def _int32_bias(site: Site) -> bool:
    return site.operator in DEQUANTIZE and site.type(site.node.input[0]) == TensorProto.INT32


@_rule(f"K above {TOPK_LIMIT} is refused", "rank by counting: compare each value with each and add up")
def _topk(site: Site) -> bool:
    if site.operator != "TopK":
        return False
    count = site.constant(site.source(1))
    return (int(site.attribute("k")) if count is None else int(count.flat[0])) > TOPK_LIMIT


@_rule("fused attention with past keys, or with more than one output, is refused", DECOMPOSE)
def _attention_memory(site: Site) -> bool:
    return site.operator == "Attention" and any((*site.node.output[1:], site.source(4), site.source(5)))


@_rule("fused attention with softcap or softmax_precision is refused", DECOMPOSE)
def _attention_options(site: Site) -> bool:
    options = (site.attribute(name) for name in ("softcap", "softmax_precision"))
    return site.operator == "Attention" and any(options)


@_rule(
    "nonpad_kv_seqlen is ignored: the padding is attended to",
    "put the padding into a mask of -1e4",
    silent=True,
)
def _attention_padding(site: Site) -> bool:
    return site.operator == "Attention" and bool(site.source(6))


@_rule("fused attention whose queries and keys are one tensor crashes the build", DECOMPOSE)
def _attention_of_itself(site: Site) -> bool:
    return site.operator == "Attention" and site.source(0) == site.source(1)


@_rule("fused attention in float32 is refused (but for three axes without a mask)", DECOMPOSE)
def _attention_float32(site: Site) -> bool:
    if site.operator != "Attention" or site.type(site.node.input[0]) not in FLOATS:
        return False
    return len(site.shape(0)) == 4 or bool(site.source(3))


@_rule(
    f"fused attention is refused for heads of less than {HEAD[0]} or more than {HEAD[-1]} values", DECOMPOSE
)
def _attention_head(site: Site) -> bool:
    shape = site.shape(0) if site.operator == "Attention" else ()
    return len(shape) == 4 and shape[-1] > 0 and shape[-1] not in HEAD


@_rule("products in float32 are refused for Turing (rtx20)", NEWER)
def _turing_float32(site: Site) -> bool:
    product = site.operator in ("MatMul", "Gemm", "Einsum") and site.type(site.node.input[0]) in FLOATS
    return product and _older(site, 8.0)


@_rule("bf16 and int4 are refused for Turing (rtx20)", NEWER)
def _turing_types(site: Site) -> bool:
    return bool(site.types & {TensorProto.BFLOAT16, TensorProto.INT4}) and _older(site, 8.0)


@_rule("fp8 is refused for cards before rtx40", "build for rtx40 and newer alone")
def _fp8(site: Site) -> bool:
    return FP8 in site.types and _older(site, 8.9)


@_rule(
    "fp8 goes into a portable engine, and no rtx30 has it",
    "name the cards, rtx40 and newer, instead",
    silent=True,
)
def _fp8_portable(site: Site) -> bool:
    return FP8 in site.types and not site.capabilities


def _older(site: Site, capability: float) -> bool:
    return any(float(found) < capability for found in site.capabilities)
