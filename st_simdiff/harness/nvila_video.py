"""The lmms-eval model `nvila`: an NVILA checkpoint under a compression method, asked as `llava_video` is."""

from __future__ import annotations

from typing import ClassVar

import torch

from llava.video import SampledVideo, read_frames
from nvila.loading import load_nvila
from nvila.prompt import build_prompt, frame_indices, tokenize_prompt
from st_simdiff.errors import InputError
from st_simdiff.harness.answering import Prompt, VideoAnswerer
from st_simdiff.harness.arguments import AnsweringArguments, DecodeBackend, NvilaArguments
from st_simdiff.harness.device import choose_dtype
from st_simdiff.harness.llava_video import LlavaVideo

END_OF_TURN = "<|im_end|>\n"


class NvilaAnswerer(VideoAnswerer):
    """An NVILA checkpoint with everything that one question needs; only loading and the prompt are its own."""

    arguments: NvilaArguments

    def __init__(self, arguments: NvilaArguments, device: str) -> None:
        """Raises `InputError`, ValueError or FileNotFoundError for a checkpoint or a setting that cannot be used."""
        self.arguments = arguments
        self.device = device
        self.dtype = choose_dtype(arguments.dtype, device)
        loaded = load_nvila(
            arguments.pretrained,
            dtype=self.dtype,
            device=device,
            attn_implementation=arguments.attn_implementation,
            video=arguments.video,
        )
        self.tokenizer = loaded.tokenizer
        self.image_processor = loaded.image_processor
        self.model = loaded.model
        self.frames = arguments.max_frames_num or loaded.model.config.num_video_frames
        step = loaded.model.frames_per_step
        if self.frames % step:
            raise InputError(
                f"The model averages every {step} frames, so max_frames_num is a multiple of {step}, got {self.frames}."
            )

    def prompt(self, video: str | None, question: str) -> Prompt:
        """The prompt for `question`, with the frames of `video` sampled and preprocessed."""
        images = None
        if video is not None:
            sampled = sample_evenly(video, self.frames, self.arguments.video_decode_backend)
            pixels = self.image_processor.preprocess(sampled.frames, return_tensors="pt")["pixel_values"]
            images = [pixels.to(self.device, self.dtype)]
        text = self._conversation(video, question, None)
        return Prompt(text, self._tokenize(text), images)

    def _conversation(self, video: str | None, question: str, answer: str | None) -> str:
        return build_prompt(question, video=video is not None) + ("" if answer is None else answer + END_OF_TURN)

    def _tokenize(self, text: str) -> torch.Tensor:
        return torch.tensor([tokenize_prompt(text, self.tokenizer)], device=self.device)


class NvilaVideo(LlavaVideo):
    """Answers one request at a time; see `NvilaArguments` for its `--model_args`."""

    name: ClassVar[str] = "nvila"
    arguments_kind: ClassVar[type[AnsweringArguments]] = NvilaArguments
    answerer_kind: ClassVar[type[VideoAnswerer]] = NvilaAnswerer


def sample_evenly(path: str, count: int, backend: DecodeBackend = "auto") -> SampledVideo:
    """`count` frames of the video file from the first to the last, some twice if it has fewer.

    Raises `VideoError` for a file that cannot be read.
    """

    def sampling(total: int, rate: float) -> tuple[list[int], list[float]]:
        indices = frame_indices(total, count)
        return indices, [index / rate for index in indices]

    return read_frames(path, sampling, backend)
