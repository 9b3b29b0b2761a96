"""The checks of compression on a device, without a test runner; a part of benchmarks/on_gpu.sh.

Every family with random weights in bfloat16, under every attention implementation that is there: a compressed prefill
and its decoding equal masking what was dropped; the device is read as often for a long video as for a short one;
several questions on one cache are answered as alone; the device chooses what the host chooses.
"""

from __future__ import annotations

import importlib.util
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from st_simdiff.selection.grid import TokenGrid
from st_simdiff.selection.select import select
from st_simdiff.selection.select_input import select_input

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "models"))

from device_checks import check_bfloat16, check_reads, placed
from helpers import logits_of
from shared_questions import METHOD, together_and_alone
from zoo import ZOO

TRANSFORMERS_FAMILIES = tuple(name for name in ZOO if name not in ("LLaVA-Video", "NVILA"))


def check_selection(device: torch.device) -> None:
    """The same tokens as on the CPU, in float32 and bfloat16, by the paper's rule and by the rule at the input."""
    grid = TokenGrid(16, 14, 15)
    generator = torch.Generator().manual_seed(0)
    still = torch.randn(grid.height * grid.width, 256, generator=generator)
    features = still + 0.5 * torch.randn(grid.frames, grid.height * grid.width, 256, generator=generator)
    for dtype in (torch.float32, torch.bfloat16):
        here = features.flatten(0, 1).to(dtype)
        there = here.to(device)
        assert torch.equal(select(there, grid, 0.3).candidate.cpu(), select(here, grid, 0.3).candidate), dtype
        count = grid.count // 4
        assert torch.equal(select_input(there, grid, count).kept.cpu(), select_input(here, grid, count).kept), dtype


def check_questions(name: str, device: torch.device) -> None:
    """Three questions on one cache keep the tokens of each alone and agree in their logits, in float32."""
    zoo, _ = placed(name, device)
    zoo.model.float()
    prompt = zoo.prompt

    def on_device(*rows):
        built = prompt(*rows)
        built.inputs = {key: value.to(device) for key, value in built.inputs.items()}
        return built

    zoo.prompt = on_device
    together, alone, kept, _ = together_and_alone(zoo, METHOD)
    assert kept[0] == kept[1]
    for shared, single in zip(together, alone, strict=True):
        expected = logits_of(single)
        assert float((logits_of(shared) - expected).abs().max()) < 1e-3 * float(expected.abs().max())


def checks(device: torch.device) -> Iterator[tuple[str, Callable[[], None]]]:
    """Every check by name."""
    implementations = ["sdpa", "eager"]
    if device.type == "cuda" and importlib.util.find_spec("flash_attn") is not None:
        implementations.append("flash_attention_2")
    yield "selection as on the CPU", lambda: check_selection(device)
    for implementation in implementations:
        for name in ZOO:
            yield f"bfloat16, {implementation}, {name}", lambda n=name, i=implementation: check_bfloat16(n, device, i)
    for name in TRANSFORMERS_FAMILIES:
        yield f"questions, {name}", lambda n=name: check_questions(n, device)
    for name in ZOO:
        yield f"reads of the device, {name}", lambda n=name: check_reads(n)


def run_checks(device: torch.device) -> Iterator[dict[str, object]]:
    """Each check's name, seconds and outcome as it is done: "passed", or the first line of what went wrong."""
    for name, check in checks(device):
        began, outcome = time.perf_counter(), "passed"
        try:
            check()
        except Exception as error:  # one failed check must not hide the others
            traceback.print_exc()
            outcome = f"failed: {type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        seconds = round(time.perf_counter() - began, 2)
        sys.stderr.write(f"{name}: {outcome}, {seconds} s\n")
        yield {"check": name, "outcome": outcome, "seconds": seconds}
