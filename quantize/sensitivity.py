"""How much each layer suffers from fewer bits, and what it gives for that: measured once, kept as JSON.

Each group of products alone is put into int8 (and int4), all else stays float32, on what the world meets in
its own play: the KL divergence of the logits for the dynamics, the PSNR of the pixels for the decoder.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import onnx
import onnxruntime as ort
from pydantic import Field, ValidationError

from pocketgenie.errors import UserError
from pocketgenie.genie.spec import Frozen
from pocketgenie.quantize.halves import deciding, float_tensors
from pocketgenie.quantize.products import Bits, groups, layer_of, products
from pocketgenie.quantize.recipe import HEAD
from pocketgenie.runtimes.session import Array
from pocketgenie.training.evaluation import psnr_db, squared_error

SCHEMA: Final = 1
LIBRARIES = ("onnx", "onnxruntime", "numpy")
Graph = Literal["logits", "decode"]
GRAPHS: tuple[Graph, ...] = ("logits", "decode")
"""The dynamics and the decoder, each as a graph of its own."""
LOW_BITS: tuple[Bits, ...] = ("int8", "int4")
TURNS, CALLS = 9, 6
"""Of the timing."""

Inputs = Mapping[str, Array]
Make = Callable[[Mapping[str, Bits]], Callable[[str, onnx.ModelProto], onnx.ModelProto]]
"""Bits of the groups (float32 where they are not named) -> what turns a float32 graph into that."""


class Sensitive(Frozen):
    """One group alone at fewer bits."""

    group: str
    bits: Bits
    kl: float | None = None
    """KL(float32 || this) of the logits in nats, the mean over masked tokens; of dynamics groups."""
    psnr_db: float | None = None
    """Of the pixels against float32's; of decoder groups."""
    saved_mb: float
    share: float
    """Of the graph's multiply-adds in products that may be quantized, 0..1."""

    @property
    def harm(self) -> float:
        """Comparable within a graph: nats, or the mean squared error of the pixels."""
        return self.kl if self.kl is not None else 65025 / 10 ** ((self.psnr_db or 0.0) / 10)


class GraphSensitivity(Frozen):
    """All groups of one graph."""

    graph: Graph
    key: dict[str, str]
    """What it depends on: the graph, what was played for the samples, versions of the libraries."""
    pass_ms: dict[Bits, float] = Field(default_factory=dict)
    """One call with all groups at these bits: milliseconds of one thread, measured in turns."""
    rows: tuple[Sensitive, ...] = ()

    def groups(self, bits: Bits = "int8") -> list[str]:
        """Those that can have these bits, in the order in which they are computed."""
        return [row.group for row in self.rows if row.bits == bits]

    def saved_ms(self, row: Sensitive) -> float:
        """What a group's bits save of one call: its share of what they save in all groups.

        Truer than timing each group alone: on the embedded world's dynamics (a pass of 14 ms), six random
        halves of the groups were predicted to 0.04 ms (rms) this way and to 0.09 ms by the groups' own times.
        """
        return row.share * (self.pass_ms["fp32"] - self.pass_ms[row.bits])


class Sensitivity(Frozen):
    """sensitivity.json"""

    schema_version: Literal[1] = SCHEMA
    graphs: tuple[GraphSensitivity, ...]

    def groups(self, bits: Bits) -> list[str]:
        """Of a frame: the dynamics', then the decoder's."""
        return [group for graph in self.graphs for group in graph.groups(bits)]

    def frame_ms(self, steps: int, bits: Mapping[str, Bits]) -> float:
        """A frame's predicted time on one thread: N passes, one for the memory's entry, the decoder."""
        total = 0.0
        for graph in self.graphs:
            low = [row for row in graph.rows if bits.get(row.group) == row.bits]
            calls = steps + 1 if graph.graph == "logits" else 1
            total += calls * (graph.pass_ms["fp32"] - sum(map(graph.saved_ms, low)))
        return total


def measure(
    graph: Graph,
    model: onnx.ModelProto,
    make: Make,
    samples: Callable[[], Mapping[str, Sequence[Inputs]]],
    played: str,
    cache: Path,
    report: Callable[[str], None],
    factors: int = 1,
) -> GraphSensitivity:
    """The sensitivity of a float32 graph (weights inside) on samples of the inputs (calibration.record).

    `played` says what the samples were drawn from; they are asked for only where something is to be measured.
    `cache` is a folder where every figure is kept as soon as it is there: an interrupted run goes on, one
    with the same graph, `played` and library versions reads it. factors: digits of a token (WorldSpec). Timed
    on ONNX Runtime on the CPU.
    """
    key = {"graph": hash_of(model.SerializeToString(deterministic=True)), "played": played}
    key |= {name: version(name) for name in LIBRARIES}
    path = cache / f"sensitivity-{graph}-{hash_of(json.dumps(key).encode())[:12]}.json"
    found = _read(path) or GraphSensitivity(graph=graph, key=key)
    if found.pass_ms:  # which is measured last
        return found
    given = samples()[graph]
    for row in _missing_rows(found, model, make, given, report, factors):
        found = found.model_copy(update={"rows": (*found.rows, row)})
        _write(path, found)
    report(f"timing `{graph}`")
    models: dict[Bits, onnx.ModelProto] = {"fp32": make({})(graph, model)}
    for bits in LOW_BITS:
        if named := {row.group: bits for row in found.rows if row.bits == bits}:
            models[bits] = make(named)(graph, model)
    found = found.model_copy(update={"pass_ms": _time(models, given[0])})
    _write(path, found)
    return found


