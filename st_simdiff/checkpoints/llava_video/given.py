"""What `generate` of a LLaVA-Video model is given, brought into one form, or refused in a sentence."""

from __future__ import annotations

from typing import Any

import torch

from st_simdiff.checkpoints.llava_video.constants import IMAGE_TOKEN_INDEX
from st_simdiff.errors import InputError
from st_simdiff.models.transformers_api import Cache


def positions_in(cache: Any) -> int:
    """How many positions a cache, or None, holds. Raises `InputError` for anything else."""
    if cache is None:
        return 0
    if not isinstance(cache, Cache):
        raise InputError(
            f"past_key_values is the cache of an earlier call, its `past_key_values`, got {type(cache).__name__}."
        )
    return cache.get_seq_length()


def check_ids(inputs: Any, input_ids: Any, images: Any, held: int) -> torch.Tensor:
    """The ids that were given under one of two names, int64 (B, L).

    images: the videos, or None. held: positions that the cache holds. Raises `InputError` for none, both, another form,
    and for a video's placeholder without the video behind a cache, which holds that video already.
    """
    given = [ids for ids in (inputs, input_ids) if ids is not None]
    if len(given) != 1:
        counted = "both" if given else "neither"
        raise InputError(f"generate takes the ids of the prompt as inputs or as input_ids, got {counted}.")
    ids = given[0]
    if not isinstance(ids, torch.Tensor) or ids.dim() != 2 or ids.is_floating_point():
        form = tuple(ids.shape) if isinstance(ids, torch.Tensor) else type(ids).__name__
        kind = f" of {ids.dtype}" if isinstance(ids, torch.Tensor) else ""
        raise InputError(f"The ids of a prompt are an integer tensor (rows, length), got {form}{kind}.")
    if not ids.shape[1]:
        raise InputError("The prompt has no ids: behind a cache it is the new ones, a question or a further turn.")
    if held and images is None and (ids == IMAGE_TOKEN_INDEX).any():
        raise InputError(
            f"The cache holds {held} positions, the video among them: give the ids behind those alone, without the "
            "placeholder of the video."
        )
    return ids


def mask_of_new(attention_mask: torch.Tensor | None, ids: torch.Tensor, held: int) -> torch.Tensor | None:
    """The part of `attention_mask` that is about the L new `ids`: of (B, L), or of (B, held + L). Raises `InputError`
    for another form.
    """
    if attention_mask is None:
        return None
    rows, length = ids.shape
    if tuple(attention_mask.shape) not in {(rows, length), (rows, held + length)}:
        whole = f" or {(rows, held + length)}, with what the cache holds" if held else ""
        raise InputError(
            f"The attention_mask of these ids is {(rows, length)}{whole}, got {tuple(attention_mask.shape)}."
        )
    return attention_mask[:, -length:]
