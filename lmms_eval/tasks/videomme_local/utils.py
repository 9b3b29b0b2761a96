"""VideoMME on the videos that are there; asked and scored as by lmms-eval."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from lmms_eval.tasks.videomme.utils import (
    convert_time_to_frame,
    videomme_doc_to_text_subtitle,
    videomme_process_results,
)
from loguru import logger

from st_simdiff.lmms.local_videos import LocalVideos, warn
from st_simdiff.lmms.srt import Entry, Subtitles, parse_srt
from st_simdiff.lmms.subtitle_files import (
    PLACEHOLDERS_PARTED,
    has_placeholder,
    read_subtitles,
    without_placeholders,
)
from st_simdiff.lmms.video_folders import names

VIDEOS = LocalVideos(
    benchmark="videomme",
    places=lambda doc: names(f"data/{doc['videoID']}"),
    question=lambda doc: doc["question_id"],
)
keep_local = VIDEOS.keep
video_of = VIDEOS.visual

NO_SUBTITLES = "No subtitles available"
"""lmms-eval's words for a video without a subtitle file."""


def score(doc: dict, results: list[str]) -> dict:
    return VIDEOS.score(doc, results, videomme_process_results, "videomme_perception_score", split=doc["duration"])


def subtitles_of(doc: dict, folder: Path) -> Path:
    return folder / "subtitle" / f"{doc['videoID']}.srt"


def what_is_wrong_with_subtitles(doc: dict, folder: Path) -> str:
    """Empty where the video has none: lmms-eval says so in the prompt."""
    path = subtitles_of(doc, folder)
    try:
        if path.exists():
            read_entries(path)
    except (OSError, ValueError) as error:
        return f"its subtitles subtitle/{path.name} cannot be read ({' '.join(str(error).split())})"
    return ""


def read_entries(path: Path) -> Subtitles:
    """Raises `InputError`, OSError or ValueError for a file from which lmms-eval takes no subtitles."""
    return parse_srt(read_subtitles(path))


SUBTITLED = dataclasses.replace(VIDEOS, lacking=what_is_wrong_with_subtitles)


def keep_local_with_subtitles(dataset):
    """Those of `keep_local` whose subtitles can be read, or whose video has none."""
    kept = SUBTITLED.keep(dataset)
    folder = SUBTITLED.folder()
    paths = [subtitles_of({"videoID": name}, folder) for name in dict.fromkeys(kept["videoID"])]
    without = [path.stem for path in paths if not path.exists()]
    if without:
        listed = ", ".join(without[:10]) + (" ..." if len(without) > 10 else "")
        logger.warning(f'videomme: asked with "{NO_SUBTITLES}", as by lmms-eval: {len(without):,} videos: {listed}')
    tell_what_is_not_shown({f"subtitle/{path.name}": read_entries(path) for path in paths if path.exists()})
    return kept


def tell_what_is_not_shown(files: dict[str, Subtitles]) -> None:
    """Logs the files of which a prompt cannot show everything, and the lines with text that stands for an image."""
    lossy = [f"{name} ({found.loss})" for name, found in files.items() if found.loss]
    warn("videomme", "a prompt shows entries in the tags of VideoMME's files alone; whole ones it shows of", lossy)
    lines = [
        f"{name} line {entry.line}"
        for name, found in files.items()
        for entry in found.entries
        if has_placeholder(entry.shown or "")
    ]
    warn("videomme", PLACEHOLDERS_PARTED, lines)


def question_with_subtitles(doc: dict, lmms_eval_specific_kwargs: dict) -> str:
    """lmms-eval's prompt, with the subtitles that are shown at `frame_num` evenly spaced frames; -1 for every frame.

    The stock function looks for the video under its name with .mp4 alone, and has no subtitles for any other.
    """
    prompt = videomme_doc_to_text_subtitle({**doc, "videoID": ""}, lmms_eval_specific_kwargs)
    path = subtitles_of(doc, VIDEOS.folder())
    if not path.exists():
        return prompt
    video = cv2.VideoCapture(*VIDEOS.visual(doc))
    rate, total = video.get(cv2.CAP_PROP_FPS), int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    frames = lmms_eval_specific_kwargs["frame_num"]
    numbers = np.linspace(0, total - 1, total if frames == -1 else frames, dtype=int)
    shown = [entry.shown for entry in shown_at(read_entries(path).entries, numbers, rate)]
    texts = [without_placeholders(text) for text in shown if text is not None]
    return prompt.replace(NO_SUBTITLES, "\n".join(texts), 1)


def shown_at(entries: Sequence[Entry], frames: np.ndarray, rate: float) -> list[Entry]:
    """Those of `entries` that are shown at one of `frames`. rate: frames a second.

    In lmms-eval's order, which is that of a set of their indices and not always that of time.
    """
    starts = np.array([convert_time_to_frame(entry.start, rate) for entry in entries], dtype=int)
    ends = np.array([convert_time_to_frame(entry.end, rate) for entry in entries], dtype=int)
    found = [int(index) for frame in frames for index in np.flatnonzero((starts <= frame) & (frame < ends))]
    return [entries[index] for index in set(found)]
