"""The prompt of the Qwen-based LLaVA-Video models (`qwen_1_5`) as text, and as ids with a placeholder per video."""

from __future__ import annotations

from typing import TYPE_CHECKING

from st_simdiff.checkpoints.llava_video.constants import DEFAULT_IMAGE_TOKEN, IMAGE_TOKEN_INDEX
from st_simdiff.errors import InputError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SYSTEM = "<|im_start|>system\nYou are a helpful assistant."
USER = "<|im_start|>user"
ASSISTANT = "<|im_start|>assistant"
END_OF_TURN = "<|im_end|>"


def build_prompt(
    question: str,
    instruction: str | None = None,
    *,
    video: bool = True,
    answer: str | None = None,
    interleaved: bool = False,
) -> str:
    """The text that asks `question` about a video and leaves the answer to the assistant.

    instruction: a line before the question, such as `st_simdiff.videos.time_instruction`. video: False for a
    plain question. answer: the assistant's turn, closed; None leaves it open. interleaved: the question has lines
    `<image>` where parts of the video go. Raises `InputError` for any other text with `<image>` in it.
    """
    texts = [line for line in question.split("\n") if not (interleaved and line == DEFAULT_IMAGE_TOKEN)]
    if any(DEFAULT_IMAGE_TOKEN in text for text in (*texts, answer or "")):
        raise InputError(f"{DEFAULT_IMAGE_TOKEN} stands for the video in a prompt: a question cannot contain it.")
    lines = [DEFAULT_IMAGE_TOKEN] if video and not interleaved else []
    lines += [line for line in (instruction, question) if line is not None]
    turns = (SYSTEM, f"{USER}\n" + "\n".join(lines))
    closed = "" if answer is None else f"{answer}{END_OF_TURN}\n"
    return "".join(f"{turn}{END_OF_TURN}\n" for turn in turns) + f"{ASSISTANT}\n{closed}"


def tokenize_prompt(prompt: str, tokenizer: PreTrainedTokenizerBase, placeholder: int = IMAGE_TOKEN_INDEX) -> list[int]:
    """Ids of `prompt`, every `<image>` in it replaced by `placeholder`. The pieces between are tokenized one by one."""
    ids: list[int] = []
    for number, piece in enumerate(prompt.split(DEFAULT_IMAGE_TOKEN)):
        if number:
            ids.append(placeholder)
        ids += tokenizer(piece, add_special_tokens=False).input_ids
    return ids
