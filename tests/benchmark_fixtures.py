"""The five benchmarks, a few questions each, in their official schemas and layouts; some videos are of no use.

`make_benchmarks(folder)` lays them out as lmms-eval finds them offline when `folder` is the working directory and
`folder`/hf is HF_HOME.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from made_videos import write_video

from st_simdiff.vocabulary import MVBENCH_PARTS

GOOD = ("one", "two", "three")
BAD = ("missing", "empty", "corrupt")
VIDEOS = (*GOOD, *BAD)
"""Each benchmark asks one question about each."""

MVBENCH_FOLDERS = {
    "action_sequence": "star/Charades_segment",
    "action_localization": "sta/sta_video_segment",
    "moving_count": "data0613/clevrer/video_validation",
}
"""Parts of MVBench that have questions here, and where their videos are."""


def make_benchmarks(folder: Path) -> None:
    """Questions and videos of every benchmark."""
    hf = folder / "hf"
    _parquet(folder / "lmms-eval/Video-MME/test-00000-of-00001.parquet", [_videomme(*x) for x in enumerate(VIDEOS)])
    put_videos(hf / "videomme/data", {"three": "three.mkv"})
    validation = [_longvideobench(*x) for x in enumerate(VIDEOS)]
    _parquet(folder / "longvideobench/LongVideoBench/validation-00000-of-00001.parquet", validation)
    put_videos(hf / "datasets/longvideobench/videos")
    put_subtitles(hf)
    _make_egoschema(folder / "lmms-eval/egoschema")
    put_videos(hf / "egoschema/videos")
    _parquet(folder / "sy1998/MLVU_dev/test-00000-of-00001.parquet", [_mlvu(*x) for x in enumerate(VIDEOS)])
    put_videos(hf / "mlvu")
    _make_mvbench(folder / "OpenGVLab/MVBench")
    for place in MVBENCH_FOLDERS.values():
        put_videos(hf / "mvbench_video" / place)
    (hf / "mvbench_video/tvqa/video_fps3_hq_segment/one.mp4").mkdir(parents=True)


def put_videos(folder: Path, names: Mapping[str, str] | None = None) -> None:
    """The good videos, an empty and a corrupt one. names: file names other than the video's name with .mp4."""
    folder.mkdir(parents=True)
    for name in GOOD:
        path = folder / f"{name}.mp4"
        write_video(path, frames=3)
        path.rename(folder / (names or {}).get(name, path.name))
    (folder / "empty.mp4").touch()
    (folder / "corrupt.mp4").write_bytes(bytes(range(256)) * 64)


def put_subtitles(hf: Path) -> None:
    """Of VideoMME, all videos but `three`; of LongVideoBench, in the two forms that its files have."""
    folder = hf / "videomme/subtitle"
    folder.mkdir()
    for name in ("one", "two"):
        (folder / f"{name}.srt").write_text(srt([(0.0, 0.25, f"Here is {name}."), (0.25, 0.6, "It has wheels.")]))
    folder = hf / "datasets/longvideobench/subtitles"
    folder.mkdir()
    for name in VIDEOS:
        lines = [(0.5, 2.5, f"The door of {name}"), (5.2, 8.0, "opens."), (30.0, 31.0, "Much later.")]
        timed = [{"start": _time(start, "."), "end": _time(end, "."), "line": text} for start, end, text in lines]
        if name == "two":
            timed = [{"timestamp": [start, end], "text": text} for start, end, text in lines]
        (folder / f"{name}_en.json").write_text(json.dumps(timed))


def srt(lines: Sequence[tuple[float, float, str]]) -> str:
    """Subtitles as VideoMME's files have them. lines: start and end in seconds, and the text."""
    font = '<font color="white" size=".72c">{}</font>'
    return "".join(
        f"{number}\n{_time(start, ',')} --> {_time(end, ',')}\n{font.format(text)}\n\n"
        for number, (start, end, text) in enumerate(lines, start=1)
    )


