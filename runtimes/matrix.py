"""The machine's float32 matrix rate, by every library that is here: the limit of a frame's operations."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from pocketgenie.runtimes.machine import cores

Product = Callable[[], Any]

SHAPES = ((64, 256, 1024), (512, 512, 512))
"""[m, k] x [k, n]: a layer of a small world, and one large enough for any library."""
SECONDS = 0.05  # for each library and shape


class MatrixProducts:
    """What a worker process holds to take its turn between the runtimes."""

    def __init__(self) -> None:
        self.products = {
            (library, shape): product
            for library, build in LIBRARIES.items()
            for shape in SHAPES
            if (product := build(*shape))
        }

    def turn(self) -> dict[tuple[str, tuple[int, int, int]], float]:
        """GFLOP/s by library and [m, k, n], a multiply-add counted as two: the median of many products."""
        rates = {}
        for (library, (m, k, n)), product in self.products.items():
            times: list[float] = []
            while sum(times) < SECONDS:
                began = time.perf_counter()
                product()
                times.append(time.perf_counter() - began)
            rates[library, (m, k, n)] = 2e-9 * m * k * n / float(np.median(times))
        return rates


def _numpy_product(m: int, k: int, n: int) -> Product:
    a, b, out = np.ones((m, k), np.float32), np.ones((k, n), np.float32), np.empty((m, n), np.float32)
    return lambda: np.matmul(a, b, out)


def _torch_product(m: int, k: int, n: int) -> Product | None:
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(cores())
    a, b, out = torch.ones(m, k), torch.ones(k, n), torch.empty(m, n)
    return lambda: torch.mm(a, b, out=out)


def _ort_product(m: int, k: int, n: int) -> Product | None:
    try:
        from onnx import TensorProto, helper, numpy_helper
    except ImportError:
        return None
    import onnxruntime as ort

    a = helper.make_tensor_value_info("a", TensorProto.FLOAT, [m, k])
    c = helper.make_tensor_value_info("c", TensorProto.FLOAT, [m, n])
    b = numpy_helper.from_array(np.ones((k, n), np.float32), "b")
    node = helper.make_node("MatMul", ["a", "b"], ["c"])
    graph = helper.make_graph([node], "product", [a], [c], [b])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    options = ort.SessionOptions()
    options.intra_op_num_threads = cores()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # would disturb who comes next
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    inputs = {"a": np.ones((m, k), np.float32)}
    return lambda: session.run(None, inputs)


LIBRARIES = {"numpy": _numpy_product, "torch": _torch_product, "onnxruntime": _ort_product}
