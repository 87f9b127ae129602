"""The runtime `tensorrt` as far as it goes without a card: each refusal, the cache, the fallback."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pocketgenie.errors import UserError
from pocketgenie.export.bundle import Bundle, load_bundle, seal
from pocketgenie.export.manifest import Draft, Engine, Engines
from pocketgenie.genie.noise import draw_noise
from pocketgenie.runtimes import engine_fit, tensorrt
from pocketgenie.runtimes.device import HostDevice
from pocketgenie.runtimes.engine_cache import cache_for
from pocketgenie.runtimes.fallback import load_with_fallback
from pocketgenie.runtimes.ort_cpu import IDENTITY
from pocketgenie.runtimes.ort_cuda import CPU, OrtEngine
from pocketgenie.runtimes.table import load_session

MakeBundle = Callable[..., Bundle]

needs_library = pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")


def has_driver() -> bool:
    try:
        from cuda.bindings import driver

        return int(driver.cuInit(0)[0]) == 0
    except (ImportError, RuntimeError):
        return False


without_card = pytest.mark.skipif(has_driver(), reason="an NVIDIA card is here")


@pytest.fixture(scope="module")
def plan() -> bytes:
    """A real engine, for RTX 30 cards: y = x."""
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.INTERNAL_ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    assert trt.OnnxParser(network, logger).parse(IDENTITY)
    config = builder.create_builder_config()
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    return bytes(builder.build_serialized_network(network, config))


@pytest.fixture
def make_bundle(tiny_bundle: Path, plan: bytes, tmp_path: Path) -> MakeBundle:
    """The tiny world as a bundle of target tensorrt; each graph has the engine of another graph (y = x).

    With `named` an engine file holds nothing but its graph's name: for the stand-in below.
    """

    def make(without: str | None = None, named: bool = False, **changes: object) -> Bundle:
        folder = tmp_path / "world"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tiny_bundle, folder)
        manifest = load_bundle(folder).manifest
        files = {name: f"{name}.engine" for name in manifest.graphs if name != without}
        for name, file in files.items():
            (folder / file).write_bytes(name.encode() if named else plan)
        library = f"tensorrt-rtx {import_module('tensorrt_rtx').__version__}"
        engines = {
            "flavor": "rtx",
            "library": library,
            "cards": ("rtx30",),
            "capabilities": ("8.6",),
            "graphs": {name: Engine(file=file, build_seconds=1) for name, file in files.items()},
        }
        draft = {name: getattr(manifest, name) for name in Draft.model_fields}
        draft |= {"target": "tensorrt", "engines": Engines.model_validate(engines | changes)}
        seal(folder, Draft.model_validate(draft))
        return load_bundle(folder)

    return make


class Card(HostDevice):
    """Host memory that says it is a card."""

    def __init__(self, capability: str, free: int = 1 << 40) -> None:
        super().__init__()
        self.name, self.capability, self.driver, self.free = "Some Card", capability, "CUDA 13.0", free

    def free_memory(self) -> int:
        return self.free


@without_card
def test_without_a_driver_the_line_names_the_driver_and_the_fallback(make_bundle):
    with pytest.raises(UserError, match=r"^no NVIDIA driver: .*; install .*; --fallback plays the ONNX"):
        load_session(make_bundle(), "tensorrt")


def test_another_version_of_the_library_is_named_with_both_mends(make_bundle):
    bundle = make_bundle(library="tensorrt-rtx 1.2.3.4")
    with pytest.raises(UserError) as caught:
        load_session(bundle, "tensorrt")
    here = import_module("tensorrt_rtx").__version__
    assert str(caught.value).startswith(
        f"this bundle's engines were built by tensorrt-rtx 1.2.3.4, here is {here}; pip install "
        "tensorrt-rtx==1.2.3.4, or pocketgenie export "
    )
    assert "--target tensorrt --cards rtx30" in str(caught.value)


@pytest.mark.skipif(find_spec("tensorrt") is not None, reason="standard TensorRT is installed")
def test_a_library_that_is_missing_is_named(make_bundle):
    with pytest.raises(
        UserError, match=r"^tensorrt is not installed; pip install tensorrt cuda-bindings; --fall"
    ):
        load_session(make_bundle(flavor="standard", library="tensorrt 11.0.0"), "tensorrt")


def test_a_bundle_without_engines_or_without_one_of_them_is_refused(make_bundle, tiny_bundle):
    with pytest.raises(UserError, match=r"`observe`; pocketgenie export .* --target tensorrt --cards rtx30"):
        load_session(make_bundle(without="observe"), "tensorrt")
    with pytest.raises(UserError, match="tensorrt plays no onnx bundles; export one with --target tensorrt"):
        load_session(tiny_bundle, "tensorrt")
    with pytest.raises(UserError, match=r"has no engines \(target onnx\); pocketgenie export .*rtx30,rtx40"):
        tensorrt.load(load_bundle(tiny_bundle))


@pytest.mark.parametrize(
    ("capability", "mend"),
    [("8.9", "--cards rtx40"), ("12.0", "--cards rtx50"), ("9.0", "--cards this --flavor standard")],
)
def test_a_card_that_the_engines_were_not_built_for(make_bundle, capability, mend):
    bundle = make_bundle()
    engines = engine_fit.require_engines(bundle)
    said = engine_fit.refusal(bundle, engines, Card(capability), set())
    assert str(said).startswith(
        f"this bundle's engines were built for rtx30 (8.6), this card is Some Card ({capability}); "
    )
    assert mend in str(said)
    portable = engine_fit.require_engines(make_bundle(cards=("portable",), capabilities=()))
    assert engine_fit.refusal(bundle, portable, Card(capability), set()) is None
    said = engine_fit.refusal(bundle, portable, Card("7.5"), {"UNSUPPORTED_CC"})
    assert "for portable (Ampere and newer), this card is Some Card (7.5)" in str(said)


@pytest.mark.parametrize(
    ("diagnostic", "line"),
    [
        ("OLD_CUDA_DRIVER", "the NVIDIA driver is too old: it offers CUDA 13.0"),
        ("INSUFFICIENT_GPU_MEMORY", "too little memory on the NVIDIA card: this world needs"),
        ("VERSION_MISMATCH", "TensorRT for RTX cannot read this bundle's engines"),
        ("MALFORMED_ENGINE", "TensorRT for RTX cannot read this bundle's engines"),
    ],
)
def test_what_the_library_says_of_an_engine_becomes_one_line(make_bundle, diagnostic, line):
    bundle = make_bundle()
    assert diagnostic in import_module("tensorrt_rtx").EngineInvalidityDiagnostics.__members__
    said = engine_fit.refusal(bundle, engine_fit.require_engines(bundle), Card("8.6"), {diagnostic})
    assert str(said).startswith(line) and "\n" not in str(said) and "; " in str(said)


def test_too_little_memory_says_how_much_is_needed(make_bundle, plan):
    bundle = make_bundle()
    engines = engine_fit.require_engines(bundle)
    rings = sum(
        memory.slots * int(np.prod(memory.entry)) * 4 for memory in bundle.manifest.spec.memories.values()
    )
    assert engine_fit.played_bytes(bundle, engines) == 4 * len(plan) + rings
    trt = import_module("tensorrt_rtx")
    with pytest.raises(UserError, match=r"this world needs 1 MB, 0 MB are free; close other programs"):
        tensorrt.on_device(bundle, engines, trt, Card("8.6", free=1000))


@without_card
def test_the_library_itself_refuses_an_engine_for_another_card(make_bundle):
    """Through the real library, which cannot load anything here: what it says is put into one line."""
    bundle, trt = make_bundle(), import_module("tensorrt_rtx")
    engines = engine_fit.require_engines(bundle)
    with pytest.raises(UserError, match=r"built for rtx30 \(8\.6\), this card is Some Card \(8\.9\)"):
        tensorrt.on_device(bundle, engines, trt, Card("8.9"))
    with pytest.raises(
        UserError, match=r"TensorRT for RTX refuses the engine of `play` \(Error .*\); pocket"
    ):
        tensorrt.on_device(bundle, engines, trt, Card("8.6"))


def stand_in(bundle: Bundle, caches: list[Any], own_graphs: bool) -> Any:
    """TensorRT's interface over ONNX Runtime: an engine file names its graph. For all that needs a card else.

    `own_graphs`: as TensorRT for RTX, with CUDA graphs and a cache of its own; else as standard TensorRT.
    """
    trt = import_module("tensorrt_rtx")
    types = {"float32": "FLOAT", "float16": "HALF", "int32": "INT32", "uint8": "UINT8"}

    class Cache:
        given = b""

        def deserialize(self, content: bytes) -> bool:
            self.given = content
            return True

        def serialize(self) -> bytes:
            return b"compiled kernels"

    class Config:
        def __init__(self) -> None:
            if own_graphs:
                self.cuda_graph_strategy = trt.CudaGraphStrategy.DISABLED
                self.create_runtime_cache, self.set_runtime_cache = Cache, caches.append

    class Context:
        def __init__(self, graph: OrtEngine, config: Config) -> None:
            captures = getattr(config, "cuda_graph_strategy", None)
            assert captures in (None, trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE)
            self.graph = graph

        def set_tensor_address(self, name: str, address: int) -> bool:
            self.graph.bind(name, address)
            return True

        def execute_async_v3(self, stream_handle: int) -> bool:
            self.graph.enqueue()
            return True

    class CudaEngine:
        device_memory_size_v2 = 0
        create_runtime_config = Config

        def __init__(self, graph: OrtEngine) -> None:
            self.graph, self.tensors = graph, {tensor.name: tensor for tensor in graph.tensors}
            self.num_io_tensors = len(self.tensors)

        def get_tensor_name(self, index: int) -> str:
            return list(self.tensors)[index]

        def get_tensor_dtype(self, name: str) -> Any:
            return getattr(trt.DataType, types[self.tensors[name].dtype])

        def get_tensor_shape(self, name: str) -> Any:
            return trt.Dims(self.tensors[name].shape)

        def get_tensor_mode(self, name: str) -> Any:
            return trt.TensorIOMode.INPUT if self.tensors[name].is_input else trt.TensorIOMode.OUTPUT

        def create_execution_context(self, runtime_config: Config) -> Context:
            return Context(self.graph, runtime_config)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self.logger = logger

        def get_engine_validity(self, plan: Any) -> tuple[Any, int]:
            return trt.EngineValidity.SUBOPTIMAL, 0

        def deserialize_cuda_engine(self, plan: Any) -> CudaEngine:
            path = bundle.path(bundle.manifest.graphs[bytes(plan).decode()].file)
            return CudaEngine(OrtEngine(path, HostDevice(), CPU))

    return SimpleNamespace(**{**vars(trt), "Runtime": Runtime})


class Recording(Card):
    """Counts what is recorded; refuses to where it must."""

    def __init__(self, refuses: bool = False) -> None:
        super().__init__("8.6")
        self.refuses, self.recorded, self.replayed = refuses, 0, 0

    def record(self, work: Callable[[], object]) -> Callable[[], None]:
        self.recorded += 1
        if self.refuses:
            raise UserError("this engine cannot be captured")

        def replay() -> None:
            self.replayed += 1
            work()

        return replay


@pytest.mark.parametrize("refuses", [False, True], ids=["recorded", "not recorded"])
@pytest.mark.parametrize("own_graphs", [True, False], ids=["rtx", "standard"])
def test_it_plays_the_world_through_the_librarys_interface(make_bundle, tiny_bundle, own_graphs, refuses):
    bundle = make_bundle(named=True)
    caches: list[Any] = []
    engines, device = engine_fit.require_engines(bundle), Recording(refuses)
    session = tensorrt.on_device(bundle, engines, stand_in(bundle, caches, own_graphs), device)
    own = load_session(tiny_bundle, "ort-cpu")
    frame = np.load(tiny_bundle / "clips.npz")["frames"][0, 0]
    for one in (session, own):
        one.observe(one.encode(frame), one.spec.no_action)
    for number in range(10):
        noise = draw_noise(own.spec, 0, number)
        (tokens, picture), (others, drawn) = (one.play(number % 5, noise) for one in (session, own))
        assert np.array_equal(tokens, others) and np.array_equal(picture, drawn), f"frame {number}"
    # of encode, observe and play only the last ran again: once plain, then recorded
    assert (device.recorded, device.replayed) == ((0, 0) if own_graphs else (1, 0 if refuses else 9))
    session.close()
    if own_graphs:
        assert len(caches) == 3 and len(set(map(id, caches))) == 1, "one cache for all engines"
        again: list[Any] = []
        tensorrt.on_device(bundle, engines, stand_in(bundle, again, own_graphs), Card("8.6")).close()
        assert again[0].given == b"compiled kernels"
    else:
        assert not bundle.folder.with_name("world.runtime-cache").exists()


@needs_library
def test_the_library_has_all_that_the_runtime_asks_of_it():
    """What only a card can run is at least there, by the names that are used."""
    trt = import_module("tensorrt_rtx")
    used = {
        "Runtime": "deserialize_cuda_engine get_engine_validity",
        "ICudaEngine": "num_io_tensors get_tensor_name get_tensor_dtype get_tensor_shape get_tensor_mode "
        "create_runtime_config create_execution_context device_memory_size_v2",
        "IRuntimeConfig": "cuda_graph_strategy create_runtime_cache set_runtime_cache",
        "IRuntimeCache": "serialize deserialize",
        "IExecutionContext": "set_tensor_address execute_async_v3",
    }
    for owner, names in used.items():
        assert not set(names.split()) - set(dir(getattr(trt, owner))), owner
    for name in ("num_io_tensors", "device_memory_size_v2"):
        assert isinstance(getattr(trt.ICudaEngine, name), property)
    assert "runtime_config:" in trt.ICudaEngine.create_execution_context.__doc__
    assert trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE and trt.EngineValidity.INVALID and trt.TensorIOMode.INPUT
    assert {"UINT8", "INT32", "FLOAT", "HALF"} <= trt.DataType.__members__.keys()
    assert tensorrt.cuda_major("tensorrt_rtx") == 13 and tensorrt.cuda_major("no_such_library") == 12


def test_the_runtime_cache_is_read_back_whole_or_not_at_all(make_bundle):
    bundle = make_bundle()

    def cache(library="tensorrt-rtx 1", card="RTX 4090", driver="CUDA 13.0") -> Any:
        return cache_for(bundle, library, card, driver)

    content = bytes(range(256)) * 40
    assert cache().read() == b""
    cache().write(content)
    folder = bundle.folder.with_name("world.runtime-cache")
    assert cache().path.parent == folder and [path.suffix for path in folder.iterdir()] == [".cache"]
    assert cache().read() == content
    for other in (cache(library="tensorrt-rtx 2"), cache(card="RTX 3090"), cache(driver="CUDA 13.1")):
        assert other.read() == b""
    whole = cache().path.read_bytes()
    for damaged in (whole[:-1], whole[:20], b"", whole[:50] + b"x" + whole[51:]):
        cache().path.write_bytes(damaged)
        assert cache().read() == b""
    again = cache()
    again.write(content)
    assert again.read() == content


def test_an_unchanged_cache_is_not_written_again_and_a_locked_folder_is_no_error(make_bundle):
    bundle = make_bundle()
    cache = cache_for(bundle, "library", "card", "driver")
    cache.write(b"kernels")
    before = cache.path.stat().st_mtime_ns
    cache.write(b"kernels")
    assert cache.path.stat().st_mtime_ns == before
    shutil.rmtree(cache.path.parent)
    cache.path.parent.write_bytes(b"a file in the folder's place")
    cache.write(b"more kernels")
    assert cache_for(bundle, "library", "card", "driver").read() == b""


@without_card
def test_the_fallback_plays_the_same_bundles_onnx_and_says_so(make_bundle, tiny_bundle):
    bundle = make_bundle()
    session, words = load_with_fallback(bundle.folder, "tensorrt")
    assert words is not None and "\n" not in words
    assert words.startswith("tensorrt: no NVIDIA driver")
    assert words.endswith("; playing the same bundle's ONNX on ort-cpu")
    own = load_session(tiny_bundle, "ort-cpu")
    noise = draw_noise(own.spec, 0, 0)
    assert np.array_equal(session.play(1, noise)[0], own.play(1, noise)[0])


def test_a_runtime_that_plays_needs_no_words_and_a_damaged_bundle_no_fallback(tiny_bundle, make_bundle):
    assert load_with_fallback(tiny_bundle, "ort-cpu")[1] is None
    with pytest.raises(UserError, match="no runtime 'gameboy'"):
        load_with_fallback(tiny_bundle, "gameboy")
    bundle = make_bundle()
    (bundle.folder / "play.engine").write_bytes(b"cut off")
    with pytest.raises(UserError, match="altered"):
        load_with_fallback(bundle.folder, "tensorrt")


@without_card
def test_the_doctor_hears_of_the_driver(make_bundle):
    pytest.importorskip("tensorrt_rtx")
    with pytest.raises(UserError, match=r"^no NVIDIA driver"):
        tensorrt.probe()


@pytest.mark.gpu
def test_on_a_card_it_plays_what_the_reference_plays(tiny_checkpoint, tmp_path):
    """Built for this machine's card, in float32: the reference's tokens, and again from the cache."""
    from pocketgenie.export.world import ExportOptions, export_checkpoint

    pytest.importorskip("tensorrt_rtx")
    folder = tmp_path / "world"
    options = ExportOptions(target="tensorrt", precision="fp32", cards="this")
    export_checkpoint(tiny_checkpoint, folder, options, lambda what: None)
    frames = np.load(folder / "clips.npz")["frames"][0]
    reference = load_session(folder, "reference")
    for _ in range(2):
        session = load_session(folder, "tensorrt")
        for one in (reference, session):
            one.reset()
            one.observe(one.encode(frames[0]), one.spec.no_action)
        for frame in range(20):
            noise, action = draw_noise(session.spec, 5, frame), frame % session.spec.actions
            (tokens, picture), (own, drawn) = (one.play(action, noise) for one in (reference, session))
            assert np.array_equal(tokens, own), f"frame {frame}"
            assert np.abs(picture.astype(int) - drawn).max() <= 1
        session.close()
        assert len(list((tmp_path / "world.runtime-cache").iterdir())) == 1
