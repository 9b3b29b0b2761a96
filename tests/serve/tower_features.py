"""Videos as embeddings, made by transformers' vision tower, as vLLM's Qwen models take them in place of frames."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor


@lru_cache
def _load(checkpoint: str) -> tuple[Any, Any]:
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32).model.eval()
    return model, AutoProcessor.from_pretrained(checkpoint)


def video_embeddings(
    family: str, checkpoint: str, clips: list[np.ndarray], metadata: list[dict[str, Any]]
) -> dict[str, Any]:
    """`multi_modal_data["video"]` of one prompt. Qwen3-VL's have deepstack features behind them, and need times."""
    model, processor = _load(checkpoint)
    inputs = processor(
        text=["<|video_pad|>" * len(clips)],
        videos=clips,
        video_metadata=metadata,
        do_sample_frames=False,
        return_tensors="pt",
    )
    grids = inputs["video_grid_thw"]
    with torch.inference_mode():
        features = model.get_video_features(inputs["pixel_values_videos"], grids)
    embeddings = torch.cat(list(features.pooler_output))
    data: dict[str, Any] = {"video_grid_thw": grids}
    if family == "qwen3_vl":
        deepstack = [torch.cat(list(layer)) for layer in features.deepstack_features]
        embeddings = torch.cat([embeddings, *deepstack], dim=1)
        seconds = [np.array(own["frames_indices"]) / own["fps"] for own in metadata]
        data["timestamps"] = [own.reshape(-1, 2).mean(1).tolist() for own in seconds]
    else:
        data["second_per_grid_ts"] = inputs["second_per_grid_ts"]
    return data | {"video_embeds": embeddings.clone()}
