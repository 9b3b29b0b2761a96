"""What the folder of an NVILA checkpoint says about the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from transformers import Qwen2Config, SiglipVisionConfig

from st_simdiff.checkpoints.entries import check_entries
from st_simdiff.checkpoints.files import read_json
from st_simdiff.errors import unknown

VideoPath = Literal["tsp", "frames"]
"""tsp: the mean over `pool_frames` frames after the projector. frames: every frame is an image of its own."""

PROJECTOR_TYPE = "mlp_downsample_2x2_fix"
DEFAULT_POOL_FRAMES, MOST_POOLED = 8, 1024
_NEEDED = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_NOT_TAKEN = frozenset({"auto_map", "_attn_implementation", "attn_implementation"})
"""Entries that could bring code of the checkpoint's, or of others."""
PART = "a part of an NVILA checkpoint"
_ENCODERS: dict[str, VideoPath] = {"TSPVideoEncoder": "tsp", "BasicVideoEncoder": "frames"}


_Config = TypeVar("_Config", Qwen2Config, SiglipVisionConfig)


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
    root = _read_entries(folder)
    names = ("llm", "vision_tower", "mm_projector")
    if lacking := [name for name in names if not (folder / name).is_dir()]:
        raise FileNotFoundError(f"{folder} is not an NVILA checkpoint: it has no folder {lacking[0]}.")
    parts = {name: _read_entries(folder / name) for name in names}
    for name, kind in (("llm", "qwen2"), ("vision_tower", "siglip_vision_model")):
        if parts[name].get("model_type") != kind:
            raise ValueError(
                f"{folder / name} holds {parts[name].get('model_type')!r}; this loader knows {kind!r} only."
            )
    projector = parts["mm_projector"].get("mm_projector_type")
    if projector != PROJECTOR_TYPE:
        raise ValueError(f"The projector of {folder} is {projector!r}; this loader knows {PROJECTOR_TYPE!r} only.")
    text = _part_config(Qwen2Config, parts["llm"], folder / "llm" / "config.json")
    vision = _part_config(SiglipVisionConfig, parts["vision_tower"], folder / "vision_tower" / "config.json")
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
    return NvilaConfig(text, vision, select_layer, pool_frames, root.get("num_video_frames", 64))


def _read_entries(folder: Path) -> dict[str, Any]:
    """The entries of the config.json in `folder`, checked."""
    file = folder / "config.json"
    entries = read_json(file, PART)
    check_entries(entries, file)
    if entries.get("quantization_config"):
        raise ValueError(f"{file}: quantization_config describes weights that this loader does not read.")
    return entries


def _part_config(kind: type[_Config], entries: dict[str, Any], file: Path) -> _Config:
    needed = [key for key in _NEEDED if key not in entries]
    if needed:
        raise ValueError(f"{file} lacks {', '.join(needed)}.")
    try:
        return kind(**{key: value for key, value in entries.items() if key not in _NOT_TAKEN})
    except Exception as error:  # transformers checks by what its own code raises
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise ValueError(f"{file} has a wrong value ({reason}).") from error


def _pool_frames(encoder: str | Mapping[str, Any] | None, folder: Path) -> int:
    """Frames that become one, from the entry `video_encoder` of config.json. Every pooled frame must end in "\\n"."""
    if encoder is None:
        return DEFAULT_POOL_FRAMES
    if isinstance(encoder, str):
        try:
            encoder = json.loads(encoder)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"The video encoder of {folder} is not valid JSON ({error}).") from error
    if not isinstance(encoder, Mapping):
        raise ValueError(f"The video encoder of {folder} is an object, got {encoder!r}.")
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
    sizes = encoder.get("pool_sizes", [[DEFAULT_POOL_FRAMES, 1, 1]])
    match sizes:
        case [[int(frames), 1, 1]] if 2 <= frames <= MOST_POOLED:
            return frames
    raise ValueError(f"The video encoder of {folder} pools by {sizes}; this loader pools frames only: [[8, 1, 1]].")
