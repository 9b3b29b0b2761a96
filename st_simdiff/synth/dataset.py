"""A split of the world on disk: mp4 clips, questions as parquet, and the lmms-eval task that reads them."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from st_simdiff.errors import InputError
from st_simdiff.synth.glyphs import split_number
from st_simdiff.synth.questions import FAMILIES, OPTIONS, Question, ask
from st_simdiff.synth.world import VERSION, ClipSpec, Event, draw_clip, render, world_named

if TYPE_CHECKING:
    import pyarrow

TASK = "synthevents"
QUESTIONS_A_CLIP = 6
FRAMES_A_SECOND = 1
_DRAFTS = 4
_TASK_FILES = ("synthevents.yaml", "utils.py")


@dataclass(frozen=True)
class AskedClip:
    """seed: the clip's in its split. questions: of distinct families."""

    seed: int
    spec: ClipSpec
    questions: tuple[Question, ...]


def draw_split(world: str, split: str, questions: int, seed: int = 0) -> list[AskedClip]:
    """Clips with `questions` questions in all, up to six a clip; families, answers and answer positions are balanced.

    seed: another seed gives clips that share none with this one's. Raises InputError for an unknown world or split and
    for fewer than one question.
    """
    if questions < 1:
        raise InputError(f"A data set needs at least 1 question, not {questions}.")
    rules, random = world_named(world), np.random.default_rng([VERSION, 200 + split_number(split), seed])
    asked: Counter[str] = Counter()
    answered: Counter[tuple[str, str]] = Counter()
    positions = {family: _positions(random) for family in FAMILIES}
    clips: list[AskedClip] = []
    while questions > 0:
        number = seed * 10**6 + len(clips)
        spec = draw_clip(rules, split, number)
        drafts = {family: _rarest(family, spec, random, answered) for family in FAMILIES}
        families = [family for family in random.permutation(list(FAMILIES)).tolist() if drafts[family] is not None]
        chosen = sorted(families, key=asked.__getitem__)[: min(QUESTIONS_A_CLIP, questions)]
        placed = tuple(_place(drafts[family], next(positions[family])) for family in chosen)
        asked.update(chosen)
        answered.update((question.family, question.answer) for question in placed)
        clips.append(AskedClip(number, spec, placed))
        questions -= len(placed)
    return clips


def _rarest(
    family: str, spec: ClipSpec, random: np.random.Generator, answered: Counter[tuple[str, str]]
) -> Question | None:
    """Of a few questions that could be asked, one whose answer was the answer least often so far."""
    drafts = [ask(family, spec, random) for _ in range(_DRAFTS)]
    return min(filter(None, drafts), key=lambda question: answered[family, question.answer], default=None)


def _positions(random: np.random.Generator) -> Iterator[int]:
    """Answer positions: every position once in each four, in a random order."""
    while True:
        yield from random.permutation(OPTIONS).tolist()


def _place(question: Question, position: int) -> Question:
    wrong = [option for option in question.options if option != question.answer]
    options = (*wrong[:position], question.answer, *wrong[position:])
    return Question(question.family, question.text, options, question.answer, question.evidence)


def write_video(path: Path, frames: np.ndarray) -> None:
    """Write frames (n, height, width, 3) uint8 as a lossless mp4 (H.264 in RGB), one video frame each, one a second."""
    import av

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264rgb", rate=FRAMES_A_SECOND)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb24"
        stream.options = {"qp": "0", "threads": "1"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def write_dataset(folder: Path, world: str, split: str, questions: int, seed: int = 0) -> Path:
    """Write `test.parquet`, `videos/` and the lmms-eval task into `folder`, for `--include_path folder`; its documents:

    question_id, video (relative to the folder), world, split, clip_seed, family, kind (stable or event), question (with
    its options, as the model reads it), options, answer, answer_index, evidence (the events that decide the answer) and
    events (all of the clip). Events: kind, first_frame, end_frame (exclusive), box (x0, y0, x1, y1 in pixels) and cells
    (row, col of the 4 x 4 grid of visual tokens). Returns the folder.
    """
    import pyarrow.parquet as parquet

    videos = folder / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for clip in draw_split(world, split, questions, seed):
        video = videos / f"{world}-{split}-{clip.seed:08d}.mp4"
        write_video(video, render(clip.spec))
        shared = {
            "video": str(video.relative_to(folder)),
            "world": world,
            "split": split,
            "clip_seed": clip.seed,
            "events": [_event_row(event) for event in clip.spec.events()],
        }
        for question in clip.questions:
            rows.append({"question_id": f"{video.stem}-{question.family}", **shared, **_question_row(question)})
    for name in _TASK_FILES:
        shutil.copyfile(_task_source() / name, folder / name)
    # Last, so that a folder with questions is a whole one.
    parquet.write_table(_table(rows), folder / "test.parquet")
    return folder


def _task_source() -> Path:
    return Path(__file__).parents[1] / "lmms" / "tasks" / TASK


def _question_row(question: Question) -> dict[str, Any]:
    return {
        "family": question.family,
        "kind": question.kind,
        "question": question.prompt,
        "options": list(question.options),
        "answer": question.answer,
        "answer_index": question.options.index(question.answer),
        "evidence": [_event_row(event) for event in question.evidence],
    }


def _event_row(event: Event) -> dict[str, Any]:
    first, end = event.frames
    return {
        "kind": event.kind,
        "first_frame": first,
        "end_frame": end,
        "box": list(event.box),
        "cells": [list(cell) for cell in event.cells],
    }


def _table(rows: list[dict[str, Any]]) -> pyarrow.Table:
    import pyarrow

    text, number = pyarrow.string(), pyarrow.int64()
    event = pyarrow.struct(
        {
            "kind": text,
            "first_frame": number,
            "end_frame": number,
            "box": pyarrow.list_(number),
            "cells": pyarrow.list_(pyarrow.list_(number)),
        }
    )
    kinds = dict.fromkeys(rows[0], text) | {"clip_seed": number, "answer_index": number}
    kinds |= {"options": pyarrow.list_(text), "evidence": pyarrow.list_(event), "events": pyarrow.list_(event)}
    return pyarrow.Table.from_pylist(rows, schema=pyarrow.schema(kinds))
