"""The answers that engines are compared with: transformers with `compress`, in the shape of `run_engine`'s."""

from __future__ import annotations

import contextlib
from dataclasses import fields, make_dataclass
from pathlib import Path
from typing import Any

import torch
from engine_prompts import PROMPTS, draw_picture, draw_video, frame_rate, prompt_text, video_metadata
from transformers import AutoModelForImageTextToText, AutoProcessor

from st_simdiff import Method, compress

TOKENS = 8


def renumbering(method: Method) -> Method:
    """`method` with contiguous positions, as vLLM counts them where they have one dimension."""
    settings = {field.name: getattr(method, field.name) for field in fields(method)}
    namespace = {"renumbers_positions": True}
    return make_dataclass("Renumbering", [], bases=(type(method),), frozen=True, namespace=namespace)(**settings)


def transformers_answers(
    family: str, checkpoint: Path, method: Method | None
) -> tuple[dict[str, Any], list[list[int]]]:
    """Answers by prompt, and the kept offsets of every video in order. method: None compresses nothing."""
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(checkpoint)
    if method is not None and family == "llava_onevision":
        method = renumbering(method)
    answers, kept = {}, []
    for name, (text, videos, images) in PROMPTS.items():
        media: dict[str, Any] = {}
        if videos:
            media["videos"] = [draw_video(family, seed) for seed in videos]
        if videos and family != "llava_onevision":
            rate = frame_rate(family, name)
            media["video_metadata"] = [video_metadata(len(clip), rate) for clip in media["videos"]]
            media["do_sample_frames"] = False
        if images:
            media["images"] = [draw_picture(seed) for seed in images]
        inputs = processor(text=[prompt_text(family, text)], return_tensors="pt", **media)
        compressed = contextlib.nullcontext() if method is None else compress(model, method)
        with torch.inference_mode(), compressed as trace:
            made = model.generate(
                **inputs,
                max_new_tokens=TOKENS,
                min_new_tokens=TOKENS,
                do_sample=False,
                output_logits=True,
                return_dict_in_generate=True,
            )
        if trace is not None and videos:
            kept += [video.offsets.tolist() for video in trace.videos]
        steps = [torch.log_softmax(step[0].float(), -1) for step in made.logits]
        answers[name] = {
            "tokens": made.sequences[0, inputs["input_ids"].shape[1] :].tolist(),
            "logprobs": [{str(token): value for token, value in enumerate(step.tolist())} for step in steps],
        }
    return answers, kept
