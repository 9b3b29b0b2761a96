"""What was read of an evaluation: questions, runs of a task, and the folder that they are from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from st_simdiff.report.coverage import Coverage
from st_simdiff.report.settings import Condition


@dataclass(frozen=True)
class Document:
    """One question. correct: in [0, 1], None where the right answer is not public.

    question: tells it from the others of its task, in every run where the row has an id. video: questions about the
    same one are not independent. counts: what the model recorded, such as `visual_tokens`, `visual_tokens_kept`,
    `realised_retention`, `seconds`.
    """

    doc_id: int
    correct: float | None
    question: str
    video: str
    groups: Mapping[str, str]
    counts: Mapping[str, float]


@dataclass(frozen=True)
class TaskRun:
    """One task of one run. reported: percent, as the results file has it. documents: sorted by doc_id, each once.

    task: lmms-eval's name, also where this project's task with the same questions was run, whose name is `asked_as`.
    documents: without those whose video could not be read; coverage tells how many those are. date: the stamp in the
    file's name. padding: rows that repeated a question of another process.
    """

    path: Path
    date: str
    condition: Condition
    task: str
    metric: str
    reported: float | None
    documents: tuple[Document, ...]
    coverage: Coverage
    asked_as: str = ""
    padding: int = 0

    def mean_count(self, key: str) -> float | None:
        """Mean of a count over the questions; None unless every question has it."""
        values = [document.counts[key] for document in self.documents if key in document.counts]
        return fmean(values) if values and len(values) == len(self.documents) else None

    def greatest_count(self, key: str) -> float | None:
        """The largest value of a count; None if no question has it."""
        return max((document.counts[key] for document in self.documents if key in document.counts), default=None)

    def group_values(self, key: str) -> list[str]:
        """The values that the documents' group `key` takes, in order of appearance."""
        return list(dict.fromkeys(document.groups[key] for document in self.documents if key in document.groups))


@dataclass(frozen=True)
class Logs:
    """Everything readable under a folder, oldest first, and one sentence for everything that was not."""

    runs: tuple[TaskRun, ...]
    problems: tuple[str, ...]
