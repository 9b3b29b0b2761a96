"""What makes one of lmms-eval's wrappers answer under a compression method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import PartialState
from lmms_eval.api.instance import GenerationResult, Instance, unwrap_generation_output
from lmms_eval.tasks import TaskManager
from loguru import logger
from transformers import AutoConfig

from st_simdiff import compress
from st_simdiff.answering.arguments import ReadingArguments, merge_settings, take_reading
from st_simdiff.answering.checkpoints import check_checkpoint, given_checkpoint, locate_checkpoint
from st_simdiff.checkpoints.code import ALLOW, without_code
from st_simdiff.checkpoints.transformers_loading import checked_loading
from st_simdiff.errors import InputError
from st_simdiff.lmms.counts import VideoTokenCounts
from st_simdiff.lmms.refusal import nothing_swallowed, one_sentence
from st_simdiff.lmms.wrappers.arguments import placement, stock_defaults
from st_simdiff.lmms.wrappers.frame_groups import frame_groups
from st_simdiff.lmms.wrappers.generation import compressed_generation
from st_simdiff.lmms.wrappers.order import note_order
from st_simdiff.lmms.wrappers.requests import videos_of, with_videos_told
from st_simdiff.lmms.wrappers.videos import WrapperVideos
from st_simdiff.methods.base import Method
from st_simdiff.methods.settings import take_method
from st_simdiff.model_args import read_value, split_model_args
from st_simdiff.models.families import check_served, find_family, unwrapped
from st_simdiff.models.families.base import ImagesAsFrames
from st_simdiff.models.families.frames import FramesFamily
from st_simdiff.runs.journal import Journal, file_state, fingerprint
from st_simdiff.runs.protocol import NOT_OF_IT
from st_simdiff.runs.unreadable import UNREADABLE_COUNTS
from st_simdiff.stock_wrappers import STOCK_WRAPPERS
from st_simdiff.vocabulary import UNREADABLE_ANSWER, WRAPPER

CHUNK = 32
"""Requests that a kill may cost. A wrapper forms its batches within a chunk."""


class CompressedWrapper:
    """To be put before a wrapper class of lmms-eval: `class Chat(CompressedWrapper, StockChat)`.

    `--model_args` are the method's, as for `llava_video`, and the wrapper's own. Every generation is compressed, and
    every answer carries the counts of its visual tokens. stock: the wrapper's name in lmms-eval.
    """

    stock: ClassVar[str]
    warm = False
    """Whether a generation has ended: the first one's time includes what happens once."""

    def __init__(self, method: Method, reading: ReadingArguments | None = None, **stock_arguments: Any) -> None:
        """Raises SystemExit, in one sentence, for a checkpoint that cannot be loaded or compressed by `method`.

        The wrapper gets a folder, so that what it reads is what was checked, at one commit; and no code comes from the
        checkpoint unless `trust_remote_code` is True.
        """
        self.reading = (reading or ReadingArguments()).read_settings
        defaults = stock_defaults(type(self))
        trusted = stock_arguments.get(ALLOW) is True  # some wrappers run code of the checkpoint's own by default
        allowed = {ALLOW: trusted} if ALLOW in defaults else {}
        passed = {key: value for key, value in stock_arguments.items() if key != ALLOW} | allowed
        named = {**defaults, **stock_arguments, **allowed}
        with one_sentence(self.name(), InputError, ValueError, OSError):
            folder = locate_checkpoint(self.name(), given_checkpoint(named), code=trusted).folder
            check_checkpoint(self.name(), folder, None, trusted=trusted)
            if not trusted:  # else the config may be code
                check_served(AutoConfig.from_pretrained(folder), method)
            with nullcontext(folder) if trusted else without_code(folder) as seen, checked_loading(folder):
                super().__init__(**passed | {"pretrained": str(seen)})
        if named.get("device") == "cpu":
            self.device_map = "cpu"  # with "auto", inputs would go to CUDA
        self.videos = WrapperVideos(self.reading, self.name())
        self.stock_arguments = named
        self.take_over(method, None)
        take_the_stock_models_prompts()

    @classmethod
    def name(cls) -> str:
        """The harness model's name."""
        return WRAPPER + cls.stock

    @classmethod
    def create_from_arg_string(
        cls, arg_string: str, additional_config: Mapping[str, Any] | None = None
    ) -> CompressedWrapper:
        """Called by lmms-eval with `--model_args` and its own batch_size, max_batch_size and device."""
        with one_sentence(cls.name(), InputError):
            settings = split_model_args(arg_string)
        return cls.create(settings, additional_config)

    @classmethod
    def create(cls, settings: Mapping[str, Any], placed: Mapping[str, Any] | None = None) -> CompressedWrapper:
        """From settings, the method's among them or as `method`. placed: batch_size, max_batch_size and device."""
        with one_sentence(cls.name(), InputError):
            defaults = stock_defaults(cls)
            own = {ALLOW} | defaults.keys() | {field.name for field in dataclasses.fields(ReadingArguments)}
            method, rest = take_method(merge_settings(settings, placed), own)
            reading, rest = take_reading(rest)
            given = {key: read_value(value) for key, value in rest.items()}
            loads = STOCK_WRAPPERS[cls.stock].device_map if cls.stock in STOCK_WRAPPERS else None
            device = placement({**defaults, **given}, PartialState().num_processes, torch.cuda.is_available(), loads)
        return cls(method, reading, **given | device)

    def take_over(self, method: Method, journal: str | Path | None) -> None:
        """Goes on as if it had been loaded with another method, and writes its answers down in `journal`."""
        with one_sentence(self.name(), InputError), compress(self.model, method, images_as_frames=self._sees_images):
            pass
        self.method = method
        self.journal = Journal(journal, self.rank) if journal else None

    def clean(self) -> None:
        """Called after each evaluation. The model stays: several evaluations can share it."""
        torch.cuda.empty_cache()

    @property
    def protocol(self) -> dict[str, Any]:
        """How the wrapper sees a video and computes, its own defaults included."""
        own = {key: value for key, value in self.stock_arguments.items() if key not in NOT_OF_IT}
        config = self.model.config
        computed = {"dtype": str(self.model.dtype), "attn_implementation": config._attn_implementation}
        read = {"video_decode_backend": self.reading.decoder, **dataclasses.asdict(self.reading)}
        read = {key: value for key, value in read.items() if key not in ("decoder", "threads", "video_time_limit")}
        return {**own, **read, **{key: value.removeprefix("torch.") for key, value in computed.items()}}

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """The wrapper's answers, with counts. Requests that only pad a rank are not answered.

        The wrapper gets `CHUNK` requests at a time, and what it answered is written down before the next ones. Requests
        about a video that cannot be read get `UNREADABLE_ANSWER` for an answer: at once where that is known, else after
        the wrapper was given a black video.
        """
        results: list[GenerationResult | None] = [
            self._earlier(request) or self._unreadable(request) for request in requests
        ]
        asked = [place for place, result in enumerate(results) if result is None]
        for start in range(0, len(asked), CHUNK):
            places = asked[start : start + CHUNK]
            answered = self._generate([requests[place] for place in places])
            for place, result in zip(places, answered, strict=True):
                results[place] = self._settled(requests[place], result, UNREADABLE_ANSWER)
        return results

    def _generate(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        copies, order = note_order([with_videos_told(request, self.videos.links.link) for request in requests])
        with nothing_swallowed(self.name()):
            with (
                self.videos.given_to(self),
                compressed_generation(
                    self.model, self.method, self.name(), warm_up=not self.warm, frames_of=self._frames_of
                ) as rows,
            ):
                answers = super().generate_until(copies)
            self.warm = True
            if not len(requests) == len(answers) == len(rows) == len(order):
                raise RuntimeError(
                    f"Of {len(requests)} questions, {len(rows)} were generated, {len(answers)} answered."
                )
        counts = dict(zip(order, rows, strict=True))
        return [_result(answer, counts[index]) for index, answer in enumerate(answers)]

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """The wrapper's answers of all rounds, one request after the other (as it works itself), with the counts of
        the last round."""
        results = []
        for request in requests:
            earlier = self._earlier(request, nothing=[])
            if earlier is None:
                earlier = self._settled(request, self._generate_rounds(request), [UNREADABLE_ANSWER])
            results.append(earlier)
        return results

    def _generate_rounds(self, request: Instance) -> GenerationResult:
        answer = super().generate_until_multi_round
        with (
            nothing_swallowed(self.name()),
            self.videos.given_to(self),
            compressed_generation(self.model, self.method, self.name(), frames_of=self._frames_of) as rows,
        ):
            (said,) = answer([with_videos_told(request, self.videos.links.link)])
        return GenerationResult(list(said), VideoTokenCounts.of(rows[-1]))

    @property
    def _sees_images(self) -> bool:
        """Whether the model sees a video as single images."""
        return isinstance(find_family(unwrapped(self.model)), FramesFamily)

    def _frames_of(self, inputs: Mapping[str, Any]) -> ImagesAsFrames:
        """What `compress` has to be told of the images of a prompt. inputs: those of `generate`."""
        return self._sees_images and (frame_groups(inputs["input_ids"], self.processor) or True)

    def _earlier(self, request: Instance, nothing: Any = "") -> GenerationResult | None:
        """What a request gets without being asked: `nothing` if it only pads a rank, else what was written down."""
        if request.metadata.get("__padding_only__"):
            return GenerationResult(nothing)
        record = self.journal.recorded(*_place(request)) if self.journal is not None else None
        return record and GenerationResult(record["answer"], VideoTokenCounts.of(record["counts"]))

    def _unreadable(self, request: Instance) -> GenerationResult | None:
        """What a request gets of whose video it is known that it cannot be read; None for any other."""
        if self.journal is not None and (failed := self.journal.unreadable(*_place(request))):
            video, reason = failed
            if reason != self._left_out(video):
                self.videos.reasons[video] = reason
            logger.warning(f"{self.name()}: not asked about {video}, as before: {reason}")
            return GenerationResult(UNREADABLE_ANSWER, VideoTokenCounts.of(UNREADABLE_COUNTS))
        if any(self.videos.reason(video) for video in videos_of(request, self.task_dict)):
            return self._settled(request, GenerationResult(UNREADABLE_ANSWER), UNREADABLE_ANSWER)
        return None

    def _settled(self, request: Instance, result: GenerationResult, unreadable: Any) -> GenerationResult:
        """`result`, written down, with what is known of the reading; `unreadable` instead where a video was not read:
        an answer without it is worth nothing."""
        videos = list(videos_of(request, self.task_dict))
        for video in videos:
            reason = self.videos.reason(video)
            if not reason and video not in self.videos.records:
                reason = self._left_out(video)
            if reason:
                logger.warning(f"{self.name()}: not asked about {video}: {reason}")
                self._write_down(request, {"video": video, "unreadable": reason, "file": file_state(video)})
                return GenerationResult(unreadable, VideoTokenCounts.of(UNREADABLE_COUNTS))
        counts = result.token_counts.to_dict()
        read = [self.videos.records[video].as_plain() for video in videos]
        if read:
            counts["reading"] = read[0] if len(read) == 1 else read
        self._write_down(request, {"answer": result.text, "counts": counts})
        return GenerationResult(result.text, VideoTokenCounts.of(counts))

    def _left_out(self, video: str) -> str:
        """What is wrong with an answer for which the wrapper did not ask for the frames of `video`."""
        return f"{video}: lmms-eval's wrapper {self.stock} does not take in this video of the question."

    def _write_down(self, request: Instance, what: Mapping[str, Any]) -> None:
        if self.journal is not None:
            self.journal.write({**_as_record(request), **what})

    def loglikelihood(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """Always refused: the wrappers score prompt and answer at once, and do not do it for videos."""
        del requests
        raise SystemExit(f"{self.name()}: likelihoods of answers about videos are not scored; llava_video does it.")


def take_the_stock_models_prompts() -> None:
    """Lets tasks treat a compressed wrapper as the wrapper itself.

    Tasks have prompts for certain models, in blocks that carry the model's name (videomme has one for qwen3_vl). The
    name is the task manager's, which exists before the model does and loads the tasks after it: so it is the attribute
    that learns of the compressed wrappers' names, for this process.
    """

    def model_name(manager: TaskManager) -> str | None:
        name = vars(manager)["model_name"]
        return name.removeprefix(WRAPPER) if isinstance(name, str) else name

    def keep(manager: TaskManager, name: str | None) -> None:
        vars(manager)["model_name"] = name

    TaskManager.model_name = property(model_name, keep)


def _place(request: Instance) -> tuple[str, int, int, str]:
    """What the journal knows a request by."""
    texts = [argument for argument in request.args[:2] if isinstance(argument, str)]
    return request.task_name, request.doc_id, request.idx, fingerprint(*texts)


def _result(answer: Any, counts: dict[str, int | float]) -> GenerationResult:
    text, _ = unwrap_generation_output(answer)
    return GenerationResult(text, VideoTokenCounts.of(counts))


def _as_record(request: Instance) -> dict[str, Any]:
    return dict(zip(("task", "doc_id", "index", "asked"), _place(request), strict=True))
