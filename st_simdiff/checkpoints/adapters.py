"""LoRA adapters as LLaVA's training writes them: a folder beside that of the base model.

adapter_config.json and adapter_model.safetensors (or .bin) are PEFT's; non_lora_trainables.bin, if there is one, has
the tensors that were trained as a whole, such as the projector's. The names are those of the official model. LoRA:
Hu et al., 2021, https://arxiv.org/abs/2106.09685.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import nn

from st_simdiff.checkpoints.entries import check_entries
from st_simdiff.checkpoints.files import ADAPTER_CONFIG, ADAPTER_WEIGHTS, WHOLE_WEIGHTS, read_json
from st_simdiff.checkpoints.finite import check_finite
from st_simdiff.checkpoints.tensors import check_dtype, stored_tensors_of_file
from st_simdiff.checks import is_number
from st_simdiff.errors import InputError
from st_simdiff.extras import missing_package

EXTRA = "adapters"

_WRAPPED = "base_model.model."
"""What PEFT puts before the name of every module of the model that it adapts."""
_VOCABULARY = ("embed_tokens.weight", "lm_head.weight")
_PART = re.compile(r"(.+)\.(lora_[A-Za-z_]+(?:\.weight|\.bias)?)")
_SETTINGS = ("r", "lora_alpha", "use_rslora", "use_dora", "fan_in_fan_out", "rank_pattern", "alpha_pattern")
_ONLY: dict[str, tuple[Any, ...]] = {
    "peft_type": ("LORA",),
    "bias": ("none",),
    "modules_to_save": (None, []),
    "layer_replication": (None, []),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "lora_bias": (False,),
}
"""Entries of adapter_config.json that change what is computed, and the values that are understood."""

OwnName = Callable[[str], str | None]
"""From the name that a parameter has in the official model to that in the model here; None for one that it lacks."""


@dataclass(frozen=True)
class Adapter:
    """settings: of PEFT's LoraConfig. parts: the low-rank tensors, whole: those that replace the base's; both by the
    official model's names."""

    folder: Path
    settings: Mapping[str, Any]
    parts: Mapping[str, torch.Tensor]
    whole: Mapping[str, torch.Tensor]


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()


def refuse_adapter(folder: Path) -> None:
    """Raises ValueError for the folder of an adapter, where that of a whole model is needed."""
    if is_adapter(folder):
        entries = read_json(folder / ADAPTER_CONFIG, "an adapter")
        _check_kind(entries, folder / ADAPTER_CONFIG)
        named = entries.get("base_model_name_or_path")
        raise ValueError(
            f"{folder} holds a LoRA adapter: give its base model as model_base (it was trained on {named!r})."
        )


def check_base(folder: Path) -> None:
    """Raises FileNotFoundError or ValueError for what cannot be the checkpoint that an adapter was trained on."""
    if not folder.is_dir():
        raise FileNotFoundError(
            f"model_base: there is no folder {folder}, where the checkpoint that the adapter was trained on should be."
        )
    if is_adapter(folder):
        raise ValueError(f"model_base: {folder} holds an adapter itself; give the checkpoint that it was trained on.")


def read_adapter(folder: Path) -> Adapter:
    """The adapter in `folder`, on the CPU.

    Raises FileNotFoundError or ValueError, in one sentence, for a folder that is none, for one of another kind than
    LoRA, and for tensors that are no finite floating-point numbers. Files that end in .bin are read as tensors alone.
    """
    settings, weights = read_settings(folder)
    whole = folder / WHOLE_WEIGHTS
    return Adapter(folder, settings, _read(weights), _read(whole) if whole.is_file() else {})


