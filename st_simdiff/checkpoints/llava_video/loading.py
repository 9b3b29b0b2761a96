"""A LLaVA-Video checkpoint -> tokenizer, model, image processor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import torch
from transformers import (
    GenerationConfig,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    SiglipImageProcessorPil,
    SiglipVisionConfig,
)
from transformers.initialization import no_init_weights

from st_simdiff.checkpoints.code import report_code
from st_simdiff.checkpoints.entries import check_entries
from st_simdiff.checkpoints.files import read_json
from st_simdiff.checkpoints.hub import LLAVA_VIDEO, locate
from st_simdiff.checkpoints.llava_video.config import CONFIG_FILE, LlavaVideoConfig, read_config
from st_simdiff.checkpoints.llava_video.image_processing import build_image_processor
from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo
from st_simdiff.checkpoints.llava_video.weights import CheckpointFiles, find_weights
from st_simdiff.errors import unknown

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
AttnImplementation = Literal["sdpa", "eager", "flash_attention_2"]
DeviceMap = str | torch.device | Mapping[str, str | int | torch.device] | None

_UNDIVIDED = ["VideoEmbedder", "Qwen2DecoderLayer"]
"""Modules that stay on one device."""


class LoadedLlavaVideo(NamedTuple):
    """max_length: tokens of a sequence, as the checkpoint says."""

    tokenizer: PreTrainedTokenizerBase
    model: LlavaVideo
    image_processor: SiglipImageProcessorPil
    max_length: int


def load_llava_video(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    device_map: DeviceMap = None,
    attn_implementation: AttnImplementation = "sdpa",
    vision_tower: str | Path | Mapping[str, Any] | SiglipVisionConfig | None = None,
    overwrite_config: Mapping[str, Any] | None = None,
    frames_per_chunk: int = 16,
    quantization_config: Any = None,
) -> LoadedLlavaVideo:
    """Load the checkpoint `path`, in the layout that LLaVA-Video was published in.

    path: a folder, or a name on the Hugging Face hub, see `checkpoints.hub`: `lmms-lab/LLaVA-Video-7B-Qwen2` or
    `owner/name@revision`. A folder is loaded without looking for a network.
    dtype: float32, float16 or bfloat16. device_map: a device, "auto" (over all there are, by accelerate) or a dict from
    module names to devices; None is the CPU. vision_tower: the shape of the tower where config.json does not tell, see
    `config.read_config`. overwrite_config: entries of config.json to replace. frames_per_chunk: frames that go through
    the tower at once.
    quantization_config: None, there is no 4- or 8-bit loading.
    The weights go straight to their device and dtype, the vocabulary is cut to the tokenizer's.
    Raises FileNotFoundError or ValueError, in one sentence, for a folder that is no such checkpoint or not a whole one,
    and for a device that is not there.
    """
    check_not_quantised(quantization_config)
    if dtype not in DTYPES:
        raise unknown("dtype", str(dtype), map(str, DTYPES))
    if attn_implementation not in get_args(AttnImplementation):
        raise unknown("attn_implementation", attn_implementation, get_args(AttnImplementation))
    folder = locate(path, LLAVA_VIDEO).folder
    report_code(folder)
    config = read_config(folder, overwrite=overwrite_config, vision_tower=vision_tower)
    weights = find_weights(folder)
    tokenizer = load_tokenizer(folder)
    if len(tokenizer) > config.text.vocab_size:
        raise ValueError(
            f"The tokenizer in {folder} has {len(tokenizer)} tokens, but the model has embeddings for "
            f"{config.text.vocab_size}."
        )
    check_layers(config, weights)
    padded_vocabulary, config.text.vocab_size = config.text.vocab_size, len(tokenizer)
    try:
        with torch.device("meta"), no_init_weights():
            model = LlavaVideo(config, attn_implementation=attn_implementation, frames_per_chunk=frames_per_chunk)
            model.tie_weights()
    except ImportError as error:
        raise ValueError(f"attn_implementation {attn_implementation!r} cannot be used here ({error}).") from error
    devices = _devices(model, device_map, dtype)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    state = dict(weights.read(shapes, padded_vocabulary, lambda name: (_device_of(name, devices), dtype)))
    # Not strict: `read` has checked every name, and a tied output embedding is no parameter of its own.
    model.load_state_dict(state, strict=False, assign=True)
    del state
    model.tie_weights()
    _rebuild_buffers(model, devices)
    model.generation_config = _generation_config(folder)
    if len(set(devices.values())) > 1:
        from accelerate import dispatch_model

        dispatch_model(
            model, {name: "cpu" if device.type == "cpu" else device.index for name, device in devices.items()}
        )
    max_length = config.text.max_position_embeddings
    return LoadedLlavaVideo(tokenizer, model.eval(), build_image_processor(config.vision), max_length)


def check_not_quantised(quantization_config: Any) -> None:
    """Raises ValueError for any quantization_config but None."""
    if quantization_config is not None:
        raise ValueError(
            f"This loader reads weights in float32, float16 or bfloat16 and does not quantise them: leave out "
            f"quantization_config, got {type(quantization_config).__name__}."
        )


def check_layers(config: LlavaVideoConfig, weights: CheckpointFiles) -> None:
    """Raises ValueError where config.json describes layers that the weights lack: building them takes long."""
    text, vision = config.text.num_hidden_layers, config.vision.num_hidden_layers
    for key, there, described in (
        ("num_hidden_layers", weights.text_layers, text),
        ("the vision tower's num_hidden_layers", weights.tower_layers, vision - 1),  # the last one is not used
    ):
        if described > there:
            raise ValueError(
                f"{weights.folder / CONFIG_FILE}: {key} is {described}, but the weights have {there} layers."
            )


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of the checkpoint in `folder`."""
    path = folder / "tokenizer_config.json"
    entries = read_json(path, "a checkpoint")
    check_entries(entries, path)
    kind = entries.get("tokenizer_class", "")
    # Not AutoTokenizer: it asks config.json for a model type, and LLaVA's is not transformers' LLaVA.
    tokenizer = Qwen2Tokenizer if kind.startswith("Qwen2") else PreTrainedTokenizerFast
    try:
        return tokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # tokenizers raises the base class
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"The tokenizer in {folder} cannot be loaded ({reason}).") from error


