"""An NVILA checkpoint -> tokenizer, model, image processor."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import load_file
from transformers import (
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Qwen2Config,
    Qwen2ForCausalLM,
    SiglipImageProcessorPil,
    SiglipVisionModel,
)

from st_simdiff.checkpoints.adapters import (
    Adapter,
    apply_adapter,
    check_base,
    check_whole,
    read_adapter,
    refuse_adapter,
    replace_whole,
)
from st_simdiff.checkpoints.code import report_code
from st_simdiff.checkpoints.finite import check_finite, check_stored_finite, is_known_finite
from st_simdiff.checkpoints.hub import ADAPTER, NVILA, locate
from st_simdiff.checkpoints.llava_video.image_processing import build_image_processor
from st_simdiff.checkpoints.llava_video.loading import load_tokenizer, read_generation_config
from st_simdiff.checkpoints.names import renamed
from st_simdiff.checkpoints.nvila.config import PART, VideoPath, read_config
from st_simdiff.checkpoints.nvila.modeling import Nvila
from st_simdiff.checkpoints.quantisation import QuantizationConfig, check_quantisation
from st_simdiff.checkpoints.quantised import load_quantised
from st_simdiff.checkpoints.tensors import check_dtype, stored_tensors

AttnImplementation = Literal["sdpa", "eager", "flash_attention_2"]
PROJECTOR_FILE = "model.safetensors"


class LoadedNvila(NamedTuple):
    """max_length: tokens of a sequence, as the checkpoint says."""

    tokenizer: PreTrainedTokenizerBase
    model: Nvila
    image_processor: SiglipImageProcessorPil
    max_length: int


def load_nvila(
    path: str | Path,
    *,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    attn_implementation: AttnImplementation = "sdpa",
    video: VideoPath | None = None,
    frames_per_chunk: int = 16,
    model_base: str | Path | None = None,
    quantization_config: QuantizationConfig = None,
) -> LoadedNvila:
    """Load the checkpoint `path`: config.json, llm/, vision_tower/ and mm_projector/.

    path: a folder, or a name on the Hugging Face hub, see `checkpoints.hub`: `Efficient-Large-Model/NVILA-8B-Video` or
    `owner/name@revision`. A folder is loaded without looking for a network.
    video: "tsp" averages every 8 frames after the projector, "frames" makes every frame an image of its own (the newest
    code of the official repository); else as the checkpoint says. frames_per_chunk: frames that go through the tower at
    once. model_base, quantization_config: as in `load_llava_video`.
    Raises FileNotFoundError or ValueError, in one sentence, for a folder that is no such checkpoint, or whose weights
    are not exactly the model's.
    """
    check_quantisation(quantization_config)
    adapter = None
    if model_base is not None:
        adapter = read_adapter(locate(path, ADAPTER).folder)
    folder = locate(path if model_base is None else model_base, NVILA).folder
    (refuse_adapter if model_base is None else check_base)(folder)
    report_code(folder)
    config = read_config(folder, video)
    options = {"dtype": dtype, "attn_implementation": attn_implementation}
    tokenizer = load_tokenizer(folder / "llm")
    language_model = _load_language_model(config.text, folder / "llm", quantization_config, device, options)
    vision_tower = _load_part(SiglipVisionModel, config.vision, folder / "vision_tower", options)
    model = Nvila(config, language_model, vision_tower, _newline_id(tokenizer), frames_per_chunk=frames_per_chunk)
    _load_projector(model, folder / "mm_projector" / PROJECTOR_FILE)
    for part in (model.embedder, *([language_model] if quantization_config is None else [])):
        part.to(device, dtype)
    if adapter is not None:
        _adapt(model, adapter, merge=quantization_config is None)
    model.generation_config = _generation_config(folder, tokenizer)
    max_length = config.text.max_position_embeddings
    return LoadedNvila(tokenizer, model.eval(), build_image_processor(config.vision), max_length)


_TOWER = "embedder.vision_tower."
_OFFICIAL_PREFIXES = (
    ("language_model.", "llm."),
    (_TOWER, "vision_tower.vision_tower.vision_model."),
    (_TOWER, "vision_tower.vision_tower."),
    ("embedder.projector.", "mm_projector.layers."),
)
"""The beginnings of our names of parameters, and of those in the official model."""


def _adapt(model: Nvila, adapter: Adapter, *, merge: bool) -> None:
    own = dict(model.named_parameters())
    # The tower's last layers and its head, which the features do not need, are not there.
    check_whole(adapter, lambda name: own_name(name) in own or (own_name(name) or "").startswith(_TOWER))
    whole = {own_name(name): tensor for name, tensor in adapter.whole.items()}
    replace_whole(replace(adapter, whole=whole), model, str)
    used = {name: part for name, part in adapter.parts.items() if not _is_unused(name, model.config.kept_layers)}
    parts = {"language_model": model.language_model, "embedder": model.embedder}
    apply_adapter(replace(adapter, parts=used), parts, own_name, merge=merge)


def _is_unused(name: str, kept_layers: int) -> bool:
    """Whether the official name is of a module of the tower that the features do not need."""
    layer = re.search(r"\.encoder\.layers\.(\d+)\.", name)
    behind = layer is not None and int(layer[1]) >= kept_layers
    return name.startswith("vision_tower.") and (behind or ".head." in name)


def own_name(name: str) -> str | None:
    """The name in `Nvila` of the official model's parameter `name`; None if it can have none."""
    return renamed(name, ((theirs, ours) for ours, theirs in _OFFICIAL_PREFIXES))


