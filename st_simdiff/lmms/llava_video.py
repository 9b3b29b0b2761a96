"""The lmms-eval model `llava_video`: a LLaVA-Video checkpoint under a compression method."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from loguru import logger
from tqdm import tqdm

from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.answering.arguments import AnsweringArguments, LlavaVideoArguments, merge_settings, parse
from st_simdiff.answering.device import choose_device
from st_simdiff.errors import InputError
from st_simdiff.lmms.counts import VideoTokenCounts
from st_simdiff.lmms.refusal import one_sentence
from st_simdiff.methods.base import Method
from st_simdiff.methods.settings import describe_method
from st_simdiff.model_args import split_model_args
from st_simdiff.runs.journal import Journal, file_state, fingerprint
from st_simdiff.runs.protocol import plan_protocol
from st_simdiff.runs.record import bind
from st_simdiff.runs.unreadable import UNREADABLE_COUNTS
from st_simdiff.videos.errors import VideoError
from st_simdiff.vocabulary import UNREADABLE_ANSWER, Counts

UNREADABLE_LOSS = 1e9
"""Of an answer about a video that cannot be read: a number, since lmms-eval compares it and writes it as JSON."""


@dataclass(frozen=True)
class Question:
    """One request of lmms-eval. video: the file it is about, if any. answer: of that file, gives answer and counts."""

    request: Instance
    video: str | None
    answer: Callable[[str | None], tuple[Any, Counts]]

    @property
    def place(self) -> tuple[str, int, int, str]:
        """What the journal knows it by."""
        texts = [argument for argument in self.request.args[:2] if isinstance(argument, str)]
        asked = fingerprint(*texts, self.video and Path(self.video).name)
        return self.request.task_name, self.request.doc_id, self.request.idx, asked


class LlavaVideo(lmms):
    """Answers one request at a time; see `LlavaVideoArguments` for its `--model_args`.

    A model that is asked in the same way is a subclass with another name, arguments and answerer.
    """

    is_simple = True
    name: ClassVar[str] = "llava_video"
    arguments_kind: ClassVar[type[AnsweringArguments]] = LlavaVideoArguments
    answerer_kind: ClassVar[type[VideoAnswerer]] = VideoAnswerer

    def __init__(self, **model_args: Any) -> None:
        super().__init__()
        self.accelerator = Accelerator()
        self._rank = self.accelerator.process_index
        self._world_size = self.accelerator.num_processes
        with one_sentence(self.name, InputError, ValueError, OSError):
            arguments = parse(model_args, self.arguments_kind)
            device = choose_device(
                arguments.device,
                default=str(self.accelerator.device),
                local_rank=self.accelerator.local_process_index,
                processes=self.accelerator.num_processes,
                gpus=torch.cuda.device_count(),
            )
            if arguments.journal:
                settings = {"pretrained": arguments.pretrained}
                protocol = plan_protocol(self.name, settings, arguments, has_gpu=device.startswith("cuda"))
                bind(Path(arguments.journal), protocol, describe_method(arguments.method))
            self.answerer = self.answerer_kind(arguments, device)
        self.journal = Journal(arguments.journal, self.rank) if arguments.journal else None
        logger.info(f"{arguments.pretrained} on {device} in {self.answerer.dtype}: {arguments.method}")

    def take_over(self, method: Method, journal: str | Path | None) -> None:
        """Goes on as if it had been loaded with another method and another journal."""
        self.answerer.arguments = replace(self.answerer.arguments, method=method)
        self.journal = Journal(journal, self.rank) if journal else None

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping[str, Any] | None = None) -> LlavaVideo:
        """Called by lmms-eval with `--model_args` and its own batch_size, max_batch_size and device."""
        with one_sentence(cls.name, InputError):
            settings = split_model_args(arg_string)
        return cls.create(settings, additional_config)

    @classmethod
    def create(cls, settings: Mapping[str, Any], placed: Mapping[str, Any] | None = None) -> LlavaVideo:
        """From settings, the method's among them or as `method`. placed: batch_size, max_batch_size and device."""
        with one_sentence(cls.name, InputError):
            merged = merge_settings(settings, placed)
        return cls(**merged)

    @property
    def device(self) -> torch.device:
        """Where the harness puts what it exchanges between processes; the model may be elsewhere."""
        return self.accelerator.device

    def clean(self) -> None:
        """Called after each evaluation. The model stays: several evaluations can share it."""
        torch.cuda.empty_cache()

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """One answer a request. `until` is ignored as in lmms-eval's own LLaVA wrappers: the model ends its turn.

        A video that cannot be read costs its own questions only: they get `UNREADABLE_ANSWER` for an answer.
        """

        def question(request: Instance) -> Question:
            context, settings, doc_to_visual, doc_id, task, split = request.args

            def answer(video: str | None) -> tuple[str, Counts]:
                answered = self.answerer.generate(video, context, settings)
                return answered.text, answered.counts

            return Question(request, one_video(doc_to_visual(self.task_dict[task][split][doc_id])), answer)

        return self._answer(requests, question, nothing="", unreadable=UNREADABLE_ANSWER)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """(loss, greedy) a request: lmms-eval takes the smallest as the best, and needs the tuple wrapped.

        A video that cannot be read costs its own questions only: every choice gets `UNREADABLE_LOSS`, and its counts
        say why, by which the report leaves the question out.
        """

        def question(request: Instance) -> Question:
            context, target, doc_to_visual, doc_id, task, split = request.args
            document = self.task_dict[task][split][doc_id]
            continuation = target if isinstance(target, str) else target(document)

            def score(video: str | None) -> tuple[tuple[float, bool], Counts]:
                scored = self.answerer.likelihood(video, context, continuation)
                return (scored.loss, scored.greedy), scored.counts

            return Question(request, one_video(doc_to_visual(document)), score)

        return self._answer(requests, question, nothing=(0.0, False), unreadable=(UNREADABLE_LOSS, False))

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """The answers of all rounds a request; the task's doc_to_text makes each next round from the answers so far."""

        def question(request: Instance) -> Question:
            context, settings, doc_to_visual, doc_to_text, doc_id, task, split = request.args
            document = self.task_dict[task][split][doc_id]

            def answer(video: str | None) -> tuple[list[str], Counts]:
                asked, said, info = context, [], None
                while True:
                    answered = self.answerer.generate(video, asked, settings)
                    visuals, asked, ended, said, info = doc_to_text(
                        document,
                        previous_output=[*said, answered.text],
                        round_idx=len(said) + 1,
                        previous_round_info=info,
                    )
                    said = list(said)
                    if ended:
                        return said, answered.counts
                    video = one_video(visuals)

            return Question(request, one_video(doc_to_visual(document)), answer)

        return self._answer(requests, question, nothing=[], unreadable=[UNREADABLE_ANSWER])

    def _answer(
        self,
        requests: Sequence[Instance],
        question: Callable[[Instance], Question],
        nothing: Any,
        unreadable: Any,
    ) -> list[GenerationResult]:
        """Answers the requests, those about one video together, and returns the answers in the requests' order.

        nothing: for requests that only pad a rank to the length of the others. unreadable: for those whose video cannot
        be read.
        """
        results = [GenerationResult(nothing) for _ in requests]
        seconds = 0.2 if sys.stderr.isatty() else 30  # between two lines of a file that nobody watches
        bar = tqdm(total=len(requests), disable=self.rank != 0, desc="Answering", unit="question", mininterval=seconds)
        with bar as progress:  # a context, so that the bar ends its line before an error's sentence is printed
            places = [place for place, request in enumerate(requests) if not request.metadata.get("__padding_only__")]
            progress.update(len(requests) - len(places))
            with one_sentence(self.name, InputError):
                asked = {place: question(requests[place]) for place in places}

            def note(place: int, answer: tuple[Any, Counts]) -> None:
                said, counts = answer
                results[place] = GenerationResult(said, VideoTokenCounts.of(counts))
                progress.update(1)

            by_video: dict[str | None, list[int]] = {}
            for place in sorted(asked, key=lambda place: (asked[place].video or "", place)):
                earlier = self._earlier(asked[place], type(nothing), unreadable)
                if earlier is not None:
                    note(place, earlier)
                else:
                    by_video.setdefault(asked[place].video, []).append(place)
            with (
                one_sentence(self.name, InputError, VideoError, FileNotFoundError),
                self.answerer.looking_ahead(by_video) as videos,
            ):
                for place in (place for video in videos for place in by_video[video]):
                    note(place, self._one(asked[place], unreadable))
        return results

    def _earlier(self, question: Question, kind: type, unreadable: Any) -> tuple[Any, Counts] | None:
        """The answer, of the type `kind`, that a run before this one wrote down, and the counts it had then."""
        if self.journal is None:
            return None
        record = self.journal.recorded(*question.place)
        if record is not None and isinstance(record["answer"], str) == (kind is str):
            return kind(record["answer"]), record["counts"]
        if failed := self.journal.unreadable(*question.place):
            logger.warning(f"{self.name}: not asked about {failed[0]}, as before: {failed[1]}")
            return unreadable, dict(UNREADABLE_COUNTS)
        return None

    def _one(self, question: Question, unreadable: Any) -> tuple[Any, Counts]:
        """The answer to one question, written down."""
        try:
            said, counts = question.answer(question.video)
        except (VideoError, FileNotFoundError) as error:
            logger.warning(f"{self.name}: not asked about {question.video}: {error}")
            failed = {"video": question.video, "unreadable": str(error), "file": file_state(question.video)}
            self._write_down(question, failed)
            return unreadable, dict(UNREADABLE_COUNTS)
        self._write_down(question, {"answer": said, "counts": counts})
        return said, counts

    def _write_down(self, question: Question, what: dict[str, Any]) -> None:
        if self.journal is not None:
            task, doc_id, index, asked = question.place
            self.journal.write({"task": task, "doc_id": doc_id, "index": index, "asked": asked, **what})


def one_video(visuals: Sequence[Any] | None) -> str | None:
    """The one video file among a document's visuals; None for a document without any."""
    if not visuals:
        return None
    if len(visuals) == 1 and isinstance(visuals[0], str):
        return visuals[0]
    kinds = sorted({type(visual).__name__ for visual in visuals})
    raise InputError(f"The model looks at one video file a question, got {len(visuals)} visuals ({', '.join(kinds)}).")
