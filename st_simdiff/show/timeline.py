"""The timeline: what each method keeps of every frame, and where the video changes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from PIL import Image, ImageDraw

from st_simdiff.show.colours import BLUE, FAINT, INK, MUTED, ORANGE, PAPER, PURPLE, RED, RGB, SKY_BLUE, YELLOW
from st_simdiff.show.drawing import draw_legend, font, legend_entries, scaled, summary_words
from st_simdiff.show.provenance import Fate, Provenance
from st_simdiff.show.runs import Subject, View
from st_simdiff.show.video import Clip

BAR_COLOURS: dict[Fate, RGB] = {
    Fate.EVENT: RED,
    Fate.REPRESENTATIVE: YELLOW,
    Fate.FARTHEST: ORANGE,
    Fate.SEED: PURPLE,
    Fate.ATTENTION: SKY_BLUE,
    Fate.CHOSEN: (150, 150, 156),
}
"""Stacked from the bottom in this order."""

_WIDTH, _LEFT, _RIGHT = 1800, 150, 40
_HEAD, _PANEL, _LIKENESS, _PANEL_HEAD, _FOOT = 96, 170, 110, 40, 64
_THUMBS = 10


def timeline(clip: Clip, subject: Subject, views: Sequence[View]) -> Image.Image:
    """Thumbnails, one panel of bars a view (tokens kept per frame, by reason), and the likeness of frames."""
    thumb_width = (_WIDTH - _LEFT - _RIGHT) // _THUMBS - 4
    thumb_height = scaled(clip.frames[0], thumb_width).height
    top = _HEAD + thumb_height + 16
    panels = len(views) * (_PANEL + _PANEL_HEAD)
    image = Image.new("RGB", (_WIDTH, top + panels + _LIKENESS + _PANEL_HEAD + _FOOT), PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((_LEFT, 18), f"{clip.name}: visual tokens left per frame", font=font(30), fill=INK)
    entries = [e for e in legend_entries([v.provenance for v in views], numbers=False) if e[0].kept]
    end = draw_legend(draw, (_LEFT, 62), entries, 20, BAR_COLOURS)
    if subject.cuts:
        _dashes(draw, end + 8, 60, 84)
        draw.text((end + 24, 72), "new scene", font=font(20), fill=INK, anchor="lm")
    for number in range(_THUMBS):
        frame = min(int((number + 0.5) / _THUMBS * len(clip.frames)), len(clip.frames) - 1)
        left = _LEFT + round(number * (_WIDTH - _LEFT - _RIGHT) / _THUMBS) + 2
        image.paste(scaled(clip.frames[frame], thumb_width), (left, _HEAD))
    for view in views:
        box = (_LEFT, top + _PANEL_HEAD, _WIDTH - _RIGHT, top + _PANEL_HEAD + _PANEL)
        pruning = ", before the final pruning" if view.note else ""
        draw.text((_LEFT, top + 12), f"{view.label}: {summary_words(view)}{pruning}", font=font(20), fill=INK)
        draw_bars(draw, box, view.provenance)
        draw_cuts(draw, box, subject)
        top += _PANEL + _PANEL_HEAD
    box = (_LEFT, top + _PANEL_HEAD, _WIDTH - _RIGHT, top + _PANEL_HEAD + _LIKENESS)
    draw.text((_LEFT, top + 12), "likeness to the frame before (mean cosine, from pixels)", font=font(20), fill=INK)
    _curve(draw, box, subject.likeness)
    draw_cuts(draw, box, subject)
    _seconds(draw, box, clip.seconds)
    return image


def draw_bars(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], provenance: Provenance) -> None:
    """Stacked bars, one a frame: tokens kept, by reason. The top of the box is every token of a frame."""
    left, top, right, bottom = box
    per_frame = provenance.per_frame().numpy()
    most = max(1, int(per_frame.sum(1).max()))
    for share in (0, 0.5, 1):
        level = round(bottom - share * (bottom - top))
        draw.line((left, level, right, level), fill=FAINT, width=1)
        draw.text((left - 10, level), f"{round(share * most)}", font=font(18), fill=MUTED, anchor="rm")
    edges = np.linspace(left, right, provenance.grid.frames + 1).round().astype(int).tolist()
    gap = 1 if edges[1] - edges[0] > 5 else 0
    for frame, (start, end) in enumerate(pairwise(edges)):
        counts = np.array([per_frame[frame, fate] for fate in BAR_COLOURS])
        levels = (bottom - counts.cumsum() / most * (bottom - top)).round().astype(int).tolist()
        for colour, low, high in zip(BAR_COLOURS.values(), [bottom, *levels], levels, strict=False):
            if high < low:
                draw.rectangle((start + gap, high, max(start + gap, end - 1 - gap), low - 1), fill=colour)
    draw.line((left, bottom, right, bottom), fill=INK, width=2)


def _curve(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], values: torch.Tensor) -> None:
    left, top, right, bottom = box
    for value in (0, 0.5, 1):
        level = round(bottom - value * (bottom - top))
        draw.line((left, level, right, level), fill=FAINT, width=1)
        draw.text((left - 10, level), f"{value:g}", font=font(18), fill=MUTED, anchor="rm")
    count = len(values)
    across = left + (np.arange(count) + 0.5) / count * (right - left)
    up = bottom - values.clamp(0, 1).numpy() * (bottom - top)
    points = [(float(x), float(y)) for x, y in zip(across, up, strict=True)]
    draw.line(points[1:], fill=BLUE, width=3, joint="curve")
    for x, y in points[1:]:
        draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=BLUE)


def draw_cuts(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], subject: Subject) -> None:
    """A dashed line before every frame that shows a new scene."""
    left, top, right, bottom = box
    for cut in subject.cuts:
        _dashes(draw, round(left + cut / subject.grid.frames * (right - left)), top, bottom)


def _dashes(draw: ImageDraw.ImageDraw, x: int, top: int, bottom: int) -> None:
    for start in range(top, bottom, 12):
        draw.line((x, start, x, min(start + 6, bottom)), fill=PURPLE, width=3)


def _seconds(draw: ImageDraw.ImageDraw, box: tuple[int, int, int, int], seconds: np.ndarray) -> None:
    left, _, right, bottom = box
    for position in range(0, len(seconds), -(-len(seconds) // 12)):
        x = left + (position + 0.5) / len(seconds) * (right - left)
        draw.text((x, bottom + 12), f"{seconds[position]:.1f} s", font=font(18), fill=MUTED, anchor="ma")
