"""Our passes of GenieRedux against the project's own numbers: of whole windows, and frame by frame."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from pocketgenie.genie.checkpoint import save_tensors
from pocketgenie.importers import genieredux
from pocketgenie.importers.genieredux_dynamics import Dynamics
from pocketgenie.importers.genieredux_sampler import generate
from pocketgenie.importers.genieredux_video import patchify, unpatchify
from pocketgenie.runtimes.player import Player
from pocketgenie.runtimes.reference import world_session
from pocketgenie.runtimes.ring import Ring

pytestmark = pytest.mark.peers
TOLERANCE = 1e-4
KINDS = {"unguided": "genie_redux", "guided": "genie_redux_guided"}
LOGITS = [
    ("unguided", "dyn_actions_a", "dyn_logits_a"),
    ("unguided", "dyn_actions_b", "dyn_logits_b"),
    ("unguided", "dyn_actions_c", "dyn_logits_c"),
    ("guided", "guided_actions_a", "guided_logits_a"),
    ("guided", "guided_actions_b", "guided_logits_b"),
]


@pytest.fixture(scope="module")
def golden(peer):
    """As the project saved them, but videos as [B, T, H, W, 3] and tokens as [..., S]."""
    with np.load(peer("genieredux") / "golden.npz") as file:
        arrays = {key: torch.from_numpy(file[key]) for key in file.files}
    videos = {"tok_decoded", "tok_decoded_window", "lam_recon", "gen1_video", "auto_video"}
    tokens = {key for key in arrays if key.startswith("tok_indices") or key.endswith(("_ids", "input_ids"))}
    for key in videos:
        arrays[key] = arrays[key].permute(0, 2, 3, 4, 1)
    for key in tokens - {"lam_action_ids"}:
        arrays[key] = arrays[key].flatten(-2)
    return SimpleNamespace(**arrays)


@pytest.fixture(scope="module")
def world_of(peer, tmp_path_factory):
    """Kind and flags -> the reference checkpoint, imported by way of a checkpoint folder."""

    def world(kind: str, **flags: str):
        source = peer("genieredux")
        flags = {"tokenizer": str(source / "tokenizer"), "window": "5"} | flags
        config, parts = genieredux.convert(source / KINDS[kind], flags)
        folder = tmp_path_factory.mktemp(kind)
        for name, tensors in parts.items():
            save_tensors(folder / f"{name}.safetensors", tensors)
        return genieredux.load(folder, config)

    return world


@pytest.fixture(scope="module", autouse=True)
def no_gradients():
    with torch.inference_mode():
        yield


def same(found: Tensor, wanted: Tensor) -> None:
    assert found.shape == wanted.shape
    if wanted.dtype == torch.int64:
        assert torch.equal(found, wanted)
    else:
        assert (found - wanted).abs().max() <= TOLERANCE


def new_ring(world, name: str) -> Ring:
    """Its slots hold rubbish until a frame is written there."""
    memory = world.spec.memories[name]
    return Ring(
        memory, np.random.default_rng(0).normal(size=(memory.slots, *memory.entry)).astype(np.float32)
    )


def inputs(ring: Ring) -> list[Tensor]:
    return [torch.from_numpy(array) for array in ring.inputs().values()]


def frame_by_frame(world, tokens_TS: Tensor, led_on_T: Tensor) -> Iterator[Tensor]:
    """The logits [S, V] of the frame after each, through the graphs; places may be masked."""
    graphs, ring = world.graphs(), new_ring(world, "dynamics")
    led_by = torch.tensor([world.spec.no_action])
    for tokens, led_on in zip(tokens_TS, led_on_T, strict=True):
        (entry,) = graphs["observe"].module(tokens.int(), led_by.int(), *inputs(ring))
        ring.push(entry.numpy())
        led_by = led_on.view(1)
        yield graphs["logits"].module(tokens.int(), led_by.int(), *inputs(ring))[0]


def test_stages_of_the_encoder(world_of, golden) -> None:
    tokenizer = world_of("unguided").tokenizer
    same(tokenizer.spatial_rel_pos_bias.table, golden.tok_spatial_bias)
    embedded = tokenizer.embed(golden.frames_u8)
    same(embedded[:1], golden.tok_patch_emb.flatten(2, 3))
    block = tokenizer.encoder.blocks()[0](embedded[:1], tokenizer.spatial_rel_pos_bias.table)
    same(block, golden.tok_enc_block0.flatten(2, 3))
    same(tokenizer.hidden(embedded), golden.tok_enc.flatten(2, 3))


def test_tokens_and_frames_of_whole_windows(world_of, golden) -> None:
    tokenizer = world_of("unguided").tokenizer
    same(tokenizer.encode(golden.frames_u8), golden.tok_indices)
    same(tokenizer.encode(golden.frames_u8[:, 1:]), golden.tok_indices_window)
    same(tokenizer.decode(golden.tok_indices), golden.tok_decoded)
    same(tokenizer.decode(golden.tok_indices[:, 1:]), golden.tok_decoded_window)


@pytest.mark.parametrize("first", [0, 1])
def test_tokens_and_frames_one_by_one(world_of, golden, first: int) -> None:
    """Every length is met on the way. A clip that begins later is another."""
    world = world_of("unguided")
    tokens = golden.tok_indices_window if first else golden.tok_indices
    decoded = golden.tok_decoded_window if first else golden.tok_decoded
    for b in range(len(tokens)):
        encoder, decoder = new_ring(world, "encoder"), new_ring(world, "decoder")
        for t, frame in enumerate(golden.frames_u8[b, first:]):
            found, entry = world.tokenizer.encode_step(frame, *inputs(encoder))
            same(found, tokens[b, t])
            encoder.push(entry.numpy())
            codes = golden.tok_indices[b, first + t] if first else found
            pixels, entry = world.tokenizer.decode_step(codes, *inputs(decoder))
            same(pixels, decoded[b, t])
            decoder.push(entry.numpy())


def test_latent_actions(world_of, golden) -> None:
    lam = world_of("unguided").lam
    frames = golden.frames_u8
    hidden = lam.hidden(lam.embed(frames))
    same(lam.action(hidden[:, 1:]), golden.lam_action_emb)
    same(lam.infer(frames), golden.lam_action_ids)
    same(lam.vq.codes()[lam.infer(frames)], golden.lam_action_codes)
    same(lam.reconstruct(frames), golden.lam_recon)


def test_latent_actions_of_every_length(world_of, golden) -> None:
    """Through the graph, whose distances name the same action, and frame by frame."""
    world = world_of("unguided")
    infer = world.graphs()["infer_action"].module
    memory = world.spec.memories["encoder"]
    floats = world.lam.encoder.sizes.entry(world.spec.tokens)
    for b, clip in enumerate(golden.frames_u8):
        ring = Ring(memory, np.ones((memory.slots, floats), np.float32))
        for t, frame in enumerate(clip):
            hidden, entry = world.lam.hidden_step(frame, *inputs(ring))
            ring.push(entry.numpy())
            if t:
                same(world.lam.vq.ids(world.lam.action(hidden)), golden.lam_action_ids[b, t - 1])
                action, distances = infer(clip[: t + 1])
                assert action.item() == distances.argmin() == golden.lam_action_ids[b, t - 1]


@pytest.mark.parametrize(("kind", "actions", "logits"), LOGITS)
def test_logits_of_whole_windows(world_of, golden, kind: str, actions: str, logits: str) -> None:
    world = world_of(kind)
    same(world.dynamics(golden.dyn_input_ids, getattr(golden, actions)), getattr(golden, logits))


@pytest.mark.parametrize(("kind", "actions", "logits"), LOGITS)
def test_logits_frame_by_frame(world_of, golden, kind: str, actions: str, logits: str) -> None:
    """Every context length, through the graphs' memory, and as the contract's full pass."""
    world = world_of(kind)
    led_on, wanted = getattr(golden, actions), getattr(golden, logits)
    for b, clip in enumerate(golden.dyn_input_ids):
        found = list(frame_by_frame(world, clip, led_on[b]))
        same(torch.stack(found), wanted[b])
        for t in range(len(clip)):
            masked = torch.full_like(clip[:1], world.spec.codebook)
            actions_T = torch.tensor([world.spec.no_action, *led_on[b, : t + 1]])
            same(world.full_logits(torch.cat([clip[: t + 1], masked]), actions_T), wanted[b, t])


def test_a_short_window(world_of, golden) -> None:
    world = world_of("unguided")
    same(world.dynamics(golden.dyn_short_input_ids, golden.dyn_short_actions), golden.dyn_logits_short)


@pytest.mark.parametrize("kind", KINDS)
def test_use_token(world_of, golden, kind: str) -> None:
    world = world_of(kind, use_token="true")
    names = {
        "unguided": ("dyn_actions_a", "main_use_token_logits"),
        "guided": ("guided_actions_a", "main_guided_use_token_logits"),
    }
    actions, logits = (getattr(golden, name) for name in names[kind])
    same(world.dynamics(golden.dyn_input_ids, actions), logits)


def window_logits(dynamics: Dynamics, prime_TS: Tensor, actions_T: Tensor, new: int):
    """Of `new` frames after the prime ones, each at the frame before it, from one pass over all."""

    def logits_of(tokens_N: Tensor) -> Tensor:
        window = torch.cat([prime_TS, tokens_N.view(new, -1)])[:-1]
        return dynamics(window[None], actions_T[None])[0, -new:].flatten(0, 1)

    return logits_of


def memory_logits(world, prime_TS: Tensor, actions_T: Tensor, new: int):
    """The same through the memory, one pass a frame."""

    def logits_of(tokens_N: Tensor) -> Tensor:
        window = torch.cat([prime_TS, tokens_N.view(new, -1)])[:-1]
        return torch.cat(list(frame_by_frame(world, window, actions_T))[-new:])

    return logits_of


@pytest.mark.parametrize("way", ["window", "memory"])
@pytest.mark.parametrize(
    ("kind", "release", "actions", "uniforms", "ids"),
    [
        ("unguided", "coinrun", "gen_actions", None, "gen1_ids"),
        ("unguided", "main", "gen_actions", None, "gen1_ids"),
        ("unguided", "coinrun", "gen_actions", "genk_uniforms", "genk_ids"),
        ("unguided", "main", "gen_actions", "main_genk_uniforms", "main_genk_ids"),
        ("guided", "coinrun", "guided_gen_actions", None, "guided_gen1_ids"),
    ],
)
def test_generation_of_several_frames(
    world_of, golden, way: str, kind: str, release, actions: str, uniforms: str | None, ids: str
) -> None:
    world, new, prime = world_of(kind), int(golden.gen_num_frames), int(golden.gen_prime)
    places = new * world.spec.tokens
    one_step = torch.rand(1, 2, places, world.spec.codebook)
    noise = one_step if uniforms is None else getattr(golden, uniforms)
    for b in range(2):
        past, led_on = golden.tok_indices[b, :prime], getattr(golden, actions)[b]
        logits_of = (
            window_logits(world.dynamics, past, led_on, new)
            if way == "window"
            else memory_logits(world, past, led_on, new)
        )
        temperature = float(golden.main_genk_temperature)
        steps = list(generate(logits_of, places, world.spec.codebook, noise[:, b], temperature, release))
        same(torch.cat([past, steps[-1][0].view(new, -1)]), getattr(golden, ids)[b])
        if uniforms == "main_genk_uniforms":
            same(torch.stack([scores for _, scores in steps]), golden.main_genk_confidence[:, b])


def test_play_is_the_interactive_generation(world_of, golden) -> None:
    """Tokens, and frames as far as uint8 shows them."""
    world = world_of("unguided")
    prime, noise = 2, np.zeros((1, world.spec.tokens), np.int32)
    for b in range(2):
        session = world_session(world)
        led_on = golden.auto_actions[b].tolist()
        for t in range(prime):
            session.observe(golden.tok_indices[b, t].numpy(), led_on[t - 1] if t else world.spec.no_action)
        for i in range(int(golden.auto_num_frames)):
            tokens, frame = session.play(led_on[prime - 1 + i], noise)
            same(torch.from_numpy(tokens).long(), golden.auto_ids[b, i])
            wanted = golden.auto_video[b, i].clamp(0, 1) * 255
            assert np.abs(frame - wanted.numpy()).max() <= 0.5 + 255 * TOLERANCE


def test_two_frames_at_a_time(world_of, golden) -> None:
    """`dream_length` 2: every call draws two frames at once, the last action repeated at the end."""
    world, new, prime = world_of("unguided"), 2, 2
    for b in range(2):
        given = golden.auto_actions[b]
        actions = torch.cat([given, given[-1:].repeat(new)])
        past = golden.tok_indices[b, :prime]
        while len(past) - prime < golden.auto2_ids.shape[1]:
            led_on = actions[: len(past) + new - 1]
            noise = torch.rand(1, new * world.spec.tokens, world.spec.codebook)
            logits_of = window_logits(world.dynamics, past, led_on, new)
            drawn = list(
                generate(logits_of, new * world.spec.tokens, world.spec.codebook, noise, 1.0, "main")
            )
            past = torch.cat([past, drawn[-1][0].view(new, -1)])
        same(past[prime:], golden.auto2_ids[b])


def test_one_frame_at_a_time_is_greedy_at_any_number_of_steps(world_of, golden) -> None:
    """What the world's one step rests on: the main release draws the same with 25 steps and noise."""
    world = world_of("unguided")
    past, led_on = golden.tok_indices[0, :2], golden.gen_actions[0, :2]
    logits_of = window_logits(world.dynamics, past, led_on, 1)
    S, V = world.spec.tokens, world.spec.codebook
    greedy = logits_of(torch.full((S,), V)).argmax(-1)
    sampled = list(generate(logits_of, S, V, torch.rand(25, S, V), 1.0, "main"))
    assert not torch.equal(sampled[0][0], greedy)  # the noise is felt on the way
    same(sampled[-1][0], greedy)