def _load_language_model(
    config: Qwen2Config,
    folder: Path,
    quantization_config: QuantizationConfig,
    device: str | torch.device,
    options: dict[str, Any],
) -> Qwen2ForCausalLM:
    if quantization_config is None:
        return _load_part(Qwen2ForCausalLM, config, folder, options)
    _check_headers(Qwen2ForCausalLM, config, folder)
    if not is_known_finite(folder, options["dtype"]):
        check_stored_finite(folder)
    return load_quantised(folder, copy.deepcopy(config), config.vocab_size, quantization_config, device, **options)


def _load_part(kind: type[PreTrainedModel], config: PreTrainedConfig, folder: Path, options: dict[str, Any]) -> Any:
    _check_headers(kind, config, folder)
    # sizes that differ are for the report, too: transformers' own complaint is a page
    options = options | {"local_files_only": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    try:
        part, report = kind.from_pretrained(folder, config=config, **options)
    except OSError as error:
        raise FileNotFoundError(
            f"{folder} has no weights that can be read ({' '.join(str(error).split())})."
        ) from error
    _check_keys(folder, report["missing_keys"], report["unexpected_keys"], report["mismatched_keys"])
    if not is_known_finite(folder, part.dtype):
        check_finite(folder, part.named_parameters())
    return part


def _check_headers(kind: type[PreTrainedModel], config: PreTrainedConfig, folder: Path) -> None:
    """Raises ValueError unless the files in `folder` hold the parameters that `config` describes; reads none."""
    stored = {name.removeprefix("vision_model."): tensor for name, tensor in stored_tensors(folder).items()}
    for name, tensor in stored.items():
        check_dtype(name, tensor)
    try:
        with torch.device("meta"):
            described = dict(kind(config).named_parameters())
    except Exception as error:  # transformers checks by what its own code raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{folder / 'config.json'} describes no {kind.__name__} ({reason}).") from error
    missing = described.keys() - stored.keys()
    wrong = [name for name in described.keys() & stored.keys() if list(described[name].shape) != stored[name].shape]
    _check_keys(folder, missing, (), wrong)


def _load_projector(model: Nvila, file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"{file.parent} has no {file.name}.")
    for name, stored in stored_tensors(file.parent).items():
        check_dtype(name, stored)
    weights = {name.removeprefix("layers."): tensor for name, tensor in load_file(file).items()}
    own = model.projector.state_dict()
    wrong = {name for name in own.keys() & weights.keys() if own[name].shape != weights[name].shape}
    _check_keys(file.parent, own.keys() - weights.keys(), weights.keys() - own.keys(), wrong)
    check_finite(file.parent, weights.items())
    model.projector.load_state_dict(weights)


def _check_keys(folder: Path, missing: Any, unexpected: Any, mismatched: Any) -> None:
    """Raises ValueError unless the weights of a folder are exactly those of its model."""
    kinds = {"missing": missing, "unexpected": unexpected, "of another shape": mismatched}
    faults = [f"{kind}: {', '.join(sorted(map(str, names))[:3])}" for kind, names in kinds.items() if names]
    if faults:
        raise ValueError(f"The weights in {folder} do not fit the model ({'; '.join(faults)}).")


def _newline_id(tokenizer: PreTrainedTokenizerBase) -> int:
    ids = tokenizer("\n", add_special_tokens=False).input_ids
    if len(ids) != 1:
        raise ValueError(f"A newline, which ends every frame, must be one token; this tokenizer makes it {ids}.")
    return ids[0]


def _generation_config(folder: Path, tokenizer: PreTrainedTokenizerBase) -> GenerationConfig:
    """The root's own settings. Those in llm/ are of the language model before it learned to see, and are not used."""
    path = folder / "generation_config.json"
    config = read_generation_config(path, PART) if path.is_file() else GenerationConfig()
    if config.eos_token_id is None:
        ends = {tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|im_end|>")}
        config.eos_token_id = sorted(end for end in ends if end is not None)
    if config.pad_token_id is None:
        config.pad_token_id = tokenizer.pad_token_id
    return config
