"""Answers questions about videos with a LLaVA-Video model under a compression method. Knows nothing of lmms-eval."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from llava.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from llava.conversation import conv_templates
from llava.loading import load_llava_video
from llava.mm_utils import tokenizer_image_token
from llava.video import sample_frames, time_instruction
from st_simdiff import compress
from st_simdiff.errors import InputError, unknown
from st_simdiff.harness.arguments import LlavaVideoArguments
from st_simdiff.harness.device import choose_dtype

MAX_NEW_TOKENS = 1024
"""Where a task sets none; the number of lmms-eval's own LLaVA wrappers."""


@dataclass(frozen=True)
class Answer:
    """What the model said, and what it cost: token counts, visual token counts, seconds."""

    text: str
    counts: dict[str, int | float]


@dataclass(frozen=True)
class Likelihood:
    """loss: mean negative log-likelihood of the continuation's tokens. greedy: whether each was the most likely one."""

    loss: float
    greedy: bool
    counts: dict[str, int | float]


@dataclass(frozen=True)
class Prompt:
    """ids: int64 (1, L) with -200 where the video goes. images: [T, 3, S, S] in the model's dtype, or None."""

    text: str
    ids: torch.Tensor
    images: list[torch.Tensor] | None


class VideoAnswerer:
    """A loaded checkpoint with everything that one question needs."""

    def __init__(self, arguments: LlavaVideoArguments, device: str) -> None:
        if arguments.conv_template not in conv_templates:
            raise unknown("conv_template", arguments.conv_template, conv_templates)
        self.arguments = arguments
        self.device = device
        self.dtype = choose_dtype(arguments.dtype, device)
        loaded = _load(arguments, device, self.dtype)
        self.tokenizer = loaded.tokenizer
        self.image_processor = loaded.image_processor
        self.model = loaded.model.eval()

    @torch.inference_mode()
    def generate(self, video: str | None, question: str, settings: Mapping[str, Any]) -> Answer:
        """Answers `question` about the file `video`, or a plain question without one.

        settings: generation settings of the task; max_new_tokens, temperature, top_p and num_beams are used, as by
        lmms-eval's own LLaVA wrappers. Raises `llava.video.VideoError` for a video that cannot be read.
        """
        started = time.perf_counter()
        prompt = self.prompt(video, question)
        with compress(self.model, self.arguments.method) as trace:
            ids = self.model.generate(
                inputs=prompt.ids,
                images=prompt.images,
                attention_mask=torch.ones_like(prompt.ids),
                use_cache=True,
                **_generation_settings(settings),
            )
        text = self.tokenizer.batch_decode(ids, skip_special_tokens=True)[0].strip()
        return Answer(text, self._counts(prompt, trace, ids.shape[1], started))

    @torch.inference_mode()
    def likelihood(self, video: str | None, question: str, continuation: str) -> Likelihood:
        """How likely `continuation` is as the answer, its end-of-turn tokens included.

        The prompt is prefilled alone and the continuation goes on from its cache, so that the query whose attention
        ranks the visual tokens is the prompt's last one, as in generation, and not a token of the answer.
        """
        started = time.perf_counter()
        prompt = self.prompt(video, question)
        answered = self._tokenize(self._conversation(video, question, continuation))
        tokens = answered[:, prompt.ids.shape[1] :]
        with compress(self.model, self.arguments.method) as trace:
            prefill = self.model(input_ids=prompt.ids, images=prompt.images, use_cache=True, logits_to_keep=1)
            rest = self.model(input_ids=tokens, past_key_values=prefill.past_key_values, use_cache=True)
        logits = torch.cat([prefill.logits[:, -1:], rest.logits[:, :-1]], dim=1).float()
        loss = torch.nn.functional.cross_entropy(logits[0], tokens[0])
        greedy = bool((logits.argmax(-1) == tokens).all())
        return Likelihood(loss.item(), greedy, self._counts(prompt, trace, 0, started))

    def prompt(self, video: str | None, question: str) -> Prompt:
        """The prompt for `question`, with the frames of `video` sampled and preprocessed."""
        images = None
        if video is not None:
            arguments = self.arguments
            sampled = sample_frames(
                video,
                arguments.max_frames_num,
                arguments.fps,
                arguments.force_sample,
                arguments.video_decode_backend,
            )
            pixels = self.image_processor.preprocess(sampled.frames, return_tensors="pt")["pixel_values"]
            images = [pixels.to(self.device, self.dtype)]
            if arguments.add_time_instruction:
                question = f"{time_instruction(sampled.duration, sampled.times)}\n{question}"
        text = self._conversation(video, question, None)
        return Prompt(text, self._tokenize(text), images)

    def _conversation(self, video: str | None, question: str, answer: str | None) -> str:
        conversation = conv_templates[self.arguments.conv_template].copy()
        placeholder = "" if video is None else f"{DEFAULT_IMAGE_TOKEN}\n"
        conversation.append_message(conversation.roles[0], placeholder + question)
        conversation.append_message(conversation.roles[1], answer)
        return conversation.get_prompt()

    def _tokenize(self, text: str) -> torch.Tensor:
        ids = tokenizer_image_token(text, self.tokenizer, IMAGE_TOKEN_INDEX, return_tensors="pt")
        return ids.unsqueeze(0).to(self.device)

    def _counts(self, prompt: Prompt, trace: Any, new_tokens: int, started: float) -> dict[str, int | float]:
        visual = trace.last.summary() if trace.videos else {}
        text_tokens = prompt.ids.shape[1] - (prompt.images is not None)
        return {
            "input_tokens": text_tokens + visual.get("visual_tokens", 0),
            "output_tokens": new_tokens,
            **visual,
            "seconds": round(time.perf_counter() - started, 4),
        }


def _load(arguments: LlavaVideoArguments, device: str, dtype: torch.dtype) -> Any:
    try:
        return load_llava_video(
            arguments.pretrained,
            dtype=dtype,
            device_map=device,
            attn_implementation=arguments.attn_implementation,
            overwrite_config=arguments.overwrite_config,
        )
    except torch.cuda.OutOfMemoryError as error:
        free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info(device))
        raise InputError(
            f"{device} has too little free memory for {arguments.pretrained}: {free:.1f} of {total:.1f} GiB are free."
        ) from error


def _generation_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    temperature = settings.get("temperature") or 0
    chosen = {
        "max_new_tokens": settings.get("max_new_tokens", MAX_NEW_TOKENS),
        "num_beams": settings.get("num_beams") or 1,
        "do_sample": temperature > 0,
    }
    if temperature > 0:
        chosen |= {"temperature": temperature, "top_p": settings.get("top_p")}
    return chosen
