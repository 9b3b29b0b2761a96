"""One entry of a grid as an evaluation: the method, the model's settings with their types, and a label for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from st_simdiff.answering.arguments import AnsweringArguments
from st_simdiff.checks import check_frames
from st_simdiff.errors import InputError
from st_simdiff.evaluate.grid import Combination
from st_simdiff.lmms.models import find_model
from st_simdiff.lmms.subtitles import SUBTITLE_FRAMES, Frames, read_budget
from st_simdiff.methods.base import Method
from st_simdiff.methods.settings import as_data, changed_settings, take_method
from st_simdiff.model_args import read_value
from st_simdiff.runs.run import Evaluation
from st_simdiff.stock_wrappers import FRAME_COUNTS
from st_simdiff.vocabulary import FULL

Read = tuple[Evaluation, AnsweringArguments | None]


def read_evaluation(combination: Combination, checkpoint: str, subtitle_frames: Frames | None = None) -> Read:
    """One evaluation, and its model's settings with their types, None for a model that reads its own.

    checkpoint: a folder, or a name on the hub. subtitle_frames: the budget of subtitled tasks where the combination has
    none. Raises `InputError` for settings that cannot be used.
    """
    model = find_model(combination.model)
    given = {"pretrained": checkpoint, **model.defaults, **combination.settings}
    model.refuse_loading(combination.model, given)
    budget = read_budget(combination.task, given.pop(SUBTITLE_FRAMES, None), subtitle_frames)
    varied = {key: value for key, value in combination.varied.items() if key != SUBTITLE_FRAMES or budget is not None}
    for key, value in given.items():
        if "," in str(value):
            raise InputError(f"lmms-eval splits its arguments at commas, so {key} can have none, got {value}.")
    if model.arguments is None:
        for key in FRAME_COUNTS:
            if (frames := read_value(given.get(key))) is not None:
                check_frames(key, frames)
    method, settings = take_method(given, model.keys)
    evaluation = Evaluation(
        model=combination.model,
        task=combination.task,
        method=method,
        settings=settings,
        label=describe(method, varied, combination.swept),
        subtitle_frames=budget,
    )
    return evaluation, model.read(settings, method)


def describe(method: Method, varied: Mapping[str, Any], swept: Iterable[str] = ()) -> str:
    """`fastv, retention 0.3`, and whatever is not as it is by default, or one of several values."""
    own = as_data(method)
    differing = changed_settings(method) | {key: own[key] for key in swept if key in own and method.name != FULL}
    differing.pop("retention", None)
    parts = [f"{key} {value}" for key, value in {**differing, **varied}.items()]
    kept = [] if method.name == FULL else [f"retention {method.retention:g}"]
    return ", ".join([method.name, *kept, *parts])
