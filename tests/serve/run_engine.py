"""One engine in a process of its own: python run_engine.py JOB RESULT, both JSON.

A job: family, checkpoint, options (of vllm.LLM), rounds. A round: names (of prompts), together (all at once),
retention (of its requests). A result: answers by round and name, and what was kept of every video, in order.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from engine_prompts import LONG, PROMPTS, draw_picture, draw_video, frame_rate, prompt_text, video_metadata
from vllm import LLM, SamplingParams

TOKENS = 8
DEFAULTS = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 4096,
    "seed": 0,
    "limit_mm_per_prompt": {"image": 4, "video": 4},
    "max_num_seqs": 8,
    "enable_prefix_caching": False,
}


def request(family: str, name: str, retention: float | None) -> dict[str, Any]:
    text, videos, images = (PROMPTS | LONG)[name]
    data: dict[str, Any] = {}
    if videos:
        clips = [draw_video(family, seed) for seed in videos]
        rate = frame_rate(family, name)
        with_metadata = [(clip, video_metadata(len(clip), rate) | {"do_sample_frames": False}) for clip in clips]
        data["video"] = clips if family == "llava_onevision" else with_metadata
    if images:
        data["image"] = [draw_picture(seed) for seed in images]
    asked: dict[str, Any] = {"prompt": prompt_text(family, text), "multi_modal_data": data}
    if retention is not None:
        asked["mm_processor_kwargs"] = {"st_simdiff_retention": retention}
    return asked


def record_reductions(records: list[dict[str, Any]], positions: list[list[list[int]]]) -> None:
    """Writes every reduction of this process down from now on, and the last positions of a prompt with media."""
    from st_simdiff.serve.vllm import model

    reduce_video, place_items = model.reduce_video, model.place_items

    def recording(method: Any, features: Any, grid: Any, num_layers: int) -> Any:
        reduction = reduce_video(method, features, grid, num_layers)
        shape = (grid.frames, grid.height, grid.width)
        fresh = type(method)(retention=method.retention)
        own = reduce_video(fresh, features.clone(), grid, num_layers)
        same = reduction.kept.equal(own.kept)
        records.append({"grid": shape, "count": grid.count, "kept": reduction.kept.tolist(), "same": same})
        return reduction

    def placing(*arguments: Any) -> Any:
        embeddings, placed = place_items(*arguments)
        positions[:] = placed.tolist()
        return embeddings, placed

    model.reduce_video, model.place_items = recording, placing


def main(job: dict[str, Any]) -> dict[str, Any]:
    family = job["family"]
    records: list[dict[str, Any]] = []
    positions: list[list[list[int]]] = []
    if job.get("record"):
        record_reductions(records, positions)
    llm = LLM(model=job["checkpoint"], **(DEFAULTS | job.get("options", {})))
    records.clear()  # those of the dummy videos with which memory was measured
    parameters = SamplingParams(temperature=0, max_tokens=TOKENS, logprobs=5, ignore_eos=True, detokenize=False)
    rounds = []
    for one in job["rounds"]:
        names = one.get("names", list(PROMPTS))
        requests = [request(family, name, one.get("retention")) for name in names]
        batches = [requests] if one.get("together") else [[asked] for asked in requests]
        outputs = [output for batch in batches for output in llm.generate(batch, parameters, use_tqdm=False)]
        rounds.append({name: answer(output) for name, output in zip(names, outputs, strict=True)})
    return {"rounds": rounds, "reductions": records, "positions": positions}


def answer(output: Any) -> dict[str, Any]:
    (chosen,) = output.outputs
    return {
        "prompt": list(output.prompt_token_ids),
        "cached": output.num_cached_tokens,
        "tokens": list(chosen.token_ids),
        "logprobs": [{str(token): one.logprob for token, one in step.items()} for step in chosen.logprobs],
    }


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json.dumps(main(json.loads(Path(sys.argv[1]).read_text()))))
