"""An absolute window: what is drawn with a memory is what full passes over each window draw."""

import numpy as np
import pytest
import torch

from pocketgenie.genie.noise import draw_noise
from pocketgenie.genie.spec import MemoryName, MemorySpec, WorldSpec
from pocketgenie.runtimes import ties

S, V, D, W, A = 4, 16, 8, 3, 2


class Layers(torch.nn.Module):
    """Two layers of causal attention in time over x [T, S, D] with a vector for each position: the second
    one's keys hold what the first saw, and so the window."""

    def __init__(self):
        super().__init__()
        self.position = torch.nn.Parameter(torch.randn(W + 1, D))
        self.qkv = torch.nn.Parameter(torch.randn(2, D, 3 * D) / 2)

    def forward(self, x_TSD):
        hidden = x_TSD + self.position[: len(x_TSD), None]
        for weight in self.qkv:
            q, k, v = (hidden @ weight).transpose(0, 1).chunk(3, -1)
            scores = q @ k.transpose(1, 2)
            future = torch.triu(torch.ones_like(scores), 1) * -1e4
            hidden = hidden + ((scores + future).softmax(-1) @ v).transpose(0, 1)
        return hidden

    def step(self, x_SD, memory, ages, filled):
        hidden, entry = x_SD + self.position[filled.long()], []
        for layer, weight in enumerate(self.qkv):
            q, k, v = (hidden @ weight).chunk(3, -1)
            keys, values = memory[:, layer, 0], memory[:, layer, 1]
            past = (keys * q).sum(-1) + ((ages > filled) * -1e4)[:, None]
            weights = torch.cat([past, (q * k).sum(-1)[None]]).softmax(0).unsqueeze(-1)
            hidden = hidden + (weights[:-1] * values).sum(0) + weights[-1] * v
            entry.append(torch.stack([k, v]))
        return hidden, torch.stack(entry)


