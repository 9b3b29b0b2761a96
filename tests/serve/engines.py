"""Runs engines of vLLM on the CPU, each once a session, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from cpu_runner import write_cpu_plugin
from engine_checkpoints import write_checkpoint

HERE = Path(__file__).parent
PRUNED = {"video_pruning_rate": 0.7, "hf_overrides": {"st_simdiff": {"method": "st_simdiff_input"}}}
RETENTION = 0.3


def engine_environment(cpu_plugin: Path) -> dict[str, str]:
    """The environment of an engine in one process, on one thread. cpu_plugin: as `write_cpu_plugin` made it."""
    paths = [str(cpu_plugin), str(HERE), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_NO_USAGE_STATS": "1",
    }


class Engines:
    """folder: where checkpoints and results go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = engine_environment(write_cpu_plugin(folder / "cpu_plugin"))
        self.checkpoint = cache(lambda family: write_checkpoint(family, folder / family))
        self.run = cache(self._run)

    def _run(self, name: str, family: str, job: str, environment: tuple[tuple[str, str], ...] = ()) -> dict[str, Any]:
        """The result of a job, given as JSON without family and checkpoint."""
        whole = json.loads(job) | {"family": family, "checkpoint": str(self.checkpoint(family))}
        if family == "qwen3_5":  # its linear attention wants it on a CPU
            whole["options"] = whole.get("options", {}) | {"dtype": "bfloat16"}
        asked, result, log = (self.folder / f"{name}-{family}.{kind}" for kind in ("job", "result", "log"))
        asked.write_text(json.dumps(whole))
        with log.open("w") as output:
            done = subprocess.run(
                [sys.executable, str(HERE / "run_engine.py"), str(asked), str(result)],
                env=self.environment | dict(environment),
                stdout=output,
                stderr=output,
                timeout=900,
                check=False,
            )
        assert done.returncode == 0, log.read_text()[-6000:]
        return json.loads(result.read_text())

    def pruned(self, family: str) -> dict[str, Any]:
        """Round 0 at the server's retention, round 1 at retention 1 by request, round 2 at 0.5."""
        rounds = [{}, {"retention": 1.0}, {"retention": 0.5, "names": ["two videos"]}]
        return self.run("pruned", family, json.dumps({"record": True, "options": PRUNED, "rounds": rounds}))

    def stock(self, family: str) -> dict[str, Any]:
        """vLLM with the plugin installed and not asked for."""
        return self.run("stock", family, json.dumps({"rounds": [{}]}))

    def without_plugin(self, family: str) -> dict[str, Any]:
        plugins = (("VLLM_PLUGINS", "st_simdiff_cpu"),)
        return self.run("bare", family, json.dumps({"rounds": [{}]}), plugins)

    def in_chunks(self, family: str) -> dict[str, Any]:
        """All prompts at once in chunks of 48 tokens, twice, with the prefix cache."""
        options = PRUNED | {"enable_prefix_caching": True, "max_num_batched_tokens": 48}
        return self.run("chunks", family, json.dumps({"options": options, "rounds": [{"together": True}] * 2}))

    def on_two_ranks(self, family: str) -> dict[str, Any]:
        ranks = (("VLLM_ENABLE_V1_MULTIPROCESSING", "1"), ("VLLM_CPU_OMP_THREADS_BIND", "0|1"))
        options = PRUNED | {"tensor_parallel_size": 2}
        return self.run("ranks", family, json.dumps({"options": options, "rounds": [{}]}), ranks)

    def in_bfloat16(self, family: str) -> dict[str, Any]:
        """A video of 64 frames behind the tower, and the positions that the runner ends up with."""
        options = PRUNED | {"dtype": "bfloat16", "max_model_len": 8192, "max_num_batched_tokens": 512}
        job = {"record": True, "options": options, "rounds": [{"names": ["long video"]}]}
        return self.run("bfloat16", family, json.dumps(job))
