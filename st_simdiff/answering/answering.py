"""Answers questions about videos with a LLaVA-Video model under a compression method. Knows nothing of lmms-eval."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import Any

import torch

from st_simdiff import compress
from st_simdiff.answering.arguments import AnsweringArguments, LlavaVideoArguments
from st_simdiff.answering.device import choose_dtype
from st_simdiff.answering.feature_protocol import feature_protocol
from st_simdiff.answering.interleaving import is_interleaved, place_frames, split_video
from st_simdiff.answering.preparing import Preparer
from st_simdiff.answering.seeing import Seen, Viewer
from st_simdiff.answering.turns import Answer, Counts, Likelihood, Prompt, Turn
from st_simdiff.checkpoints.llava_video.constants import IMAGE_TOKEN_INDEX
from st_simdiff.checkpoints.llava_video.loading import load_llava_video
from st_simdiff.checkpoints.llava_video.modeling import EncodedVideo
from st_simdiff.checkpoints.llava_video.prompt import build_prompt, tokenize_prompt
from st_simdiff.checkpoints.quantisation import quantisation
from st_simdiff.checks import MOST_FRAMES
from st_simdiff.errors import InputError
from st_simdiff.models.clock import StageClock
from st_simdiff.models.costs import flop_counts, model_cost
from st_simdiff.models.flops import ModelCost
from st_simdiff.models.prefix import Prefix, new_cache
from st_simdiff.models.trace import Trace
from st_simdiff.models.transformers_api import cache_in
from st_simdiff.videos.frames import sample_frames
from st_simdiff.videos.reading import FrameReader, Pixels
from st_simdiff.videos.record import SampledVideo
from st_simdiff.videos.sampling import time_instruction
from st_simdiff.videos.video_cache import VideoCache
from st_simdiff.videos.workers import VideoWorkers

MAX_NEW_TOKENS = 1024
"""Where a task sets none; the number of lmms-eval's own LLaVA wrappers."""


