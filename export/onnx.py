"""A world's graphs as ONNX files that share one file of weights. Opset 20, static shapes, no metadata."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import onnx
import onnx_ir as ir
import torch
from onnx import external_data_helper, numpy_helper
from onnxscript import rewriter
from onnxscript.optimizer import optimize_ir

from pocketgenie.genie.contract import TORCH_DTYPES, GraphDef

Convert = Callable[[str, onnx.ModelProto], onnx.ModelProto]

OPSET = 20
WEIGHTS = "weights.bin"
FOLD_BYTES = 1 << 31
QUADRATIC = "SlicesSplit"
INLINE_BYTES = 1024
"""Smaller constants stay inside the graph file."""
ALIGNMENT = 4096
"""So that runtimes can map the weights instead of copying them."""


def export_graphs(
    graphs: dict[str, GraphDef],
    folder: Path,
    report: Callable[[str], None],
    convert: Convert = lambda name, model: model,
) -> dict[str, str]:
    """Write NAME.onnx for every graph and one weights file into `folder` -> {graph: file name}.

    `report` is called with each graph's name before it is exported; `convert` may change its precision. It
    gets `play` first: what it fits to weights in there, where all of them are met, holds for the rest.
    """
    with WeightsFile(folder / WEIGHTS) as weights:
        return {
            name: write_graph(model, folder / f"{name}.onnx", weights).name
            for name, model in traced(graphs, report, convert)
        }


def traced(
    graphs: dict[str, GraphDef], report: Callable[[str], None], convert: Convert
) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Each graph, traced and converted, weights inside; `play` first."""
    for name, graph in sorted(graphs.items(), key=lambda item: item[0] != "play"):
        report(name)
        yield name, convert(name, to_onnx(graph))


def write_graph(model: onnx.ModelProto, path: Path, weights: WeightsFile) -> Path:
    """Write a model, its large constants into `weights`, which lies in the same folder -> `path`, checked"""
    weights.take(model)
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path))
    return path


def to_onnx(graph: GraphDef) -> onnx.ModelProto:
    """Trace, convert and clean one graph; weights inside."""
    example = tuple(_example(spec.shape, TORCH_DTYPES[spec.dtype]) for spec in graph.inputs)
    with _quiet(), _without_quadratic_rules():
        program = torch.onnx.export(
            graph.module,
            example,
            input_names=[spec.name for spec in graph.inputs],
            output_names=[spec.name for spec in graph.outputs],
            opset_version=OPSET,
            dynamo=True,
            optimize=False,  # only once the parameters were traced
            verbose=False,
        )
        assert program is not None
        origins = _origins(program.model.graph)
        program.optimize()
        # what depends on weights alone (split or merged projections, bias tables) is computed here, once
        optimize_ir(program.model, input_size_limit=FOLD_BYTES, output_size_limit=FOLD_BYTES)
    model = program.model_proto
    _name_by_parameter(model.graph, origins)
    strip_metadata(model.graph)
    del model.metadata_props[:]
    for function in model.functions:
        del function.metadata_props[:]
    model.producer_name, model.producer_version, model.doc_string = "pocketgenie", "", ""
    return model


@contextlib.contextmanager
def _without_quadratic_rules() -> Iterator[None]:
    """onnxscript tries a pattern of several outputs at each node by a walk over all nodes. Its one such rule
    made a Split of slices in no graph here, and ten steps of eight blocks took over ten minutes, not one."""
    rules = rewriter._DEFAULT_REWRITE_RULES
    rewriter._DEFAULT_REWRITE_RULES = tuple(rule for rule in rules if rule.name != QUADRATIC)
    try:
        yield
    finally:
        rewriter._DEFAULT_REWRITE_RULES = rules


def _origins(graph: ir.Graph) -> dict[str, str]:
    """Values that depend on constants alone -> the first parameter that each is computed from, or ""."""
    origins = {name: name if "." in name else "" for name in graph.initializers}
    for node in graph:
        made_from = [origins.get(value.name or "") for value in node.inputs if value is not None]
        if None not in made_from and (made_from or node.op_type == "Constant"):
            parameter = next((name for name in made_from if name), "")
            origins |= {value.name: parameter for value in node.outputs if value.name}
    return origins


def _name_by_parameter(graph: onnx.GraphProto, origins: dict[str, str]) -> None:
    """Constants that were computed at export are named after their parameter, so that layers can be told
    apart: `slice_2` becomes `...blocks.0.spatial.qkv.weight/slice_2`."""
    renamed = {
        tensor.name: f"{origins[tensor.name]}/{tensor.name}"
        for tensor in graph.initializer
        if origins.get(tensor.name, "") not in ("", tensor.name)
    }
    for tensor in graph.initializer:
        tensor.name = renamed.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]


def strip_metadata(graph: onnx.GraphProto) -> None:
    """Remove what the exporter wrote about this machine (paths, source lines), in subgraphs too."""
    del graph.metadata_props[:]
    graph.doc_string = ""
    for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    for node in graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                strip_metadata(attribute.g)


class WeightsFile:
    """One file that holds every distinct large tensor of several models once.

    after: a file that was filled before; what it holds already is not written again.
    """

    def __init__(self, path: Path, after: WeightsFile | None = None) -> None:
        self.path = path
        self.places: dict[bytes, tuple[str, int]] = dict(after.places) if after else {}
        """sha256 of a tensor's bytes -> the file that holds it, and where."""

    def __enter__(self) -> WeightsFile:
        self.file = self.path.open("wb")
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def take(self, model: onnx.ModelProto) -> None:
        """Move a model's large initializers here."""
        for tensor in model.graph.initializer:
            raw = tensor.raw_data or numpy_helper.to_array(tensor).tobytes()
            if len(raw) < INLINE_BYTES:
                continue
            key = hashlib.sha256(raw).digest()
            if key not in self.places:
                self.file.write(b"\0" * (-self.file.tell() % ALIGNMENT))
                self.places[key] = self.path.name, self.file.tell()
                self.file.write(raw)
            file, offset = self.places[key]
            tensor.raw_data = raw
            external_data_helper.set_external_data(tensor, file, offset, len(raw))
            tensor.ClearField("raw_data")


def outside_files(model: onnx.ModelProto) -> tuple[str, ...]:
    """Names of the files that hold a model's large constants."""
    names = [
        item.value
        for tensor in model.graph.initializer
        for item in tensor.external_data
        if item.key == "location"
    ]
    return tuple(dict.fromkeys(names))


def _example(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.ones(shape, dtype=dtype)  # ones are a valid token, action, age and count


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter and its libraries talk to stdout, warnings and logging alike."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
