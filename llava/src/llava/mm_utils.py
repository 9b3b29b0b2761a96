"""Helpers under the names that LLaVA wrappers use."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, StoppingCriteria

from st_simdiff.checkpoints.llava_video.constants import IMAGE_TOKEN_INDEX
from st_simdiff.checkpoints.llava_video.prompt import tokenize_prompt


def get_model_name_from_path(path: str) -> str:
    """The last part of the path, with the one before it where that is only a training step (`checkpoint-...`)."""
    parts = PurePath(path.strip("/")).parts
    return "_".join(parts[-2:]) if parts[-1].startswith("checkpoint-") else parts[-1]


def tokenizer_image_token(
    prompt: str,
    tokenizer: PreTrainedTokenizerBase,
    image_token_index: int = IMAGE_TOKEN_INDEX,
    return_tensors: str | None = None,
) -> list[int] | torch.Tensor:
    """Ids of `prompt` with `image_token_index` for every `<image>`: a list, or int64 (L,) with return_tensors="pt"."""
    ids = tokenize_prompt(prompt, tokenizer, image_token_index)
    if return_tensors is None:
        return ids
    if return_tensors != "pt":
        raise ValueError(f"return_tensors is 'pt' or None, got {return_tensors!r}.")
    return torch.tensor(ids, dtype=torch.long)


class KeywordsStoppingCriteria(StoppingCriteria):
    """Ends a row once its newest token completes one of the keywords, as ids or within the text."""

    def __init__(
        self, keywords: Sequence[str], tokenizer: PreTrainedTokenizerBase, input_ids: torch.Tensor | None = None
    ) -> None:
        """input_ids: the prompt, (B, L). Not used: the newest tokens are looked at, never the prompt alone."""
        del input_ids
        self.keywords = list(keywords)
        self.tokenizer = tokenizer
        self.keyword_ids = [tokenizer(keyword, add_special_tokens=False).input_ids for keyword in self.keywords]

    def __call__(self, output_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        """Bool (B,): which rows have ended. output_ids: int64 (B, L)."""
        del scores, kwargs
        return torch.tensor([self._ended(row) for row in output_ids.tolist()], device=output_ids.device)

    def _ended(self, row: list[int]) -> bool:
        if any(row[-len(ids) :] == ids for ids in self.keyword_ids if ids):
            return True
        tail = row[-max((len(ids) for ids in self.keyword_ids), default=1) - 1 :]
        with_newest, without = (self.tokenizer.decode(ids, skip_special_tokens=True) for ids in (tail, tail[:-1]))
        return any(with_newest.count(keyword) > without.count(keyword) for keyword in self.keywords)
