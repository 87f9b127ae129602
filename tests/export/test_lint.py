"""Each rule against the library itself: it refuses what the rule names, or takes it without a word where the
rule says that it computes something else; the mended form breaks no rule, and builds."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import onnx
import pytest
from onnx import parser

from pocketgenie.export.lint import NO_PLUGIN, RULES, UNSUPPORTED, lint

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")

THREE = ("8.6", "8.9", "12.0")


def model(text: str, opset: int = 23) -> onnx.ModelProto:
    others = '"com.microsoft": 1, "other": 1, "own": 1'
    head, _, functions = text.partition("<domain")
    header = f'<ir_version: 10, opset_import: ["": {opset}, {others}]>\n{head}'
    return parser.parse_model(header + ("<domain" + functions if functions else ""))


def built(graph: onnx.ModelProto, capabilities: tuple[str, ...]) -> bool:
    """Whether the library itself builds it."""
    silence = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(silence)
    network = builder.create_network(0)
    if not trt.OnnxParser(network, silence).parse(graph.SerializeToString()):
        return False
    config = builder.create_builder_config()
    if capabilities:
        config.num_compute_capabilities = len(capabilities)
    for place, capability in enumerate(capabilities):
        name = "SM" + capability.replace(".", "")
        config.set_compute_capability(getattr(trt.ComputeCapability, name), place)
    return builder.build_serialized_network(network, config) is not None


def crashes(graph: onnx.ModelProto, capabilities: tuple[str, ...]) -> bool:
    """Whether the same ends the process that tries it."""
    lines = (
        "import sys, onnx, tensorrt_rtx as trt",
        inspect.getsource(built),
        f"built(onnx.load_from_string(sys.stdin.buffer.read()), {capabilities})",
    )
    child = subprocess.run(
        [sys.executable, "-c", "from __future__ import annotations\n" + "\n".join(lines)],
        input=graph.SerializeToString(),
        capture_output=True,
    )
    assert b"Traceback" not in child.stderr, child.stderr
    return child.returncode != 0


@dataclass(frozen=True)
class Case:
    """A graph that breaks a rule, the same mended, and the cards it is built for."""

    rule: str
    bad: str
    mended: str
    cards: tuple[str, ...] = THREE
    mended_cards: tuple[str, ...] | None = None
    outcome: Literal["refused", "built", "crashed"] = "refused"


def quantized(zero_point: str) -> str:
    return (
        f"g (float[4,8] x, float[8,4] w) => (float[4,4] y) <float s = {{0.5}}, {zero_point}>"
        "{ q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, w) }"
    )


def attention(kind: str, mask: str = "", head: int = 16, node: str = "y = Attention(q, k, v)") -> str:
    heads = f"{kind}[1,2,64,{head}]"
    return f"g ({heads} q, {heads} k, {heads} v{mask}) => ({heads} y) {{ {node} }}"


def fp8(to: int) -> str:
    return (
        "g (float[4,8] x, float[8,4] w) => (float[4,4] y) <float s = {0.5}>"
        f"{{ q = QuantizeLinear<output_dtype={to}>(x, s) d = DequantizeLinear(q, s) y = MatMul(d, w) }}"
    )


WRITTEN_OUT = (
    "g (float[1,2,64,16] q, float[1,2,64,16] k, float[1,2,64,16] v) => (float[1,2,64,16] y)"
    "{ t = Transpose<perm=[0,1,3,2]>(k) a = MatMul(q, t) s = Softmax(a) y = MatMul(s, v) }"
)
HALF = attention("float16")
BOTH_PRODUCTS = "g ({0}[4,8] x, {0}[8,4] w) => ({0}[4,4] y) {{ y = MatMul(x, w) }}"

CASES = (
    Case(
        "uint8",
        "g (uint8[4] x) => (float[2,2] y) <int64[2] s = {2,2}> { r = Reshape(x, s) y = Cast<to=1>(r) }",
        "g (uint8[4] x) => (float[2,2] y) <int64[2] s = {2,2}> { r = Cast<to=1>(x) y = Reshape(r, s) }",
    ),
    Case(
        "uint8",
        "g (float[4] x) => (uint8[2,2] y) <int64[2] s = {2,2}> { r = Cast<to=2>(x) y = Reshape(r, s) }",
        "g (float[4] x) => (uint8[2,2] y) <int64[2] s = {2,2}> { r = Reshape(x, s) y = Cast<to=2>(r) }",
    ),
    Case(
        "uint8",
        "g (float[4] x) => (float[4] y) { r = Cast<to=2>(x) y = Cast<to=1>(r) }",
        "g (float[4] x) => (float[4] y, uint8[4] r) { r = Cast<to=2>(x) y = Cast<to=1>(r) }",
    ),
    Case(
        "uint8-constant-output",
        "g (int32[2] i) => (uint8[2] y) <uint8[4] s = {0,1,2,3}> { y = Gather(s, i) }",
        "g (int32[2] i) => (uint8[2] y) <int32[4] s = {0,1,2,3}> { r = Gather(s, i) y = Cast<to=2>(r) }",
    ),
    Case(
        "foreign-type",
        "g (int16[4] x) => (float[4] y) { y = Cast<to=1>(x) }",
        "g (int32[4] x) => (float[4] y) { y = Cast<to=1>(x) }",
    ),
    Case("foreign-type", fp8(19), fp8(17), cards=("8.9", "12.0")),
    Case(
        "float64",
        "g (double[4] x) => (double[4] y) { y = Relu(x) }",
        "g (float[4] x) => (float[4] y) { y = Relu(x) }",
        outcome="built",
    ),
    Case(
        "integer-products",
        "g (int8[4,4] x, int8[4,4] w) => (int32[4,4] y) { y = MatMulInteger(x, w) }",
        quantized("int8 z = {0}"),
    ),
    Case(
        "drawn",
        "g (float[1,8] x) => (int32[1,4] y) { y = Multinomial<sample_size=4>(x) }",
        "g (float[1,8] x, float[1,8] n) => (int64[1,1] y) { s = Add(x, n) y = ArgMax<axis=1>(s) }",
    ),
    Case(
        "random",
        "g (float[4] x) => (float[4] y) { n = RandomNormalLike<seed=3.0>(x) y = Add(x, n) }",
        "g (float[4] x, float[4] n) => (float[4] y) { y = Add(x, n) }",
        outcome="built",
    ),
    Case(
        "unsupported",
        "g (float[2,2] x) => (float y) { y = Det(x) }",
        "g (float[2,2] x) => (float[2] y) { y = ReduceProd<keepdims=0>(x, a) } ".replace(
            "=> (float[2] y)", "=> (float[2] y) <int64[1] a = {1}>"
        ),
    ),
    Case(
        "foreign-operator",
        "g (float[4] x) => (float[4] y) { y = com.microsoft.QuickGelu(x) }",
        "g (float[4] x) => (float[4] y) { y = Gelu(x) }",
    ),
    Case(
        "foreign-operator",
        "g (float[4,16] x, float[1] s) => (float[4,1] y) <uint8[1,1,8] w = {1,2,3,4,5,6,7,8}>"
        "{ y = com.microsoft.MatMulNBits<K=16, N=1, bits=4, block_size=16>(x, w, s) }",
        "g (float[4,16] x, float[16,1] w) => (float[4,1] y) { y = MatMul(x, w) }",
    ),
    Case(
        "namesake",
        "g (float[4] x) => (float[4] y) { y = other.Relu(x) }",
        "g (float[4] x) => (float[4] y) { y = Relu(x) }",
        outcome="built",
    ),
    Case("zero-point", quantized("int8 z = {3}"), quantized("int8 z = {0}")),
    Case(
        "zero-point",
        "g (float[4] x, int8 z) => (float[4] y) <float s = {0.5}>"
        "{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }",
        "g (float[4] x) => (float[4] y) <float s = {0.5}, int8 z = {0}>"
        "{ q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z) }",
    ),
    Case("uint8-quantization", quantized("uint8 z = {0}"), quantized("int8 z = {0}"), outcome="built"),
    Case(
        "uint8-weights",
        "g (float[4,2] x) => (float[4,2] y) <float s = {0.5}, uint8[2,2] w = {1,2,3,200}>"
        "{ d = DequantizeLinear(w, s) y = MatMul(x, d) }",
        "g (float[4,2] x) => (float[4,2] y) <float s = {0.5}, int8[2,2] w = {1,2,3,100}>"
        "{ d = DequantizeLinear(w, s) y = MatMul(x, d) }",
    ),
    Case(
        "int32-bias",
        "g (float[2] x) => (float[2] y) <float s = {0.5}, int32[2] b = {1,2}>"
        "{ d = DequantizeLinear(b, s) y = Add(x, d) }",
        "g (float[2] x) => (float[2] y) <float[2] b = {0.5,1.0}> { y = Add(x, b) }",
    ),
    Case(
        "topk",
        "g (float[4000] x) => (float[3841] y) <int64[1] k = {3841}> { y, i = TopK(x, k) }",
        "g (float[4000] x) => (float[3840] y) <int64[1] k = {3840}> { y, i = TopK(x, k) }",
    ),
    Case(
        "attention-memory",
        "g (float16[1,2,64,16] q, float16[1,2,32,16] p) => (float16[1,2,64,16] y, float16[1,2,96,16] a,"
        "float16[1,2,96,16] b) { k = Neg(q) v = Exp(q) y, a, b = Attention(q, k, v, , p, p) }",
        HALF,
    ),
    Case("attention-options", attention("float16", node="y = Attention<softcap=2.0>(q, k, v)"), HALF),
    Case(
        "attention-padding",
        attention("float16", ", int64[1] n", node="y = Attention(q, k, v, , , , n)"),
        attention("float16", ", float16[64,64] n", node="y = Attention(q, k, v, n)"),
        outcome="built",
    ),
    Case("attention-of-itself", attention("float16", node="y = Attention(q, q, v)"), HALF, outcome="crashed"),
    Case("attention-float32", attention("float"), WRITTEN_OUT),
    Case("attention-head", attention("float16", head=8), attention("float16", head=9)),
    Case("attention-head", attention("float16", head=257), attention("float16", head=256)),
    Case(
        "turing-float32",
        BOTH_PRODUCTS.format("float"),
        BOTH_PRODUCTS.format("float16"),
        cards=("7.5", "8.6"),
    ),
    Case(
        "turing-types",
        "g (bfloat16[4] x) => (bfloat16[4] y) { y = Relu(x) }",
        "g (float16[4] x) => (float16[4] y) { y = Relu(x) }",
        cards=("7.5",),
    ),
    Case("fp8", fp8(17), fp8(17), cards=("8.6", "8.9"), mended_cards=("8.9", "12.0")),
    Case("fp8-portable", fp8(17), fp8(17), cards=(), mended_cards=("8.9",), outcome="built"),
)


@pytest.mark.parametrize("case", CASES, ids=[f"{case.rule}-{place}" for place, case in enumerate(CASES)])
def test_the_rule_is_true_of_the_library(case):
    bad, mended = (model(text, 24 if "n)" in text else 23) for text in (case.bad, case.mended))
    assert {finding.rule for finding in lint(bad, case.cards)} == {case.rule}
    if case.outcome == "crashed":
        assert crashes(bad, case.cards)
    else:
        assert built(bad, case.cards) is (case.outcome == "built")
    assert RULES[case.rule].silent is (case.outcome == "built")
    cards = case.cards if case.mended_cards is None else case.mended_cards
    assert [str(finding) for finding in lint(mended, cards)] == []
    assert built(mended, cards)


def test_every_rule_has_its_case():
    assert {case.rule for case in CASES} == RULES.keys()


def test_the_unsupported_operators_are_the_parsers_own():
    builder = trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    reader = trt.OnnxParser(builder.create_network(0), trt.Logger(trt.Logger.INTERNAL_ERROR))
    names = {schema.name for schema in onnx.defs.get_all_schemas_with_history() if not schema.domain}
    assert {name for name in names if not reader.supports_operator(name)} == UNSUPPORTED & names
    assert all(reader.supports_operator(name) for name in NO_PLUGIN)


@pytest.mark.parametrize(
    "text",
    [
        "g (float[1,8,4] b, float[1,1,8] s) => (int64[n,3] y) { y = NonMaxSuppression(b, s) }",
        "g (float[4] x) => (int64[1,n] y) { y = NonZero(x) }",
        "g (float[1,1,8,8] b, float[2,4] r, int64[2] i) => (float[2,1,1,1] y) { y = RoiAlign(b, r, i) }",
    ],
)
def test_operators_without_code_are_refused(text):
    assert [finding.rule for finding in lint(model(text), THREE)] == ["unsupported"]
    assert not built(model(text), THREE)


INSIDE = {
    "if": "g (float[4] x, bool c) => (float[4] y) { y = If (c) <then_branch = a () => (float[4] o)"
    "{ o = Relu(x) }, else_branch = b () => (float[4] p) { p = OP(x) }> }",
    "loop": "g (float[4] x) => (float[4] y) <int64 n = {3}, bool c = {1}> { y = Loop (n, c, x) <body = b"
    "(int64 i, bool ci, float[4] a) => (bool co, float[4] o) { co = Identity(ci) o = OP(a) }> }",
    "scan": "g (float[4] x, float[3,4] z) => (float[4] y) { y = Scan (x, z) <num_scan_inputs = 1, body = b"
    "(float[4] a, float[4] s) => (float[4] o) { t = OP(s) o = Add(a, t) }> }",
    "function": 'g (float[4] x) => (float[4] y) { y = own.f(x) }\n<domain: "own", opset_import: ["": 23]>\n'
    "f (x) => (y) { y = OP(x) }",
}


@pytest.mark.parametrize("place", INSIDE)
def test_subgraphs_and_functions_are_looked_into(place):
    bad, good = (model(INSIDE[place].replace("OP", operator)) for operator in ("Bernoulli", "Neg"))
    assert [(finding.operator, finding.rule) for finding in lint(bad, THREE)] == [("Bernoulli", "drawn")]
    assert not built(bad, THREE)
    assert lint(good, THREE) == [] and built(good, THREE)


def test_a_subgraph_sees_the_types_around_it():
    text = (
        "g (uint8[4] x, bool c) => (float[4] y) { y = If (c) <then_branch = a () => (float[4] o)"
        "{ o = Cast<to=1>(x) }, else_branch = b () => (float[4] p) { t = Neg(x) p = Cast<to=1>(t) }> }"
    )
    assert [(finding.operator, finding.rule) for finding in lint(model(text), THREE)] == [("Neg", "uint8")]


def test_uint8_constants_are_none_of_its_business():
    text = (
        "g (float[2,2] x) => (float[2,2] y) <uint8[4] s = {0,1,200,3}, int64[2] h = {2,2}>"
        "{ t = Reshape(s, h) r = Cast<to=1>(t) y = Add(x, r) }"
    )
    assert lint(model(text), THREE) == [] and built(model(text), THREE)


def test_a_finding_is_one_line_that_names_the_node_and_the_mend():
    (finding,) = lint(model("g (float[2,2] x) => (float y) { y = Det(x) }"), THREE)
    assert "'y'" in str(finding) or "node" in finding.node
    assert str(finding).startswith("Det node ") and finding.mend in str(finding) and "\n" not in str(finding)
