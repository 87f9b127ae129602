"""The evaluation's figures against plain ones, and on worlds whose play is known."""

from __future__ import annotations

import numpy as np
import pytest

from pocketgenie.errors import UserError
from pocketgenie.genie.graphs import load_world
from pocketgenie.runtimes.reference import world_session
from pocketgenie.training.evaluation import (
    HORIZON,
    evaluate,
    infer_actions,
    perplexity,
    psnr_db,
    squared_error,
)

KEYS = {
    "recon_psnr_db",
    "next_frame_psnr_db",
    "copy_last_psnr_db",
    "rollout_psnr_db",
    "copy_start_psnr_db",
    "random_psnr_db",
    "delta_psnr_db",
    "action_perplexity",
    "codebook_perplexity",
    "action_consistency",
}


@pytest.fixture(scope="module")
def session(tiny_checkpoint):
    return world_session(load_world(tiny_checkpoint))


@pytest.fixture(scope="module")
def clips(tiny_checkpoint):
    return np.load(tiny_checkpoint / "clips.npz")["frames"]


def test_psnr_and_perplexity():
    black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
    assert psnr_db(squared_error(black, white)) == 0
    assert psnr_db(squared_error(black, black)) == 100
    assert psnr_db(65025 / 10) == pytest.approx(10)
    assert perplexity(np.zeros(9, int), 4) == pytest.approx(1)
    assert perplexity(np.arange(8) % 4, 4) == pytest.approx(4)


def test_every_figure_is_there_and_the_copies_are_those_of_the_clips(session, clips):
    figures = evaluate(session, clips)
    assert figures.keys() == KEYS
    last = clips[:, -HORIZON - 1].astype(float)
    assert figures["copy_last_psnr_db"] == pytest.approx(
        psnr_db(np.mean((clips[:, -HORIZON] - last) ** 2)), abs=1e-4
    )
    assert figures["copy_start_psnr_db"] == pytest.approx(
        psnr_db(np.mean((clips[:, -1] - last) ** 2)), abs=1e-4
    )
    assert figures["delta_psnr_db"] == figures["rollout_psnr_db"] - figures["random_psnr_db"]
    assert 1 <= figures["action_perplexity"] <= session.spec.actions
    assert figures == evaluate(session, clips), "the same seed gives the same figures"


def test_reconstruction_is_the_tokenizers(session, clips):
    own = clips[:, -HORIZON - session.spec.memories["dynamics"].slots :]
    errors = [
        squared_error(session.decode(session.encode(f)), f)
        for f in own.reshape(-1, *session.spec.frame_shape)
    ]
    assert evaluate(session, clips)["recon_psnr_db"] == pytest.approx(
        psnr_db(float(np.mean(errors))), abs=1e-4
    )


def test_an_action_is_inferred_for_every_frame_but_the_first(session, clips):
    led_by = infer_actions(session, clips[0])
    assert len(led_by) == len(clips[0]) and led_by[0] == session.spec.no_action
    assert led_by[3] == session.infer_action(clips[0][2:4])[0]


def test_clips_that_do_not_fit_are_refused(session):
    with pytest.raises(UserError, match="8x8, this world is 16x16"):
        evaluate(session, np.zeros((1, 9, 8, 8, 3), np.uint8))
    with pytest.raises(UserError, match="at least 5"):
        evaluate(session, np.zeros((1, 4, 16, 16, 3), np.uint8))
