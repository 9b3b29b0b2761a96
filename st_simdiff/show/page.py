"""One HTML file that needs nothing else: the frames, what each method kept, and st_simdiff recomputed under sliders."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import numpy as np
import torch
from PIL import Image

from st_simdiff.selection.graph import cosine_planes, node_view
from st_simdiff.selection.select import select
from st_simdiff.show.colours import hexadecimal
from st_simdiff.show.drawing import ATTENTION_SCALE, FATE_COLOURS, grid_words
from st_simdiff.show.projection import Projection, project
from st_simdiff.show.provenance import Fate, Provenance
from st_simdiff.show.runs import Subject, Thresholds, View
from st_simdiff.show.video import Clip

_IMAGE_WIDTH, _IMAGE_WIDTH_OF_MANY, _MANY = 560, 360, 96


def page(clip: Clip, subject: Subject, views: Sequence[View], settings: Thresholds) -> str:
    """The page as one string of HTML."""
    folder = files("st_simdiff.show") / "page_files"
    parts = {
        "title": html.escape(f"{clip.name}: visual tokens kept"),
        "style": (folder / "page.css").read_text("utf-8"),
        "selection": (folder / "selection.js").read_text("utf-8"),
        "script": (folder / "page.js").read_text("utf-8"),
        # "<" would let a file name end the script element
        "data": json.dumps(page_data(clip, subject, views, settings), allow_nan=False).replace("<", "\\u003c"),
    }
    template = (folder / "page.html").read_text("utf-8")
    before, *rest = template.split("{{")
    pieces = [before]
    for piece in rest:
        name, _, following = piece.partition("}}")
        pieces += [parts[name], following]
    return "".join(pieces)


def page_data(clip: Clip, subject: Subject, views: Sequence[View], settings: Thresholds) -> dict[str, Any]:
    """Everything that the page's script reads, ready for JSON; arrays as base64 of little-endian numbers."""
    grid = subject.grid
    projection = project(subject.features)
    nodes = node_view(projection.features, grid)
    planes = cosine_planes(nodes)
    dimensions, total = projection.features.shape[1], subject.features.shape[1]
    return {
        "title": f"{clip.name}: which visual tokens stay, and why",
        "about": f"{grid_words(grid)}, {grid.count:,} visual tokens. Features: {subject.source}.",
        "liveNote": live_note(subject, views, projection, settings),
        "grid": {
            "frames": grid.frames,
            "height": grid.height,
            "width": grid.width,
            "columns": nodes.shape[2],
            "frameLength": grid.frame_length,
            "count": grid.count,
        },
        "size": {"width": clip.frames.shape[2], "height": clip.frames.shape[1]},
        "seconds": [round(float(second), 3) for second in clip.seconds],
        "cuts": list(subject.cuts),
        "images": [_jpeg(frame, len(clip.frames)) for frame in clip.frames],
        "projection": {"dimensions": dimensions, "of": total, "share": projection.share},
        "features": _base64(projection.features, np.float32),
        "planes": {name: _base64(getattr(planes, name), np.float32) for name in ("right", "down", "next")},
        "previous": _base64(cosine_planes(node_view(subject.features, grid)).next, np.float32),
        "attention": None if subject.attention is None else _base64(subject.attention, np.float32),
        "settings": vars(settings),
        "attentionScale": [list(colour) for colour in ATTENTION_SCALE],
        "fates": [{"label": fate.label, "colour": hexadecimal(FATE_COLOURS.get(fate, (46, 46, 50)))} for fate in Fate],
        "views": [_view_data(view) for view in views],
    }


def live_note(subject: Subject, views: Sequence[View], projection: Projection, settings: Thresholds) -> str:
    """What to know about the selection in the page, and how near it comes to the recorded one at the same settings."""
    dimensions, total = projection.features.shape[1], subject.features.shape[1]
    words = "Candidates for the language model"
    if dimensions >= total:
        return words + "."
    words += f", from {dimensions} of the features' {total} dimensions ({100 * projection.share:.1f} % of their squared"
    words += " length)"
    same = next((view for view in views if view.thresholds == settings), None)
    if same is not None:
        live = select(projection.features, subject.grid, **vars(settings)).candidate
        candidates = same.provenance.representative | same.provenance.event
        words += f"; at first as recorded for {100 * (live == candidates).double().mean():.1f} % of the tokens"
    return words + "."


def _view_data(view: View) -> dict[str, Any]:
    story: Provenance = view.provenance
    known = story.has_communities
    scored, ranked = not bool(story.score.isnan().all()), bool((story.attention_rank >= 0).any())
    return {
        "label": view.label,
        "note": view.note,
        "stages": list(story.stages),
        "fate": _base64(story.fate, np.uint8),
        "stage": _base64(story.stage, np.int8),
        "owner": _base64(story.owner, np.int32),
        "representative": _base64(story.representative, np.uint8),
        "community": _base64(story.community, np.int32) if known else None,
        "centrality": _base64(story.centrality, np.float32) if known else None,
        "reach": None if bool(story.reach.isnan().all()) else _base64(story.reach, np.float32),
        "score": _base64(story.score, np.float32) if scored else None,
        "attention": _base64(story.attention, np.float32) if ranked else None,
        "rank": _base64(story.attention_rank, np.int32) if ranked else None,
    }


def _base64(values: torch.Tensor, kind: type[np.generic]) -> str:
    array = values.detach().cpu().numpy().astype(np.dtype(kind).newbyteorder("<"))
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")


def _jpeg(frame: np.ndarray, count: int) -> str:
    width = min(frame.shape[1], _IMAGE_WIDTH if count <= _MANY else _IMAGE_WIDTH_OF_MANY)
    picture = Image.fromarray(frame)
    picture = picture.resize((width, max(1, round(frame.shape[0] * width / frame.shape[1]))), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=82, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
