"""Prompts and stopping, against the recorded prompts."""

from __future__ import annotations

import pytest
import torch

from llava.conversation import SeparatorStyle, conv_templates
from llava.mm_utils import KeywordsStoppingCriteria, get_model_name_from_path, tokenizer_image_token
from st_simdiff.checkpoints.llava_video.loading import LoadedLlavaVideo
from st_simdiff.checkpoints.llava_video.prompt import build_prompt
from st_simdiff.videos import time_instruction


def test_prompts_are_the_recorded_ones(recorded: dict) -> None:
    entries = [entry for entry in recorded["cases"] if entry["prompt_style"] == "lmms"]
    assert entries
    for entry in entries:
        told = entry["time_instruction"]
        instruction = time_instruction(told["video_time"], told["frame_times"]) if told else None
        assert build_prompt(entry["question"], instruction) == entry["prompt"]
        lines = ["<image>", instruction, entry["question"]] if told else ["<image>", entry["question"]]
        assert _conversation("\n".join(lines), None) == entry["prompt"]


def test_a_prompt_without_a_video() -> None:
    assert build_prompt("Why?", video=False) == _conversation("Why?", None)


def test_an_answered_conversation_goes_on_where_the_prompt_ends() -> None:
    assert _conversation("Why?", "B") == _conversation("Why?", None) + "B<|im_end|>\n"


def test_templates_stay_as_they_are() -> None:
    conversation = conv_templates["qwen_1_5"].copy()
    conversation.append_message(conversation.roles[0], "Why?")
    assert conv_templates["qwen_1_5"].messages == []
    assert conversation.sep == "<|im_end|>"
    assert conversation.sep_style != SeparatorStyle.TWO


def test_unknown_template() -> None:
    with pytest.raises(KeyError, match="'vicuna_v1'; LLaVA-Video checkpoints use: qwen_1_5"):
        conv_templates["vicuna_v1"]


def test_pieces_around_placeholders(tiny: LoadedLlavaVideo) -> None:
    tokenizer = tiny.tokenizer
    ids = tokenizer_image_token("a<image>b<image>", tokenizer)
    assert ids == [*tokenizer("a").input_ids, -200, *tokenizer("b").input_ids, -200]
    tensor = tokenizer_image_token("a<image>b", tokenizer, -7, return_tensors="pt")
    assert tensor.dtype == torch.int64
    assert tensor.tolist() == [*tokenizer("a").input_ids, -7, *tokenizer("b").input_ids]
    with pytest.raises(ValueError, match="return_tensors is 'pt' or None, got 'np'"):
        tokenizer_image_token("a", tokenizer, return_tensors="np")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/models/LLaVA-Video-7B-Qwen2", "LLaVA-Video-7B-Qwen2"),
        ("lmms-lab/LLaVA-Video-7B-Qwen2/", "LLaVA-Video-7B-Qwen2"),
        ("runs/mine/checkpoint-500", "mine_checkpoint-500"),
    ],
)
def test_model_names(path: str, name: str) -> None:
    assert get_model_name_from_path(path) == name


@pytest.mark.parametrize(
    ("text", "ended"), [("", False), ("so", False), ("so<|im_end|>", True), ("so###", True), ("###so", False)]
)
def test_keywords_end_a_row_when_they_are_complete(tiny: LoadedLlavaVideo, text: str, ended: bool) -> None:
    criteria = KeywordsStoppingCriteria(["<|im_end|>", "###"], tiny.tokenizer)
    rows = [tiny.tokenizer(before).input_ids[-8:] for before in ("abcdefgh", "abcdefgh" + text)]
    assert criteria(torch.tensor(rows), None).tolist() == [False, ended]


def _conversation(question: str, answer: str | None) -> str:
    conversation = conv_templates["qwen_1_5"].copy()
    conversation.append_message(conversation.roles[0], question)
    conversation.append_message(conversation.roles[1], answer)
    return conversation.get_prompt()
