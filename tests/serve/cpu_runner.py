"""A plugin for vLLM on a CPU, for tests and benchmarks: its CPU runner forgets the flag of pruning that the others set.

Without it even vLLM's own pruning fails in the first request. Takes effect in every process of an engine whose
PYTHONPATH has the folder that `write_cpu_plugin` made.
"""

from __future__ import annotations

import shutil
from pathlib import Path


def write_cpu_plugin(folder: Path) -> Path:
    """Makes `folder` one from which vLLM loads this plugin. Returns it."""
    information = folder / "st_simdiff_cpu_runner-0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: st-simdiff-cpu-runner\nVersion: 0\n")
    (information / "entry_points.txt").write_text("[vllm.general_plugins]\nst_simdiff_cpu = cpu_runner:set_flag\n")
    shutil.copy(__file__, folder / "cpu_runner.py")
    return folder


def set_flag() -> None:
    from vllm.model_executor.models.interfaces import supports_multimodal_pruning
    from vllm.v1.worker.cpu_model_runner import CPUModelRunner

    load_model = CPUModelRunner.load_model
    if load_model.__name__ == "load_and_set_flag":
        return

    def load_and_set_flag(self, *args, **kwargs):
        load_model(self, *args, **kwargs)
        config = self.model_config.multimodal_config
        enabled = config is not None and config.is_multimodal_pruning_enabled()
        self.is_multimodal_pruning_enabled = enabled and supports_multimodal_pruning(self.get_model())

    CPUModelRunner.load_model = load_and_set_flag
