"""What goes into the model for one question, and what comes out."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from transformers import DynamicCache

from st_simdiff.answering.seeing import Seen
from st_simdiff.checkpoints.llava_video.modeling import EncodedVideo
from st_simdiff.models.trace import VideoTrace
from st_simdiff.vocabulary import Counts


@dataclass(frozen=True)
class Answer:
    """What the model said, and what it cost: token counts, visual token counts, times, peak memory, seconds in all."""

    text: str
    counts: Counts


@dataclass(frozen=True)
class Likelihood:
    """loss: mean negative log-likelihood of the continuation's tokens. greedy: whether each was the most likely one."""

    loss: float
    greedy: bool
    counts: Counts


@dataclass(frozen=True)
class Prompt:
    """question: as it is asked, with what is told of the video. text: all of the prompt. ids: int64 (1, L), -200 where
    the video, or a part of it, goes. images: of each [T, 3, S, S] in the model's dtype, or encoded; or None.
    """

    question: str
    text: str
    ids: torch.Tensor
    images: list[torch.Tensor | EncodedVideo] | None


@dataclass
class Turn:
    """One prompt's way through the decoder.

    prompt: of which `ids`, int64 (1, L'), and `images` go through it, behind the first `reused` positions of `cache`,
    which are there in the first `reused_layers` layers. seen, seeing: the video, and the counts of looking at it.
    trace: what became of its tokens. times: of the stages.
    """

    prompt: Prompt
    seen: Seen | None
    seeing: Counts
    ids: torch.Tensor
    images: list[torch.Tensor | EncodedVideo] | None
    cache: DynamicCache | None
    reused: int = 0
    reused_layers: int = 0
    trace: VideoTrace | None = None
    times: Counts = field(default_factory=dict)
