"""Throughput of vLLM's engine on a CPU with pruned videos, against its own EVS at the same rates.

    PYTHONPATH=tests:tests/serve .venv-vllm/bin/python benchmarks/vllm_throughput.py [--json FILE]

A Qwen2.5-VL scaled down, with random weights; eight requests in flight, a video each, from pixels to eight new tokens.
Every row is a process of its own on one thread; its time is the processor time of that process. vLLM's CPU runner
forgets the flag of pruning, and a plugin of the tests sets it, for both methods.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from cpu_runner import write_cpu_plugin
from engine_checkpoints import ROPE, VISION, qwen_parts, sizes, stretch, text_config
from engine_prompts import draw_clip, prompt_text, video_metadata
from engines import engine_environment
from tiny_checkpoints import save

from st_simdiff.bench.results_file import hardware

REQUESTS, FRAMES, SIDE, NEW_TOKENS = 8, 32, 224, 8
RETENTIONS = (0.5, 0.3, 0.15)
ROWS = [("vLLM", 1.0), *((name, r) for name in ("EVS", "st_simdiff_input") for r in RETENTIONS)]


def write_model(folder: Path) -> Path:
    """Eight layers of width 512 behind a small tower; 64 visual tokens for two frames."""
    torch.manual_seed(0)
    tokenizer, special, chat = qwen_parts()
    vision = VISION | {"depth": 4, "hidden_size": 128, "intermediate_size": 256, "out_hidden_size": 512}
    vision |= {"patch_size": 14, "window_size": 112, "fullatt_block_indexes": [1, 3], "tokens_per_second": 2}
    large = {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8, "num_attention_heads": 8}
    text = text_config(len(tokenizer), **large, rope_parameters=ROPE | {"mrope_section": [8, 12, 12]})
    config = transformers.Qwen2_5_VLConfig(vision_config=vision, text_config=text, tie_word_embeddings=False, **special)
    processor = transformers.Qwen2_5_VLProcessor(
        transformers.Qwen2VLImageProcessor(**sizes(14, 64)),
        tokenizer,
        transformers.Qwen2VLVideoProcessor(**sizes(14, 4096)),
        chat_template=chat,
    )
    return save(folder, stretch(transformers.Qwen2_5_VLForConditionalGeneration(config), 1), processor)


def measure(checkpoint: str, method: str, retention: float) -> dict[str, Any]:
    """One row, in this process."""
    from vllm import LLM, SamplingParams

    options: dict[str, Any] = {}
    if method != "vLLM":
        options["video_pruning_rate"] = round(1 - retention, 6)
    if method == "st_simdiff_input":
        options["hf_overrides"] = {"st_simdiff": {"method": method, "retention": retention}}
    llm = LLM(
        model=checkpoint,
        dtype="float32",
        enforce_eager=True,
        max_model_len=4096,
        max_num_seqs=REQUESTS,
        enable_prefix_caching=False,
        mm_processor_cache_gb=0,
        seed=0,
        **options,
    )
    parameters = SamplingParams(temperature=0, max_tokens=NEW_TOKENS, ignore_eos=True, detokenize=False)

    def requests(first: int, count: int) -> list[dict[str, Any]]:
        metadata = video_metadata(FRAMES, 2.0) | {"do_sample_frames": False}
        text = prompt_text("qwen2_5_vl", "VIDEO What happens?")
        clips = [draw_clip(seed, FRAMES, SIDE, SIDE) for seed in range(first, first + count)]
        return [{"prompt": text, "multi_modal_data": {"video": [(clip, metadata)]}} for clip in clips]

    llm.generate(requests(100, 1), parameters, use_tqdm=False)
    asked = requests(0, REQUESTS)
    began = time.process_time(), time.perf_counter()
    outputs = llm.generate(asked, parameters, use_tqdm=False)
    cpu, wall = time.process_time() - began[0], time.perf_counter() - began[1]
    prompt = len(outputs[0].prompt_token_ids)
    return {"method": method, "retention": retention, "prompt": prompt, "cpu": round(cpu, 3), "wall": round(wall, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "vllm_throughput.json")
    parser.add_argument("--row", nargs=3, metavar=("CHECKPOINT", "METHOD", "RETENTION"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        sys.stdout.write(json.dumps(measure(options.row[0], options.row[1], float(options.row[2]))) + "\n")
        return
    result: dict[str, Any] = {"hardware": hardware(torch.device("cpu")), "cores": os.cpu_count()}
    result |= {"requests": REQUESTS, "load_at_start": os.getloadavg()[0], "rows": []}
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = write_model(Path(folder, "model"))
        environment = engine_environment(write_cpu_plugin(Path(folder, "cpu_plugin")))
        for method, retention in ROWS:
            command = [sys.executable, __file__, "--row", str(checkpoint), method, str(retention)]
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            row = json.loads(done.stdout.splitlines()[-1])
            whole = result["rows"][0] if result["rows"] else row
            row["speed_up"] = round(whole["cpu"] / row["cpu"], 2)
            result["rows"].append(row)
            sys.stdout.write(f"{json.dumps(row)}\n")
    result["load_at_end"] = os.getloadavg()[0]
    options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
