"""The contact sheet: some frames of the video, their communities, and what each method keeps of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw

from st_simdiff.show.colours import INK, MUTED, PAPER, VERMILION
from st_simdiff.show.drawing import (
    colour_ranks,
    draw_communities,
    draw_fates,
    draw_legend,
    fate_grid,
    font,
    frame_events,
    grid_words,
    legend_entries,
    scaled,
    summary_words,
)
from st_simdiff.show.runs import Subject, View
from st_simdiff.show.video import Clip

_COLUMNS, _BANDS = 6, 2
_GAP, _MARGIN, _SIDE = 12, 36, 150
_HEAD, _CAPTION, _FOOT = 150, 34, 60
_FRAME_PIXELS = 76_000
"""Area of a drawn frame, so that tall and wide videos get sheets of similar size."""


def choose_frames(events: torch.Tensor, count: int) -> list[int]:
    """`count` frames worth a look, ascending: half of them those with the most events, the others evenly spaced.

    events: int64 (T,), how many event tokens each frame has. The frame before the richest one is there for comparison.
    """
    total = events.numel()
    if total <= count:
        return list(range(total))
    chosen: set[int] = {0}
    for frame in torch.sort(events, descending=True, stable=True).indices.tolist():
        if events[frame] == 0 or len(chosen) >= count // 2:
            break
        chosen |= {frame - 1, frame}
    while len(chosen) < count:
        known = sorted(chosen)
        ends = [*known, total]
        gap, start = max((after - before, -before) for before, after in zip(known, ends[1:], strict=True))
        chosen.add(-start + max(1, gap // 2))
    return sorted(chosen)[:count]


def contact_sheet(clip: Clip, subject: Subject, views: Sequence[View]) -> Image.Image:
    """Columns are frames; rows the frame, its communities (where a method finds some), and what each view keeps."""
    first = views[0].provenance
    with_communities = next((view for view in views if view.provenance.has_communities), None)
    frames = choose_frames(frame_events((with_communities or views[0]).provenance), _COLUMNS * _BANDS)
    columns = min(_COLUMNS, len(frames))
    cell_width = round(math.sqrt(_FRAME_PIXELS * clip.frames.shape[2] / clip.frames.shape[1]))
    height = scaled(clip.frames[0], cell_width).height
    rows = 1 + (with_communities is not None) + len(views)
    band = _CAPTION + rows * (height + _GAP) + _GAP * 2
    bands = [frames[start : start + columns] for start in range(0, len(frames), columns)]
    width = max(_MARGIN * 2 + _SIDE + columns * (cell_width + _GAP), 1500)
    sheet = Image.new("RGB", (width, _HEAD + len(bands) * band + _FOOT), PAPER)
    draw = ImageDraw.Draw(sheet)
    _head(draw, clip, views)
    ranks = colour_ranks(with_communities.provenance) if with_communities is not None else None
    for number, members in enumerate(bands):
        top = _HEAD + number * band
        for column, frame in enumerate(members):
            left = _MARGIN + _SIDE + column * (cell_width + _GAP)
            _caption(draw, (left, left + cell_width, top), frame, clip, subject, with_communities or views[0])
        for column, frame in enumerate(members):
            picture = scaled(clip.frames[frame], cell_width)
            stack = [picture]
            if ranks is not None:
                stack.append(draw_communities(picture, ranks[frame]))
            stack += [draw_fates(picture, fate_grid(view.provenance, frame)) for view in views]
            for row, cell in enumerate(stack):
                left = _MARGIN + _SIDE + column * (cell_width + _GAP)
                sheet.paste(cell, (left, top + _CAPTION + row * (height + _GAP)))
        labels = ["video"] + ["communities"] * (ranks is not None) + [view.label.replace(" ", "\n") for view in views]
        for row, words in enumerate(labels):
            middle = top + _CAPTION + row * (height + _GAP) + height // 2
            at = (_MARGIN, middle)
            draw.multiline_text(at, words, font=font(22), fill=INK, anchor="lm", spacing=6)
    words = f"{clip.name}: {grid_words(first.grid)}. Features: {subject.source}."
    draw.text((_MARGIN, sheet.height - _FOOT + 8), words, font=font(20), fill=MUTED)
    return sheet


def _head(draw: ImageDraw.ImageDraw, clip: Clip, views: Sequence[View]) -> None:
    first = views[0]
    if len(views) == 1:
        title = f"{clip.name}, {first.label}: {summary_words(first.provenance)}"
        note = first.note
    else:
        title = f"{clip.name}: {len(views)} methods"
        note = " · ".join(f"{v.label}: {100 * v.provenance.kept.double().mean():.1f} % kept" for v in views)
    draw.text((_MARGIN, 26), title, font=font(36), fill=INK)
    entries = legend_entries([view.provenance for view in views], numbers=len(views) == 1)
    draw_legend(draw, (_MARGIN, 82), entries, 24)
    draw.text((_MARGIN, 118), note, font=font(20), fill=MUTED)


def _caption(
    draw: ImageDraw.ImageDraw, place: tuple[int, int, int], frame: int, clip: Clip, subject: Subject, view: View
) -> None:
    """When the frame is shown, and what is new in it. place: left, right, top."""
    left, right, top = place
    draw.text((left, top + 4), f"{clip.seconds[frame]:.2f} s", font=font(22), fill=INK)
    marks = ["new scene"] if frame in subject.cuts else []
    if events := int(frame_events(view.provenance)[frame]):
        marks.append(f"{events} events" if events > 1 else "1 event")
    draw.text((right, top + 4), " · ".join(marks), font=font(22), fill=VERMILION, anchor="ra")
