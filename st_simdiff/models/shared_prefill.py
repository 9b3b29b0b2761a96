"""What prompts about one video share although their kept tokens differ: the decoder's layers before the first choice.

A method that ranks visual tokens by the last query's attention chooses anew for every question. All that comes before
the first such choice depends on the video and the words before the question alone: keys and values of the layers up to
there, and the hidden states that leave the last of them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from st_simdiff.methods.base import Method
from st_simdiff.models.deepstack import Deepstack
from st_simdiff.models.sequence import Video


@dataclass
class SharedPrefill:
    """A prefill at the decoder layer whose attention the method asked for first, before it chose among the tokens.

    method: the one that chose. layer: the decoder layer. hidden: (1, P, D), what leaves it. position_ids: (1, P) or
    (axes, 1, P), contiguous if the method renumbers. rotary: cosines and sines (..., 1, P, d). videos: as they stood.
    tail: positions behind the last video. valid_from: the fewest positions that a cache holds while the choice stands;
    one that was cut back further no longer holds the query that chose.
    """

    method: Method
    layer: int
    hidden: torch.Tensor
    position_ids: torch.Tensor
    rotary: tuple[torch.Tensor, torch.Tensor]
    videos: tuple[Video, ...]
    deepstack: Deepstack | None
    tail: int
    valid_from: int

    def until(self, count: int) -> SharedPrefill:
        """The same for the first `count` positions that the layer held, with videos of its own."""
        cosines, sines = self.rotary
        deepstack = self.deepstack
        return replace(
            self,
            hidden=self.hidden[:, :count],
            position_ids=self.position_ids[..., :count],
            rotary=(cosines[..., :count, :], sines[..., :count, :]),
            videos=own_videos(self.videos),
            deepstack=None if deepstack is None else Deepstack(deepstack.features, deepstack.source[:, :count]),
            tail=self.tail - (self.hidden.shape[1] - count),
        )


def own_videos(videos: tuple[Video, ...] | list[Video]) -> tuple[Video, ...]:
    """Videos that further reductions may change without changing the given ones."""
    return tuple(replace(video, trace=replace(video.trace, stages=list(video.trace.stages))) for video in videos)
