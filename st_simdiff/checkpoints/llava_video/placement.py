"""On which device each part of a model goes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from st_simdiff.errors import InputError, unknown

if TYPE_CHECKING:
    from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo

DeviceMap = str | torch.device | Mapping[str, str | int | torch.device] | None

UNDIVIDED = ["VideoEmbedder", "Qwen2DecoderLayer"]
"""Modules that stay on one device."""


def place_modules(model: LlavaVideo, device_map: DeviceMap, dtype: torch.dtype) -> dict[str, torch.device]:
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
            model, dtype=dtype, no_split_module_classes=UNDIVIDED, low_zero=strategy == "balanced_low_0"
        )
    devices = infer_auto_device_map(model, memory, no_split_module_classes=UNDIVIDED, dtype=dtype)
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


def device_of(name: str, devices: Mapping[str, torch.device]) -> torch.device:
    """The device of the longest module name that `name` lies in."""
    holders = [module for module in devices if module == "" or name == module or name.startswith(f"{module}.")]
    if not holders:
        raise ValueError(f"The device map names no device for {name}; it names {', '.join(devices)}.")
    return devices[max(holders, key=len)]


def one_device(device_map: DeviceMap) -> DeviceMap:
    """`device_map` for a model that is not divided: where it leaves the choice, the first GPU, else the CPU.

    Raises `InputError` for a dict from modules to devices.
    """
    if isinstance(device_map, Mapping):
        raise InputError("A quantised model goes onto one device: device_map is a device or auto, got several.")
    if device_map in ("auto", "balanced", "balanced_low_0", "sequential"):
        return "cuda:0" if torch.cuda.device_count() else "cpu"
    return device_map
