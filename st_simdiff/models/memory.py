"""Peak memory between two moments: of CUDA devices by torch's allocator, of the host by the kernel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch


class PeakMemory:
    """Starts when made. devices: those that are asked; others than CUDA are left out.

    A device's peak is what torch had allocated there at the worst moment, weights included. The host's is the largest
    resident memory of this process (VmHWM), which Linux can reset; where it cannot be reset, it is not known.
    """

    def __init__(self, devices: Sequence[torch.device] = ()) -> None:
        self.devices = tuple(device for device in devices if device.type == "cuda")
        for device in self.devices:
            torch.cuda.reset_peak_memory_stats(device)
        self.device_start = sum(torch.cuda.memory_allocated(device) for device in self.devices)
        self.host_known = _reset_host_peak()
        self.host_start = resident_bytes("VmRSS") if self.host_known else None

    def device_bytes(self) -> int | None:
        """Peak since the start, added up over the devices; None without a CUDA device."""
        return sum(torch.cuda.max_memory_allocated(device) for device in self.devices) if self.devices else None

    def host_bytes(self) -> int | None:
        """Peak resident memory since the start; None where the system does not tell."""
        return resident_bytes("VmHWM") if self.host_known else None


def cuda_devices(modules: Sequence[torch.nn.Module]) -> tuple[torch.device, ...]:
    """The CUDA devices that hold parameters of `modules`, by number."""
    devices = {parameter.device for module in modules for parameter in module.parameters()}
    return tuple(sorted((device for device in devices if device.type == "cuda"), key=lambda device: device.index or 0))


def resident_bytes(kind: str) -> int:
    """VmRSS (now) or VmHWM (peak) of this process, from Linux. Raises OSError elsewhere."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))


def _reset_host_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
        resident_bytes("VmHWM")
    except (OSError, StopIteration):
        return False
    return True
