"""Which device and dtype one process of a run computes on."""

from __future__ import annotations

import torch

from st_simdiff.errors import InputError


def choose_device(asked: str, *, default: str, local_rank: int, processes: int, gpus: int) -> str:
    """The torch device of this process.

    asked: auto, cpu, cuda or cuda:<index>. default: what auto means here. local_rank, processes: of this machine.
    gpus: how many CUDA devices torch sees. Raises `InputError` when CUDA is asked for and this process can have no GPU.
    """
    if asked == "auto":
        return default if default.startswith("cuda") else "cpu"
    if asked == "cpu":
        return asked
    if gpus == 0:
        raise InputError(f"device={asked} was asked for, but torch sees no CUDA GPU; use device=cpu or device=auto.")
    _, _, index = asked.partition(":")
    if index and processes > 1:
        raise InputError(f"device={asked} is one GPU for {processes} processes; device=cuda gives each its own.")
    number = int(index) if index else local_rank
    if number >= gpus:
        raise InputError(f"device={asked} needs GPU {number}, but torch sees {gpus} (numbered from 0).")
    return f"cuda:{number}"


def choose_dtype(asked: str, device: str) -> torch.dtype:
    """The dtype called `asked`; auto is bfloat16 on CUDA and float32 on a CPU."""
    if asked == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    return {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}[asked]
