"""LLaVA-Video as this project's `llava` package builds it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from st_simdiff.checks import check_whole
from st_simdiff.errors import InputError
from st_simdiff.methods.base import VisionInput, VisionRecord
from st_simdiff.models.families.base import Compression, Family, ImagesAsFrames, Prompts, Removable, VideoTokens
from st_simdiff.models.transformers_api import TransformersModule
from st_simdiff.models.vision import FrameRecord, SiglipRecorder
from st_simdiff.selection.grid import Separators, TokenGrid

if TYPE_CHECKING:
    from st_simdiff.checkpoints.llava_video.modeling import EncodedVideo, LlavaVideo, MultimodalEmbeds

_SEPARATORS: dict[str, Separators] = {"grid": "row", "frame": "frame", "one_token": "end", "no_token": "none"}


class LlavaVideoFamily(Family):
    """The embedder announces the spans; the SigLIP tower's last kept layer is recorded and pooled like its features."""

    name: ClassVar[str] = "LLaVA-Video"
    checkpoints: ClassVar[str] = "LLaVA-Video-7B-Qwen2, 72B"
    note: ClassVar[str] = "loaded by `st_simdiff.checkpoints`"
    records: ClassVar[frozenset[VisionInput]] = frozenset({"attention", "keys"})

    def __init__(self, joined: bool = False) -> None:
        """joined: whether the videos of a row are the parts of one, with text between them."""
        self.joined = joined

    def with_images_as_frames(self, images_as_frames: ImagesAsFrames) -> LlavaVideoFamily:
        if not isinstance(images_as_frames, bool):
            raise InputError(
                f"images_as_frames of {self.name} is True where the videos of a prompt are the parts of one, got "
                f"{images_as_frames!r}."
            )
        return type(self)(joined=images_as_frames)

    def matches(self, model: TransformersModule) -> bool:
        return (
            type(model).__module__ == "st_simdiff.checkpoints.llava_video.modeling"
            and type(model).__name__ == "LlavaVideo"
        )

    def text_model(self, model: LlavaVideo) -> TransformersModule:
        return model.language_model.model

    def head(self, model: LlavaVideo) -> TransformersModule:
        return model.language_model

    def frames_per_step(self, model: TransformersModule) -> int:  # noqa: ARG002
        """Frames of the vision tower that one frame of visual tokens stands for."""
        return 1

    def brings_video(self, arguments: Mapping[str, Any]) -> bool:
        return arguments.get("images") is not None

    def recorder(self, model: LlavaVideo, vision_inputs: frozenset[VisionInput]) -> SiglipRecorder:  # noqa: ARG002
        return SiglipRecorder(model.vision_layers[-1].self_attn)

    def watch(self, model: LlavaVideo, prompts: Prompts) -> list[Removable]:
        prompt = _Prompt()

        @torch.compiler.disable
        def enter_embedder(_module: TransformersModule, args: tuple) -> None:
            prompt.videos = [list(row) for row in args[1]] if len(args) > 1 and args[1] is not None else []
            prompt.compression = prompts.starting() if any(prompt.videos) else None
            if prompt.compression is not None and prompts.recorder is not None:
                prompts.recorder.start(prompt.compression.method.vision_inputs)

        @torch.compiler.disable
        def leave_embedder(_module: TransformersModule, _args: tuple, output: MultimodalEmbeds) -> None:
            compression, rows, prompt.compression, prompt.videos = prompt.compression, prompt.videos, None, []
            if compression is None:
                return
            wanted = compression.method.vision_inputs
            seen = prompts.recorder.take() if prompts.recorder is not None and wanted else None
            joined = isinstance(compression.family, LlavaVideoFamily) and compression.family.joined
            videos, first = [], 0
            for spans, row_videos in zip(output.video_spans, rows, strict=True):
                row = []
                for span, video in zip(spans, row_videos, strict=True):
                    grid = TokenGrid(span.frames, span.height, span.width, _SEPARATORS[span.newline])
                    end = span.start + grid.count
                    positions = torch.arange(span.start, end, device=output.inputs_embeds.device)
                    record, count = None, span.frames * self.frames_per_step(model)
                    encoded = not isinstance(video, torch.Tensor)
                    if seen is not None:
                        own = _noted(video) if encoded else seen.frames(first, first + count)
                        record = VisionRecord(*(_pooled(model, part) for part in (own.attention, own.keys)))
                    first += 0 if encoded else count
                    row.append(VideoTokens(grid, positions, span.start, end - 1, record))
                videos.append(self._joined(row) if joined else row)
            prompts.report(compression, videos)

        return [
            model.embedder.register_forward_pre_hook(enter_embedder),
            model.embedder.register_forward_hook(leave_embedder),
        ]

    def _joined(self, parts: list[VideoTokens]) -> list[VideoTokens]:
        """The parts of one video as that video."""
        if len(parts) < 2:
            return parts
        if parts[0].grid.separators == "end":
            raise InputError(
                f"This {self.name} model puts one newline behind a whole video, so there can be no text between frames."
            )
        grid = replace(parts[0].grid, frames=sum(part.grid.frames for part in parts))
        records = [part.vision for part in parts if part.vision is not None]
        vision = None
        if records:
            attention, keys = ([getattr(one, name) for one in records] for name in ("attention", "keys"))
            vision = VisionRecord(*(None if part[0] is None else torch.cat(part) for part in (attention, keys)))
        positions = torch.cat([part.positions for part in parts])
        return [VideoTokens(grid, positions, parts[0].first, parts[-1].last, vision)]


