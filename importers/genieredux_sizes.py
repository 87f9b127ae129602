"""The sizes that GenieRedux's weights show, read from their names and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt

from torch import Tensor

from pocketgenie.errors import UserError
from pocketgenie.importers.genieredux_dynamics import DynamicsSizes
from pocketgenie.importers.genieredux_parts import Sizes
from pocketgenie.importers.genieredux_video import VideoSizes

Weights = Mapping[str, Tensor]


def shape(weights: Weights, key: str, axes: int) -> tuple[int, ...]:
    """Of a tensor that has to be there. Raises UserError."""
    if key not in weights:
        raise UserError(f"no tensor {key}; this is no GenieRedux checkpoint, or a part of one")
    found = tuple(weights[key].shape)
    if len(found) != axes or 0 in found:
        raise UserError(f"{key} is {list(found)}; this is no GenieRedux checkpoint")
    return found


def transformer_sizes(weights: Weights, prefix: str) -> Sizes:
    """Of the space-time transformer under a prefix. Raises UserError."""
    first = f"{prefix}.layers.0.0.spatial_"
    inner, dim = shape(weights, f"{first}attention.to_q.weight", 2)
    (head_dim,) = shape(weights, f"{first}attention.q_scale", 1)
    layers = {key.split(".")[2] for key in weights if key.startswith(f"{prefix}.layers.")}
    return Sizes(
        dim=dim,
        heads=max(1, inner // head_dim),
        head_dim=head_dim,
        blocks=len(layers),
        ffn=shape(weights, f"{first}ff.4.weight", 2)[1],
    )


def video_sizes(weights: Weights) -> VideoSizes:
    """Of a tokenizer or latent action model. Raises UserError."""
    _, codes, code_dim = shape(weights, "vq._codebook.embed", 3)
    return VideoSizes(
        codes=codes,
        code_dim=code_dim,
        projected="vq.project_in.weight" in weights,
        encoder=transformer_sizes(weights, "encoder"),
        decoder=transformer_sizes(weights, "decoder"),
    )


def dynamics_sizes(weights: Weights, actions: int | None) -> DynamicsSizes:
    """`actions`: codes of the latent action model; None where the actions are one-hot. Raises UserError."""
    rows, embedding = shape(weights, "token_emb.weight", 2)
    transformer = transformer_sizes(weights, "transformer")
    more = transformer.dim - embedding
    if actions is None and more < 1:
        raise UserError(
            "the file has no latent_action_model, and its dynamics no channels for one-hot actions either; "
            "give the whole model file"
        )
    return DynamicsSizes(
        codes=rows - 1,
        embedding=embedding,
        actions=more if actions is None else actions,
        positions=shape(weights, "pos_emb.weight", 2)[0],
        transformer=transformer,
    )


def patch_side(weights: Weights) -> int:
    """Of the tokenizer's patches. Raises UserError where one token stands for several frames."""
    first = shape(weights, "to_patch_emb_first_frame.2.weight", 2)[1]
    others = shape(weights, "to_patch_emb.2.weight", 2)[1]
    side = isqrt(first // 3)
    if 3 * side * side != first:
        raise UserError(f"to_patch_emb_first_frame.2.weight takes {first} numbers, no square patch of RGB")
    if others != first:
        raise UserError(
            f"one token stands for {others // first} frames (temporal_patch_size); such a world cannot be "
            "played frame by frame, import one trained with 1"
        )
    return side


def places(weights: Weights) -> int:
    """Tokens per frame, as a latent action model shows them. Raises UserError."""
    dim, flat = shape(weights, "to_action_emb.1.weight", 2)
    return flat // dim