def _generation_config(folder: Path) -> GenerationConfig:
    path = folder / "generation_config.json"
    return read_generation_config(path, "a checkpoint") if path.is_file() else GenerationConfig()


def read_generation_config(path: Path, meaning: str) -> GenerationConfig:
    """The generation settings in a JSON file of `meaning`. Raises ValueError for settings that cannot be used."""
    entries = read_json(path, meaning)
    check_entries(entries, path)
    try:
        return GenerationConfig.from_dict(entries)
    except Exception as error:  # transformers checks by what its own code raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path} has settings that cannot be used ({reason}).") from error


def _devices(model: LlavaVideo, device_map: DeviceMap, dtype: torch.dtype) -> dict[str, torch.device]:
    """From the names of modules ("" is the model) to their device."""
    if device_map is None:
        return {"": torch.device("cpu")}
    if isinstance(device_map, str) and device_map in ("auto", "balanced", "balanced_low_0", "sequential"):
        device_map = _automatic(model, device_map, dtype)
    if not isinstance(device_map, Mapping):
        device_map = {"": device_map}
    return {name: _device(device) for name, device in device_map.items()}


def _automatic(model: LlavaVideo, strategy: str, dtype: torch.dtype) -> Mapping[str, Any]:
    if torch.cuda.device_count() == 0:
        return {"": "cpu"}
    if torch.cuda.device_count() == 1:
        return {"": 0}
    from accelerate import infer_auto_device_map
    from accelerate.utils import get_balanced_memory

    memory = None
    if strategy != "sequential":
        memory = get_balanced_memory(
            model, dtype=dtype, no_split_module_classes=_UNDIVIDED, low_zero=strategy == "balanced_low_0"
        )
    devices = infer_auto_device_map(model, memory, no_split_module_classes=_UNDIVIDED, dtype=dtype)
    if "disk" in devices.values():
        raise ValueError("The model does not fit into the free memory of this machine's devices.")
    return devices


def _device(given: str | int | torch.device) -> torch.device:
    if isinstance(given, str) and not re.fullmatch(r"cpu|cuda(:\d+)?", given):
        raise unknown("device", given, ["auto", "cpu", "cuda", "cuda:<index>"])
    device = torch.device(given)
    if device.type == "cuda":
        count = torch.cuda.device_count()
        if count == 0:
            raise ValueError(f"The device {given} was asked for, but this machine has no usable CUDA device.")
        device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
        if device.index >= count:
            raise ValueError(f"The device {given} was asked for, but this machine has {count} CUDA devices only.")
    return device


def _device_of(name: str, devices: Mapping[str, torch.device]) -> torch.device:
    """The device of the longest module name that `name` lies in."""
    holders = [module for module in devices if module == "" or name == module or name.startswith(f"{module}.")]
    if not holders:
        raise ValueError(f"The device map names no device for {name}; it names {', '.join(devices)}.")
    return devices[max(holders, key=len)]


def _rebuild_buffers(model: LlavaVideo, devices: Mapping[str, torch.device]) -> None:
    """Give the buffers that no checkpoint holds their values: a model made on the meta device has none."""
    text = model.language_model.model
    rotary = type(text.rotary_emb)(text.config)
    text.rotary_emb = rotary.to(_device_of("language_model.model.rotary_emb.inv_freq", devices))
    patches = model.vision_tower.embeddings
    device = _device_of("embedder.vision_tower.embeddings.position_ids", devices)
    patches.position_ids = torch.arange(patches.num_positions, device=device).expand(1, -1)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    empty = [name for name, tensor in tensors if tensor.is_meta]
    if empty:
        raise RuntimeError(f"This version of transformers has tensors that the loader does not know: {empty}.")
