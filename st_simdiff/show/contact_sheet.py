"""The contact sheet: some frames of the video, their communities, and what each method keeps of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from PIL import Image, ImageDraw

from st_simdiff.show.colours import INK, MUTED, PAPER, VERMILION
from st_simdiff.show.drawing import (
    attention_places,
    colour_ranks,
    draw_attention,
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
_COLUMNS_OF_MANY = 8
"""Columns where more than two methods are compared; then one band has to do."""
_GAP, _MARGIN = 12, 36
_HEAD, _CAPTION, _FOOT = 150, 34, 60
_FRAME_PIXELS = 76_000
"""Area of a drawn frame, so that tall and wide videos get sheets of similar size."""


Painter = Callable[[Image.Image, int], Image.Image]
"""Makes a row's picture of a frame from the frame and its number."""


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
        chosen |= {max(frame - 1, 0), frame}
    while len(chosen) < count:
        known = sorted(chosen)
        ends = [*known, total]
        gap, start = max((after - before, -before) for before, after in zip(known, ends[1:], strict=True))
        chosen.add(-start + max(1, gap // 2))
    return sorted(chosen)[:count]


def contact_sheet(clip: Clip, subject: Subject, views: Sequence[View]) -> Image.Image:
    """Columns are frames; for the rows see `sheet_rows`."""
    columns, bands = (_COLUMNS, _BANDS) if len(views) <= 2 else (_COLUMNS_OF_MANY, 1)
    leading = _with_communities(views) or views[0]
    frames = choose_frames(frame_events(leading.provenance), columns * bands)
    columns = min(columns, len(frames))
    rows = sheet_rows(subject, views)
    side = round(max(font(22).getlength(line) for label, _ in rows for line in label.split("\n"))) + 24
    cell_width = round(math.sqrt(_FRAME_PIXELS * clip.frames.shape[2] / clip.frames.shape[1]))
    height = scaled(clip.frames[0], cell_width).height
    band = _CAPTION + len(rows) * (height + _GAP) + _GAP * 2
    width = max(_MARGIN * 2 + side + columns * (cell_width + _GAP), 1500)
    sheet = Image.new("RGB", (width, _HEAD + -(-len(frames) // columns) * band + _FOOT), PAPER)
    draw = ImageDraw.Draw(sheet)
    _head(draw, clip, views)
    for number, frame in enumerate(frames):
        left = _MARGIN + side + number % columns * (cell_width + _GAP)
        top = _HEAD + number // columns * band
        _caption(draw, (left, left + cell_width, top), frame, clip, subject, leading)
        picture = scaled(clip.frames[frame], cell_width)
        for row, (label, paint) in enumerate(rows):
            upper = top + _CAPTION + row * (height + _GAP)
            sheet.paste(paint(picture, frame), (left, upper))
            if left == _MARGIN + side:
                at = (_MARGIN, upper + height // 2)
                draw.multiline_text(at, label, font=font(22), fill=INK, anchor="lm", spacing=6)
    words = f"{clip.name}: {grid_words(subject.grid)}. Features: {subject.source}."
    draw.text((_MARGIN, sheet.height - _FOOT + 8), words, font=font(20), fill=MUTED)
    return sheet


def sheet_rows(subject: Subject, views: Sequence[View]) -> list[tuple[str, Painter]]:
    """Label and painter of every row: the video, its communities and the question's attention where there are any, and
    what each view keeps."""
    rows: list[tuple[str, Painter]] = [("video", lambda picture, _: picture)]
    with_communities = _with_communities(views)
    if with_communities is not None:
        ranks = colour_ranks(with_communities.provenance)
        label = "communities" if len(views) == 1 else f"communities of\n{with_communities.label}"
        rows.append((label, lambda picture, frame: draw_communities(picture, ranks[frame])))
    if subject.attention is not None:
        places = attention_places(subject.attention, subject.grid)
        rows.append(("attention of\nthe question", lambda picture, frame: draw_attention(picture, places[frame])))
    return rows + [(view.label.replace(" ", "\n"), _fate_painter(view)) for view in views]


def _fate_painter(view: View) -> Painter:
    return lambda picture, frame: draw_fates(picture, fate_grid(view.provenance, frame))


def _with_communities(views: Sequence[View]) -> View | None:
    return next((view for view in views if view.provenance.has_communities), None)


def _head(draw: ImageDraw.ImageDraw, clip: Clip, views: Sequence[View]) -> None:
    first = views[0]
    if len(views) == 1:
        title = f"{clip.name}, {first.label}: {summary_words(first)}"
        note = first.note
    else:
        title = f"{clip.name}: {len(views)} methods"
        note = " · ".join(_share_left(view) for view in views)
    draw.text((_MARGIN, 26), title, font=font(36), fill=INK)
    entries = legend_entries([view.provenance for view in views], numbers=len(views) == 1)
    draw_legend(draw, (_MARGIN, 82), entries, 24)
    draw.text((_MARGIN, 118), note, font=font(20), fill=MUTED)


def _share_left(view: View) -> str:
    """Such as `random r=0.3: 30.0 % kept`; of a view without a model's final pruning, that these are candidates."""
    share = f"{100 * view.provenance.kept.double().mean():.1f} %"
    return f"{view.label}: {share} {'candidates, before the final pruning' if view.note else 'kept'}"


def _caption(
    draw: ImageDraw.ImageDraw, place: tuple[int, int, int], frame: int, clip: Clip, subject: Subject, view: View
) -> None:
    """When the frame is shown, and what is new in it. place: left, right, top."""
    left, right, top = place
    draw.text((left, top + 4), f"{clip.seconds[frame]:.2f} s", font=font(22), fill=INK)
    marks = ["new scene"] if frame in subject.cuts else []
    if events := int(frame_events(view.provenance)[frame]):
        marks.append(f"{events} events" if events > 1 else "1 event")
    draw.text((right, top + 4), " · ".join(marks), font=font(19), fill=VERMILION, anchor="ra")
