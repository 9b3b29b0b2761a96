"""LongVideoBench's validation set on the videos that are there; asked and scored as by lmms-eval."""

import dataclasses
import json
from pathlib import Path

from lmms_eval.tasks.longvideobench.utils import (
    compute_frame_timestamps,
    insert_subtitles_into_frames,
    longvideobench_doc_to_text,
    longvideobench_process_results,
)

from st_simdiff.errors import InputError
from st_simdiff.lmms.json_subtitles import check_question, check_subtitles, ends_early, text_key
from st_simdiff.lmms.local_videos import LocalVideos, warn
from st_simdiff.lmms.subtitle_files import (
    PLACEHOLDERS_PARTED,
    has_placeholder,
    read_subtitles,
    without_placeholders,
)
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
    subtitles = [_as_text_alone(one) for one in read_list(folder / "subtitles" / doc["subtitle_path"])]
    times = compute_frame_timestamps(doc["duration"], frames)
    return insert_subtitles_into_frames(times, subtitles, doc["starting_timestamp_for_subtitles"], doc["duration"])


def _as_text_alone(subtitle: dict) -> dict:
    """`subtitle` without text that a model would take for a frame or a turn."""
    key = text_key(subtitle)
    return {**subtitle, key: without_placeholders(subtitle[key])}


def read_list(path: Path) -> list[dict]:
    """The subtitles of a file. Raises `InputError` for what is no list of them; OSError, ValueError or RecursionError
    for what cannot be read."""
    subtitles = json.loads(read_subtitles(path))
    check_subtitles(subtitles)
    return subtitles


def what_is_wrong_with_subtitles(doc: dict, folder: Path) -> str:
    """Every question of LongVideoBench has subtitles, and lmms-eval's own task ends where a file is not there."""
    if not isinstance(doc["subtitle_path"], str) or not doc["subtitle_path"]:
        return f"no file of subtitles is named (its subtitle_path is {doc['subtitle_path']!r})"
    name = f"subtitles/{doc['subtitle_path']}"
    if not (folder / name).exists():
        return f"its subtitles {name} are missing"
    try:
        read_list(folder / name)
    except (OSError, ValueError, RecursionError) as error:
        return f"its subtitles {name} cannot be read ({' '.join(str(error).split())})"
    try:
        check_question(doc)
    except InputError as error:
        return str(error)
    return ""


SUBTITLED = dataclasses.replace(VIDEOS, lacking=what_is_wrong_with_subtitles)


def keep_local_with_subtitles(dataset):
    """Those of `keep_local` whose subtitles can be read. Logs where subtitles are not shown as they are in the file."""
    kept = SUBTITLED.keep(dataset)
    folder = SUBTITLED.folder() / "subtitles"
    places: dict[str, list[str]] = {"early": [], "text": []}
    for name in dict.fromkeys(kept["subtitle_path"]):
        for number, one in enumerate(read_list(folder / name), start=1):
            if ends_early(one):
                places["early"].append(f"subtitles/{name} subtitle {number}")
            if has_placeholder(one[text_key(one)]):
                places["text"].append(f"subtitles/{name} subtitle {number}")
    early = "these end before they begin and are shown for a second between the two times, as by lmms-eval"
    warn("longvideobench", early, places["early"])
    warn("longvideobench", PLACEHOLDERS_PARTED, places["text"])
    return kept


def question_with_subtitles(doc: dict, lmms_eval_specific_kwargs: dict) -> str:
    """lmms-eval's prompt, `frame_num` frames at most; without `mark_frames` nothing is in a frame's place."""
    given = lmms_eval_specific_kwargs
    before = frames_and_subtitles(doc, VIDEOS.folder(), given["frame_num"])
    if not given["mark_frames"]:
        before = before.replace(FRAME, "")
    asked = longvideobench_doc_to_text(doc, {**given, "pre_prompt": "", "insert_interleave_subtitles": False})
    return f"{given['pre_prompt']}{before}\n{asked}"