def test_a_window_that_moves_is_the_projects_on_the_last_frames(world_of, golden) -> None:
    """Beyond W frames the session observes again what the window holds, as one that begins there."""
    world = world_of("unguided", window="2")
    session, clip = world_session(world), golden.tok_indices[0]
    led_on = golden.auto_actions[0].tolist()
    for t, tokens in enumerate(clip[:4].numpy()):
        session.observe(tokens, led_on[t - 1] if t else world.spec.no_action)
    tokens, frame = session.play(led_on[3], np.zeros((1, world.spec.tokens), np.int32))
    last = clip[2:4]
    wanted = world.dynamics(last[None], torch.tensor([led_on[2:4]]))[0, -1].argmax(-1)
    same(torch.from_numpy(tokens).long(), wanted)
    pixels = world.tokenizer.decode(torch.cat([last, wanted[None]])[None])[0, -1].clamp(0, 1) * 255
    assert np.abs(frame - pixels.numpy()).max() <= 0.5 + 255 * TOLERANCE


def test_a_player_shows_a_first_frame_as_a_first_frame(world_of, golden) -> None:
    world = world_of("guided")
    with Player(world_session(world)) as player:
        shown = player.start(golden.frames_u8[0, 0].numpy())
    wanted = golden.tok_decoded[0, 0].clamp(0, 1) * 255
    assert np.abs(shown - wanted.numpy()).max() <= 0.5 + 255 * TOLERANCE


def test_patches_and_back() -> None:
    frames = torch.randint(0, 256, (2, 8, 12, 3), dtype=torch.uint8)
    again = unpatchify(patchify(frames, 4), (2, 3), 4)
    assert torch.equal((again * 255).round().to(torch.uint8), frames)
