"""The task functions of `synthevents`: where a clip lies, how an answer is scored."""

from pathlib import Path

EVENT_FIELDS = ("kind", "first_frame", "end_frame", "box", "cells")


def video_of(doc: dict) -> list[str]:
    return [str(Path(__file__).parent / doc["video"])]


def score_word(doc: dict, results: list[str]) -> dict:
    """Exact match of the answer's word; case, spaces and a final full stop do not count."""
    said = results[0].strip().rstrip(".").strip().lower()
    scored = {
        "question_id": doc["question_id"],
        "video": doc["video"],
        "world": doc["world"],
        "family": doc["family"],
        "kind": doc["kind"],
        "answer": doc["answer"],
        "predicted": said,
        "evidence": [{field: event[field] for field in EVENT_FIELDS} for event in doc["evidence"]],
        "score": 100.0 * (said == doc["answer"]),
    }
    return {"accuracy": scored, f"accuracy_{doc['kind']}": scored}


def mean_score(results: list[dict]) -> float:
    """Accuracy in percent."""
    return sum(result["score"] for result in results) / len(results)
