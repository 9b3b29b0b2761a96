"""Runs engines of vLLM on the CPU, each once a session: nine processes without `--slow`, with that of the server."""

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
MROPE = ("qwen2_5_vl", "qwen3_vl")
EMBEDDED = ["one video", "two videos", "image and video"]


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

    def _run(
        self, name: str, family: str, engines: str, environment: tuple[tuple[str, str], ...] = ()
    ) -> list[dict[str, Any]]:
        """What the engines of one process answered. engines: JSON, as in a job of `run_engine`."""
        job = {"family": family, "checkpoint": str(self.checkpoint(family)), "engines": json.loads(engines)}
        job["record"] = name == "pruned"
        if family.startswith("qwen3_5"):  # its linear attention wants it on a CPU
            for engine in job["engines"]:
                engine["options"] = engine.get("options", {}) | {"dtype": "bfloat16"}
        asked, result, log = (self.folder / f"{name}-{family}.{kind}" for kind in ("job", "result", "log"))
        asked.write_text(json.dumps(job))
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

    def _pruned(self, family: str) -> list[dict[str, Any]]:
        rounds: list[dict[str, Any]] = [{}, {"retention": 1.0}, {"retention": 0.5, "names": ["two videos"]}]
        engines = [{"options": PRUNED, "rounds": rounds}]
        if family in MROPE:
            engines[0]["options"] = PRUNED | {"enable_mm_embeds": True}
            rounds += [{"embedded": True, "names": EMBEDDED}]
            rounds += [{"together": True, "chunk": 48}, {"together": True, "warm": True}]
            options = PRUNED | {"dtype": "bfloat16", "max_model_len": 8192, "max_num_batched_tokens": 512}
            engines.append({"options": options, "rounds": [{"names": ["long video"]}]})
        return self.run("pruned", family, json.dumps(engines))

    def pruned(self, family: str) -> dict[str, Any]:
        """Round 0 at the server's retention, round 1 at retention 1 by request, round 2 at 0.5."""
        return self._pruned(family)[0]

    def embedded(self, family: str) -> dict[str, Any]:
        """The answers to `EMBEDDED` with videos that come as embeddings."""
        return self.pruned(family)["rounds"][3]

    def in_chunks(self, family: str) -> tuple[list[dict[str, Any]], list[int]]:
        """All prompts at once in chunks of 48 tokens, twice: with an empty prefix cache, and with what that leaves.

        And where in their prompts the first time's steps with media began.
        """
        got = self.pruned(family)
        return got["rounds"][4:], got["starts"][4]

    def in_bfloat16(self, family: str) -> dict[str, Any]:
        """A video of 64 frames behind the tower, and the positions that the runner ends up with."""
        return self._pruned(family)[1]

    def stock(self, family: str) -> dict[str, Any]:
        """vLLM with the plugin installed and not asked for."""
        return self.run("stock", family, json.dumps([{"rounds": [{}]}]))[0]

    def without_plugin(self, family: str) -> dict[str, Any]:
        plugins = (("VLLM_PLUGINS", "st_simdiff_cpu"),)
        return self.run("bare", family, json.dumps([{"rounds": [{}]}]), plugins)[0]

    def on_two_ranks(self, family: str) -> dict[str, Any]:
        ranks = (("VLLM_ENABLE_V1_MULTIPROCESSING", "1"), ("VLLM_CPU_OMP_THREADS_BIND", "0|1"))
        options = PRUNED | {"tensor_parallel_size": 2}
        return self.run("ranks", family, json.dumps([{"options": options, "rounds": [{}]}]), ranks)[0]
