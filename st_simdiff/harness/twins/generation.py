"""A transformers model's `generate`, compressed, and the counts of every row that it generates."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from st_simdiff import compress
from st_simdiff.harness.refusal import nothing_swallowed
from st_simdiff.methods.base import Method
from st_simdiff.models.trace import VideoTrace

Counts = dict[str, int | float]


@contextmanager
def compressed_generation(model: PreTrainedModel, method: Method, name: str) -> Iterator[list[Counts]]:
    """Inside the block, `model.generate(**inputs)` runs under `method`. Yields the counts of all rows, in their order.

    The seconds of a row are its share of the time since the batch before (or the block's start), so that decoding
    counts. A generation that fails ends the process, in the name of the harness model: some of lmms-eval's wrappers
    would go on with an empty answer.
    """
    rows: list[Counts] = []
    generate, last = model.generate, time.perf_counter()

    def compressed(**inputs: Any) -> torch.Tensor:
        nonlocal last
        with nothing_swallowed(name), compress(model, method) as trace:
            ids = generate(**inputs)
            counts = count_rows(trace.videos, ids, inputs)
        now = time.perf_counter()
        seconds, last = round((now - last) / len(counts), 4), now
        rows.extend({**row, "seconds": seconds} for row in counts)
        return ids

    attributes = vars(model)
    before = {"generate": attributes["generate"]} if "generate" in attributes else {}
    attributes["generate"] = compressed
    try:
        yield rows
    finally:
        del attributes["generate"]
        attributes.update(before)


def count_rows(videos: Sequence[VideoTrace], ids: torch.Tensor, inputs: dict[str, Any]) -> list[Counts]:
    """The counts of every prompt of a batch.

    videos: as traced. ids: int64 (B, L), prompts with their answers. inputs: what `generate` was given; input_ids and
    eos_token_id are needed, attention_mask where prompts are padded. An answer ends with its end-of-turn token, if any.
    """
    prompts = inputs["input_ids"]
    mask = inputs.get("attention_mask")
    lengths = (torch.ones_like(prompts) if mask is None else mask).sum(1).tolist()
    new = ids[:, prompts.shape[1] :]
    ended = torch.isin(new, torch.as_tensor(inputs["eos_token_id"], device=new.device)).cumsum(1)
    before_end = torch.nn.functional.pad(ended, (1, 0))[:, :-1] == 0
    answers = before_end.sum(1).tolist()
    return [
        {"input_tokens": prompt, "output_tokens": answer, **_summary([video for video in videos if video.row == row])}
        for row, (prompt, answer) in enumerate(zip(lengths, answers, strict=True))
    ]


def _summary(videos: Sequence[VideoTrace]) -> Counts:
    """The videos of one prompt together: counts add up, shares are means over the videos' tokens."""
    summaries = [video.summary() for video in videos]
    if len(summaries) <= 1:
        return summaries[0] if summaries else {}
    tokens = [summary["visual_tokens"] for summary in summaries]
    together: Counts = {}
    for key in summaries[0]:
        values = [summary.get(key, 0) for summary in summaries]
        is_share = any(isinstance(value, float) for value in values)
        weighted = sum(value * weight for value, weight in zip(values, tokens, strict=True))
        together[key] = weighted / sum(tokens) if is_share else sum(values)
    return together
