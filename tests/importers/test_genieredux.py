"""Files of GenieRedux become worlds, or one line says what is wrong. The files are made here, as the project
writes them; tests/importers/test_genieredux_model.py reads the project's own."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from pocketgenie.errors import UserError
from pocketgenie.export.onnx import to_onnx
from pocketgenie.genie.checkpoint import SCHEMA, WorldHeader, save_header, save_tensors
from pocketgenie.genie.contract import GraphDef
from pocketgenie.importers import genieredux
from pocketgenie.importers.genieredux_config import GenieReduxConfig
from pocketgenie.importers.genieredux_world import GenieReduxWorld
from pocketgenie.importers.kinds import load_world
from pocketgenie.runtimes.reference import TorchBackend, world_session
from pocketgenie.runtimes.session import Array, GraphSession

SAID = {"use_token": "false", "image_size": "8"}
CONFIG_YAML = """optimizer:
  betas:
  - 0.9
train:
  num_frames: 4
tokenizer:
  image_size: 8
dynamics:
  use_token: false
  use_action_embeddings: {embeddings}
model: genie_redux
"""


def sizes(dim: int, **more: object) -> dict[str, object]:
    return {"dim": dim, "heads": 3, "head_dim": 4, "blocks": 1, "ffn": 9, **more}


def config_of(*, guided: bool, actions: int = 3, code_dim: int = 32) -> GenieReduxConfig:
    video = {
        "codes": 7,
        "code_dim": code_dim,
        "projected": code_dim != 12,
        "encoder": sizes(12),
        "decoder": sizes(12),
    }
    dynamics = {"codes": 7, "embedding": 12, "actions": actions, "positions": 21}
    return GenieReduxConfig.model_validate(
        {
            "name": "made",
            "height": 8,
            "width": 8,
            "patch": 4,
            "tokenizer": video,
            "lam": None if guided else {**video, "codes": actions},
            "dynamics": {**dynamics, "transformer": sizes(12 + actions if guided else 12)},
            "use_token": False,
            "window": 5,
            "keeps": 2,
            "fps": 10,
        }
    )


def with_leftovers(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the project's files hold besides: a norm that is never used, buffers of another training mode."""
    more = {}
    for key, value in weights.items():
        if key.endswith("attention.norm.gamma"):
            more[key.replace(".norm.", ".context_norm.")] = torch.ones_like(value)
        if key.endswith("_codebook.embed"):
            more[f"{key}_avg"] = value + 1
            more[key.replace("embed", "cluster_size")] = torch.zeros(value.shape[:2])
            more[key.replace("embed", "initted")] = torch.ones(1, dtype=torch.bool)
    return weights | more


def write(folder, config: GenieReduxConfig, step: int = 2) -> GenieReduxWorld:
    """A model's and a tokenizer's file of random weights."""
    world = GenieReduxWorld(config)
    generator = torch.Generator().manual_seed(0)
    saved = {}
    for name, part in world.parts().items():
        for weight in part.parameters():
            torch.nn.init.normal_(weight, std=0.5, generator=generator)
        saved[name] = with_leftovers({key: value.detach() for key, value in part.state_dict().items()})
    nested = {"dynamics": {f"maskgit.{key}": value for key, value in saved["dynamics"].items()}}
    if "lam" in saved:
        nested["latent_action_model"] = saved["lam"]
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"step": step, "model": nested, "optim": {}, "scaler": None}, folder / f"model-{step}.pt")
    torch.save({"step": 1, "model": saved["tokenizer"], "optim": {}}, folder / "tokenizer.pt")
    world.settle()
    return world


def imported(folder, out, **flags: str) -> GenieReduxWorld:
    config, parts = genieredux.convert(folder, flags)
    document = config.model_dump(mode="json")
    save_header(out, WorldHeader(schema_version=SCHEMA, kind=genieredux.NAME, config=document))
    for name, tensors in parts.items():
        save_tensors(out / f"{name}.safetensors", tensors)
    world = load_world(out)
    assert isinstance(world, GenieReduxWorld)
    return world


def logits_of(world: GenieReduxWorld) -> Tensor:
    tokens = torch.arange(12).view(3, 4) % 7
    return world.full_logits(tokens, torch.tensor([world.spec.no_action, 1, 2]))


