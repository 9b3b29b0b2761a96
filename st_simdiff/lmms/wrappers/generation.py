"""A transformers model's `generate`, compressed, and the counts of every row that it generates."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel

from st_simdiff import compress
from st_simdiff.errors import InputError
from st_simdiff.lmms.refusal import nothing_swallowed
from st_simdiff.methods.base import Method
from st_simdiff.models.clock import StageClock
from st_simdiff.models.costs import flop_counts, model_cost
from st_simdiff.models.families import unwrapped
from st_simdiff.models.families.base import ImagesAsFrames
from st_simdiff.models.trace import VideoTrace
from st_simdiff.vocabulary import Counts

logger = logging.getLogger(__name__)


@contextmanager
def compressed_generation(
    model: PreTrainedModel,
    method: Method,
    name: str,
    *,
    warm_up: bool = False,
    frames_of: Callable[[Mapping[str, Any]], ImagesAsFrames] = lambda _: False,
) -> Iterator[list[Counts]]:
    """Inside the block, `model.generate(**inputs)` runs under `method`. Yields the counts of all rows, in their order.

    The times of a row are its share of its batch's. What passes between two batches (or from the block's start) is the
    wrapper's reading and preprocessing: it counts as decode, and in the seconds. warm_up: marks the rows of the first
    batch as the first of their process. frames_of: what `compress` has to be told of the images of a prompt, from the
    inputs of `generate`. A generation that fails ends the process, in the name of the harness model:
    some of lmms-eval's wrappers would go on with an empty answer.
    """
    rows: list[Counts] = []
    generate, last = model.generate, time.perf_counter()
    timed = unwrapped(model)

    def compressed(**inputs: Any) -> torch.Tensor:
        nonlocal last
        first = warm_up and not rows
        with (
            nothing_swallowed(name),
            StageClock(timed, warm_up=first) as clock,
            compress(model, method, images_as_frames=frames_of(inputs)) as trace,
        ):
            clock.seconds["decode"] += time.perf_counter() - last
            output = generate(**inputs)
            ids = output[0] if isinstance(output, tuple) else output  # with or without speech
            ends = inputs.get("eos_token_id", timed.generation_config.eos_token_id)
            counts = count_rows(trace.videos, ids, inputs, ends)
            flops = count_flops(timed, trace.videos, counts)
        now = time.perf_counter()
        seconds, last = round((now - last) / len(counts), 4), now
        times = {key: value / len(counts) if key.endswith("_ms") else value for key, value in clock.counts().items()}
        rows.extend({**row, **own, **times, "seconds": seconds} for row, own in zip(counts, flops, strict=True))
        return output

    attributes = vars(model)
    before = {"generate": attributes["generate"]} if "generate" in attributes else {}
    attributes["generate"] = compressed
    try:
        yield rows
    finally:
        del attributes["generate"]
        attributes.update(before)


def count_rows(
    videos: Sequence[VideoTrace], ids: torch.Tensor, inputs: Mapping[str, Any], ends: int | Sequence[int] | None
) -> list[Counts]:
    """The counts of every prompt of a batch.

    videos: as traced. ids: int64 (B, L), prompts with their answers. inputs: what `generate` was given; input_ids is
    needed, attention_mask where prompts are padded. ends: the tokens that end an answer and belong to it.
    """
    prompts = inputs["input_ids"]
    mask = inputs.get("attention_mask")
    lengths = (torch.ones_like(prompts) if mask is None else mask).sum(1).tolist()
    new = ids[:, prompts.shape[1] :]
    ended = torch.isin(new, torch.as_tensor([] if ends is None else ends, device=new.device)).cumsum(1)
    before_end = torch.nn.functional.pad(ended, (1, 0))[:, :-1] == 0
    answers = before_end.sum(1).tolist()
    return [
        {"input_tokens": prompt, "output_tokens": answer, **_summary([video for video in videos if video.row == row])}
        for row, (prompt, answer) in enumerate(zip(lengths, answers, strict=True))
    ]


def count_flops(model: PreTrainedModel, videos: Sequence[VideoTrace], counts: Sequence[Counts]) -> list[Counts]:
    """FLOPs of every prompt of a batch, full and as it is; nothing for a prompt without a video or with several.

    Nothing either for a model with a vision tower whose FLOPs are not known.
    """
    merge = getattr(getattr(model.config, "vision_config", None), "spatial_merge_size", 1)
    found: list[Counts] = []
    for row, count in enumerate(counts):
        own = [video for video in videos if video.row == row]
        if len(own) != 1:
            found.append({})
            continue
        try:
            cost = model_cost(model, patches=(own[0].grid.height * merge, own[0].grid.width * merge))
        except InputError as error:
            logger.info(str(error))
            found.append({})
            continue
        found.append(flop_counts(cost, own[0], int(count["input_tokens"]) - own[0].grid.count))
    return found


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