class _Prompt(threading.local):
    """The prompt that a thread is embedding: its videos row by row."""

    compression: Compression | None = None
    videos: Sequence[Sequence[Any]] = ()


@torch.no_grad()
def encode_video(
    model: LlavaVideo,
    pixels: torch.Tensor | Iterable[torch.Tensor],
    vision_inputs: frozenset[VisionInput] = frozenset(),
    *,
    frames: int | None = None,
) -> EncodedVideo:
    """The frames (T, 3, S, S) through the vision tower once, with what methods ask it to record.

    For several prompts about one video: it stands in for the pixels in each of them. Call it outside `compress`.
    vision_inputs: those of the method. pixels: all frames, or parts of them one after the other, of which one is held
    at a time; then `frames` is T, which they must add up to. No gradients. Raises `InputError` otherwise.
    """
    from st_simdiff.checkpoints.llava_video.modeling import EncodedVideo

    if not vision_inputs:
        return EncodedVideo(_encode(model, pixels, frames))
    recorder = SiglipRecorder(model.vision_layers[-1].self_attn)
    try:
        recorder.start(vision_inputs)
        return EncodedVideo(_encode(model, pixels, frames), recorder.take())
    finally:
        for handle in recorder.handles:
            handle.remove()


def _encode(model: LlavaVideo, pixels: torch.Tensor | Iterable[torch.Tensor], frames: int | None) -> torch.Tensor:
    if isinstance(pixels, torch.Tensor):
        if frames not in (None, len(pixels)):
            raise InputError(f"The pixels are of {len(pixels)} frames, got frames={frames!r}.")
        return model.encode_video(pixels)
    frames = check_whole("frames", frames, 1, "the number of frames of a video that is given in parts")
    tokens, done = None, 0
    for part in pixels:
        start, done = done, done + len(part)
        if done > frames:
            break
        encoded = model.encode_video(part)
        step = len(part) // len(encoded)
        if tokens is None:
            whole = len(part) == frames
            tokens = encoded if whole else encoded.new_empty(frames // step, *encoded.shape[1:])
        if tokens is not encoded:
            tokens[start // step : done // step] = encoded
        del part, encoded  # before the next part is made
    if tokens is None or done != frames:
        raise InputError(f"The parts of a video of {frames} frames hold {'more' if done > frames else done} frames.")
    return tokens


def _noted(video: EncodedVideo) -> FrameRecord:
    if not isinstance(video.noted, FrameRecord):
        raise InputError("The method asks what the vision tower records: give `encode_video` its vision_inputs.")
    return video.noted


def _pooled(model: LlavaVideo, values: torch.Tensor | None) -> torch.Tensor | None:
    """(T, n, d) per patch of the tower -> (T*H*W, d) per visual token, or (T*H*W,) if d is 1."""
    if values is None:
        return None
    return model.pool(values).flatten(0, 2).squeeze(-1)
