"""Our passes of TinyWorlds against the numbers of the project's own code on the same checkpoints."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from pocketgenie.importers.tinyworlds import convert
from pocketgenie.importers.tinyworlds_model import TinyWorlds, to_float
from pocketgenie.importers.tinyworlds_transformer import Past

pytestmark = pytest.mark.peers
TOLERANCE = 1e-4
BOTH = pytest.mark.parametrize("b", [0, 1])


def build(folder, **flags):
    """The model straight from the project's files."""
    config, parts = convert(folder, flags)
    model = TinyWorlds(config)
    for part, tensors in parts.items():
        model.get_submodule(part).load_state_dict(tensors)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def one(peer):
    folder = peer("tinyworlds")
    with np.load(folder / "golden.npz") as file:
        golden = {key: torch.from_numpy(file[key]) for key in file.files}
    return SimpleNamespace(model=build(folder), golden=golden, folder=folder)


def close(found: Tensor, wanted: Tensor, what: str) -> None:
    assert found.shape == wanted.shape, f"{what}: {list(found.shape)}, {list(wanted.shape)} expected"
    apart = (found - wanted).abs().max().item()
    assert apart < TOLERANCE, f"{what} differs by {apart:.1e}"


def frames(golden: Tensor) -> Tensor:
    """[..., 3, H, W] -> [..., H, W, 3]"""
    return golden.movedim(-3, -1)


def as_past(entries: list[Tensor]) -> Past:
    """What a ring that holds these entries [L, 2, P, E] gives the blocks."""
    memory = torch.stack(entries).flatten(1, 2).unbind(1)
    filled = torch.tensor([len(entries)], dtype=torch.int32)
    return Past(list(memory[0::2]), list(memory[1::2]), torch.zeros(len(entries)), filled)


def in_turn(run, count: int) -> Tensor:
    """`run(t, past)` -> (outputs [1, ...], entries [1, ...]), each frame with the memory of those before."""
    entries: list[Tensor] = []
    outputs = []
    for t in range(count):
        output, entry = run(t, as_past(entries) if entries else None)
        outputs.append(output)
        entries.append(entry[0])
    return torch.cat(outputs)


def tokens_of(one, latents: Tensor, mask: Tensor | None = None) -> Tensor:
    """Golden latents [T, P, L] -> tokens; V where the last frame is masked"""
    bins = one.model.config.tokenizer.num_bins
    digits = torch.round((latents + 1) / 2 * (bins - 1)).long()
    tokens = (digits * one.model.tokenizer.quantizer.basis).sum(-1)
    if mask is not None:
        tokens[-1][mask] = one.model.config.tokenizer.codebook
    return tokens


def led_by(one, actions: Tensor, count: int) -> Tensor:
    """Golden actions, T or T - 1 of them, or none at all -> one for each frame"""
    none = one.model.config.lam.n_actions
    return torch.tensor([none] * (count - len(actions)) + actions.tolist())


@BOTH
def test_frames_are_read_alike(one, b):
    assert torch.equal(to_float(one.golden["frames_u8"][b]), frames(one.golden["frames"][b]))


def test_the_encoder_agrees_inside(one):
    encoder = one.model.tokenizer.encoder
    patches = encoder.patch_embed(frames(one.golden["frames"][0]))
    close(patches, one.golden["tok_patch_embed"][0], "patches")
    block = encoder.transformer.blocks[0]
    unseen = torch.triu(torch.full((4, 4), -1e4), 1)
    x, _ = block((patches + encoder.transformer.time[:4, None]).flatten(0, 1), None, unseen, None)
    close(x.view(patches.shape), one.golden["tok_enc_block0"][0], "first block")


@BOTH
def test_tokens_are_equal_at_every_length(one, b):
    tokenizer, given = one.model.tokenizer, frames(one.golden["frames"][b])
    close(tokenizer.encoder(given)[0], one.golden["tok_z"][b], "z")
    whole = one.golden["tok_indices"][b]
    for length in range(1, len(given) + 1):
        assert torch.equal(tokenizer.encode(given[:length])[0], whole[:length])
    assert torch.equal(in_turn(lambda t, past: tokenizer.encode(given[t : t + 1], past), 4), whole)
    later = one.golden["tok_indices_window"][b]
    assert torch.equal(tokenizer.encode(given[1:])[0], later)
    assert torch.equal(in_turn(lambda t, past: tokenizer.encode(given[t + 1 : t + 2], past), 3), later)
    close(tokenizer.quantizer.vectors()[whole], one.golden["tok_latents"][b], "latents")


