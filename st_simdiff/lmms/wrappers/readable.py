"""Which videos a request is about, and whether they can be read: lmms-eval's wrappers would end the run, or guess."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lmms_eval.api.instance import Instance

from st_simdiff.videos.frames import VideoError, sample_frames


def videos_of(request: Instance, documents: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """The video files of a request for text. documents: by task and split, as lmms-eval gives them to a model."""
    *_, doc_id, task, split = request.args
    for argument in request.args[1:3]:
        if callable(argument):  # doc_to_visual, or doc_to_messages
            for visual in argument(documents[task][split][doc_id]) or ():
                if isinstance(visual, str):
                    yield visual
                elif isinstance(visual, Mapping) and isinstance(visual.get("content"), list):
                    yield from (part["url"] for part in visual["content"] if _is_video_file(part))


def _is_video_file(part: Any) -> bool:
    return isinstance(part, Mapping) and part.get("type") == "video" and isinstance(part.get("url"), str)


def why_unreadable(video: str) -> str:
    """The reason why the first and the last frame of `video` cannot be read; empty if they can."""
    try:
        sample_frames(video, 2, force_sample=True)
    except VideoError as error:
        return str(error)
    return ""
