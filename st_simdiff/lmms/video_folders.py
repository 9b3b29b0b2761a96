"""Where the benchmarks' videos are looked for, by lmms-eval and by this project, to say so before a run has none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from st_simdiff.errors import InputError
from st_simdiff.vocabulary import LOCAL

SUFFIXES = (".mp4", ".mkv", ".webm", ".mov", ".avi", ".m4v", ".gif")
"""Of video files, in small letters; also in capitals. Where a benchmark tells a video's name alone, the first that is
there counts."""


def names(stem: str) -> list[str]:
    """The file names under which a video called `stem` is looked for."""
    return [stem + suffix for small in SUFFIXES for suffix in (small, small.upper())]


@dataclass(frozen=True)
class VideoFolder:
    """cache: the folder under $HF_HOME whose existence makes lmms-eval skip its download. videos, subtitles: what is in
    it; no subtitles where the benchmark has none. subtitle_suffix: with which their names end."""

    cache: str
    videos: str
    subtitles: str = ""
    subtitle_suffix: str = ""

    @property
    def videos_here(self) -> str:
        """`videos` as this project's tasks look for them."""
        name, found, _ = self.videos.partition(SUFFIXES[0])
        return f"{name}{SUFFIXES[0]} (or {', '.join(SUFFIXES[1:])})" if found else name


FOLDERS = {
    "videomme": VideoFolder("videomme", "data/<videoID>.mp4", "subtitle/<videoID>.srt", ".srt"),
    "longvideobench": VideoFolder(
        "datasets/longvideobench", "videos/<video_path>", "subtitles/<subtitle_path>", ".json"
    ),
    "egoschema": VideoFolder("egoschema", "videos/<video_idx>.mp4"),
    "mlvu": VideoFolder("mlvu", "<video_name>"),
    "mvbench": VideoFolder("mvbench_video", "<folder>/<video>"),
}
"""By the first part of the task's name: videomme_local, longvideobench_val_v, mvbench_state_change."""


def hf_home(environment: Mapping[str, str]) -> Path:
    """The folder under which lmms-eval keeps videos."""
    return Path(environment.get("HF_HOME", "~/.cache/huggingface")).expanduser()


def refuse_empty(tasks: Iterable[str], home: Path) -> None:
    """Raises `InputError` for a task without a single video that nothing will download.

    lmms-eval downloads nothing where the folder exists, and nothing for this project's own tasks.
    """
    for task, folder in without_videos(tasks, home):
        root = home / folder.cache
        if task.endswith(LOCAL):
            raise InputError(
                f"No video of task {task} is present: it asks about those in {root / folder.videos_here} only; put "
                f"them there, or name another folder than {home} in HF_HOME."
            )
        if root.is_dir():
            raise InputError(
                f"No video of task {task} is present: {root} exists, so lmms-eval downloads nothing, but there is no "
                f"{folder.videos} in it; put the videos there, or remove the folder to have them downloaded."
            )


def without_videos(tasks: Iterable[str], home: Path) -> list[tuple[str, VideoFolder]]:
    """The tasks among `FOLDERS` that have no video under `home`, and where it would be."""
    known = [(task, FOLDERS[task.split("_")[0]]) for task in tasks if task.split("_")[0] in FOLDERS]
    return [(task, folder) for task, folder in known if not _has_video(home / folder.cache)]


def _has_video(root: Path) -> bool:
    return any(path.suffix.lower() in SUFFIXES for path in root.rglob("*"))
