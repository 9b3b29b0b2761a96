"""A LLaVA-Video checkpoint -> tokenizer, model, image processor."""

from __future__ import annotations

import copy
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

from st_simdiff.checkpoints.adapters import (
    apply_adapter,
    check_base,
    check_whole,
    read_adapter,
    refuse_adapter,
    replace_whole,
    replaced,
)
from st_simdiff.checkpoints.code import report_code
from st_simdiff.checkpoints.entries import check_entries
from st_simdiff.checkpoints.files import read_json
from st_simdiff.checkpoints.hub import ADAPTER, LLAVA_VIDEO, locate
from st_simdiff.checkpoints.llava_video.config import CONFIG_FILE, LlavaVideoConfig, config_of, read_config
from st_simdiff.checkpoints.llava_video.image_processing import build_image_processor
from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo
from st_simdiff.checkpoints.llava_video.placement import DeviceMap, device_of, one_device, place_modules
from st_simdiff.checkpoints.llava_video.weights import (
    CheckpointFiles,
    find_weights,
    is_unused,
    official_name,
    own_name,
)
from st_simdiff.checkpoints.quantisation import QuantizationConfig, check_quantisation
from st_simdiff.checkpoints.quantised import load_quantised
from st_simdiff.errors import unknown

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
AttnImplementation = Literal["sdpa", "eager", "flash_attention_2"]
_LANGUAGE_MODEL = "language_model."


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
    model_base: str | Path | None = None,
    quantization_config: QuantizationConfig = None,
) -> LoadedLlavaVideo:
    """Load the checkpoint `path`, in the layout that LLaVA-Video was published in.

    path: a folder, or a name on the Hugging Face hub, see `checkpoints.hub`: `lmms-lab/LLaVA-Video-7B-Qwen2` or
    `owner/name@revision`. A folder is loaded without looking for a network.
    dtype: float32, float16 or bfloat16. device_map: a device, "auto" (over all there are, by accelerate) or a dict from
    module names to devices; None is the CPU. vision_tower: the shape of the tower where config.json does not tell, see
    `config.read_config`. overwrite_config: entries of config.json to replace. frames_per_chunk: frames that go through
    the tower at once.
    model_base: the checkpoint that `path`, a LoRA adapter, was trained on: the adapter is added to its weights.
    quantization_config: of transformers, for the language model, see `checkpoints.quantisation`; on one device. An
    adapter is then computed beside the weights.
    The weights go straight to their device and dtype, the vocabulary is cut to the tokenizer's.
    Raises FileNotFoundError or ValueError, in one sentence, for a folder that is no such checkpoint or not a whole one,
    and for a device that is not there.
    """
    check_quantisation(quantization_config)
    if dtype not in DTYPES:
        raise unknown("dtype", str(dtype), map(str, DTYPES))
    if attn_implementation not in get_args(AttnImplementation):
        raise unknown("attn_implementation", attn_implementation, get_args(AttnImplementation))
    adapter, config_folder = None, None
    if model_base is not None:
        config_folder = locate(path, ADAPTER).folder
        report_code(config_folder)
        adapter = read_adapter(config_folder)
    folder = locate(path if model_base is None else model_base, LLAVA_VIDEO).folder
    (refuse_adapter if model_base is None else check_base)(folder)
    report_code(folder)
    if adapter is not None:  # it may have been trained on quantised weights; the base says what its own are
        overwrite_config = {"quantization_config": None, **(overwrite_config or {})}
    config = read_config(config_of(folder, config_folder), overwrite=overwrite_config, vision_tower=vision_tower)
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
    quantised = quantization_config is not None
    devices = place_modules(model, one_device(device_map) if quantised else device_map, dtype)
    shapes = {name: parameter.shape for name, parameter in model.named_parameters()}
    if adapter is not None:
        check_whole(adapter, lambda name: is_unused(name) or own_name(name) in shapes)
    read = weights.read(
        shapes,
        padded_vocabulary,
        placement=lambda name: (device_of(name, devices), dtype),
        is_needed=lambda name: not quantised or not name.startswith(_LANGUAGE_MODEL),
    )
    state = {name: replaced(adapter, official_name(name), tensor) for name, tensor in read}
    # Not strict: `read` has checked every name, and a tied output embedding is no parameter of its own.
    model.load_state_dict(state, strict=False, assign=True)
    del state
    if quantised:
        stored = copy.deepcopy(config.text)
        stored.vocab_size = padded_vocabulary
        options = {"dtype": dtype, "attn_implementation": attn_implementation}
        language_model = load_quantised(folder, stored, len(tokenizer), quantization_config, devices[""], **options)
        replace_whole(adapter, language_model, lambda name: official_name(_LANGUAGE_MODEL + name))
        model.take_language_model(language_model)
    model.tie_weights()
    _rebuild_buffers(model, devices)
    if adapter is not None:
        parts = {"language_model": model.language_model, "embedder": model.embedder}
        apply_adapter(adapter, parts, own_name, merge=not quantised)
    model.generation_config = _generation_config(folder)
    if len(set(devices.values())) > 1:
        from accelerate import dispatch_model

        dispatch_model(
            model, {name: "cpu" if device.type == "cpu" else device.index for name, device in devices.items()}
        )
    max_length = config.text.max_position_embeddings
    return LoadedLlavaVideo(tokenizer, model.eval(), build_image_processor(config.vision), max_length)


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


def _rebuild_buffers(model: LlavaVideo, devices: Mapping[str, torch.device]) -> None:
    """Give the buffers that no checkpoint holds their values: a model made on the meta device has none."""
    text = model.language_model.model
    rotary = type(text.rotary_emb)(text.config)
    text.rotary_emb = rotary.to(device_of("language_model.model.rotary_emb.inv_freq", devices))
    patches = model.vision_tower.embeddings
    device = device_of("embedder.vision_tower.embeddings.position_ids", devices)
    patches.position_ids = torch.arange(patches.num_positions, device=device).expand(1, -1)
    tensors = [*model.named_parameters(), *model.named_buffers()]
    empty = [name for name, tensor in tensors if tensor.is_meta]
    if empty:
        raise RuntimeError(f"This version of transformers has tensors that the loader does not know: {empty}.")