@BOTH
def test_decoded_frames_agree_at_every_length(one, b):
    tokenizer, tokens = one.model.tokenizer, one.golden["tok_indices"][b]
    wanted, later = frames(one.golden["tok_decoded"][b]), frames(one.golden["tok_decoded_window"][b])
    for length in range(1, len(tokens) + 1):
        close(tokenizer.decode(tokens[:length])[0], wanted[:length], f"{length} frames")
    close(in_turn(lambda t, past: tokenizer.decode(tokens[t : t + 1], past), 4), wanted, "one by one")
    close(tokenizer.decode(tokens[1:])[0], later, "the later window")
    close(in_turn(lambda t, past: tokenizer.decode(tokens[t + 1 : t + 2], past), 3), later, "it, one by one")


@BOTH
def test_latent_actions_are_equal_at_every_length(one, b):
    lam, given = one.model.lam, frames(one.golden["frames"][b])
    close(lam.encoder(given), one.golden["lam_z"][b], "z")
    for length in range(2, len(given) + 1):
        ids = lam.quantizer.ids(lam.encoder(given[:length]))
        assert torch.equal(ids, one.golden["lam_action_ids"][b][: length - 1])
    vectors = lam.quantizer.vectors()[one.golden["lam_action_ids"][b]]
    close(vectors, one.golden["lam_action_latents"][b], "action vectors")
    close(lam.decoder(given[:-1], vectors), frames(one.golden["lam_pred_frames"][b]), "predicted frames")


CASES = {
    "a": ("dyn_input_latents", "dyn_actions_a", "dyn_logits_a"),
    "b": ("dyn_input_latents", "dyn_actions_b", "dyn_logits_b"),
    "c": ("dyn_input_latents", "dyn_actions_c", "dyn_logits_c"),
    "full": ("dyn_input_latents", "dyn_actions_full", "dyn_logits_full"),
    "uncond": ("dyn_input_latents", None, "dyn_logits_uncond"),
    "short": ("dyn_short_input_latents", "dyn_short_actions", "dyn_logits_short"),
}


@pytest.fixture(scope="module")
def mixture(one):
    return SimpleNamespace(model=build(one.folder, dynamics=str(one.folder / "moe" / "dynamics_step_2")))


@BOTH
@pytest.mark.parametrize("case", CASES)
def test_logits_agree_whole_and_in_turn(one, case, b):
    latents, actions, logits = (one.golden[key][b] if key else torch.tensor([]).long() for key in CASES[case])
    tokens = tokens_of(one, latents, one.golden["dyn_mask_last"][b])
    agree(one.model.dynamics, tokens, led_by(one, actions, len(tokens)), logits)


def test_logits_of_the_mixture_agree(one, mixture):
    tokens = tokens_of(one, one.golden["moe_input_latents"][0], one.golden["dyn_mask_last"][0])
    actions = led_by(one, one.golden["dyn_actions_a"][0], len(tokens))
    agree(mixture.model.dynamics, tokens, actions, one.golden["moe_logits_a"][0])


def agree(dynamics, tokens: Tensor, actions: Tensor, wanted: Tensor) -> None:
    close(dynamics(tokens, actions), wanted, "whole")

    def frame(t: int, past: Past | None) -> tuple[Tensor, Tensor]:
        embedded = dynamics.embed(tokens[t : t + 1])
        return dynamics.transformer(embedded, past, dynamics.modulation(actions[t : t + 1]))

    close(dynamics.output_mlp(in_turn(frame, len(tokens))), wanted, "in turn")


def test_the_conditioned_block_agrees_inside(one):
    dynamics = one.model.dynamics
    tokens = tokens_of(one, one.golden["dyn_input_latents"][0], one.golden["dyn_mask_last"][0])
    modulation = dynamics.modulation(led_by(one, one.golden["dyn_actions_a"][0], 4))
    x = (dynamics.embed(tokens) + dynamics.transformer.time[:4, None]).flatten(0, 1)
    unseen = torch.triu(torch.full((4, 4), -1e4), 1)
    x, _ = dynamics.transformer.blocks[0](x, None, unseen, modulation[:, 0])
    close(x.view(4, len(tokens[0]), -1), one.golden["dyn_block0_a"][0], "first block")
