"""One row of lmms-eval's samples file: was the answer right, which video was it about, which splits is it part of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from st_simdiff.errors import InputError
from st_simdiff.vocabulary import longvideobench_level

QUESTION_KEYS = ("question_id", "id")
VIDEO_KEYS = ("videoID", "video_id", "video_idx", "video", "video_name", "clip")
NOT_GROUPS = frozenset(
    {*VIDEO_KEYS, *QUESTION_KEYS, "qid", "gt_answer", "answer", "target", "ground_truth", "predicted", "prediction"}
    | {"pred", "pred_answer", "parsed_pred", "response", "score"}
)


@dataclass(frozen=True)
class Scored:
    """value: the score as the task wrote it (1 or 100 for a right answer); None where no answer is public.

    question, video: None where the row does not tell. groups: every split the question belongs to, as text.
    """

    value: float | None
    question: str | None = None
    video: str | None = None
    groups: Mapping[str, str] = field(default_factory=dict)


def score_row(row: Mapping[str, Any], metric: str) -> Scored:
    """What `row` says about `metric`, in any of the shapes that lmms-eval 0.7.3's multiple-choice tasks write.

    Raises `InputError` for a row without the metric, or with one of another shape.
    """
    if metric not in row:
        raise InputError(f"has no {metric!r}")
    entry = row[metric]
    if isinstance(entry, (bool, int, float)):
        return Scored(float(entry))
    if isinstance(entry, Mapping):
        if "question_category" in entry and "parsed_pred" in entry:
            return _longvideobench(entry)
        if metric == "submission" or "ground_truth" in entry:
            return _egoschema(row)
        if isinstance(entry.get("score"), (bool, int, float)):
            return _with_place(entry, float(entry["score"]))
        if "pred_answer" in entry and "answer" in entry:  # MLVU
            return _with_place(entry, float(entry["pred_answer"] == entry["answer"]))
    raise InputError(f"has a {metric!r} of unknown shape: {str(entry)[:80]!r}")


def _with_place(entry: Mapping[str, Any], value: float) -> Scored:
    return Scored(value, _first(entry, QUESTION_KEYS), _first(entry, VIDEO_KEYS), _groups(entry))


def _longvideobench(entry: Mapping[str, Any]) -> Scored:
    """The id of a question is that of its video, an underscore and a number."""
    category = entry["question_category"]
    groups = {"question_category": category, "duration_group": str(entry.get("duration_group"))}
    if level := longvideobench_level(category):
        groups["level"] = level
    right = float(entry["parsed_pred"] == entry["answer"])
    return Scored(right, entry["id"], entry["id"].rpartition("_")[0] or None, groups)


def _egoschema(row: Mapping[str, Any]) -> Scored:
    """`score` compares numbers with text. The full set has no public answers: its `ground_truth` is empty."""
    submission = row.get("submission")
    video = next(iter(submission), None) if isinstance(submission, Mapping) else None
    score = row.get("score")
    truth = str(score["ground_truth"]) if isinstance(score, Mapping) else ""
    return Scored(float(str(score["pred"]) == truth) if truth.isdigit() else None, video, video)


def _first(entry: Mapping[str, Any], keys: Iterable[str]) -> str | None:
    return next((str(entry[key]) for key in keys if key in entry), None)


def _groups(entry: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(entry[key]) for key in entry if key not in NOT_GROUPS and isinstance(entry[key], (str, int))}
