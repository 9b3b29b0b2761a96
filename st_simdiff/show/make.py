"""What `st-simdiff show` does: from options to pictures in a folder."""

from __future__ import annotations

import argparse
import re
import tempfile
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TextIO

import torch
from tqdm import tqdm

from st_simdiff.checks import check_frames
from st_simdiff.errors import InputError, unknown
from st_simdiff.files import move_whole, write_whole
from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import make_method, method_settings
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.show.annotated_video import write_annotated_video
from st_simdiff.show.contact_sheet import contact_sheet
from st_simdiff.show.options import PICTURES, output_folder
from st_simdiff.show.page import page
from st_simdiff.show.pixel_features import likeness_to_previous, pixel_features, scene_cuts
from st_simdiff.show.projection import project
from st_simdiff.show.runs import Subject, Thresholds, View, run_on_features
from st_simdiff.show.timeline import timeline
from st_simdiff.show.video import Clip, read_clip, square_patches
from st_simdiff.vocabulary import DEFAULT_METHOD, FULL

Progress = Callable[[str], object]


def run(options: argparse.Namespace, extra: Sequence[str], out: TextIO) -> None:  # noqa: ARG001
    """Makes the pictures and writes their paths to `out`. Raises `InputError` for what cannot be used."""
    out.write("".join(f"{path}\n" for path in make_pictures(options)))


def make_pictures(options: argparse.Namespace) -> list[Path]:
    """Makes the pictures that the arguments of `options.add_arguments` ask for, and returns their paths.

    Raises `InputError` for arguments, a video or a folder that cannot be used.
    """
    wanted = _wanted(options.only)
    methods = chosen_methods(options)
    patches = _patches(options.patches)
    _refuse_contradictions(options)
    folder = writable(output_folder(options))
    with tqdm(total=2 * options.frames + len(methods) + 6, unit="step", leave=False, disable=None) as bar:

        def progress(words: str) -> None:
            bar.set_description(words)
            bar.update()

        if options.model_path:
            clip, subject, views = look_with_model(options, methods, progress)
        else:
            clip, subject, views = look_at_pixels(options.video, options.frames, methods, patches, progress)
        start = next((view.thresholds for view in views if view.thresholds), _asked_thresholds(options))
        return [_make(name, folder, clip, subject, views, start, progress) for name in wanted]


def look_at_pixels(
    video: str | Path,
    frames: int,
    methods: Sequence[Method],
    patches: tuple[int, int] | None = None,
    progress: Progress = lambda _: None,
) -> tuple[Clip, Subject, list[View]]:
    """What `methods` keep of a video, judged by pixel features. patches: rows and columns; None: nearly square ones."""
    progress(f"Reading {frames} frames of {Path(video).name}")
    clip = read_clip(video, frames)
    count, height, width, _ = clip.frames.shape
    rows, columns = patches or square_patches(width, height)
    grid = TokenGrid(count, rows, columns)
    full = pixel_features(torch.from_numpy(clip.frames), rows, columns, progress)
    # On as many dimensions as the page can carry, so that its selection is the recorded one exactly.
    features = project(full).features
    source = "colour, coarse shape and fine detail of each patch's pixels (no model)"
    subject = Subject(grid, features, source, likeness_to_previous(full, grid), tuple(scene_cuts(full, grid)))
    views = []
    for method in methods:
        progress(f"Selecting with {method.name}")
        views.append(run_on_features(method, features, grid))
    return clip, subject, views