class VideoAnswerer:
    """A loaded checkpoint with everything that one question needs.

    Questions about one video that follow each other share its features, what is chosen at the decoder's input, and the
    keys and values of all that their prompts begin with alike, in the layers where the question has no part in them.
    A question with lines `<image>` has the frames there, evenly shared out, and shares the features alone.
    """

    arguments: AnsweringArguments
    tells_times = False
    frames_per_step = 1
    """Frames that one frame of visual tokens stands for."""

    def __init__(self, arguments: LlavaVideoArguments, device: str) -> None:
        self.tells_times = arguments.add_time_instruction
        sample = partial(
            sample_frames,
            max_frames=arguments.max_frames_num,
            fps=arguments.fps,
            force_sample=arguments.force_sample,
            **asdict(arguments.read_settings),
        )
        loaded = _load(arguments, device, choose_dtype(arguments.dtype, device))
        self._set_up(arguments, device, loaded, sample)

    def _set_up(
        self, arguments: AnsweringArguments, device: str, loaded: Any, sample: Callable[..., SampledVideo]
    ) -> None:
        self.arguments = arguments
        self.device = device
        self.dtype = choose_dtype(arguments.dtype, device)
        self.tokenizer = loaded.tokenizer
        self.image_processor = loaded.image_processor
        self.model = loaded.model.eval()
        self.reader = FrameReader(sample, self.image_processor, self.dtype, VideoWorkers(), arguments.frames_per_read)
        self.viewer = Viewer(self.model, self._preparer(), device, arguments.decode_ahead)
        self.warm = False

    @torch.inference_mode()
    def generate(self, video: str | None, question: str, settings: Mapping[str, Any]) -> Answer:
        """Answers `question` about the file `video`, or a plain question without one.

        settings: generation settings of the task; max_new_tokens, temperature, top_p and num_beams are used, as by
        lmms-eval's own LLaVA wrappers. Raises `st_simdiff.videos.VideoError` for a video that cannot be read.
        """
        chosen = _generation_settings(settings)
        with self._asking(video, question, share=chosen["num_beams"] == 1) as turn, self._compress(turn) as trace:
            ids = self.model.generate(
                inputs=turn.ids,
                images=turn.images,
                attention_mask=torch.ones_like(turn.ids),
                past_key_values=turn.cache,
                use_cache=True,
                **chosen,
            )
        self._keep(turn, trace)
        text = self.tokenizer.batch_decode(ids, skip_special_tokens=True)[0].strip()
        return Answer(text, self._counts(turn, ids.shape[1]))

    @torch.inference_mode()
    def likelihood(self, video: str | None, question: str, continuation: str) -> Likelihood:
        """How likely `continuation` is as the answer, its end-of-turn tokens included.

        The prompt is prefilled alone and the continuation goes on from its cache, so that the query whose attention
        ranks the visual tokens is the prompt's last one, as in generation, and not a token of the answer.
        """
        with self._asking(video, question) as turn:
            answered = self._tokenize(self._conversation(turn.prompt.question, video, continuation))
            tokens = answered[:, turn.prompt.ids.shape[1] :]
            with self._compress(turn) as trace:
                prefill = self.model(
                    input_ids=turn.ids,
                    images=turn.images,
                    past_key_values=turn.cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
                rest = self.model(input_ids=tokens, past_key_values=cache_in(prefill), use_cache=True)
            logits = torch.cat([prefill.logits[:, -1:], rest.logits[:, :-1]], dim=1).float()
            loss = torch.nn.functional.cross_entropy(logits[0], tokens[0])
            greedy = bool((logits.argmax(-1) == tokens).all())
        self._keep(turn, trace)
        return Likelihood(loss.item(), greedy, self._counts(turn, 0))

    def looking_ahead(self, videos: Iterable[str | None]) -> AbstractContextManager[Iterator[str | None]]:
        """Gives the files `videos` one by one for questions to be asked about, and prepares the next ones meanwhile."""
        return self.viewer.looking_ahead(videos, self.arguments.method)

    def prompt(self, video: str | None, question: str) -> Prompt:
        """The prompt for `question`, with the frames of `video` sampled and preprocessed anew."""
        if video is None:
            return self._prompt(question, None)
        pixels = replace(self.reader, frames_per_read=MOST_FRAMES)(video)
        question, sizes = place_frames(self._instructed(question, pixels), pixels.frames // self.frames_per_step)
        values = pixels.values.to(self.device)
        parts = values.split([size * self.frames_per_step for size in sizes]) if sizes else [values]
        return self._prompt(question, video, list(parts))

    def _prompt(
        self, question: str, video: str | None, images: list[torch.Tensor | EncodedVideo] | None = None
    ) -> Prompt:
        text = self._conversation(question, video, None)
        return Prompt(question, text, self._tokenize(text), images)

    @contextmanager
    def _asking(self, video: str | None, question: str, *, share: bool = True) -> Iterator[Turn]:
        """What is to be done for `question`, timed. share: whether keys and values can be shared with other prompts."""
        started, share = time.perf_counter(), share and self.arguments.share_prefix
        try:
            with StageClock(self.model, warm_up=not self.warm) as clock:
                turn = self._turn(video, question, clock, share)
                yield turn
            self.warm = True
        finally:
            self.viewer.settle()
        seconds = time.perf_counter() - started + (self.viewer.queued if video is not None else 0.0)
        turn.times = {**clock.counts(), "seconds": round(seconds, 4)}

    def _turn(self, video: str | None, question: str, clock: StageClock, share: bool) -> Turn:
        if video is None:
            prompt = self._prompt(question, None)
            return Turn(prompt, None, {}, prompt.ids, None, None)
        seen, seeing = self.viewer.see(video, self.arguments.method, clock)
        question, sizes = place_frames(self._instructed(question, seen), len(seen.video.tokens))
        prompt = self._prompt(question, video, split_video(seen.video, sizes) if sizes else [seen.video])
        share = share and len(prompt.images) == 1
        prefix, seen.prefix = seen.prefix, None
        count = prefix.shared(prompt.ids[0]) if prefix is not None and share else 0
        if not count:
            cache = new_cache(self.model) if share else None
            return Turn(prompt, seen, seeing, prompt.ids, prompt.images, cache)
        layers = prefix.layers(prompt.ids[0])
        cache = prefix.until(count, prompt.ids[0])
        trace = prefix.trace if layers == prefix.trace.shape.layers else None
        reused = cache.get_seq_length()
        return Turn(prompt, seen, seeing, prompt.ids[:, count:], None, cache, reused, layers, trace)

    def _keep(self, turn: Turn, trace: Trace) -> None:
        """Keeps what the next question about this video can go on from."""
        turn.trace = turn.trace or (trace.last if trace.videos else None)
        if turn.seen is not None and turn.cache is not None and turn.trace is not None:
            ids = turn.prompt.ids[0]
            place = int((ids == IMAGE_TOKEN_INDEX).nonzero()[0])
            turn.seen.prefix = Prefix(ids, place, turn.trace, turn.cache)

    def _compress(self, turn: Turn) -> AbstractContextManager[Trace]:
        method = self.arguments.method if turn.seen is None else turn.seen.method
        parts = len(turn.prompt.images or ())
        return compress(self.model, method, images_as_frames=parts > 1, share_prefix=turn.cache is not None)

    def _instructed(self, question: str, timed: Pixels | Seen | None) -> str:
        """`question`, with the line that tells when the frames were taken where that is asked for."""
        if timed is None or not self.tells_times:
            return question
        return f"{time_instruction(timed.duration, timed.times)}\n{question}"

    def _conversation(self, question: str, video: str | None, answer: str | None) -> str:
        interleaved = video is not None and is_interleaved(question)
        return build_prompt(question, video=video is not None, answer=answer, interleaved=interleaved)

    def _tokenize(self, text: str) -> torch.Tensor:
        return torch.tensor([tokenize_prompt(text, self.tokenizer)], device=self.device)

    def _preparer(self) -> Preparer:
        """With the folder for features, if there is to be one. Raises `InputError` if it cannot be made."""
        arguments = self.arguments
        if arguments.video_cache is None:
            return Preparer(self.reader, None, {})
        cache = VideoCache(arguments.video_cache, int(arguments.video_cache_gb * 1e9))
        protocol = feature_protocol(self.model, self.image_processor, self.reader.sample, self.device)
        return Preparer(self.reader, cache, protocol | {"dtype": str(self.dtype)})

    @cached_property
    def cost(self) -> ModelCost:
        """What the model's FLOPs depend on."""
        return model_cost(self.model)

    def _counts(self, turn: Turn, new_tokens: int) -> Counts:
        visual = turn.trace.summary() if turn.trace is not None else {}
        text_tokens = turn.prompt.ids.shape[1] - len(turn.prompt.images or ())
        if turn.trace is not None:
            visual |= flop_counts(self.cost, turn.trace, text_tokens)
        return {
            "input_tokens": text_tokens + visual.get("visual_tokens", 0),
            "output_tokens": new_tokens,
            **visual,
            **turn.seeing,
            "reused_tokens": turn.reused,
            "reused_layers": turn.reused_layers,
            **turn.times,
        }


def _load(arguments: LlavaVideoArguments, device: str, dtype: torch.dtype) -> Any:
    try:
        return load_llava_video(
            arguments.pretrained,
            dtype=dtype,
            device_map=device,
            attn_implementation=arguments.attn_implementation,
            overwrite_config=arguments.overwrite_config,
            model_base=arguments.model_base,
            quantization_config=quantisation(arguments.load_4bit, arguments.load_8bit, dtype),
        )
    except torch.cuda.OutOfMemoryError as error:
        free, total = (amount / 2**30 for amount in torch.cuda.mem_get_info(device))
        raise InputError(
            f"{device} has too little free memory for {arguments.pretrained}: {free:.1f} of {total:.1f} GiB are free."
        ) from error


def _generation_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    temperature = settings.get("temperature") or 0
    chosen = {
        "max_new_tokens": settings.get("max_new_tokens", MAX_NEW_TOKENS),
        "num_beams": settings.get("num_beams") or 1,
        "do_sample": temperature > 0,
    }
    if temperature > 0:
        chosen |= {"temperature": temperature, "top_p": settings.get("top_p")}
    return chosen
