"""The videos of a request, and a request whose videos every wrapper takes for videos.

A wrapper tells a video by the end of the file's name, each by a list of its own, and leaves out what is not on it
without a word: `film.mkv` or `FILM.MP4`. lmms-eval goes by names, too, where it makes the messages of a task:
`film.webm` becomes a sound there, and `film.gif` an image.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lmms_eval.api.instance import Instance

KNOWN_TO_ALL = (".mp4", ".avi", ".mov")
"""What a name may end with, in small letters, for every wrapper to take it for a video's."""
IMAGES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"})
SOUNDS = frozenset({".wav", ".mp3", ".m4a", ".aac", ".flac", ".ogg", ".opus"})
"""Ends of the names of files that are no videos. A file with any other end is one, also without an end."""


class LinkedVideos:
    """Links to videos, with names that every wrapper takes for a video's. They are gone when this object is."""

    def __init__(self) -> None:
        self._folder: TemporaryDirectory[str] | None = None
        self._links: dict[str, str] = {}
        self._videos: dict[str, str] = {}

    def link(self, video: str) -> str:
        """`video` itself where every wrapper takes it for one, else a link to it, the same one every time."""
        if video.endswith(KNOWN_TO_ALL):
            return video
        if video not in self._links:
            if self._folder is None:
                self._folder = TemporaryDirectory(prefix="st-simdiff-videos-")
            link = Path(self._folder.name) / f"{len(self._links)}{KNOWN_TO_ALL[0]}"
            link.symlink_to(os.path.abspath(video))
            self._links[video], self._videos[str(link)] = str(link), video
        return self._links[video]

    def video(self, link: str) -> str:
        """What `link` stands for; itself if it is none."""
        return self._videos.get(link, link)


def is_video(visual: Any) -> bool:
    """Whether a visual of lmms-eval's is a video file."""
    return isinstance(visual, str) and Path(visual).suffix.lower() not in IMAGES | SOUNDS


def videos_of(request: Instance, documents: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The video files of a request for text. documents: by task and split, as lmms-eval gives them to a model."""
    *_, doc_id, task, split = request.args
    for argument in request.args[1:3]:
        if callable(argument):  # doc_to_visual, or doc_to_messages
            for visual in _told(argument, str)(documents[task][split][doc_id]) or ():
                if is_video(visual):
                    yield visual
                elif isinstance(visual, Mapping) and isinstance(visual.get("content"), list):
                    yield from (part["url"] for part in visual["content"] if _is_video_part(part))


def with_videos_told(request: Instance, link: Callable[[str], str]) -> Instance:
    """A copy of `request`, of which a wrapper takes every video for one.

    link: from a video file to the name that a simple class is given; in messages it is told by its type.
    """
    arguments = tuple(_told(argument, link) if callable(argument) else argument for argument in request.args)
    return dataclasses.replace(request, arguments=arguments)


def _told(function: Callable[..., Any], link: Callable[[str], str]) -> Callable[..., Any]:
    """A task's `doc_to_visual`, `doc_to_messages`, or what gives visuals or messages first in every later round."""
    config = getattr(getattr(function, "__self__", None), "config", None)
    guessed = config is not None and config.doc_to_messages is None  # by lmms-eval, from the names of files

    def told(visual: Any) -> Any:
        if is_video(visual):
            return link(visual)
        if guessed and isinstance(visual, Mapping):
            return {**visual, "content": list(map(_as_video, visual["content"]))}
        return visual

    def asked(*arguments: Any, **named: Any) -> Any:
        found = function(*arguments, **named)
        visuals, *others = found if isinstance(found, tuple) else (found,)
        visuals = list(map(told, visuals)) if isinstance(visuals, list) else visuals
        return (visuals, *others) if isinstance(found, tuple) else visuals

    return asked


def _as_video(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**part, "type": "video"} if is_video(part.get("url")) else part


def _is_video_part(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "video" and isinstance(part.get("url"), str)
