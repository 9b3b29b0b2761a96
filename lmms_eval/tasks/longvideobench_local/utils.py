"""LongVideoBench's validation set on the videos that are there; asked and scored as by lmms-eval."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from lmms_eval.tasks.longvideobench.utils import (
    compute_frame_timestamps,
    insert_subtitles_into_frames,
    longvideobench_doc_to_text,
    longvideobench_process_results,
)

from st_simdiff.lmms.local_videos import LocalVideos
from st_simdiff.vocabulary import longvideobench_level

VIDEOS = LocalVideos(
    benchmark="longvideobench",
    places=lambda doc: [f"videos/{doc['video_path']}"],
    question=lambda doc: doc["id"],
)
keep_local = VIDEOS.keep
video_of = VIDEOS.visual

FRAME = "<image>"
"""Stands for a frame in lmms-eval's prompt."""


def score(doc: dict, results: list[str]) -> dict:
    """The stock row, with the video for clustered errors."""

    def stock(doc: dict, results: list[str]) -> dict:
        row = longvideobench_process_results(doc, results)
        right = row["lvb_acc"]["parsed_pred"] == row["lvb_acc"]["answer"]
        return {**row, "lvb_acc": {**row["lvb_acc"], "video": doc["video_path"], "score": float(right)}}

    level = longvideobench_level(doc["question_category"])
    return VIDEOS.score(doc, results, stock, "lvb_acc", split=level)


def frames_and_subtitles(doc: dict, folder: Path, frames: int) -> str:
    """A line for each of `frames` evenly spaced frames, and between them the subtitles that are shown at one."""
    subtitles = json.loads((folder / "subtitles" / doc["subtitle_path"]).read_text(encoding="utf-8"))
    times = compute_frame_timestamps(doc["duration"], frames)
    return insert_subtitles_into_frames(times, subtitles, doc["starting_timestamp_for_subtitles"], doc["duration"])


def what_is_wrong_with_subtitles(doc: dict, folder: Path) -> str:
    """Every question of LongVideoBench has subtitles, and lmms-eval's own task ends where a file is not there."""
    name = f"subtitles/{doc['subtitle_path']}"
    if not (folder / name).is_file():
        return f"its subtitles {name} are missing"
    try:
        fault = find_fault(json.loads((folder / name).read_text(encoding="utf-8")))
    except (OSError, ValueError, RecursionError) as error:
        fault = " ".join(str(error).split())
    return f"its subtitles {name} cannot be read ({fault})" if fault else ""


def find_fault(subtitles: Any) -> str:
    """What is wrong with what a subtitle file says, and in which subtitle; empty where lmms-eval reads it."""
    if not isinstance(subtitles, list):
        return f"a list of subtitles is needed, got {type(subtitles).__name__}"
    for number, one in enumerate(subtitles, start=1):
        try:
            insert_subtitles_into_frames([0.0], [one], 0.0, 1.0)
            text = one["text" if "timestamp" in one else "line"]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            return f"subtitle {number}: {type(error).__name__}: {' '.join(str(error).split())}"
        if not isinstance(text, str):
            return f"subtitle {number}: its text is {text!r}"
    return ""


SUBTITLED = dataclasses.replace(VIDEOS, lacking=what_is_wrong_with_subtitles)
keep_local_with_subtitles = SUBTITLED.keep


def question_with_subtitles(doc: dict, lmms_eval_specific_kwargs: dict) -> str:
    """lmms-eval's prompt, `frame_num` frames at most; without `mark_frames` nothing is in a frame's place."""
    given = lmms_eval_specific_kwargs
    before = frames_and_subtitles(doc, VIDEOS.folder(), given["frame_num"])
    if not given["mark_frames"]:
        before = before.replace(FRAME, "")
    asked = longvideobench_doc_to_text(doc, {**given, "pre_prompt": "", "insert_interleave_subtitles": False})
    return f"{given['pre_prompt']}{before}\n{asked}"
