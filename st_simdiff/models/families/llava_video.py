"""LLaVA-Video as this project's `llava` package builds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from st_simdiff.methods.base import VisionInput, VisionRecord
from st_simdiff.models.families.base import Family, Removable, Report, VideoTokens
from st_simdiff.models.vision import SiglipRecorder
from st_simdiff.selection.grid import Separators, TokenGrid

if TYPE_CHECKING:
    from llava.modeling import LlavaVideo, MultimodalEmbeds

_SEPARATORS: dict[str, Separators] = {"grid": "row", "frame": "frame", "one_token": "end", "no_token": "none"}


class LlavaVideoFamily(Family):
    """The embedder announces the spans; the SigLIP tower's last kept layer is recorded and pooled like its features."""

    name: ClassVar[str] = "LLaVA-Video"

    def matches(self, model: nn.Module) -> bool:
        return type(model).__module__ == "llava.modeling" and type(model).__name__ == "LlavaVideo"

    def text_model(self, model: LlavaVideo) -> nn.Module:
        return model.language_model.model

    def head(self, model: LlavaVideo) -> nn.Module:
        return model.language_model

    def frames_per_step(self, model: LlavaVideo) -> int:  # noqa: ARG002
        """Frames of the vision tower that one frame of visual tokens stands for."""
        return 1

    def watch(self, model: LlavaVideo, report: Report, vision_inputs: frozenset[VisionInput]) -> list[Removable]:
        recorder = SiglipRecorder(model.vision_layers[-1].self_attn, vision_inputs) if vision_inputs else None

        def announce(_module: nn.Module, _args: tuple, output: MultimodalEmbeds) -> None:
            frames = recorder.take() if recorder is not None else None
            videos, first = [], 0
            for spans in output.video_spans:
                row = []
                for span in spans:
                    grid = TokenGrid(span.frames, span.height, span.width, _SEPARATORS[span.newline])
                    end = span.start + grid.count
                    positions = torch.arange(span.start, end, device=output.inputs_embeds.device)
                    record, seen = None, span.frames * self.frames_per_step(model)
                    if frames is not None:
                        own = frames.frames(first, first + seen)
                        record = VisionRecord(*(_pooled(model, part) for part in (own.attention, own.keys)))
                    first += seen
                    row.append(VideoTokens(grid, positions, span.start, end - 1, record))
                videos.append(row)
            report(videos)

        handles: list[Removable] = [model.embedder.register_forward_hook(announce)]
        return handles + recorder.handles if recorder is not None else handles


def _pooled(model: LlavaVideo, values: torch.Tensor | None) -> torch.Tensor | None:
    """(T, n, d) per patch of the tower -> (T*H*W, d) per visual token, or (T*H*W,) if d is 1."""
    if values is None:
        return None
    return model.pool(values).flatten(0, 2).squeeze(-1)