@pytest.mark.parametrize("guided", [False, True], ids=["unguided", "guided"])
def test_files_become_the_world_that_wrote_them(tmp_path, guided: bool) -> None:
    wrote = write(tmp_path / "run", config_of(guided=guided))
    read = imported(tmp_path / "run", tmp_path / "world", **SAID)
    assert read.config == wrote.config.model_copy(update={"name": "run"})
    assert torch.equal(logits_of(read), logits_of(wrote))
    assert ("infer_action" in read.graphs()) == (not guided)
    assert set(genieredux.describe(read.config)) >= {"world", "window", "sampling"}


def test_a_codebook_as_wide_as_the_model_has_no_projections(tmp_path) -> None:
    wrote = write(tmp_path / "run", config_of(guided=False, code_dim=12))
    read = imported(tmp_path / "run", tmp_path / "world", **SAID)
    assert torch.equal(logits_of(read), logits_of(wrote))


def test_the_latest_file_of_a_folder(tmp_path) -> None:
    write(tmp_path, config_of(guided=True), step=90)
    later = write(tmp_path, config_of(guided=False), step=1000)
    assert genieredux.convert(tmp_path, SAID)[0].lam == later.config.lam


def test_what_looks_like_it(tmp_path) -> None:
    write(tmp_path / "run", config_of(guided=True))
    (tmp_path / "text.pt").write_text("no archive")
    assert genieredux.looks_like(tmp_path / "run")
    assert genieredux.looks_like(tmp_path / "run" / "model-2.pt")
    for other in (tmp_path, tmp_path / "run" / "tokenizer.pt", tmp_path / "text.pt", tmp_path / "absent"):
        assert not genieredux.looks_like(other)


def test_config_yaml_says_what_the_weights_do_not(tmp_path) -> None:
    write(tmp_path, config_of(guided=True))
    (tmp_path / "config.yaml").write_text(CONFIG_YAML.format(embeddings="false"))
    config, _ = genieredux.convert(tmp_path, {})
    assert (config.height, config.width, config.use_token) == (8, 8, False)
    assert (config.window, config.keeps) == (3, 1)  # of the 4 frames of a training clip, the last is drawn
    assert genieredux.convert(tmp_path, {"window": "5", "keeps": "4"})[0].window == 5


def test_a_square_image_is_seen_from_the_latent_actions(tmp_path) -> None:
    write(tmp_path, config_of(guided=False))
    assert genieredux.convert(tmp_path, {"use_token": "true"})[0].height == 8
    assert genieredux.convert(tmp_path, {"use_token": "true", "image_size": "16x4"})[0].grid == (4, 1)


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ({"image_size": "8"}, "--set use_token=false"),
        ({"use_token": "false"}, "--set image_size="),
        ({**SAID, "image_size": "tiny"}, "no size"),
        ({**SAID, "image_size": "10"}, "do not divide"),
        ({**SAID, "image_size": "16"}, "window"),
        ({**SAID, "window": "6"}, "longer than the 5"),
        ({**SAID, "window": "many"}, "window"),
        ({**SAID, "keeps": "6"}, "cannot keep"),
        ({**SAID, "windw": "6"}, "windw is not known"),
        ({**SAID, "tokenizer": "absent.pt"}, "absent.pt"),
    ],
)
def test_what_is_missing_is_asked_for_by_its_flag(tmp_path, flags: dict[str, str], says: str) -> None:
    write(tmp_path, config_of(guided=True))
    with pytest.raises(UserError, match=says):
        genieredux.convert(tmp_path, flags)


def test_a_tokenizer_that_is_missing_or_given_as_the_model(tmp_path) -> None:
    write(tmp_path, config_of(guided=True))
    with pytest.raises(UserError, match="is a tokenizer; give the model's file"):
        genieredux.convert(tmp_path / "tokenizer.pt", SAID)
    with pytest.raises(UserError, match="is no tokenizer"):
        genieredux.convert(tmp_path, {**SAID, "tokenizer": str(tmp_path / "model-2.pt")})
    (tmp_path / "tokenizer.pt").unlink()
    with pytest.raises(UserError, match="--set tokenizer=PATH"):
        genieredux.convert(tmp_path, SAID)


