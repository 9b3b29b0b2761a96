"""The lmms-eval model `llava_video`: a LLaVA-Video checkpoint under a compression method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import GenerationResult, Instance
from lmms_eval.api.model import lmms
from loguru import logger
from tqdm import tqdm

from llava.video import VideoError
from st_simdiff.errors import InputError
from st_simdiff.harness.answering import VideoAnswerer
from st_simdiff.harness.arguments import AnsweringArguments, LlavaVideoArguments, merge_settings, parse
from st_simdiff.harness.counts import VideoTokenCounts
from st_simdiff.harness.device import choose_device
from st_simdiff.harness.journal import Journal
from st_simdiff.harness.refusal import one_sentence


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
            self.answerer = self.answerer_kind(arguments, device)
        self.journal = Journal(arguments.journal, self.rank) if arguments.journal else None
        logger.info(f"{arguments.pretrained} on {device} in {self.answerer.dtype}: {arguments.method}")

    @classmethod
    def create_from_arg_string(cls, arg_string: str, additional_config: Mapping[str, Any] | None = None) -> LlavaVideo:
        """Called by lmms-eval with `--model_args` and its own batch_size, max_batch_size and device."""
        with one_sentence(cls.name, InputError):
            settings = merge_settings(arg_string, additional_config)
        return cls(**settings)

    @property
    def device(self) -> torch.device:
        """Where the harness puts what it exchanges between processes; the model may be elsewhere."""
        return self.accelerator.device

    def clean(self) -> None:
        """Called after each evaluation. The model stays: several evaluations can share it."""
        torch.cuda.empty_cache()

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """One answer a request. `until` is ignored as in lmms-eval's own LLaVA wrappers: the model ends its turn."""

        def answer(request: Instance) -> tuple[str, dict]:
            context, settings, doc_to_visual, doc_id, task, split = request.args
            video = one_video(doc_to_visual(self.task_dict[task][split][doc_id]))
            answered = self.answerer.generate(video, context, settings)
            return answered.text, answered.counts

        return self._each(requests, answer, nothing="")

    def loglikelihood(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """(loss, greedy) a request: lmms-eval takes the smallest as the best, and needs the tuple wrapped."""

        def score(request: Instance) -> tuple[tuple[float, bool], dict]:
            context, target, doc_to_visual, doc_id, task, split = request.args
            document = self.task_dict[task][split][doc_id]
            continuation = target if isinstance(target, str) else target(document)
            scored = self.answerer.likelihood(one_video(doc_to_visual(document)), context, continuation)
            return (scored.loss, scored.greedy), scored.counts

        return self._each(requests, score, nothing=(0.0, False))

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """The answers of all rounds a request; the task's doc_to_text makes each next round from the answers so far."""

        def answer(request: Instance) -> tuple[list[str], dict]:
            context, settings, doc_to_visual, doc_to_text, doc_id, task, split = request.args
            document = self.task_dict[task][split][doc_id]
            visuals, said, info = doc_to_visual(document), [], None
            while True:
                answered = self.answerer.generate(one_video(visuals), context, settings)
                said.append(answered.text)
                visuals, context, ended, said, info = doc_to_text(
                    document, previous_output=said, round_idx=len(said), previous_round_info=info
                )
                said = list(said)
                if ended:
                    return said, answered.counts

        return self._each(requests, answer, nothing=[])

    def _each(
        self, requests: Sequence[Instance], answer: Callable[[Instance], tuple[Any, dict]], nothing: Any
    ) -> list[GenerationResult]:
        """Answers the requests in order. The ones that only pad a rank to the length of the others get `nothing`."""
        results = []
        # A context, so that the bar ends its line before an error's sentence is printed.
        with tqdm(total=len(requests), disable=self.rank != 0, desc="Answering", unit="question") as progress:
            for request in requests:
                if request.metadata.get("__padding_only__"):
                    results.append(GenerationResult(nothing))
                else:
                    with one_sentence(self.name, InputError, VideoError, FileNotFoundError):
                        said, counts = answer(request)
                    self._write_down(request, said, counts)
                    results.append(GenerationResult(said, VideoTokenCounts.of(counts)))
                progress.update(1)
        return results

    def _write_down(self, request: Instance, said: Any, counts: dict) -> None:
        if self.journal is not None:
            place = {"task": request.task_name, "doc_id": request.doc_id, "index": request.idx}
            self.journal.write({**place, "answer": said, "counts": counts})


def one_video(visuals: Sequence[Any] | None) -> str | None:
    """The one video file among a document's visuals; None for a document without any."""
    if not visuals:
        return None
    if len(visuals) == 1 and isinstance(visuals[0], str):
        return visuals[0]
    kinds = sorted({type(visual).__name__ for visual in visuals})
    raise InputError(f"The model looks at one video file a question, got {len(visuals)} visuals ({', '.join(kinds)}).")
