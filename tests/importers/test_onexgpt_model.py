"""Our passes and sampling of 1xGPT against the numbers of the project's own code on the same checkpoints."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from pocketgenie.genie.noise import ROW, halton_order, rows_for
from pocketgenie.genie.spec import MemorySpec, WorldSpec
from pocketgenie.genie.transformer import Past, past_from_memory
from pocketgenie.importers.onexgpt_model import Architecture, Dynamics
from pocketgenie.importers.onexgpt_sampler import MaskGit, masked_counts
from pocketgenie.runtimes.ring import Ring

pytestmark = pytest.mark.peers
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["", "plain"], ids=["mup", "plain"])
def one(request, peer):
    """A model, its configuration and its golden numbers; `mup` scales by muP and norms q and k."""
    folder = peer("1xgpt") / request.param
    keys = json.loads((folder / "checkpoint" / "config.json").read_text())
    config = Architecture(**{key: value for key, value in keys.items() if key in Architecture.model_fields})
    model = Dynamics(config)
    model.load_state_dict(load_file(folder / "checkpoint" / "model.safetensors"))
    with np.load(folder / "golden.npz") as file:
        golden = {key: torch.from_numpy(file[key]) for key in file.files}
    return SimpleNamespace(config=config, model=model.eval().requires_grad_(False), golden=golden)


def flat(tokens: Tensor) -> Tensor:
    """[..., g, g] -> [..., S]"""
    return tokens.flatten(-2)


def same(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    assert (found - wanted).abs().max() <= TOLERANCE


def memory_of(one, history: Tensor) -> Ring:
    """The memory after a history [T, S]; slots that no frame was written to hold rubbish."""
    config = one.config
    entry = (config.num_layers, 2, config.S, config.num_heads, config.d_model // config.num_heads)
    slots = config.T - 1
    rubbish = torch.randn(slots, *entry, generator=torch.Generator().manual_seed(0)) * 5
    ring = Ring(MemorySpec(slots=slots, entry=entry), rubbish)
    for tokens in history:
        _, entry = one.model.step(tokens, torch.zeros(1), past(ring))
        ring.push(entry)
    return ring


def past(ring: Ring) -> Past:
    memory = ring.memory
    assert isinstance(memory, Tensor)
    return past_from_memory(memory, torch.from_numpy(ring.ages), torch.from_numpy(ring.filled))


@pytest.mark.parametrize("name", ["tf", "tf2", "short"])
def test_a_full_pass_gives_the_golden_logits(one, name):
    logits = one.model.head(one.model(flat(one.golden[f"{name}_input"])))  # [B, T, S, F * V]
    wanted = flat(one.golden[f"{name}_logits"]).permute(0, 2, 3, 1)
    same(logits[:, : wanted.shape[1]], wanted)


@pytest.mark.parametrize("name", ["tf", "tf2", "short"])
def test_the_memory_gives_the_golden_logits_after_every_length_of_history(one, name):
    inputs, wanted = (
        flat(one.golden[f"{name}_input"]),
        flat(one.golden[f"{name}_logits"]).permute(0, 2, 3, 1),
    )
    for frames, logits in zip(inputs, wanted, strict=True):
        for number, expected in enumerate(logits):
            ring = memory_of(one, frames[:number])
            hidden, _ = one.model.step(frames[number], torch.zeros(1), past(ring))
            same(one.model.head(hidden), expected)


def test_the_embedding_and_the_first_layer_are_the_golden_ones(one):
    tokens = flat(one.golden["tf_input"][:1])
    embedded = one.model.token_embed(tokens)
    same(embedded, one.golden["embed"])
    same(one.model.decoder.layers[0](embedded + one.model.pos_embed_TSC), one.golden["block0"])


def test_tokens_are_the_digits_that_the_project_splits_them_into(one):
    tables = [table.weight for table in one.model.token_embed.factored_embeds]
    digits = one.golden["tokens_factored"]
    wanted = sum(table[digits[..., place]] for place, table in enumerate(tables))
    same(one.model.token_embed(one.golden["tokens"]), wanted)


def sampler_of(one, steps: int, *, draws: bool = False, greedy: bool = True) -> MaskGit:
    config = one.config
    spec = WorldSpec(
        name="golden",
        height=config.grid,
        width=config.grid,
        grid=(config.grid, config.grid),
        codebook=config.image_vocab_size,
        factors=config.num_factored_vocabs,
        actions=1,
        steps=steps,
        temperature=1,
        fps=2,
        memories={"dynamics": MemorySpec(slots=config.T - 1, entry=(1,))},
    )
    return MaskGit(spec, draws=draws, greedy=greedy)


def with_noise(sampler: MaskGit, noise_NSv: Tensor) -> Tensor:
    """Put given noise [N, S, v] into the sampler's table -> the row numbers [N, S] that stand for it."""
    rows = rows_for(noise_NSv.shape[-1])
    table = torch.zeros(*noise_NSv.shape[:2], rows * ROW)
    table[..., : noise_NSv.shape[-1]] = noise_NSv
    sampler.table = table.view(-1, ROW)
    return torch.arange(table[..., 0].numel(), dtype=torch.int32).view(table.shape[:2]) * rows


