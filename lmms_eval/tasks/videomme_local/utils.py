"""VideoMME on the videos that are there; asked and scored as by lmms-eval."""

import dataclasses
import re
from pathlib import Path

import numpy as np
from lmms_eval.tasks.videomme.utils import (
    extract_subtitles,
    parse_subtitle_time,
    videomme_doc_to_text_subtitle,
    videomme_process_results,
)
from loguru import logger

from st_simdiff.lmms.local_videos import LocalVideos

VIDEOS = LocalVideos(
    benchmark="videomme",
    places=lambda doc: [f"data/{doc['videoID']}{suffix}" for suffix in (".mp4", ".MP4", ".mkv")],
    question=lambda doc: doc["question_id"],
)
keep_local = VIDEOS.keep
video_of = VIDEOS.visual

NO_SUBTITLES = "No subtitles available"
"""lmms-eval's words for a video without a subtitle file."""
_SHOWN = re.compile(r'<font color="white" size=".72c">(.*?)</font>')
"""What is shown of a subtitle in VideoMME's files."""


def score(doc: dict, results: list[str]) -> dict:
    return VIDEOS.score(doc, results, videomme_process_results, "videomme_perception_score", split=doc["duration"])


def subtitles_of(doc: dict, folder: Path) -> Path:
    return folder / "subtitle" / f"{doc['videoID']}.srt"


def what_is_wrong_with_subtitles(doc: dict, folder: Path) -> str:
    """Empty where the video has none: lmms-eval says so in the prompt."""
    path = subtitles_of(doc, folder)
    try:
        fault = find_fault(path.read_text(encoding="utf-8")) if path.exists() else ""
    except (OSError, ValueError) as error:
        fault = " ".join(str(error).split())
    return f"its subtitles subtitle/{path.name} cannot be read ({fault})" if fault else ""


def find_fault(text: str) -> str:
    """What is wrong with a .srt file, and in which line; empty where lmms-eval takes subtitles from it, or it is empty.

    lmms-eval parts it at empty lines, and takes a part of two lines or fewer for no subtitle without a word.
    """
    first, found = 1, False
    for part in text.split("\n\n"):
        lines = part.split("\n")
        timed = len(lines) > 1 and _has_times(lines[1])
        if len(lines) > 2 and part.strip() and not timed:
            return f"line {first + 1}: 00:00:01,000 --> 00:00:02,000 is needed, got {lines[1][:40]!r}"
        found = found or timed
        first += len(lines) + 1
    return "" if found or not text.strip() else f"no subtitle is in it, line 1 is {text.splitlines()[0][:40]!r}"


def _has_times(line: str) -> bool:
    try:
        _start, _end = map(parse_subtitle_time, line.split(" --> ")[:2])
    except ValueError:
        return False
    return True


SUBTITLED = dataclasses.replace(VIDEOS, lacking=what_is_wrong_with_subtitles)


def keep_local_with_subtitles(dataset):
    """Those of `keep_local` whose subtitles can be read, or whose video has none."""
    kept = SUBTITLED.keep(dataset)
    folder = SUBTITLED.folder()
    without = [name for name in dict.fromkeys(kept["videoID"]) if not subtitles_of({"videoID": name}, folder).exists()]
    if without:
        listed = ", ".join(without[:10]) + (" ..." if len(without) > 10 else "")
        logger.warning(f'videomme: asked with "{NO_SUBTITLES}", as by lmms-eval: {len(without):,} videos: {listed}')
    return kept


def question_with_subtitles(doc: dict, lmms_eval_specific_kwargs: dict) -> str:
    """lmms-eval's prompt, with the subtitles that are shown at `frame_num` evenly spaced frames; -1 for every frame.

    The stock function looks for the video under its name with .mp4 alone, and has no subtitles for any other.
    """
    prompt = videomme_doc_to_text_subtitle({**doc, "videoID": ""}, lmms_eval_specific_kwargs)
    path = subtitles_of(doc, VIDEOS.folder())
    if not path.exists():
        return prompt
    subtitles, total = extract_subtitles(*VIDEOS.visual(doc), path)
    frames = lmms_eval_specific_kwargs["frame_num"]
    shown = shown_at(subtitles, np.linspace(0, total - 1, total if frames == -1 else frames, dtype=int))
    texts = [match[1] for text in shown if (match := _SHOWN.search(text))]
    return prompt.replace(NO_SUBTITLES, "\n".join(texts), 1)


def shown_at(subtitles: list[tuple[int, int, str]], frames: np.ndarray) -> list[str]:
    """The texts among `subtitles` (first frame, end, text) that are shown at one of `frames`.

    In lmms-eval's order, which is that of a set of their indices and not always that of time.
    """
    starts, ends = (np.array([one[side] for one in subtitles], dtype=int) for side in (0, 1))
    found = [int(index) for frame in frames for index in np.flatnonzero((starts <= frame) & (frame < ends))]
    return [subtitles[index][2] for index in set(found)]
