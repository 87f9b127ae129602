"""A checkpoint folder of another kind is loaded by its own module; what is not installed is not run."""

import json
import shutil
import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import pytest
import torch

from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import checkpoint_files, checkpoint_hash, read_config, save_tensors
from pocketgenie.genie.graphs import load_world as load_native
from pocketgenie.genie.spec import Frozen
from pocketgenie.importers import kinds


class Config(Frozen):
    size: int


@pytest.fixture
def stranger(tmp_path):
    folder = tmp_path / "stranger"
    folder.mkdir()
    world = {"schema_version": 1, "kind": "stranger", "config": {"size": 3}}
    (folder / "world.json").write_text(json.dumps(world))
    for name in ("two", "one"):
        save_tensors(folder / f"{name}.safetensors", {name: torch.ones(3)})
    return folder


@pytest.fixture
def plugin(monkeypatch):
    """An importable module `stranger_world` under a stand-in entry point."""
    module = ModuleType("stranger_world")
    monkeypatch.setitem(sys.modules, "stranger_world", module)
    point = EntryPoint("stranger", "stranger_world", kinds.PLUGINS)
    monkeypatch.setattr(kinds, "entry_points", lambda group: [point] if group == kinds.PLUGINS else [])
    return module


def test_a_native_folder_is_loaded_as_before(tiny_checkpoint):
    assert kinds.load_world(tiny_checkpoint).spec == load_native(tiny_checkpoint).spec


def test_the_files_of_a_native_checkpoint_are_hashed_as_before(tiny_checkpoint, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(tiny_checkpoint, copy)
    save_tensors(copy / "optimizer.safetensors", {"step": torch.ones(1)})
    assert checkpoint_hash(copy) == checkpoint_hash(tiny_checkpoint)
    assert checkpoint_files(copy)[:2] == ("world.json", "tokenizer.safetensors")


def test_all_safetensors_belong_to_a_foreign_checkpoint(stranger):
    assert checkpoint_files(stranger) == ("world.json", "one.safetensors", "two.safetensors")
    before = checkpoint_hash(stranger)
    save_tensors(stranger / "one.safetensors", {"one": torch.zeros(3)})
    assert checkpoint_hash(stranger) != before


def test_an_installed_package_plays_its_own_kind(stranger, plugin, tiny_checkpoint):
    world, asked = load_native(tiny_checkpoint), []

    def load(folder, config):
        asked.append((folder, config))
        return world

    plugin.Config, plugin.load = Config, load
    assert kinds.load_world(stranger) is world and asked == [(stranger, Config(size=3))]
    assert "stranger" in kinds.installed()


def test_what_a_world_lacks_of_the_contract_is_named(stranger, plugin, tiny_checkpoint, monkeypatch):
    world = load_native(tiny_checkpoint)
    graphs = world.graphs()
    monkeypatch.setattr(world, "graphs", lambda: {name: graphs[name] for name in ("encode", "decode")})
    plugin.Config, plugin.load = Config, lambda folder, config: world
    with pytest.raises(UserError, match="has no infer_action, logits, observe, play, step; see"):
        kinds.load_world(stranger)
    plugin.load = lambda folder, config: object()
    with pytest.raises(UserError, match="has no spec, graphs, full_logits"):
        kinds.load_world(stranger)


def test_a_kind_that_is_not_installed_is_named_and_not_imported(stranger, monkeypatch):
    monkeypatch.syspath_prepend(stranger)
    (stranger / "stranger.py").write_text("raise SystemExit('imported')")
    with pytest.raises(UserError, match="no kind of world 'stranger'; there are genie, tinyworlds"):
        kinds.load_world(stranger)


@pytest.mark.parametrize(
    ("config", "wrong"),
    [({"size": "many"}, "config.size"), ({}, "config.size"), ({"size": 1, "more": 2}, "config.more")],
)
def test_a_wrong_configuration_is_one_line(stranger, plugin, config, wrong):
    plugin.Config, plugin.load = Config, lambda folder, config: None
    world = {"schema_version": 1, "kind": "stranger", "config": config}
    (stranger / "world.json").write_text(json.dumps(world))
    with pytest.raises(UserError, match=wrong):
        kinds.load_world(stranger)


def test_a_package_without_the_parts_is_refused(stranger, plugin):
    with pytest.raises(UserError, match="no Config and load"):
        kinds.load_world(stranger)
    plugin.Config, plugin.load = Config, lambda folder, config: None
    with pytest.raises(UserError, match="imports none"):
        kinds.find_importer("stranger")


def test_a_package_that_does_not_load_is_named(stranger, monkeypatch):
    point = EntryPoint("stranger", "no_such_module_here", kinds.PLUGINS)
    monkeypatch.setattr(kinds, "entry_points", lambda group: [point])
    with pytest.raises(UserError, match="'stranger' does not load"):
        kinds.load_world(stranger)


@pytest.mark.parametrize("kind", ["../x", "Genie", "", "a" * 65, 3])
def test_a_kind_is_a_plain_name(stranger, kind):
    (stranger / "world.json").write_text(json.dumps({"schema_version": 1, "kind": kind, "config": {}}))
    with pytest.raises(UserError, match=r"world.json: kind"):
        kinds.load_world(stranger)


def test_what_needs_a_native_world_says_so(stranger):
    with pytest.raises(UserError, match=r"kind stranger; .* knows only those of native worlds"):
        read_config(stranger)
