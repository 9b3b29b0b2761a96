"""What a LLaVA-Video checkpoint's config.json says, checked: this package computes that model and no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from huggingface_hub.errors import StrictDataclassError
from transformers import Qwen2Config, SiglipVisionConfig
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from st_simdiff.checkpoints.entries import check_entries
from st_simdiff.checkpoints.files import read_json, stays_inside
from st_simdiff.checkpoints.llava_video.layout import POOL_STRIDE, NewlineMode, PoolMode
from st_simdiff.errors import unknown

ARCHITECTURE = "LlavaQwenForCausalLM"
CONFIG_FILE = "config.json"

SIGLIP = "siglip_vision_model"
SO400M = "google/siglip-so400m-patch14-384"
_SO400M_SHAPE = {
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 27,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
}

_Config = TypeVar("_Config", Qwen2Config, SiglipVisionConfig)

_REQUIRED_TEXT = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "vocab_size",
)
_OPTIONAL_TEXT = (
    "hidden_act",
    "max_position_embeddings",
    "initializer_range",
    "rms_norm_eps",
    "use_sliding_window",
    "sliding_window",
    "max_window_layers",
    "attention_dropout",
    "tie_word_embeddings",
    "bos_token_id",
    "eos_token_id",
    "pad_token_id",
)
_ONLY = {
    "mm_projector_type": ("mlp2x_gelu",),
    "mm_patch_merge_type": ("spatial_unpad",),
    "mm_vision_select_feature": ("patch",),
    "mm_spatial_pool_stride": (POOL_STRIDE,),
    "mm_resampler_type": (None,),
    "add_faster_video": (False,),
    "use_pos_skipping": (False,),
}
"""Settings of LLaVA-NeXT that change what is computed, and the values that LLaVA-Video has. Absent means that value."""
_WITHOUT_EFFECT = ("mm_pooling_position", "delay_load", "vision_config", "quantization_config", *_ONLY)
"""Keys that may be overwritten though the checkpoint does not have them."""


@dataclass(frozen=True)
class LlavaVideoConfig:
    """The shape of a LLaVA-Video model.

    text: the language model. vision: the SigLIP tower with all its layers, the last of which is not used.
    mm_use_im_start_end: read by LLaVA wrappers.
    """

    text: Qwen2Config
    vision: SiglipVisionConfig
    pool_mode: PoolMode
    newline: NewlineMode
    mm_use_im_start_end: bool = False

    @property
    def patches_per_side(self) -> int:
        """Patches along one side of a frame, before pooling."""
        return self.vision.image_size // self.vision.patch_size


def config_of(base: Path, adapter: Path | None) -> Path:
    """The folder whose config.json describes the model: the adapter's, if it has one, as LLaVA's training writes it.

    Raises ValueError where the base's says that it is another kind of model.
    """
    if adapter is None or not (adapter / CONFIG_FILE).is_file():
        return base
    if (base / CONFIG_FILE).is_file():
        _check_architecture(read_json(base / CONFIG_FILE, "a checkpoint"), f"model_base: {base}")
    return adapter


def read_config(
    folder: Path,
    *,
    overwrite: Mapping[str, Any] | None = None,
    vision_tower: str | Path | Mapping[str, Any] | SiglipVisionConfig | None = None,
) -> LlavaVideoConfig:
    """The config of the checkpoint in `folder`.

    overwrite: entries of config.json to replace. vision_tower: the tower's shape, a folder with its config.json or the
    config itself; else it is `vision_config` in config.json, else the folder in the checkpoint's that
    `mm_vision_tower` names, else the SigLIP that LLaVA-Video was trained with. What another kind of tower has left
    behind as `vision_config` is passed over where `mm_vision_tower` names one.
    Raises FileNotFoundError without a config.json, ValueError for a model that is not LLaVA-Video.
    """
    raw = read_json(folder / CONFIG_FILE, "a checkpoint")
    for key in overwrite or {}:
        if key not in raw and key not in _WITHOUT_EFFECT and key not in ("mm_newline_position", "mm_spatial_pool_mode"):
            raise unknown("config entry to overwrite:", key, sorted(raw))
    return parse_config(raw | dict(overwrite or {}), folder=folder, vision_tower=vision_tower)


def parse_config(
    raw: Mapping[str, Any],
    *,
    folder: Path | None = None,
    vision_tower: str | Path | Mapping[str, Any] | SiglipVisionConfig | None = None,
) -> LlavaVideoConfig:
    """The config that the entries `raw` of a config.json describe. As `read_config`."""
    file = (folder or Path()) / CONFIG_FILE
    check_entries(raw, file)
    if raw.get("quantization_config"):
        raise ValueError(f"{file}: quantization_config describes weights that this loader does not read.")
    _check_architecture(raw, "This" if folder is None else str(folder))
    for key, allowed in _ONLY.items():
        if raw.get(key, allowed[0]) not in allowed:
            raise unknown(key, raw[key], map(str, allowed))
    pool_mode = raw.get("mm_spatial_pool_mode", "bilinear")
    if pool_mode not in get_args(PoolMode):
        raise unknown("mm_spatial_pool_mode", pool_mode, get_args(PoolMode))
    newline = raw.get("mm_newline_position", "grid")
    if newline not in get_args(NewlineMode):
        raise unknown("mm_newline_position", newline, get_args(NewlineMode))
    text = _text_config(raw)
    vision = _vision_config(raw, folder, vision_tower)
    if raw.get("mm_hidden_size", vision.hidden_size) != vision.hidden_size:
        raise ValueError(
            f"The vision tower has hidden size {vision.hidden_size}, but the checkpoint's mm_hidden_size is "
            f"{raw['mm_hidden_size']}: give the shape of its own tower as vision_tower."
        )
    return LlavaVideoConfig(
        text=text,
        vision=vision,
        pool_mode=pool_mode,
        newline=newline,
        mm_use_im_start_end=bool(raw.get("mm_use_im_start_end", False)),
    )


def _check_architecture(raw: Mapping[str, Any], subject: str) -> None:
    architectures = raw.get("architectures") or []
    if ARCHITECTURE not in architectures:
        named = ", ".join(map(str, architectures)) or "none"
        raise ValueError(f"{subject} is not a LLaVA-Video checkpoint: its architecture is {named}, not {ARCHITECTURE}.")


def _text_config(raw: Mapping[str, Any]) -> Qwen2Config:
    missing = [key for key in _REQUIRED_TEXT if key not in raw]
    if missing:
        raise ValueError(f"The checkpoint's config.json lacks {', '.join(missing)}.")
    given = {key: raw[key] for key in (*_REQUIRED_TEXT, *_OPTIONAL_TEXT) if key in raw}
    if given.get("sliding_window") is None:
        given.pop("sliding_window", None)
    return _checked(Qwen2Config, given | {"rope_parameters": _rope_parameters(raw)})


def _rope_parameters(raw: Mapping[str, Any]) -> dict[str, Any]:
    """The rotary embedding's settings, from the entries of transformers 4 (rope_theta, rope_scaling) or of 5."""
    given = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if not isinstance(given, Mapping):
        raise ValueError(f"The checkpoint's config.json has {given!r} for its rotary embedding, which is an object.")
    rope = dict(given)
    kind = rope.pop("type", "default")
    rope.setdefault("rope_type", kind)
    if rope["rope_type"] not in ("default", *ROPE_INIT_FUNCTIONS):
        raise unknown("rope_type", rope["rope_type"], ("default", *ROPE_INIT_FUNCTIONS))
    if "rope_theta" not in rope:
        if "rope_theta" not in raw:
            raise ValueError("The checkpoint's config.json lacks rope_theta.")
        rope["rope_theta"] = float(raw["rope_theta"])
    return rope


