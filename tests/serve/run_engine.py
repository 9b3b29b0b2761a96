"""Engines of one model, one after the other in this process: python run_engine.py JOB RESULT, both JSON.

A job: family, checkpoint, engines, record. An engine: options (of vllm.LLM), rounds. A round: names (of prompts),
together (all at once, else one by one), warm (with the prefix cache that the rounds before left), chunk (the most
tokens in a step), retention (of its requests), embedded (videos as embeddings). The result has for each engine answers
by round and name; if it records, what was kept of every video in order, the last positions of a prompt with media, and
by round the places in prompts where steps with media began.
"""

from __future__ import annotations

import gc
import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine_prompts import LONG, PROMPTS, draw_picture, draw_video, frame_rate, prompt_text, video_metadata
from tower_features import video_embeddings
from vllm import LLM, SamplingParams
from vllm.distributed.parallel_state import cleanup_dist_env_and_memory

TOKENS = 8
DEFAULTS = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 4096,
    "seed": 0,
    "limit_mm_per_prompt": {"image": 4, "video": 4},
    "max_num_seqs": 8,
}


def request(job: dict[str, Any], name: str, one: dict[str, Any]) -> dict[str, Any]:
    """What `llm.generate` takes for the prompt `name` in the round `one`."""
    family = job["family"]
    text, videos, images = (PROMPTS | LONG)[name]
    data: dict[str, Any] = {}
    if videos:
        clips = [draw_video(family, seed) for seed in videos]
        metadata = [video_metadata(len(clip), frame_rate(family, name)) for clip in clips]
        if one.get("embedded"):
            data["video"] = video_embeddings(family, job["checkpoint"], clips, metadata)
        elif family == "llava_onevision":
            data["video"] = clips
        else:
            data["video"] = [
                (clip, own | {"do_sample_frames": False}) for clip, own in zip(clips, metadata, strict=True)
            ]
    if images:
        data["image"] = [draw_picture(seed) for seed in images]
    asked: dict[str, Any] = {"prompt": prompt_text(family, text), "multi_modal_data": data}
    if "retention" in one:
        asked["mm_processor_kwargs"] = {"st_simdiff_retention": one["retention"]}
    return asked


@dataclass
class Records:
    """What the models of this process did since it was cleared."""

    reductions: list[dict[str, Any]] = field(default_factory=list)
    positions: list[list[int]] = field(default_factory=list)
    starts: list[list[int]] = field(default_factory=list)

    def clear(self) -> None:
        self.reductions, self.positions, self.starts = [], [], []


def record_models(records: Records) -> None:
    """Writes down from now on."""
    from st_simdiff.serve.vllm import model

    reduce_video, place_items = model.reduce_video, model.place_items

    def recording(method: Any, features: Any, grid: Any, num_layers: int) -> Any:
        reduction = reduce_video(method, features, grid, num_layers)
        shape = (grid.frames, grid.height, grid.width)
        fresh = type(method)(retention=method.retention)
        own = reduce_video(fresh, features.clone(), grid, num_layers)
        same = reduction.kept.equal(own.kept)
        made = {"grid": shape, "count": grid.count, "kept": reduction.kept.tolist(), "same": same}
        records.reductions.append(made)
        return reduction

    def placing(parts: Any, positions: Any, computed: int, *more: Any) -> Any:
        embeddings, placed = place_items(parts, positions, computed, *more)
        records.positions = placed.tolist()
        records.starts[-1].append(computed)
        return embeddings, placed

    model.reduce_video, model.place_items = recording, placing


def run_round(llm: LLM, job: dict[str, Any], one: dict[str, Any]) -> dict[str, Any]:
    parameters = SamplingParams(temperature=0, max_tokens=TOKENS, logprobs=5, ignore_eos=True, detokenize=False)
    names = one.get("names", list(PROMPTS))
    requests = [request(job, name, one) for name in names]
    outputs = []
    for batch in [requests] if one.get("together") else [[asked] for asked in requests]:
        if not one.get("warm"):
            llm.reset_prefix_cache()
        outputs += llm.generate(batch, parameters, use_tqdm=False)
    return {name: answer(output) for name, output in zip(names, outputs, strict=True)}


def run(job: dict[str, Any], engine: dict[str, Any], records: Records) -> dict[str, Any]:
    llm = LLM(model=job["checkpoint"], **(DEFAULTS | engine.get("options", {})))
    records.clear()  # of the dummy videos with which memory was measured
    rounds = []
    for one in engine["rounds"]:
        records.starts.append([])
        if "chunk" in one:  # from here on, as --max-num-batched-tokens
            llm.llm_engine.engine_core.engine_core.scheduler.max_num_scheduled_tokens = one["chunk"]
        rounds.append(run_round(llm, job, one))
    llm.llm_engine.engine_core.shutdown()
    return {"rounds": rounds, **asdict(records)}


def main(job: dict[str, Any]) -> list[dict[str, Any]]:
    records = Records()
    if job["record"]:
        record_models(records)
    results = []
    for engine in job["engines"]:
        results.append(run(job, engine, records))
        gc.collect()
        cleanup_dist_env_and_memory()
    return results


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
