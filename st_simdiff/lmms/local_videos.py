"""What the benchmarks' local tasks share: only questions whose video is on this machine, and an account of the others.

A question whose video is missing is not asked; one whose video cannot be decoded is asked and then not scored. Each
scored row says how many questions there are in all, so that a results folder tells its own coverage.
"""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger
from torch import distributed

from st_simdiff.lmms.video_folders import FOLDERS, hf_home
from st_simdiff.runs.coverage import LeftOut
from st_simdiff.vocabulary import UNREADABLE_ANSWER

if TYPE_CHECKING:
    from datasets import Dataset

COVERAGE = "coverage"
"""The metric, in percent, and the key of a sample row that says what it is made of."""

IN_ALL = "questions_in_all"
LEFT_OUT_COLUMN = "questions_left_out"
"""Columns that `LocalVideos.keep` adds to the questions; the second one is filled in the first question only."""

MOST_NAMED = 10
MOST_PLACES = 200

_guessing = threading.Lock()
"""lmms-eval scores in several threads, and the stock functions guess with the one global generator."""


@dataclass(frozen=True)
class LocalVideos:
    """Where one benchmark's videos are.

    benchmark: a key of `FOLDERS`. places: from a document to paths below that folder, the first existing one counts.
    question: from a document to an id that no other question of the benchmark has.
    part: whether it is one of several tasks that are asked together. lacking: from a document and that folder to what
    else is missing for the question; empty where nothing is.
    """

    benchmark: str
    places: Callable[[Mapping[str, Any]], Sequence[str]]
    question: Callable[[Mapping[str, Any]], str]
    part: bool = False
    lacking: Callable[[Mapping[str, Any], Path], str] | None = None

    def keep(self, dataset: Dataset) -> Dataset:
        """The documents whose video is there, in their order, told how many there are in all.

        If there is none, ends the process with one sentence: lmms-eval would end every task of the run without one. Of
        a part, which must not end the others, the first document stays; it turns out unreadable.
        """
        folder = self.folder()
        kept, left_out = sort_out(dataset, self.places, self.question, folder, self.lacking)
        if not kept and self.part:
            kept, left_out = [0], left_out[1:]
        if not kept:
            if self.lacking is not None and any(find(self.places(document), folder) for document in dataset):
                raise SystemExit(f"{self.benchmark}: no question can be asked; of the first one, {left_out[0].reason}.")
            raise SystemExit(
                f"{self.benchmark}: no video of its {len(dataset):,} questions is in {folder}, "
                f"where {FOLDERS[self.benchmark].videos_here} should be."
            )
        if left_out and not (distributed.is_initialized() and distributed.get_rank()):
            logger.warning(describe(self.benchmark, len(kept), left_out))
        account = [""] * len(dataset)
        account[kept[0]] = json.dumps([[one.question, one.video, one.reason] for one in left_out])
        # Not filter: its result is cached and would outlive a video's coming and going.
        told = dataset.add_column(IN_ALL, [len(dataset)] * len(dataset)).add_column(LEFT_OUT_COLUMN, account)
        return told.select(kept)

    def visual(self, document: Mapping[str, Any]) -> list[str]:
        """The document's video file, for `doc_to_visual`; the first place if it has gone since."""
        folder = self.folder()
        places = self.places(document)
        return [str(find(places, folder) or folder / places[0])]

    def folder(self) -> Path:
        return hf_home(os.environ) / FOLDERS[self.benchmark].cache

    def score(
        self,
        document: Mapping[str, Any],
        results: Sequence[str],
        stock: Callable[[Any, Any], dict[str, Any]],
        metric: str,
        split: str | None = None,
    ) -> dict[str, Any]:
        """A sample's row: what `stock` makes of the answer, and the coverage.

        split: the metric for which what `stock` gives for `metric` counts besides. A question whose video could not be
        read has no score.
        """
        question = self.question(document)
        readable = results[0] != UNREADABLE_ANSWER
        coverage = {
            "question": question,
            "video": self.places(document)[0],
            "in_all": document[IN_ALL],
            "left_out": json.loads(document[LEFT_OUT_COLUMN] or "[]"),
            "readable": readable,
        }
        if not readable:
            return {COVERAGE: coverage}
        with settled_guess(question):
            row = stock(document, results)
        return {**row, **({split: row[metric]} if split else {}), COVERAGE: coverage}


def sort_out(
    documents: Iterable[Mapping[str, Any]],
    places: Callable[[Mapping[str, Any]], Sequence[str]],
    question: Callable[[Mapping[str, Any]], str],
    folder: Path,
    lacking: Callable[[Mapping[str, Any], Path], str] | None = None,
) -> tuple[list[int], list[LeftOut]]:
    """(indices of the documents whose video is a file with something in it and that lack nothing else, the others with
    the reason)."""
    kept, left_out = [], []
    seen: dict[tuple[str, ...], str] = {}
    for index, document in enumerate(documents):
        where = tuple(places(document))
        if where not in seen:
            seen[where] = what_is_wrong(find(where, folder))
        reason = seen[where] or (lacking(document, folder) if lacking is not None else "")
        if reason:
            left_out.append(LeftOut(question(document), where[0], reason))
        else:
            kept.append(index)
    return kept, left_out


def find(places: Sequence[str], folder: Path) -> Path | None:
    """The first of `places` under `folder` that exists."""
    return next((folder / place for place in places if (folder / place).exists()), None)


def what_is_wrong(path: Path | None) -> str:
    """Why the video at `path` cannot be asked about; empty if nothing is wrong that can be told without decoding."""
    if path is None:
        return "missing"
    if path.is_dir():
        return "a folder, not a video file"
    if not path.is_file():
        return "no regular file"
    return "" if path.stat().st_size else "empty"


def describe(benchmark: str, kept: int, left_out: Sequence[LeftOut]) -> str:
    """One sentence on what is not asked."""
    videos = {one.video: one.reason for one in left_out}
    named = [f"{video} ({reason})" for video, reason in list(videos.items())[:MOST_NAMED]]
    rest = f" and {len(videos) - MOST_NAMED:,} more" if len(videos) > MOST_NAMED else ""
    return (
        f"{benchmark}: {kept:,} of {kept + len(left_out):,} questions are asked; "
        f"left out are those about {len(videos):,} videos: {', '.join(named)}{rest}."
    )


def warn(benchmark: str, what: str, places: Sequence[str]) -> None:
    """One sentence in the log of one process: `what` holds of `places`, of which `MOST_PLACES` are named. Nothing
    without any."""
    if places and not (distributed.is_initialized() and distributed.get_rank()):
        rest = f" and {len(places) - MOST_PLACES:,} more" if len(places) > MOST_PLACES else ""
        logger.warning(f"{benchmark}: {what}: {', '.join(places[:MOST_PLACES])}{rest}.")


def coverage_percent(rows: Sequence[Mapping[str, Any]]) -> float:
    """How much of the benchmark was asked and could be read."""
    return 100 * sum(row["readable"] for row in rows) / rows[0]["in_all"]


@contextmanager
def settled_guess(question: str) -> Iterator[None]:
    """Makes the guess of a stock function, for an answer without a letter, the same in every run and process."""
    with _guessing:
        state = random.getstate()
        random.seed(question)
        try:
            yield
        finally:
            random.setstate(state)
