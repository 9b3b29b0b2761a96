"""What the folder of an NVILA checkpoint says about the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from transformers import Qwen2Config, SiglipVisionConfig

from st_simdiff.checkpoints.files import read_json
from st_simdiff.errors import unknown

VideoPath = Literal["tsp", "frames"]
"""tsp: the mean over `pool_frames` frames after the projector. frames: every frame is an image of its own."""

PROJECTOR_TYPE = "mlp_downsample_2x2_fix"
DEFAULT_POOL_FRAMES = 8
PART = "a part of an NVILA checkpoint"
_ENCODERS: dict[str, VideoPath] = {"TSPVideoEncoder": "tsp", "BasicVideoEncoder": "frames"}


@dataclass(frozen=True)
class NvilaConfig:
    """text, vision: the parts' own configs, the tower with all its layers. select_layer: which of the tower's hidden
    states are the features, as a negative index (-1 is the last layer's output). pool_frames: frames that become one.
    num_video_frames: frames that the checkpoint was made for.
    """

    text: Qwen2Config
    vision: SiglipVisionConfig
    select_layer: int = -2
    pool_frames: int = DEFAULT_POOL_FRAMES
    num_video_frames: int = 64

    @property
    def video(self) -> VideoPath:
        return "frames" if self.pool_frames == 1 else "tsp"

    @property
    def patches_per_side(self) -> int:
        return self.vision.image_size // self.vision.patch_size

    @property
    def kept_layers(self) -> int:
        """Layers of the tower that the features need."""
        return self.vision.num_hidden_layers + 1 + self.select_layer


def read_config(folder: Path, video: VideoPath | None = None) -> NvilaConfig:
    """The config of the checkpoint in `folder`.

    video: which way videos go, else as the checkpoint says. Raises FileNotFoundError or ValueError, in one sentence,
    where the folder is no NVILA checkpoint, or one of a kind that this package does not know.
    """
    root = read_json(folder / "config.json", PART)
    parts = {}
    for name in ("llm", "vision_tower", "mm_projector"):
        parts[name] = read_json(folder / name / "config.json", PART)
    for name, kind in (("llm", "qwen2"), ("vision_tower", "siglip_vision_model")):
        if parts[name].get("model_type") != kind:
            raise ValueError(
                f"{folder / name} holds {parts[name].get('model_type')!r}; this loader knows {kind!r} only."
            )
    projector = parts["mm_projector"].get("mm_projector_type")
    if projector != PROJECTOR_TYPE:
        raise ValueError(f"The projector of {folder} is {projector!r}; this loader knows {PROJECTOR_TYPE!r} only.")
    text, vision = Qwen2Config(**parts["llm"]), SiglipVisionConfig(**parts["vision_tower"])
    select_layer = root.get("mm_vision_select_layer", -2)
    if not isinstance(select_layer, int) or not -vision.num_hidden_layers <= select_layer < 0:
        raise ValueError(f"mm_vision_select_layer counts the tower's layers from the end, got {select_layer!r}.")
    if root.get("mm_vision_select_feature", "cls_patch") != "cls_patch":
        raise ValueError(f"The features are all patches, got {root['mm_vision_select_feature']!r}.")
    pool_frames = _pool_frames(root.get("video_encoder"), folder)
    if video is not None and video not in get_args(VideoPath):
        raise unknown("video path", video, get_args(VideoPath))
    if video == "frames":
        pool_frames = 1
    elif video == "tsp" and pool_frames == 1:
        pool_frames = DEFAULT_POOL_FRAMES
    return NvilaConfig(text, vision, select_layer, pool_frames, int(root.get("num_video_frames", 64)))


def _pool_frames(encoder: str | Mapping[str, Any] | None, folder: Path) -> int:
    """Frames that become one, from the entry `video_encoder` of config.json. Every pooled frame must end in "\\n"."""
    if encoder is None:
        return DEFAULT_POOL_FRAMES
    if isinstance(encoder, str):
        encoder = json.loads(encoder)
    name = str(encoder.get("_target_", "")).rpartition(".")[2]
    if name not in _ENCODERS:
        raise unknown("video encoder", name, _ENCODERS)
    marks = (encoder.get("start_tokens"), encoder.get("end_tokens", "\n"), encoder.get("sep_tokens"))
    if marks != (None, "\n", None):
        raise ValueError(
            f"The video encoder of {folder} puts {marks} around frames; this loader knows a newline after."
        )
    if _ENCODERS[name] == "frames":
        return 1
    sizes = [list(size) for size in encoder.get("pool_sizes", [[DEFAULT_POOL_FRAMES, 1, 1]])]
    if len(sizes) != 1 or len(sizes[0]) != 3 or sizes[0][1:] != [1, 1] or sizes[0][0] < 2:
        raise ValueError(f"The video encoder of {folder} pools by {sizes}; this loader pools frames only: [[8, 1, 1]].")
    return int(sizes[0][0])
