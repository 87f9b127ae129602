"""`pocketgenie import`: recognised, converted, loaded once, written whole or not at all."""

import os
import subprocess
import sys
from importlib.metadata import EntryPoint
from types import ModuleType

import numpy as np
import pytest
import torch

from pocketgenie.cli_import import import_checkpoint, parse_settings
from pocketgenie.errors import UserError
from pocketgenie.genie.checkpoint import Genie, Part, load_genie, load_part, read_header
from pocketgenie.genie.config import GenieConfig
from pocketgenie.genie.graphs import GenieWorld
from pocketgenie.genie.noise import draw_noise
from pocketgenie.importers import kinds, recognise
from pocketgenie.importers.kinds import load_world
from pocketgenie.importers.reading import check_keys, read_tensors
from pocketgenie.runtimes.reference import world_session
from pocketgenie.runtimes.token_pictures import draw

PARTS: tuple[Part, ...] = ("tokenizer", "lam", "dynamics")


def quiet(what):
    pass


@pytest.fixture
def importer(monkeypatch, tiny_checkpoint):
    """An installed package that reads one file of all three parts of a native world."""
    module = ModuleType("stranger_world")
    config = load_genie(tiny_checkpoint).config

    def convert(path, flags):
        if unknown := sorted(flags.keys() - {"fps"}):
            raise UserError(f"--set {unknown[0]} is not known")
        saved = read_tensors(path, "model")
        model = Genie(config)
        wanted = {f"{part}.{key}": t for part in PARTS for key, t in model.part(part).state_dict().items()}
        check_keys(path, saved, wanted, "copy it again")
        own = {
            part: {k.removeprefix(f"{part}."): t for k, t in saved.items() if k.startswith(part)}
            for part in PARTS
        }
        return config.model_copy(update={"name": "stranger", "fps": float(flags.get("fps", 10))}), own

    def load(folder, config):
        genie = Genie(config)
        for part in PARTS:
            load_part(folder, part, genie.part(part))
        genie.dynamics.features.copy_(genie.tokenizer.quantizer.features())
        return GenieWorld(genie.eval().requires_grad_(False))

    functions = {
        "Config": GenieConfig,
        "load": load,
        "convert": convert,
        "looks_like": lambda path: path.suffix == ".stranger" or path.name.endswith("model.pt"),
        "describe": lambda config: {"size": "tiny"},
    }
    for name, function in functions.items():
        setattr(module, name, function)
    monkeypatch.setitem(sys.modules, "stranger_world", module)
    points = [EntryPoint("stranger", "stranger_world", kinds.PLUGINS)]
    monkeypatch.setattr(kinds, "entry_points", lambda group: points)
    return points


@pytest.fixture
def foreign(tmp_path, tiny_checkpoint):
    genie = load_genie(tiny_checkpoint)
    tensors = {
        f"module.{part}.{key}": value
        for part in PARTS
        for key, value in genie.part(part).state_dict().items()
    }
    path = tmp_path / "their-model.pt"
    torch.save({"model": tensors, "step": 3}, path)
    return path


def test_the_imported_world_plays_as_the_one_it_was_made_of(importer, foreign, tmp_path, tiny_checkpoint):
    assert recognise.recognise(foreign) == "stranger"
    out = tmp_path / "deep" / "imported"
    words, world = import_checkpoint(foreign, out, "stranger", {"fps": "12"}, None, quiet)
    assert words == {"size": "tiny"} and world.spec.fps == 12
    assert read_header(out).kind == "stranger"
    names = {"world.json", "tokenizer.safetensors", "lam.safetensors", "dynamics.safetensors"}
    assert {path.name for path in out.iterdir()} == names
    assert len({path.stat().st_mode for path in out.iterdir()}) == 1, "weights are for whom world.json is for"
    assert not [path for path in out.parent.iterdir() if path != out], "nothing half-written is left"
    played, wanted = (world_session(load_world(folder)) for folder in (out, tiny_checkpoint))
    for number in range(4):
        noise = draw_noise(world.spec, 0, number)
        np.testing.assert_array_equal(played.play(1, noise)[0], wanted.play(1, noise)[0])


def test_clips_travel_with_it(importer, foreign, tmp_path, tiny_checkpoint):
    out = tmp_path / "imported"
    import_checkpoint(foreign, out, "stranger", {}, tiny_checkpoint / "clips.npz", quiet)
    with np.load(out / "clips.npz") as own, np.load(tiny_checkpoint / "clips.npz") as given:
        np.testing.assert_array_equal(own["frames"], given["frames"])