def draw(one, sampler: MaskGit, history: Tensor, noise_NS: Tensor) -> tuple[Tensor, list[Tensor], Tensor]:
    """One frame after a history [T, S], cached -> tokens, the frame before each pass, the first logits"""
    seen, logits = [], []
    memory = past(memory_of(one, history))

    def hidden(tokens: Tensor) -> Tensor:
        seen.append(tokens)
        state, _ = one.model.step(tokens, torch.zeros(1), memory)
        logits.append(one.model.head(state))
        return state

    return sampler(hidden, one.model.head, noise_NS), seen, logits[0]


def sample(one, name: str, sampler: MaskGit, noise_BNSv: Tensor) -> None:
    """Draw the frame `out_t` for each of the batch and compare tokens, trace and logits."""
    golden, config = one.golden, one.config
    frame = int(golden[f"{name}_out_t"]) if f"{name}_out_t" in golden else 1
    for row, prompt in enumerate(flat(golden[f"{name}_prompt"])):
        noise = with_noise(sampler, noise_BNSv[row])
        tokens, seen, logits = draw(one, sampler, prompt[:frame], noise)
        assert torch.equal(tokens, flat(golden[f"{name}_samples"])[row])
        if f"{name}_trace" in golden:
            trace = [*seen[1:], tokens]
            assert torch.equal(torch.stack(trace), flat(golden[f"{name}_trace"])[:, row])
        if f"{name}_logits" in golden:
            wanted = flat(golden[f"{name}_logits"][row]).permute(2, 1, 0)  # [V, F, g, g] -> [S, F, V]
            same(logits.unflatten(-1, (config.num_factored_vocabs, config.values)), wanted)


def silence(one, steps: int) -> Tensor:
    """No noise, of both: [2, N, S, 1]"""
    return torch.zeros(2, steps, one.config.S, 1)


def uniforms(recorded_NBS: Tensor) -> Tensor:
    """Recorded uniform numbers as noise, nothing in the last step: [B, N, S, 1]"""
    return torch.cat([recorded_NBS, torch.zeros_like(recorded_NBS[:1])]).transpose(0, 1)[..., None]


def test_greedy_order_draws_the_golden_frame_step_by_step(one):
    steps = int(one.golden["mg_steps"])
    sample(one, "mg", sampler_of(one, steps), silence(one, steps))


def test_random_order_draws_the_golden_frame_from_its_uniforms(one):
    steps = int(one.golden["mgr_steps"])
    sample(one, "mgr", sampler_of(one, steps, greedy=False), uniforms(one.golden["mgr_uniforms"]))


def test_drawn_values_give_the_golden_frame(one):
    steps, config = int(one.golden["mgs_steps"]), one.config
    chosen = (
        flat(one.golden["mgs_draws"]).flip(1).permute(2, 0, 3, 1)
    )  # [B, N, S, F], least significant first
    noise = torch.zeros(*chosen.shape, config.values).scatter(-1, chosen[..., None], 1e6)
    noise = torch.cat([noise.flatten(-2), torch.zeros(*noise.shape[:3], 1)], -1)
    sample(one, "mgs", sampler_of(one, steps, draws=True), noise)


def test_one_step_draws_the_golden_frame(one):
    sample(one, "one", sampler_of(one, 1), silence(one, 1))


def test_frame_after_frame_gives_the_golden_generation(one):
    golden = one.golden
    sampler = sampler_of(one, int(golden["gen_steps"]), greedy=False)
    for row, prompt in enumerate(flat(golden["gen_prompt"])):
        history = list(prompt)
        for number, given in enumerate(golden["gen_uniforms"]):
            noise = with_noise(sampler, uniforms(given)[row])
            tokens, _, logits = draw(one, sampler, torch.stack(history), noise)
            history.append(tokens)
            wanted = flat(golden["gen_logits"][row][:, :, number]).permute(2, 1, 0)
            same(logits.unflatten(-1, wanted.shape[1:]), wanted)
        assert torch.equal(torch.stack(history), flat(golden["gen_tokens"])[row])


def test_the_schedule_counts_in_64_bits(one):
    wanted = [(flat(frames) == one.config.image_vocab_size).sum(-1)[0] for frames in one.golden["mgr_trace"]]
    assert masked_counts(one.config.S, 3) == [int(count) for count in wanted]


def test_without_noise_a_random_order_is_haltons(one):
    sampler = sampler_of(one, 2, greedy=False)
    noise = torch.zeros(2, one.config.S, dtype=torch.int32)
    _, (_, second), _ = draw(one, sampler, flat(one.golden["gen_prompt"])[0], noise)
    settled = (second != one.config.image_vocab_size).nonzero()[:, 0].tolist()
    first = halton_order(one.config.grid, one.config.grid)[: len(settled)]
    assert settled == sorted(first.tolist())