def _time(seconds: float, point: str) -> str:
    return f"{int(seconds // 3600):02d}:{int(seconds // 60 % 60):02d}:{seconds % 60:06.3f}".replace(".", point)


def _parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import datasets

    path.parent.mkdir(parents=True, exist_ok=True)
    datasets.Dataset.from_list(list(rows)).to_parquet(path)


def _configs(folder: Path, files: Mapping[str, str], split: str) -> None:
    """A data set's card, which tells its configurations."""
    lines = [
        f"- config_name: {name}\n  data_files:\n  - split: {split}\n    path: {path}\n" for name, path in files.items()
    ]
    (folder / "README.md").write_text("---\nconfigs:\n" + "".join(lines) + "---\n")


def _videomme(number: int, video: str) -> dict[str, Any]:
    return {
        "video_id": f"{number:03d}",
        "duration": ("short", "medium", "long")[number % 3],
        "domain": "Knowledge",
        "sub_category": "Humanity & History",
        "url": f"https://www.youtube.com/watch?v={video}",
        "videoID": video,
        "question_id": f"{number:03d}-1",
        "task_type": "Counting Problem",
        "question": f"How many wheels are seen in {video}?",
        "options": ["A. None.", "B. Two.", "C. Four.", "D. Eight."],
        "answer": "B",
    }


def _longvideobench(number: int, video: str) -> dict[str, Any]:
    return {
        "video_id": video,
        "question": f"What happens after the door opens in {video}?",
        "question_wo_referring_query": "What happens?",
        "correct_choice": 1,
        "question_category": ("SSS", "S2E")[number % 2],
        "topic_category": "KH-Knowledge-History",
        "level": ("L2-Relation", "L1-Perception")[number % 2],
        "subtitle_path": f"{video}_en.json",
        "duration_group": 15,
        "starting_timestamp_for_subtitles": 0.0,
        "duration": 12.0,
        "view_count": 1000.0,
        "id": f"{video}_0",
        "video_path": f"{video}.mp4",
        "option0": "A cat enters",
        "option1": "A dog leaves",
        "option2": "Rain falls",
        "option3": "N/A",
        "option4": "N/A",
    }


def _make_egoschema(folder: Path) -> None:
    def question(number: int, video: str, answer: str | None) -> dict[str, Any]:
        return {
            "question_idx": str(number),
            "question": f"What is C doing in {video}?",
            "video_idx": video,
            "option": [f"{letter}. C does {letter}." for letter in "ABCDE"],
            "answer": answer,
        }

    for name, answer in (("Subset", "1"), ("GENERATION", None)):
        rows = [question(number, video, answer) for number, video in enumerate(VIDEOS)]
        if answer is None:
            rows.append(question(len(rows), "unheard", None))
        _parquet(folder / name / "test-00000-of-00001.parquet", rows)
    _configs(folder, {name: f"{name}/test-*" for name in ("Subset", "GENERATION")}, "test")


def _mlvu(number: int, video: str) -> dict[str, Any]:
    options = ["red", "green", "blue", "black"]
    return {
        "video_name": f"{video}.mp4",
        "duration": 12.0,
        "question": "\n".join(
            [f"What colour is the car in {video}?", *(f"({'ABCD'[i]}) {option}" for i, option in enumerate(options))]
        ),
        "candidates": options,
        "answer": "B",
        "task_type": ("count", "needle")[number % 2],
    }


def _make_mvbench(folder: Path) -> None:
    (folder / "json").mkdir(parents=True)
    for part in MVBENCH_PARTS:
        videos = VIDEOS if part in MVBENCH_FOLDERS else ("one",)
        rows = [
            {
                "video": f"{video}.mp4",
                "question": f"What did the person do in {video}?",
                "candidates": ["Sat down.", "Stood up.", "Left."],
                "answer": "Stood up.",
            }
            for video in videos
        ]
        (folder / "json" / f"{part}.json").write_text(json.dumps(rows))
    _configs(folder, {part: f"json/{part}.json" for part in MVBENCH_PARTS}, "train")
