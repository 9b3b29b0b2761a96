"""What determines the features of a video besides the file: model, frames, precision, code."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import PIL
import torch
import transformers

from st_simdiff import checkpoints, methods, models, selection, videos
from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo
from st_simdiff.videos.video_cache import digest_of_tensors

_FORMAT = 1
_SAME_FRAMES = frozenset({"threads", "video_time_limit"})
"""The sampling's settings that change no frame."""


def feature_protocol(model: LlavaVideo, processor: Any, sample: Callable[..., Any], device: str) -> dict[str, Any]:
    """As JSON. Weights count by their values, so that a copy of a checkpoint shares what was computed with the first.

    sample: a partial of a function, with settings that are numbers and text. Takes about a second for the tower of a
    model of 7B.
    """
    embedder = model.embedder
    return {
        "format": _FORMAT,
        "code": code_digest(),
        "libraries": [torch.__version__, transformers.__version__, PIL.__version__, version("av")],
        "weights": digest_of_tensors(embedder.state_dict(), embedder.vision_tower.config.to_json_string()),
        "attention": embedder.vision_tower.config._attn_implementation,
        "pooling": str(getattr(embedder, "pool_mode", getattr(embedder, "pool_size", None))),
        "frames_per_chunk": embedder.frames_per_chunk,
        "device": torch.device(device).type,
        "processor": processor.to_json_string(),
        "sampling": sampling_protocol(sample),
    }


def sampling_protocol(sample: Callable[..., Any]) -> dict[str, Any]:
    if not isinstance(sample, partial):
        raise TypeError(f"The sampling is a partial of a function, got {sample!r}.")
    settings = {key: value for key, value in sample.keywords.items() if key not in _SAME_FRAMES}
    return {"function": f"{sample.func.__module__}.{sample.func.__qualname__}", **settings}


def code_digest() -> str:
    """Of the source of all that turns frames into features, and features into a method's choice."""
    digest = hashlib.sha256()
    for package in (checkpoints, videos, methods, models, selection):
        folder = Path(package.__file__).parent
        for path in sorted(folder.rglob("*.py")):
            digest.update(str(path.relative_to(folder.parent)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