def test_tokens_stand_for_clips_of_a_world_without_pixels(tmp_path, tiny_checkpoint):
    from pocketgenie.cli_import import _take_clips

    spec = load_world(tiny_checkpoint).spec.model_copy(update={"frames": "tokens"})
    tokens = np.random.default_rng(0).integers(0, spec.codebook, (2, 3, 4, 4), np.uint32)
    np.savez(tmp_path / "tokens.npz", tokens=tokens)
    _take_clips(tmp_path / "tokens.npz", tmp_path, spec)
    frames = np.load(tmp_path / "clips.npz")["frames"]
    np.testing.assert_array_equal(frames, draw(tokens.reshape(2, 3, 16), spec))
    for wrong in (tokens + np.uint32(spec.codebook), tokens[:, :, :3], tokens[:, :1], tokens * 1.0):
        np.savez(tmp_path / "tokens.npz", tokens=wrong)
        with pytest.raises(UserError, match="holds"):
            _take_clips(tmp_path / "tokens.npz", tmp_path, spec)


def test_what_fails_leaves_nothing(importer, foreign, tmp_path, tiny_checkpoint):
    out, before = tmp_path / "imported", sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match="--set size is not known"):
        import_checkpoint(foreign, out, "stranger", {"size": "3"}, None, quiet)
    with pytest.raises(UserError, match="no file"):
        import_checkpoint(foreign, out, "stranger", {}, tmp_path / "no.npz", quiet)
    saved = torch.load(foreign)["model"]
    saved["module.dynamics.code_outs"] = saved.pop("module.dynamics.code_out")
    torch.save({"model": saved}, foreign)
    with pytest.raises(UserError, match=r"code_out is missing \(nearest: dynamics.code_outs\)"):
        import_checkpoint(foreign, out, "stranger", {}, None, quiet)
    assert sorted(tmp_path.iterdir()) == before


def test_nothing_is_written_over(importer, foreign, tmp_path):
    out = tmp_path / "imported"
    out.mkdir()
    import_checkpoint(foreign, out, "stranger", {}, None, quiet)  # an empty folder is no loss
    with pytest.raises(UserError, match="exists; choose another folder"):
        import_checkpoint(foreign, out, "stranger", {}, None, quiet)


def test_whose_it_is_must_be_plain(importer, foreign, tmp_path, tiny_checkpoint):
    with pytest.raises(UserError, match="there is nothing at"):
        recognise.recognise(tmp_path / "no")
    with pytest.raises(UserError, match="is a checkpoint already"):
        recognise.recognise(tiny_checkpoint)
    other = tmp_path / "weights.bin"
    other.write_bytes(b"")
    with pytest.raises(UserError, match="is no checkpoint of tinyworlds, onexgpt, genieredux"):
        recognise.recognise(other)
    assert recognise.recognise(other, "stranger") == "stranger"
    importer.append(EntryPoint("twin", "stranger_world", kinds.PLUGINS))
    with pytest.raises(UserError, match="looks like stranger and twin; say which with --from"):
        recognise.recognise(foreign)


def test_settings_are_key_and_value(tmp_path):
    assert parse_settings(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}
    assert parse_settings([], tmp_path) == {"tokenizer": str(tmp_path)}
    for wrong in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(UserError):
            parse_settings(wrong)
    with pytest.raises(UserError, match="twice"):
        parse_settings(["tokenizer=x"], tmp_path)


def command(*arguments):
    line = [sys.executable, "-m", "pocketgenie", "import", *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, env={**os.environ, "COLUMNS": "200"})


def test_the_command_says_in_one_line_what_is_wrong(tmp_path):
    path = tmp_path / "model-2.pt"
    path.write_bytes(b"PK\x03\x04 not a checkpoint")
    for arguments in (
        (path,),
        (path, "--from", "genieredux"),
        (path, "--from", "nobody"),
        (path, "--set", "x"),
    ):
        done = command(*arguments, "-o", tmp_path / "out")
        assert done.returncode == 2 and done.stderr.startswith("error: "), done.stderr
        assert len(done.stderr.strip().splitlines()) == 1 and not done.stdout.strip()
    assert sorted(tmp_path.iterdir()) == [path]
    assert "--tokenizer" in command("--help").stdout
