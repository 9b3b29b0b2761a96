"""The lmms-eval model `nvila`: an NVILA checkpoint under a compression method, asked as `llava_video` is."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any, ClassVar

import torch

from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.answering.arguments import AnsweringArguments, NvilaArguments
from st_simdiff.answering.device import choose_dtype
from st_simdiff.answering.interleaving import is_interleaved
from st_simdiff.checkpoints.nvila.loading import load_nvila
from st_simdiff.checkpoints.nvila.prompt import build_prompt, frame_indices, tokenize_prompt
from st_simdiff.checkpoints.quantisation import quantisation
from st_simdiff.errors import InputError
from st_simdiff.lmms.llava_video import LlavaVideo
from st_simdiff.videos.frames import read_frames
from st_simdiff.videos.record import SampledVideo
from st_simdiff.videos.settings import ReadSettings
from st_simdiff.videos.workers import VideoWorkers

END_OF_TURN = "<|im_end|>\n"


class NvilaAnswerer(VideoAnswerer):
    """An NVILA checkpoint with everything that one question needs; only loading and the prompt are its own."""

    arguments: NvilaArguments

    def __init__(self, arguments: NvilaArguments, device: str) -> None:
        """Raises `InputError`, ValueError or FileNotFoundError for a checkpoint or a setting that cannot be used."""
        dtype = choose_dtype(arguments.dtype, device)
        loaded = load_nvila(
            arguments.pretrained,
            dtype=dtype,
            device=device,
            attn_implementation=arguments.attn_implementation,
            video=arguments.video,
            model_base=arguments.model_base,
            quantization_config=quantisation(arguments.load_4bit, arguments.load_8bit, dtype),
        )
        frames = arguments.max_frames_num or loaded.model.config.num_video_frames
        step = self.frames_per_step = loaded.model.frames_per_step
        if frames % step:
            raise InputError(
                f"The model averages every {step} frames, so max_frames_num is a multiple of {step}, got {frames}."
            )
        sample = partial(sample_evenly, count=frames, **asdict(arguments.read_settings))
        self._set_up(arguments, device, loaded, sample)

    def _conversation(self, question: str, video: str | None, answer: str | None) -> str:
        interleaved = video is not None and is_interleaved(question)
        asked = build_prompt(question, video=video is not None, interleaved=interleaved)
        return asked + ("" if answer is None else answer + END_OF_TURN)

    def _tokenize(self, text: str) -> torch.Tensor:
        return torch.tensor([tokenize_prompt(text, self.tokenizer)], device=self.device)


class NvilaVideo(LlavaVideo):
    """Answers one request at a time; see `NvilaArguments` for its `--model_args`."""

    name: ClassVar[str] = "nvila"
    arguments_kind: ClassVar[type[AnsweringArguments]] = NvilaArguments
    answerer_kind: ClassVar[type[VideoAnswerer]] = NvilaAnswerer


def sample_evenly(
    path: str, count: int, *, workers: VideoWorkers | None = None, part: slice | None = None, **settings: Any
) -> SampledVideo:
    """`count` frames of the video file from the first to the last, some twice if it has fewer.

    workers, part, settings, errors: as in `st_simdiff.videos.sample_frames`.
    """

    def sampling(total: int, rate: float) -> tuple[list[int], list[float]]:
        indices = frame_indices(total, count)
        return indices, [index / rate for index in indices]

    return read_frames(path, sampling, ReadSettings(**settings), workers, part)
