"""Writes what lmms-eval 0.7.3 writes, in its schema (`test_harness_shapes` holds it against lmms-eval itself)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

LEVELS = {"relation": "SSS", "perception": "S2E"}
METRICS = {
    "videomme": "videomme_perception_score",
    "longvideobench_val_v": "lvb_acc",
    "egoschema_subset": "score",
    "egoschema": "submission",
    "generic": "exact_match",
    "events": "accuracy",
}
PERCENT = {"videomme", "events", "egoschema"}
"""Tasks whose aggregated value lmms-eval writes in percent; the others write a share."""


def row(doc_id: int, metrics: Mapping[str, Any], counts: Sequence[Mapping | None] = (None,)) -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "target": "A",
        "filtered_resps": "A",
        "token_counts": list(counts),
        "doc_hash": "74234e98",
        **metrics,
        "input": "Question?",
    }


def videomme(doc_id: int, correct: bool, video: str, duration: str) -> dict[str, Any]:
    entry = {
        "question_id": f"{doc_id:03d}-1",
        "duration": duration,
        "category": "Knowledge",
        "sub_category": "Astronomy",
        "task_category": "Counting Problem",
        "pred_answer": "A" if correct else "B",
        "answer": "A",
        "score": float(correct),
        "videoID": video,
    }
    return {"videomme_perception_score": entry}


def longvideobench(doc_id: int, correct: bool, video: str, level: str) -> dict[str, Any]:
    question = f"{video}_{doc_id}"
    entry = {
        "id": question,
        "duration_group": 600,
        "question_category": LEVELS[level],
        "answer": "A",
        "parsed_pred": "A" if correct else "B",
    }
    return {"lvb_acc": entry, "submission": {question: "A"}}


def egoschema(correct: bool, video: str, answer: str | None = "2") -> dict[str, Any]:
    """`answer=None`: the full set, whose answers are not public."""
    predicted = 2 if correct else 3
    return {"submission": {video: predicted}, "score": {"pred": predicted, "ground_truth": answer}}


def generic(correct: bool) -> dict[str, Any]:
    return {"exact_match": float(correct)}


def events(doc_id: int, correct: bool, video: str, kind: str) -> dict[str, Any]:
    """A task of this project: score in percent, a group `kind`."""
    entry = {"question_id": f"q{doc_id}", "clip": video, "kind": kind, "answer": "red", "predicted": "blue"}
    return {"accuracy": {**entry, "score": 100.0 * correct}}


def counts(tokens: int = 100, kept: int = 30, seconds: float = 1.0, **more: float) -> dict[str, float]:
    return {
        "input_tokens": tokens + 20,
        "output_tokens": 1,
        "visual_tokens": tokens,
        "visual_tokens_kept": kept,
        "realised_retention": kept / tokens,
        "seconds": seconds,
        **more,
    }


def model_args(pretrained: str = "/models/LLaVA-Video-7B-Qwen2", **more: Any) -> str:
    return ",".join(f"{key}={value}" for key, value in {"pretrained": pretrained, **more}.items())


def results_json(
    task: str, value: Any, args: str, model: str = "llava_video", limit: Any = None, **more: Any
) -> dict[str, Any]:
    metric = METRICS[task]
    name = args.partition("pretrained=")[2].partition(",")[0]
    return {
        "results": {
            task: {
                "alias": task,
                f"{metric},none": value,
                f"{metric}_stderr,none": "N/A",
                f"{metric}_stderr_clt,none": 1.0,
                f"{metric}_stderr_clustered,none": 1.0,
            }
        },
        "group_subtasks": {task: []},
        "configs": {task: {"task": task, "generation_kwargs": {"max_new_tokens": 16, "until": ["\n\n"]}}},
        "versions": {task: "Yaml"},
        "n-shot": {task: 0},
        "higher_is_better": {task: {metric: True}},
        "config": {"model": model, "model_args": args, "limit": limit, "offset": 0, "gen_kwargs": ""},
        "model_source": model,
        "model_name": name,
        **more,
    }


def write(folder: Path, stamp: str, results: Mapping[str, Any], rows: Mapping[str, Sequence[Mapping]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stamp}_results.json"
    path.write_text(json.dumps(results, indent=2))
    for task, lines in rows.items():
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        (folder / f"{stamp}_samples_{task}.jsonl").write_text(text)
    return path


def write_task(
    logs: Path,
    task: str,
    metrics: Sequence[Mapping[str, Any]],
    args: str,
    right: Sequence[bool],
    token_counts: Mapping[str, float] | None = None,
    number: int = 0,
    **more: Any,
) -> Path:
    """One run of one task; `number` makes its folder and the minute of its stamp."""
    value = float(np.mean(right)) * (100 if task in PERCENT else 1)
    rows = [row(doc_id, entry, [token_counts]) for doc_id, entry in enumerate(metrics)]
    stamp = f"20260102_{number // 60:02d}{number % 60:02d}00"
    return write(logs / f"run{number}" / "model", stamp, results_json(task, value, args, **more), {task: rows})


def task_rows(task: str, right: Sequence[bool], per_video: int = 3) -> list[dict[str, Any]]:
    """Metric entries of `task` for answers that are right or not; splits as large as they are in the benchmark."""
    size, entries = len(right), []
    for doc_id, correct in enumerate(right):
        correct, video = bool(correct), f"v{doc_id // per_video}"
        if task == "videomme":
            entries.append(videomme(doc_id, correct, video, ("short", "medium", "long")[doc_id * 3 // size]))
        elif task == "longvideobench_val_v":
            level = "relation" if doc_id * 1337 < 712 * size else "perception"
            entries.append(longvideobench(doc_id, correct, video, level))
        elif task == "egoschema_subset":
            entries.append(egoschema(correct, f"v{doc_id}"))
        elif task == "egoschema":
            entries.append(egoschema(correct, f"v{doc_id}", answer=None))
        elif task == "events":
            entries.append(events(doc_id, correct, video, ("stable", "event")[doc_id % 2]))
        else:
            entries.append(generic(correct))
    return entries


def answers(share: float, size: int, seed: int = 0) -> np.ndarray:
    """(size,) bool, exactly round(share * size) of them True; a larger share is right wherever a smaller one is."""
    order = np.random.default_rng(seed).permutation(size)
    right = np.zeros(size, dtype=bool)
    right[order[: round(share * size)]] = True
    return right


def flip(right: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The same answers but for `count` questions."""
    changed = right.copy()
    chosen = np.random.default_rng(seed).choice(len(right), count, replace=False)
    changed[chosen] = ~changed[chosen]
    return changed