def test_a_table_of_actions_that_was_never_saved(tmp_path) -> None:
    """A transformer twice as wide as its embedding; with as many actions as that it may be one-hot."""
    write(tmp_path, config_of(guided=True, actions=12))
    with pytest.raises(UserError, match="use_action_embeddings"):
        genieredux.convert(tmp_path, SAID)
    (tmp_path / "config.yaml").write_text(CONFIG_YAML.format(embeddings="true"))
    with pytest.raises(UserError, match="use_action_embeddings"):
        genieredux.convert(tmp_path, SAID)
    assert genieredux.convert(tmp_path, {**SAID, "use_action_embeddings": "false"})[0].dynamics.actions == 12


def changed(folder, change) -> None:
    """The model's file with another state dict of the dynamics."""
    saved = torch.load(folder / "model-2.pt", weights_only=True)
    change(saved["model"]["dynamics"])
    torch.save(saved, folder / "model-2.pt")


def test_keys_that_do_not_fit_are_named(tmp_path) -> None:
    write(tmp_path, config_of(guided=True))
    changed(tmp_path, lambda keys: keys.update({"maskgit.to_logit.bias": keys.pop("maskgit.to_logits.bias")}))
    with pytest.raises(UserError, match=r"to_logits\.bias is missing \(nearest: to_logit\.bias\)"):
        genieredux.convert(tmp_path, SAID)


def test_tokens_of_several_frames_are_refused(tmp_path) -> None:
    write(tmp_path, config_of(guided=True))
    saved = torch.load(tmp_path / "tokenizer.pt", weights_only=True)
    saved["model"]["to_patch_emb.2.weight"] = torch.zeros(12, 96)
    torch.save(saved, tmp_path / "tokenizer.pt")
    with pytest.raises(UserError, match="stands for 2 frames"):
        genieredux.convert(tmp_path, SAID)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_state_dicts_are_refused_in_one_line(tmp_path_factory, tmp_path, data) -> None:
    """Tensors left out, renamed or of another shape."""
    world = write(tmp_path, config_of(guided=True))
    keys = [f"maskgit.{key}" for key in world.dynamics.state_dict()]

    def damage(weights: dict[str, Tensor]) -> None:
        key = data.draw(st.sampled_from(keys))
        shape = data.draw(st.lists(st.integers(0, 6), max_size=5))
        value = weights.pop(key)
        if data.draw(st.booleans()):
            weights[key if data.draw(st.booleans()) else f"{key}_"] = torch.zeros(shape)
        elif data.draw(st.booleans()):
            weights[key] = value

    changed(tmp_path, damage)
    try:
        genieredux.convert(tmp_path, SAID)
    except UserError as error:
        assert "\n" not in str(error)


class PlayedByOnnx(TorchBackend):
    """Observes and decodes in PyTorch, and plays the exported graph."""

    def __init__(self, graphs: Mapping[str, GraphDef]) -> None:
        super().__init__(graphs)
        model = to_onnx(graphs["play"]).SerializeToString()
        self.engine = ort.InferenceSession(model, providers=["CPUExecutionProvider"])

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        if graph != "play":
            return super().run(graph, inputs)
        names = [spec.name for spec in self.graphs[graph].outputs]
        return dict(zip(names, self.engine.run(names, dict(inputs)), strict=True))


@pytest.mark.parametrize("guided", [False, True], ids=["unguided", "guided"])
def test_the_exported_graph_plays_the_same(tmp_path, guided: bool) -> None:
    """Until the window of 5 frames has moved twice."""
    world = write(tmp_path, config_of(guided=guided))
    eager = world_session(world)
    exported = GraphSession(world.spec, PlayedByOnnx(world.graphs()))
    noise = np.zeros((1, world.spec.tokens), np.int32)
    for session in (eager, exported):
        session.observe(np.arange(world.spec.tokens, dtype=np.int32), world.spec.no_action)
    for t in range(12):
        (tokens, frame), (own_tokens, own_frame) = (s.play(t % 3, noise) for s in (eager, exported))
        assert np.array_equal(own_tokens, tokens)
        assert np.abs(own_frame.astype(int) - frame).max() <= 1