class Graph(torch.nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


class OwnSampler(torch.nn.Module):
    """All at once, the likeliest but for the noise; then the second half again, once it saw the first."""

    def forward(self, hidden, head, noise_NS):
        tokens = head(hidden(torch.full((S,), V))).argmax(-1)
        tokens = torch.cat([tokens[: S // 2], torch.full((S // 2,), V)])
        logits = head(hidden(tokens)) + (noise_NS[1].unsqueeze(-1) % 7 == torch.arange(V) % 7) * 0.5
        return torch.where(tokens == V, logits.argmax(-1), tokens)


class Toy:
    """A world of 2x2 tokens; encoder, dynamics and decoder all see the window."""

    def __init__(self):
        torch.manual_seed(0)
        memory = (2, 2, S, D)
        names: dict[MemoryName, str] = {"dynamics": "", "encoder": "encoder_", "decoder": "decoder_"}
        self.spec = WorldSpec(
            name="toy",
            height=2,
            width=2,
            grid=(2, 2),
            codebook=V,
            actions=A,
            steps=2,
            order="own",
            temperature=1.0,
            fps=10,
            action_frames=0,
            window="absolute",
            memories={name: MemorySpec(slots=W, entry=memory, prefix=p) for name, p in names.items()},
        )
        self.encoder, self.dynamics, self.decoder = Layers(), Layers(), Layers()
        self.pixels, self.codes = torch.randn(3, D), torch.randn(V + 1, D)
        self.actions, self.places = torch.randn(A + 1, D), torch.randn(S, D)
        self.out = torch.randn(D, 3)

    def sampler(self):
        return OwnSampler()

    def embed(self, tokens, action):
        return self.codes[tokens.long()] + self.actions[action.long()].unsqueeze(-2) + self.places

    def head(self, hidden):
        return hidden @ self.codes[:V].T

    def picture(self, hidden):
        return ((hidden @ self.out).sigmoid() * 255).round().to(torch.uint8).view(2, 2, 3)

    def graphs(self):
        from pocketgenie.genie.contract import GraphDef, signatures

        def encode(frame, *ring):
            hidden, entry = self.encoder.step(frame.float().view(S, 3) / 255 @ self.pixels, *ring)
            return self.head(hidden).argmax(-1).int(), entry

        def observe(tokens, action, *ring):
            return (self.dynamics.step(self.embed(tokens, action)[0], *ring)[1],)

        def logits(tokens, action, *ring):
            return (self.head(self.dynamics.step(self.embed(tokens, action)[0], *ring)[0]),)

        def step(action, noise, *ring):
            tokens = OwnSampler()(
                lambda t: self.dynamics.step(self.embed(t, action)[0], *ring)[0], self.head, noise
            )
            return tokens.int(), observe(tokens, action, *ring)[0]

        def decode(tokens, *ring):
            hidden, entry = self.decoder.step(self.codes[tokens.long()], *ring)
            return self.picture(hidden), entry

        def play(action, noise, *rings):
            tokens, entry = step(action, noise, *rings[:3])
            frame, decoder_entry = decode(tokens, *rings[3:])
            return tokens, frame, entry, decoder_entry

        named = {f.__name__: f for f in (encode, observe, logits, step, decode, play)}
        return {name: GraphDef(Graph(named[name]), *shapes) for name, shapes in signatures(self.spec).items()}

    def full_logits(self, tokens_TS, actions_T):
        return self.head(self.dynamics(self.embed(tokens_TS, actions_T))[-1])


@pytest.fixture(params=[0, 1, 2], ids=["slides", "keeps 1", "keeps 2"])
def toy(request):
    with torch.no_grad():
        world = Toy()
        world.spec = world.spec.model_copy(update={"keeps": request.param})
        yield world


def windows(world, count):
    """Of each frame, the number of the first that it sees: those that stay when W + 1 are full begin anew."""
    first, firsts = 0, []
    for number in range(count):
        if number - first > W:
            first = number - (world.spec.keeps or W)
        firsts.append(first)
    return firsts


def frames(count):
    return np.random.default_rng(1).integers(0, 256, (count, 2, 2, 3), np.uint8)


def test_play_is_that_of_full_windows(toy):
    from pocketgenie.runtimes.reference import FullWindow, world_session

    assert "infer_action" not in toy.graphs()
    session, plain = world_session(toy), FullWindow(toy, toy.spec)
    (picture,) = frames(1)
    shown, tokens = plain.start(picture), session.encode(picture)
    firsts = windows(toy, 3 * (W + 1) + 2)
    np.testing.assert_array_equal(session.decode(tokens), shown)
    session.observe(tokens, toy.spec.no_action)
    drawn = []
    for number in range(1, 3 * (W + 1) + 1):
        action = number % A
        plain.window.move()
        assert len(plain.window.past) == number - firsts[number]
        shown, noise = plain.step(action), draw_noise(toy.spec, 0, number)
        tokens, frame = session.play(action, noise)
        np.testing.assert_array_equal(tokens, plain.window.past[-1][0], err_msg=f"frame {number}")
        np.testing.assert_array_equal(frame, shown, err_msg=f"frame {number}")
        drawn.append(tokens)
    assert len({tuple(tokens) for tokens in drawn}) > W + 1, "a world that stands still proves nothing"


def test_logits_after_any_history_are_those_of_a_full_pass(toy):
    from pocketgenie.runtimes.reference import world_session

    session, rng = world_session(toy), np.random.default_rng(2)
    tokens, actions = rng.integers(0, V, (3 * W, S)), [A, *rng.integers(0, A, 3 * W - 1)]
    firsts = windows(toy, 3 * W)
    for length in range(1, 3 * W):
        session.reset()
        for number in range(length):
            session.observe(tokens[number], int(actions[number]))
        past = tokens[firsts[length] : length]
        led_by = [A, *actions[firsts[length] + 1 : length], 1]
        masked = np.full((1, S), V)
        full = toy.full_logits(torch.tensor(np.concatenate([past, masked])), torch.tensor(led_by))
        for _ in range(2):  # asking changes nothing
            np.testing.assert_allclose(session.logits(masked[0], 1), full, atol=1e-4, err_msg=f"{length}")


def test_pictures_are_read_as_the_last_of_their_window(toy):
    from pocketgenie.runtimes.reference import world_session

    session, clip, firsts = world_session(toy), frames(3 * W), windows(toy, 3 * W)
    for number, frame in enumerate(clip):
        window = torch.tensor(clip[firsts[number] : number + 1]).float().view(-1, S, 3) / 255
        wanted = toy.head(toy.encoder(window @ toy.pixels)[-1]).argmax(-1)
        np.testing.assert_array_equal(session.encode(frame), wanted, err_msg=f"frame {number}")


def test_what_a_ring_holds_is_never_written_over(toy):
    """Without the window's move the same play differs: the test can fail."""
    from pocketgenie.runtimes.reference import world_session

    session = world_session(toy)
    sliding = world_session(toy)
    sliding._absolute = False
    differ = False
    for number in range(2 * W):
        noise = draw_noise(toy.spec, 0, number)
        differ |= not np.array_equal(session.play(0, noise)[0], sliding.play(0, noise)[0])
    assert differ


def test_a_near_tie_of_an_own_sampler_is_told_from_a_fault(toy):
    from pocketgenie.runtimes.reference import own_draw

    rng, noise = np.random.default_rng(3), np.zeros((2, S), np.int32)
    logits = rng.normal(size=(S, V)).astype(np.float32) * 3
    best, second = logits[0].argsort()[::-1][:2]
    logits[0, second] = logits[0, best] - 2e-3
    draw = own_draw(toy)
    own = draw(lambda tokens: logits, noise)
    assert own[0] == best
    played = own.copy()
    played[0] = second
    assert ties.own_margin(draw, lambda tokens: logits, noise, own) == 0
    assert 1e-3 < ties.own_margin(draw, lambda tokens: logits, noise, played) < 2e-2
    played[1] = (own[1] + 1) % V
    assert ties.own_margin(draw, lambda tokens: logits, noise, played) == ties.FAULT


def test_a_world_without_an_action_model_says_so(toy):
    from pocketgenie.errors import UserError
    from pocketgenie.runtimes.reference import world_session

    with pytest.raises(UserError, match="toy has no action model"):
        world_session(toy).infer_action(frames(2))


def test_memories_of_an_absolute_window_are_of_one_length(toy):
    with pytest.raises(ValueError, match="the same number of slots"):
        memories = toy.spec.memories | {"decoder": MemorySpec(slots=W + 1, entry=(1,), prefix="decoder_")}
        WorldSpec(**{**dict(toy.spec), "memories": memories})
