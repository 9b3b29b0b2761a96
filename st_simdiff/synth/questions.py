"""Four-option questions about one clip: about what is stable, and about what happens. Answers are option words."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from st_simdiff.errors import unknown
from st_simdiff.synth.glyphs import BACKGROUNDS, COLORS, DIGITS, SHAPES
from st_simdiff.synth.vocabulary import COUNTS, MOTIONS, QUARTERS
from st_simdiff.synth.world import ClipSpec, Event

OPTIONS = 4


@dataclass(frozen=True)
class Question:
    """family: a key of FAMILIES. text: the question without its options. options: four words, the answer among them.
    evidence: the events that decide the answer; none for what is stable."""

    family: str
    text: str
    options: tuple[str, ...]
    answer: str
    evidence: tuple[Event, ...] = ()

    @property
    def kind(self) -> str:
        """stable or event."""
        return "stable" if self.family in STABLE else "event"

    @property
    def prompt(self) -> str:
        """The question with its options, as the model reads it."""
        return f"{self.text} Options: {', '.join(self.options)}."


def ask(family: str, spec: ClipSpec, random: np.random.Generator, position: int | None = None) -> Question | None:
    """A question of `family` about a clip, or None if the clip gives no occasion for one.

    position: where the answer stands among the options, 0..3; drawn when None. Raises InputError for an unknown family.
    """
    if family not in FAMILIES:
        raise unknown("question family", family, FAMILIES)
    draft = FAMILIES[family](spec, random)
    if draft is None:
        return None
    wrong = _pick_wrong(random, draft)
    place = int(random.integers(OPTIONS)) if position is None else position
    options = (*wrong[:place], draft.answer, *wrong[place:])
    return Question(family, draft.text, options, draft.answer, draft.evidence)


@dataclass(frozen=True)
class _Draft:
    """near: wrong options that the same clip shows, taken first. words: what the other wrong options are drawn from.
    never: words that would be right as well."""

    text: str
    answer: str
    near: tuple[str, ...]
    words: tuple[str, ...]
    never: tuple[str, ...] = ()
    evidence: tuple[Event, ...] = ()


def _pick_wrong(random: np.random.Generator, draft: _Draft) -> list[str]:
    """Three wrong options in a random order, at most two of them from the same clip."""
    barred = {draft.answer, *draft.never}
    near = [word for word in dict.fromkeys(draft.near) if word not in barred]
    chosen = [near[i] for i in random.permutation(len(near))[: OPTIONS - 2]]
    far = [word for word in draft.words if word not in barred and word not in near]
    chosen += [far[i] for i in random.permutation(len(far))]
    if len(chosen) < OPTIONS - 1:
        chosen += [word for word in near if word not in chosen]
    return [chosen[i] for i in random.permutation(OPTIONS - 1)]


def _color(spec: ClipSpec, random: np.random.Generator) -> _Draft:
    steady = [shape for shape in (spec.mover, spec.resting) if shape.change_at is None]
    shape = steady[int(random.integers(len(steady)))]
    others = tuple(color for s in spec.shapes for color in (s.color, s.new_color) if color)
    return _Draft(f"What color is the {shape.name}?", shape.color, others, tuple(COLORS))


def _sign(spec: ClipSpec, _: np.random.Generator) -> _Draft:
    flashed = tuple(DIGITS[flash.digit] for flash in spec.flashes)
    return _Draft("Which digit is on the sign?", DIGITS[spec.sign.digit], flashed, DIGITS)


def _background(spec: ClipSpec, random: np.random.Generator) -> _Draft:
    where = int(random.integers(2))
    shown = tuple(background.color for background in spec.backgrounds)
    text = f"What is the background at the {('start', 'end')[where]}?"
    return _Draft(text, shown[-1 if where else 0], shown, tuple(BACKGROUNDS))


def _motion(spec: ClipSpec, _: np.random.Generator) -> _Draft | None:
    if spec.direction is None:
        return None
    return _Draft(f"Which way does the {spec.mover.name} move?", spec.direction, (), MOTIONS)


def _flash(spec: ClipSpec, random: np.random.Generator) -> _Draft | None:
    if not spec.flashes:
        return None
    flash = spec.flashes[int(random.integers(len(spec.flashes)))]
    flashed = tuple(DIGITS[f.digit] for f in spec.flashes)
    evidence = _flash_events(spec, flash.onset)
    return _Draft("Which digit flashed?", DIGITS[flash.digit], (DIGITS[spec.sign.digit],), DIGITS, flashed, evidence)


def _order(spec: ClipSpec, random: np.random.Generator) -> _Draft | None:
    if len(spec.flashes) < 2:
        return None
    where = int(random.integers(2))
    in_order = sorted(spec.flashes, key=lambda flash: flash.onset)
    answer = DIGITS[in_order[-1 if where else 0].digit]
    others = tuple(DIGITS[plate.digit] for plate in (*in_order, spec.sign))
    text = f"Which digit flashed {('first', 'last')[where]}?"
    return _Draft(text, answer, others, DIGITS, evidence=_flash_events(spec))


def _count(spec: ClipSpec, _: np.random.Generator) -> _Draft | None:
    if not spec.flashes:
        return None
    answer = COUNTS[len(spec.flashes) - 1]
    return _Draft("How many times did a digit flash?", answer, (), COUNTS, evidence=_flash_events(spec))


def _when(spec: ClipSpec, random: np.random.Generator) -> _Draft | None:
    if not spec.flashes:
        return None
    # The first quarter has fewer onsets (none in frame 0): choose the quarter before the flash.
    quarters = sorted({flash.onset * 4 // spec.world.frames for flash in spec.flashes})
    quarter = quarters[int(random.integers(len(quarters)))]
    flashes = [flash for flash in spec.flashes if flash.onset * 4 // spec.world.frames == quarter]
    flash = flashes[int(random.integers(len(flashes)))]
    text = f"In which quarter did the {DIGITS[flash.digit]} start to flash?"
    return _Draft(text, QUARTERS[quarter], (), QUARTERS, evidence=_flash_events(spec, flash.onset))


def _appearance(spec: ClipSpec, _: np.random.Generator) -> _Draft | None:
    if spec.appearing is None:
        return None
    others = (spec.mover.name, spec.resting.name)
    evidence = tuple(event for event in spec.events() if event.kind == "appearance")
    return _Draft("Which shape appeared?", spec.appearing.name, others, SHAPES, evidence=evidence)


def _change(spec: ClipSpec, _: np.random.Generator) -> _Draft | None:
    shape = spec.resting
    if shape.new_color is None:
        return None
    near = (shape.color, *(s.color for s in spec.shapes))
    evidence = tuple(event for event in spec.events() if event.kind == "change")
    return _Draft(f"What color did the {shape.name} turn to?", shape.new_color, near, tuple(COLORS), evidence=evidence)


def _flash_events(spec: ClipSpec, onset: int | None = None) -> tuple[Event, ...]:
    return tuple(e for e in spec.events() if e.kind == "flash" and onset in (None, e.frames[0]))


STABLE: dict[str, Callable[[ClipSpec, np.random.Generator], _Draft | None]] = {
    "color": _color,
    "sign": _sign,
    "background": _background,
    "motion": _motion,
}
HAPPENING: dict[str, Callable[[ClipSpec, np.random.Generator], _Draft | None]] = {
    "flash": _flash,
    "order": _order,
    "count": _count,
    "when": _when,
    "appearance": _appearance,
    "change": _change,
}
FAMILIES = STABLE | HAPPENING
