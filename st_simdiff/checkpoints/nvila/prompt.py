"""The prompt of NVILA's Qwen2 models as text, and as ids with a placeholder per video."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedTokenizerBase

from st_simdiff.checkpoints.llava_video.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from st_simdiff.errors import InputError

VIDEO_TOKEN = "<vila/video>"
SYSTEM = "You are a helpful assistant"
"""Without a full stop, as the model was trained."""


def build_prompt(question: str, *, video: bool = True, interleaved: bool = False) -> str:
    """The text that asks `question` about a video and leaves the answer to the assistant.

    interleaved: the question has lines `<image>` where parts of the video go. Raises `InputError` for a question with
    `<vila/video>` in it.
    """
    if VIDEO_TOKEN in question:
        raise InputError(f"{VIDEO_TOKEN} stands for the video in a prompt: a question cannot contain it.")
    asked = question
    if interleaved:
        asked = "\n".join(VIDEO_TOKEN if line == DEFAULT_IMAGE_TOKEN else line for line in question.split("\n"))
    turns = (("system", SYSTEM), ("user", (VIDEO_TOKEN if video and not interleaved else "") + asked))
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + "<|im_start|>assistant\n"


def tokenize_prompt(prompt: str, tokenizer: PreTrainedTokenizerBase, placeholder: int = IMAGE_TOKEN_INDEX) -> list[int]:
    """Ids of `prompt`, every video token replaced by `placeholder`. The pieces between are tokenized one by one."""
    ids: list[int] = []
    for number, piece in enumerate(prompt.split(VIDEO_TOKEN)):
        if number:
            ids.append(placeholder)
        ids += tokenizer(piece, add_special_tokens=False).input_ids
    return ids


def frame_indices(total: int, num_frames: int) -> list[int]:
    """Which of `total` frames to take: `num_frames` spread evenly from the first to the last, rounded; some twice if
    the video is shorter."""
    return np.round(np.linspace(0, total - 1, num_frames)).astype(int).tolist()