def read_settings(folder: Path) -> tuple[dict[str, Any], Path]:
    """The settings of the adapter in `folder`, and the file of its tensors, which is not read.

    Raises as `read_adapter`, and `InputError` where PEFT is not installed.
    """
    file = folder / ADAPTER_CONFIG
    entries = read_json(file, "a LoRA adapter")
    check_entries(entries, file)
    _check_kind(entries, file)
    settings = {key: entries[key] for key in _SETTINGS if entries.get(key) is not None}
    _check_settings(settings, file)
    weights = next((folder / name for name in ADAPTER_WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise FileNotFoundError(f"{folder} is not a LoRA adapter: it has neither {' nor '.join(ADAPTER_WEIGHTS)}.")
    if find_spec("peft") is None:
        raise missing_package("A LoRA adapter", ModuleNotFoundError(name="peft"), EXTRA)
    return settings, weights


def apply_adapter(adapter: Adapter, modules: Mapping[str, nn.Module], own_name: OwnName, *, merge: bool) -> None:
    """Adds the low-rank tensors to the modules that they are for.

    modules: by the prefix of their names in the model. merge: adds the product to the weights, which are left without
    an adapter; else it is computed beside them, as for quantised weights. Raises ValueError for tensors that do not
    fit.
    """
    by_module: dict[str, dict[str, torch.Tensor]] = {prefix: {} for prefix in modules}
    for name, tensor in adapter.parts.items():
        match = _PART.fullmatch(name)
        own = own_name(f"{match[1]}.weight") if match else None
        prefix = next((one for one in modules if own is not None and own.startswith(f"{one}.")), None)
        if prefix is None:
            raise ValueError(f"{adapter.folder}: the adapter has the tensor {name}, and the model no place for it.")
        by_module[prefix][f"{own[len(prefix) + 1 : -len('.weight')]}.{match[2]}"] = tensor
    for prefix, tensors in by_module.items():
        if tensors:
            _inject(adapter, modules[prefix], tensors, merge)


def _inject(adapter: Adapter, module: nn.Module, tensors: Mapping[str, torch.Tensor], merge: bool) -> None:
    from peft import LoraConfig, set_peft_model_state_dict
    from peft.tuners.lora import LoraModel

    targets = sorted({_PART.fullmatch(name)[1] for name in tensors})
    known = dict(module.named_modules())
    lacking = [name for name in targets if not isinstance(known.get(name), nn.Linear)]
    if lacking:
        raise ValueError(f"{adapter.folder}: the adapter is for {lacking[0]}, which is no linear layer of the model.")
    for name, tensor in tensors.items():
        _check_sides(adapter, name, tensor, known)
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    try:
        adapted = LoraModel(module, LoraConfig(**adapter.settings, target_modules=targets), "default")
        report = set_peft_model_state_dict(module, dict(tensors), adapter_name="default")
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        reason = textwrap.shorten(str(error), 300, placeholder=" ...")
        raise ValueError(f"{adapter.folder}: the adapter does not fit the model ({reason}).") from error
    lacking = [name for name in report.missing_keys if ".lora_" in name]
    for fault, names in (("its files lack", lacking), ("its settings have no place for", report.unexpected_keys)):
        if names:
            dora = ", which use_dora needs" if fault == "its files lack" and "magnitude" in names[0] else ""
            raise ValueError(
                f"{adapter.folder}: the adapter is incomplete or of another kind: {fault} {names[0]}{dora}."
            )
    if merge:
        adapted.merge_and_unload(safe_merge=True)
    for parameter in trained:
        parameter.requires_grad_(True)


def _check_sides(adapter: Adapter, name: str, tensor: torch.Tensor, layers: Mapping[str, nn.Module]) -> None:
    """Raises ValueError for a low-rank tensor that is no matrix for its layer: (r, in) or (out, r)."""
    place, part = _PART.fullmatch(name).groups()
    layer, rank = layers[place], adapter.settings.get("r", 8)
    if adapter.settings.get("rank_pattern") and tensor.dim() == 2:  # which PEFT looks at
        rank = min(tensor.shape)
    valid = {"lora_A.weight": (rank, layer.in_features), "lora_B.weight": (layer.out_features, rank)}
    if part in valid and tuple(tensor.shape) != valid[part]:
        raise ValueError(
            f"{adapter.folder}: the tensor {name} has shape {list(tensor.shape)}; the layer and the settings need "
            f"{list(valid[part])}."
        )


def replaced(adapter: Adapter | None, name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The base's `tensor`, or what was trained as a whole under the official `name`, on its device and in its type."""
    if adapter is None or name not in adapter.whole:
        return tensor
    new = adapter.whole[name]
    if name.endswith(_VOCABULARY):  # its rows may be padded
        new = new[: len(tensor)]
    if new.shape != tensor.shape:
        raise ValueError(
            f"{adapter.folder / WHOLE_WEIGHTS}: the tensor {name} has shape {list(new.shape)}, the base's has "
            f"{list(tensor.shape)}."
        )
    return new.to(tensor)


def replace_whole(adapter: Adapter | None, module: nn.Module, official_name: Callable[[str], str]) -> None:
    """Puts the tensors that were trained as a whole into `module`, whose parameters have their values already.

    official_name: of the module's parameters. Raises ValueError for one that is quantised.
    """
    if adapter is None:
        return
    for name, parameter in module.named_parameters():
        official = official_name(name)
        if official in adapter.whole and not parameter.is_floating_point():
            raise ValueError(f"{adapter.folder / WHOLE_WEIGHTS} replaces {official}, which is quantised here.")
        parameter.data = replaced(adapter, official, parameter.data)


def check_whole(adapter: Adapter, is_known: Callable[[str], bool]) -> None:
    """Raises ValueError for a tensor, trained as a whole, that the model does not have. is_known: by official names."""
    for name in adapter.whole:
        if not is_known(name):
            raise ValueError(f"{adapter.folder / WHOLE_WEIGHTS}: the model has no tensor {name}.")


def _check_kind(entries: Mapping[str, Any], file: Path) -> None:
    for key, allowed in _ONLY.items():
        if entries.get(key, allowed[0]) not in allowed:
            given, valid = json.dumps(entries[key]), " or ".join(map(json.dumps, allowed))
            raise ValueError(f"{file}: {key} is {given}; only adapters with {valid} there can be used.")


def _check_settings(settings: Mapping[str, Any], file: Path) -> None:
    for key in ("r", "lora_alpha"):
        value = settings.get(key, 8)
        if not is_number(value) or not 0 < value < 2**20:
            raise ValueError(f"{file}: {key} must be a number above 0, got {value!r}.")
    for key in ("use_rslora", "use_dora", "fan_in_fan_out"):
        if not isinstance(settings.get(key, False), bool):
            raise ValueError(f"{file}: {key} must be true or false, got {settings[key]!r}.")
    for key in ("rank_pattern", "alpha_pattern"):
        names = settings.get(key, {})
        plain = isinstance(names, Mapping) and all(re.fullmatch(r"[\w.]+", name) for name in names)
        if not plain or any("vision_tower" in name for name in names):
            raise ValueError(f"{file}: {key} must name modules of the language model, got {names!r}.")


def _read(path: Path) -> dict[str, torch.Tensor]:
    """The tensors in `path` by the official names of the modules."""
    tensors = _safetensors(path) if path.suffix == ".safetensors" else _tensors_alone(path)
    check_finite(path, tensors.items())
    return {name.removeprefix(_WRAPPED): tensor for name, tensor in tensors.items()}


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    for name, stored in stored_tensors_of_file(path).items():
        check_dtype(name, stored)
    return load_file(path)


def _tensors_alone(path: Path) -> dict[str, torch.Tensor]:
    """What `torch.save` wrote, if it is a dictionary of tensors: nothing that is in the file runs."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler raises whatever a wrong file leads it to
        raise InputError(f"{path} is damaged, or holds more than tensors, which is not read.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a dictionary of tensors, it holds a {type(content).__name__}.")
    for name, tensor in content.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError(
                f"{path} must hold a dictionary of tensors, it has a {type(tensor).__name__} for {name!r}."
            )
        if not tensor.is_floating_point() or tensor.layout != torch.strided or tensor.is_meta:
            raise ValueError(f"{path}: the tensor {name} is no dense tensor of floating-point numbers.")
    return content
