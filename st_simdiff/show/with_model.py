"""Methods inside a LLaVA-Video checkpoint, on one video and one question."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from st_simdiff import compress
from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.answering.arguments import parse
from st_simdiff.answering.device import choose_device
from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, Reduction, VisualTokens
from st_simdiff.methods.settings import resolve_names
from st_simdiff.model_args import split_model_args
from st_simdiff.models.trace import VideoTrace
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.show.provenance import trace_provenance
from st_simdiff.show.runs import View, label_of, thresholds_of

DEFAULT_QUESTION = "Describe this video."


@dataclass(frozen=True, kw_only=True)
class Probe(Method):
    """Drops nothing, and leaves in the trace what the methods see.

    The details of its stages: the features at the input, (N, D); the last query's attention after layer `layer`, (N,).
    """

    name: ClassVar[str] = "probe"

    layer: int = 1

    def layers(self, num_layers: int) -> tuple[int, ...]:
        return (min(self.layer, num_layers - 1),)

    def reduce_input(self, tokens: VisualTokens) -> Reduction:
        return Reduction(
            kept=torch.arange(len(tokens.features), device=tokens.features.device), details=tokens.features
        )

    def reduce_after_layer(self, layer: int, tokens: VisualTokens) -> Reduction:  # noqa: ARG002
        return Reduction(kept=_all(tokens), details=tokens.attention())


def _all(tokens: VisualTokens) -> torch.Tensor:
    return torch.arange(len(tokens.features), device=tokens.features.device)


@dataclass(frozen=True)
class ModelRun:
    """What a model saw, and what each method kept of it.

    features: float32 (N, D), at the decoder's input. attention: float32 (N,), of the prompt's last token after the
    second decoder layer, before anything is dropped.
    """

    grid: TokenGrid
    features: torch.Tensor
    attention: torch.Tensor
    views: tuple[View, ...]


def load_answerer(folder: str, model_args: str, frames: int) -> VideoAnswerer:
    """The checkpoint in `folder`, ready for videos of `frames` evenly spaced frames.

    model_args: key=value,... as of the harness. Raises `InputError` for settings or a checkpoint that cannot be used.
    """
    settings = resolve_names(split_model_args(model_args))
    arguments = parse(
        {**settings, "pretrained": folder, "max_frames_num": frames, "force_sample": True, "method": "full"}
    )
    gpus = torch.cuda.device_count()
    default = "cuda:0" if gpus else "cpu"
    device = choose_device(arguments.device, default=default, local_rank=0, processes=1, gpus=gpus)
    try:
        return VideoAnswerer(arguments, device)
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error


@torch.inference_mode()
def run_in_model(
    answerer: VideoAnswerer,
    video: str | Path,
    question: str,
    methods: Sequence[Method],
    progress: Callable[[str], object] = lambda _: None,
) -> ModelRun:
    """Prefills the prompt once for what the methods see, and once under each of `methods`."""
    prompt = answerer.prompt(str(video), question)

    def prefill(method: Method) -> VideoTrace:
        progress(f"Running the model under {label_of(method)}")
        with compress(answerer.model, method) as trace:
            answerer.model(input_ids=prompt.ids, images=prompt.images, modalities="video", use_cache=True)
        return trace.last

    probed = prefill(Probe())
    features, attention = (stage.reduction.details.float().cpu() for stage in probed.stages)
    views = []
    for method in methods:
        trace = prefill(method)
        views.append(View(label_of(method), trace_provenance(trace.grid, trace.stages), "", thresholds_of(method)))
    return ModelRun(probed.grid, features, attention, tuple(views))