def look_with_model(
    options: argparse.Namespace, methods: Sequence[Method], progress: Progress
) -> tuple[Clip, Subject, list[View]]:
    """What `methods` keep of a video inside the checkpoint of `options`."""
    # Imported here so that looking at pixels needs no checkpoint loader.
    from st_simdiff.show.with_model import DEFAULT_QUESTION, load_answerer, run_in_model

    progress(f"Reading {options.frames} frames of {Path(options.video).name}")
    clip = read_clip(options.video, options.frames, repeat=True)
    progress(f"Loading {options.model_path}")
    answerer = load_answerer(options.model_path, options.model_args, options.frames)
    question = options.question or DEFAULT_QUESTION
    run = run_in_model(answerer, options.video, question, methods, progress)
    pixels = pixel_features(torch.from_numpy(clip.frames), run.grid.height, run.grid.width)
    plain = TokenGrid(run.grid.frames, run.grid.height, run.grid.width)
    source = f"visual tokens of {Path(options.model_path).name}, asked {question!r}"
    likeness, cuts = likeness_to_previous(pixels, plain), tuple(scene_cuts(pixels, plain))
    return clip, Subject(run.grid, run.features, source, likeness, cuts, run.attention), list(run.views)


def chosen_methods(options: argparse.Namespace) -> list[Method]:
    """The methods to show, each with those of the given settings that it has."""
    if options.method and options.compare:
        raise InputError("--method shows one method and --compare several: give one of them.")
    names = [name.strip() for name in (options.compare or options.method or DEFAULT_METHOD).split(",")]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"--compare names {', '.join(twice)} more than once.")
    given = {key: getattr(options, key) for key in ("tau_sim", "tau_diff") if getattr(options, key) is not None}
    methods, used = [], set()
    for name in names:
        own = method_settings(name)
        settings = {key: value for key, value in given.items() if key in own}
        used |= set(settings)
        retention = {} if name == FULL else {"retention": options.retention}
        methods.append(make_method(name, **retention, **settings))
    for key in sorted(set(given) - used):
        raise InputError(f"--{key} is no setting of {', '.join(names)}.")
    return methods


def writable(folder: Path) -> Path:
    """`folder`, made if need be. Raises `InputError` if nothing can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"Nothing can be written to {folder} ({error.strerror}); --output_path names another."
        ) from error
    return folder


def _make(
    name: str,
    folder: Path,
    clip: Clip,
    subject: Subject,
    views: Sequence[View],
    start: Thresholds,
    progress: Progress,
) -> Path:
    path = folder / PICTURES[name]
    progress(f"Making {path.name}")
    try:
        if name in ("sheet", "timeline"):
            picture = BytesIO()
            (contact_sheet if name == "sheet" else timeline)(clip, subject, views).save(picture, "PNG")
            write_whole(path, picture.getvalue())
        elif name == "video":
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                unfinished = Path(scratch) / path.name
                write_annotated_video(unfinished, clip, subject, views, progress=progress)
                move_whole(unfinished, path)
        else:
            write_whole(path, page(clip, subject, views, start))
    except OSError as error:
        raise InputError(f"{path} cannot be written ({error.strerror}).") from error
    return path


def _wanted(only: str | None) -> list[str]:
    names = list(PICTURES) if only is None else [name.strip() for name in only.split(",")]
    for name in names:
        if name not in PICTURES:
            raise unknown("picture", name, PICTURES)
    return names


def _patches(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None or not all(1 <= int(part) <= 64 for part in match.groups()):
        raise InputError(f"--patches is rows x columns, each 1 to 64, such as 14x14, got {text!r}.")
    return int(match[1]), int(match[2])


def _refuse_contradictions(options: argparse.Namespace) -> None:
    check_frames("--frames", options.frames)
    if options.model_path is None:
        for name in ("question", "model_args"):
            if getattr(options, name):
                raise InputError(f"--{name} is for a language model: give a checkpoint with --model_path.")
    elif options.patches:
        raise InputError("--patches is for features from pixels; a checkpoint (--model_path) brings its own grid.")


def _asked_thresholds(options: argparse.Namespace) -> Thresholds:
    asked = {key: getattr(options, key) for key in ("retention", "tau_sim", "tau_diff")}
    return Thresholds(**{key: value for key, value in asked.items() if isinstance(value, float)})
