"""Runs a model with random weights on planted videos, full and compressed in turn, and measures every run."""

from __future__ import annotations

import ctypes
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from st_simdiff.bench.planted import PlantedVideo, plant, planted
from st_simdiff.bench.rows import Row, Sample, sample_flops, summarise
from st_simdiff.checkpoints.llava_video.constants import IMAGE_TOKEN_INDEX
from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo
from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method
from st_simdiff.methods.registry import make_method
from st_simdiff.models.attach import compress
from st_simdiff.models.clock import STAGES, StageClock
from st_simdiff.models.costs import model_cost
from st_simdiff.models.flops import ModelCost
from st_simdiff.vocabulary import FULL

logger = logging.getLogger(__name__)

TEXT = 64
"""Tokens of the prompt beside the video."""
WARM_UP_FRAMES = 4


@dataclass(frozen=True)
class Configuration:
    """A method, at a retention."""

    method: str
    retention: float

    def make(self) -> Method | None:
        """None is the full model, without any hook."""
        return None if self.method == FULL else make_method(self.method, retention=self.retention)


class Bench:
    """One model, and how its runs are timed.

    candidates: share of the tokens that ST-SimDiff lets in at retention 0.3. now: gives the time in seconds.
    """

    def __init__(
        self, model: LlavaVideo, *, candidates: float = 0.6, now: Callable[[], float] = time.perf_counter
    ) -> None:
        self.model, self.candidates, self.now = model, candidates, now
        self.cost: ModelCost = model_cost(model, text=TEXT)
        self.left_out: list[str] = []
        """A sentence for every configuration that could not be run."""

    def case(self, frames: int, batch: int, configurations: Sequence[Configuration], repeats: int) -> Iterator[Row]:
        """Every configuration with so many frames, and the full model first. Each repeat runs all of them in turn.

        Before them each runs once to warm up: with these frames on a GPU, with a few on a CPU. One that does
        not fit into memory, and where the full model does not all others too, gets a row that says so. One whose
        method cannot reach the retention gets none; where that is so of all, there are no rows.
        """
        configurations = [
            Configuration(FULL, 1.0),
            *(configuration for configuration in configurations if configuration.method != FULL),
        ]
        videos = self._videos(frames, batch)
        warm = videos if self.model.device.type == "cuda" else self._videos(WARM_UP_FRAMES, 1)
        samples: dict[Configuration, list[Sample]] = {configuration: [] for configuration in configurations}
        without_memory: set[Configuration] = set()
        out_of_reach: set[Configuration] = set()
        for round_number in range(-1, repeats):
            for configuration in configurations:
                if configuration in without_memory | out_of_reach:
                    continue
                place = (frames, batch, configuration.method, configuration.retention)
                if round_number < 0:
                    logger.info("%s, batch %d, %s at %g: warming up", counted(frames), *place[1:])
                try:
                    sample = self._run_if_it_fits(configuration, warm if round_number < 0 else videos)
                except InputError as error:
                    if configuration.method == FULL:
                        raise
                    if round_number >= 0 or warm is videos:  # fewer frames to warm up with say nothing of the others
                        out_of_reach.add(configuration)
                        self._leave_out(configuration, frames, error)
                    continue
                if sample is None:
                    without_memory.add(configuration)
                    torch.cuda.empty_cache()
                elif round_number >= 0:
                    samples[configuration].append(sample)
                    told = "%s, batch %d, %s at %g, round %d of %d: %.0f ms"
                    logger.info(told, counted(frames), *place[1:], round_number + 1, repeats, sample.total)
            if out_of_reach and out_of_reach.issuperset(configurations[1:]):
                return
        for configuration in configurations:
            if configuration in out_of_reach:
                continue
            place = (frames, batch, configuration.method, configuration.retention)
            if configuration in without_memory:
                yield Row(*place, self.cost.tokens(frames), note="out of memory")
            elif Configuration(FULL, 1.0) in without_memory:
                yield self._alone(place, samples[configuration])
            else:
                yield summarise(self.cost, *place, samples[configuration], samples[configurations[0]])

    def _leave_out(self, configuration: Configuration, frames: int, error: InputError) -> None:
        where = f"{configuration.method} at retention {configuration.retention:g}"
        told = f"{where} is left out with {counted(frames)}: {error}"
        if told not in self.left_out:  # as with another batch size
            self.left_out.append(told)
            logger.warning(told)

    def _run_if_it_fits(self, configuration: Configuration, videos: Sequence[PlantedVideo]) -> Sample | None:
        try:
            return self.run(configuration, videos)
        except torch.cuda.OutOfMemoryError:
            return None

    @torch.inference_mode()
    def run(self, configuration: Configuration, videos: Sequence[PlantedVideo]) -> Sample:
        """From pixels on the device to the logits of the first token."""
        method = configuration.make()
        return_freed_memory()
        attached = nullcontext() if method is None else compress(self.model, method)
        with StageClock(self.model, now=self.now) as clock, planted(self.model, videos), attached as trace:
            self.model(
                input_ids=self._prompts(len(videos)),
                images=[video.pixels for video in videos],
                use_cache=True,
                logits_to_keep=1,
            )
        counts, layers = clock.counts(), self.cost.decoder.layers
        frames = len(videos[0].pixels)
        if trace is None:
            kept = (self.cost.tokens(frames),) * len(videos)
            per_layer = tuple((count,) * layers for count in kept)
        else:
            kept = tuple(video.kept for video in trace.videos)
            per_layer = tuple(tuple(video.tokens_per_layer) for video in trace.videos)
        return Sample({stage: counts[f"{stage}_ms"] for stage in STAGES}, per_layer, kept, _peak(clock))

    def floor_seconds(self, repeats: int = 5) -> float:
        """What the decoder takes for a prompt without a video: the least of the repeats."""
        logger.info("a prompt without a video, %d runs", repeats + 1)
        ids, times = self._prompts(1)[:, 1:2].clamp(min=1), []
        with torch.inference_mode():
            for _ in range(repeats + 1):
                with StageClock(self.model, now=self.now) as clock:
                    self.model(input_ids=ids, use_cache=True, logits_to_keep=1)
                times.append(clock.counts()["prefill_ms"] / 1e3)
        return min(times[1:])

    def _videos(self, frames: int, batch: int) -> list[PlantedVideo]:
        return [plant(self.model, frames, candidates=self.candidates, seed=seed) for seed in range(batch)]

    def _prompts(self, batch: int) -> torch.Tensor:
        ids = torch.arange(1, TEXT + 2, device=self.model.device).repeat(batch, 1)
        ids[:, TEXT // 2] = IMAGE_TOKEN_INDEX
        return ids

    def _alone(self, place: tuple[int, int, str, float], samples: Sequence[Sample]) -> Row:
        """A row without the full model beside it."""
        row = summarise(self.cost, *place, samples, samples)
        frames, batch = place[:2]
        full = batch * self.cost.full(frames)
        return Row(
            **{
                **vars(row),
                "speedup": None,
                "reached": None,
                "losses": None,
                "limit": round(full / sample_flops(self.cost, frames, samples[0]), 4),
                "note": "the full model is out of memory",
            }
        )


def _peak(clock: StageClock) -> int | None:
    """Bytes above what was held when the clock started: on the device, or resident in the host without one."""
    memory = clock.memory
    if memory is None:
        return None
    if memory.devices:
        return memory.device_bytes() - memory.device_start
    peak = memory.host_bytes()
    return None if peak is None else max(0, peak - memory.host_start)


def counted(frames: int) -> str:
    """`1 frame`, `8 frames`."""
    return f"{frames} frame{'s' * (frames != 1)}"


def return_freed_memory() -> None:
    """Gives freed memory back to the system where the C library can, so that the next peak is a run's own."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        logger.debug("The C library keeps freed memory: peaks on the host may be too small.")