def _vision_config(
    raw: Mapping[str, Any], folder: Path | None, given: str | Path | Mapping[str, Any] | SiglipVisionConfig | None
) -> SiglipVisionConfig:
    if isinstance(given, SiglipVisionConfig):
        return given
    if isinstance(given, Mapping):
        return _siglip(given)
    if given is not None:
        return _siglip(read_json(Path(given) / CONFIG_FILE, "a vision tower"))
    own, name = raw.get("vision_config"), raw.get("mm_vision_tower")
    if own and (name is None or _is_siglip(own)):
        return _siglip(own)
    name = name or SO400M
    if folder is not None and stays_inside(name) and (folder / name / CONFIG_FILE).is_file():
        return _siglip(read_json(folder / name / CONFIG_FILE, "a vision tower"))
    if name != SO400M:
        raise unknown("vision tower", name, [SO400M, "a folder in the checkpoint's, with the tower's config.json"])
    return _siglip(_SO400M_SHAPE)


def _is_siglip(entries: Mapping[str, Any]) -> bool:
    """Whether these are a SigLIP tower's entries, and not those that another tower has left behind in config.json."""
    inner = entries.get("vision_config", entries) if isinstance(entries, Mapping) else None
    return not isinstance(inner, Mapping) or inner.get("model_type", SIGLIP) == SIGLIP  # `_siglip` refuses the others


def _siglip(entries: Mapping[str, Any]) -> SiglipVisionConfig:
    """The tower's config from its own entries or from those of a whole SigLIP model around it."""
    entries = entries.get("vision_config", entries) if isinstance(entries, Mapping) else entries
    if not isinstance(entries, Mapping):
        raise ValueError(f"The vision tower's config is an object, got {entries!r}.")
    check_entries(entries, Path("vision_config"))
    entries = dict(entries)
    kind = entries.pop("model_type", SIGLIP)
    if kind != SIGLIP:
        raise unknown("vision tower model_type", kind, [SIGLIP])
    needed = [key for key in _SO400M_SHAPE if key not in entries]
    if needed:
        raise ValueError(f"The vision tower's config lacks {', '.join(needed)}.")
    known = (*_SO400M_SHAPE, "num_channels", "hidden_act", "layer_norm_eps", "attention_dropout")
    config = _checked(SiglipVisionConfig, {key: entries[key] for key in known if key in entries})
    if config.num_hidden_layers < 2 or config.patch_size > config.image_size:
        raise ValueError(
            "The vision tower has two layers or more, and frames of one patch or more, got num_hidden_layers "
            f"{config.num_hidden_layers}, image_size {config.image_size}, patch_size {config.patch_size}."
        )
    return config


def _checked(kind: type[_Config], entries: Mapping[str, Any]) -> _Config:
    """A transformers config. Raises ValueError for an entry of a wrong type."""
    try:
        return kind(**entries)
    except StrictDataclassError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise ValueError(f"The checkpoint's config has a wrong value ({reason}).") from error
