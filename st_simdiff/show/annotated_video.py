"""The annotated video: the sampled frames, one after another, beside what each method keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw

from st_simdiff.show.colours import INK, MUTED, PAPER, VERMILION
from st_simdiff.show.drawing import draw_fates, draw_legend, fate_grid, font, legend_entries, scaled
from st_simdiff.show.runs import Subject, View
from st_simdiff.show.timeline import draw_bars, draw_cuts
from st_simdiff.show.video import Clip

_MARGIN, _GAP, _CAPTION, _BARS, _LEGEND = 24, 16, 40, 84, 50
_PANEL_WIDTHS = {1: 900, 2: 620, 3: 500}
_NARROW = 400
_AXIS = 52


def write_annotated_video(
    path: str | Path,
    clip: Clip,
    subject: Subject,
    views: Sequence[View],
    *,
    rate: Fraction = Fraction(3),
    progress: Callable[[str], object] = lambda _: None,
) -> None:
    """Writes an H.264 MP4 that shows `rate` sampled frames a second."""
    page = _Page(clip, subject, views)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
        stream.width, stream.height = page.size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 2
        for index in range(len(clip.frames)):
            progress(f"Encoding frame {index + 1} of {len(clip.frames)}")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(page.draw(index), format="rgb24")))
        container.mux(stream.encode())


class _Page:
    """What does not change from frame to frame, drawn once."""

    def __init__(self, clip: Clip, subject: Subject, views: Sequence[View]) -> None:
        self.clip, self.subject, self.views = clip, subject, views
        panels = 1 + len(views)
        self.panel_width = _PANEL_WIDTHS.get(panels, _NARROW)
        self.picture_height = scaled(clip.frames[0], self.panel_width).height
        self.bars_top = _MARGIN + _CAPTION + self.picture_height + _GAP
        width = 2 * _MARGIN + panels * self.panel_width + (panels - 1) * _GAP
        height = self.bars_top + _BARS + _GAP + _LEGEND
        self.size = (width + width % 2, height + height % 2)  # yuv420p needs even sides
        self.still = self._draw_still()

    def _left(self, panel: int) -> int:
        return _MARGIN + panel * (self.panel_width + _GAP)

    def _bars_box(self, panel: int) -> tuple[int, int, int, int]:
        left = self._left(panel)
        return (left + _AXIS, self.bars_top + 8, left + self.panel_width, self.bars_top + _BARS)

    def _draw_still(self) -> Image.Image:
        image = Image.new("RGB", self.size, PAPER)
        draw = ImageDraw.Draw(image)
        for panel, view in enumerate(self.views, start=1):
            draw.text((self._left(panel), _MARGIN + 4), view.label, font=font(24), fill=INK)
            draw_bars(draw, self._bars_box(panel), view.provenance)
            draw_cuts(draw, self._bars_box(panel), self.subject)
        draw.text((self._left(0), self.bars_top + 8), self.clip.name, font=font(22), fill=INK)
        draw.text((self._left(0), self.bars_top + 40), "right: tokens kept per frame", font=font(18), fill=MUTED)
        entries = legend_entries([view.provenance for view in self.views], numbers=False)
        draw_legend(draw, (_MARGIN, self.size[1] - _LEGEND + 4), entries, 20)
        return image

    def draw(self, index: int) -> np.ndarray:
        """One frame of the annotated video, uint8 (h, w, 3)."""
        image = self.still.copy()
        draw = ImageDraw.Draw(image)
        picture = scaled(self.clip.frames[index], self.panel_width)
        image.paste(picture, (self._left(0), _MARGIN + _CAPTION))
        draw.text((self._left(0), _MARGIN + 4), f"{self.clip.seconds[index]:.2f} s", font=font(24), fill=INK)
        if index in self.subject.cuts:
            at = (self._left(0) + self.panel_width, _MARGIN + 4)
            draw.text(at, "new scene", font=font(24), fill=VERMILION, anchor="ra")
        for panel, view in enumerate(self.views, start=1):
            kept = draw_fates(picture, fate_grid(view.provenance, index))
            image.paste(kept, (self._left(panel), _MARGIN + _CAPTION))
            words = f"{int(view.provenance.per_frame()[index, 2:].sum())} kept"
            at = (self._left(panel) + self.panel_width, _MARGIN + 4)
            draw.text(at, words, font=font(24), fill=MUTED, anchor="ra")
            left, top, right, bottom = self._bars_box(panel)
            start, end = (left + step * (right - left) / len(self.clip.frames) for step in (index, index + 1))
            draw.rectangle((round(start) - 1, top - 6, round(end), bottom + 4), outline=INK, width=3)
        return np.asarray(image)