def _missing_rows(
    found: GraphSensitivity,
    model: onnx.ModelProto,
    make: Make,
    samples: Sequence[Inputs],
    report: Callable[[str], None],
    factors: int,
) -> Iterable[Sensitive]:
    shares = _shares(model)
    done = {(row.group, row.bits) for row in found.rows}
    todo = [(group, bits) for bits in LOW_BITS for group in shares if (group, bits) not in done]
    plain = make({})(found.graph, model)  # so that what all bits have in common counts for none
    truth = _answers(found.graph, plain, samples) if todo else []
    for number, (group, bits) in enumerate(todo, 1):
        report(f"sensitivity of {group} to {bits} ({number} of {len(todo)})")
        try:
            less = make({group: bits})(found.graph, model)
        except UserError:  # these bits save nothing here, as in a product of a few weights
            continue
        answers = _answers(found.graph, less, samples)
        harm: dict[str, Any]
        if found.graph == "logits":
            pairs = zip(samples, truth, answers, strict=True)
            harm = {"kl": float(np.mean(np.concatenate([_kl(*pair, factors) for pair in pairs])))}
        else:
            errors = [squared_error(a, b) for a, b in zip(truth, answers, strict=True)]
            harm = {"psnr_db": psnr_db(float(np.mean(errors)))}
        saved_mb = (plain.ByteSize() - less.ByteSize()) / 1e6
        yield Sensitive(group=group, bits=bits, saved_mb=saved_mb, share=shares[group], **harm)


def _shares(model: onnx.ModelProto) -> dict[str, float]:
    """Group -> its share of the multiply-adds. One with a product that decides is left out, but for the HEAD.

    Every product with weights multiplies the same number of rows (the frame's tokens), so that the weights'
    sizes are the shares.
    """
    decides = deciding(model.graph, float_tensors(model))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    sizes = dict.fromkeys(groups(model), 0)
    kept = set()
    for node in products(model.graph):
        group = layer_of(node.input[1])
        sizes[group] += int(np.prod(constants[node.input[1]].dims))
        if node.output[0] in decides and group != HEAD:
            kept.add(group)
    left = {group: size for group, size in sizes.items() if group not in kept}
    return {group: size / sum(left.values()) for group, size in left.items()}


def _answers(graph: Graph, model: onnx.ModelProto, samples: Sequence[Inputs]) -> list[Array]:
    """logits float32 [S, V] or pixels uint8 [H, W, 3] for every sample"""
    session = _session(model)
    output = "logits" if graph == "logits" else "frame"
    return [session.run([output], _fitting(session, inputs))[0] for inputs in samples]


def _time(models: Mapping[Bits, onnx.ModelProto], inputs: Inputs) -> dict[Bits, float]:
    """Milliseconds of one call each, medians of the processor's time on one thread, which no other process
    lengthens; every model takes a turn in every round."""
    sessions = {bits: _session(model) for bits, model in models.items()}
    timed: dict[Bits, list[float]] = {bits: [] for bits in models}
    for number in range(TURNS):
        for bits in list(sessions) if number % 2 else reversed(list(sessions)):
            session, given = sessions[bits], _fitting(sessions[bits], inputs)
            session.run(None, given)  # the first after another's turn is slower
            for _ in range(CALLS):
                began = time.thread_time()
                session.run(None, given)
                timed[bits].append((time.thread_time() - began) * 1000)
    return {bits: float(np.median(values)) for bits, values in timed.items()}


def _session(model: onnx.ModelProto) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _fitting(session: ort.InferenceSession, inputs: Inputs) -> dict[str, Array]:
    return {value.name: inputs[value.name] for value in session.get_inputs()}


def _kl(inputs: Inputs, truth_SV: Array, seen_SV: Array, factors: int) -> Array:
    """KL of the two distributions in nats, of every masked token: the sum of its digits'"""
    values = truth_SV.shape[-1] // factors
    masked = inputs["tokens"] == values**factors
    truth, seen = (
        _log_softmax(logits[masked].reshape(-1, factors, values)) for logits in (truth_SV, seen_SV)
    )
    return np.asarray((np.exp(truth) * (truth - seen)).sum((-2, -1)))


def _log_softmax(logits_SV: Array) -> Array:
    shifted = logits_SV.astype(np.float64) - logits_SV.max(-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(-1, keepdims=True)))


def hash_of(content: bytes) -> str:
    """sha256, hexadecimal"""
    return hashlib.sha256(content).hexdigest()


def _read(path: Path) -> GraphSensitivity | None:
    """What is kept there; whatever cannot be read is measured again."""
    try:
        return GraphSensitivity.model_validate_json(path.read_text())
    except (OSError, ValidationError):
        return None


def _write(path: Path, found: GraphSensitivity) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.write_text(found.model_dump_json(indent=2, exclude_none=True) + "\n")
    os.replace(part, path)
