"""`--model_args` of the harness models: keys, meaning, checks. Knows nothing of lmms-eval."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args, get_type_hints

from st_simdiff.checks import check_bits, check_frames, check_range, is_number
from st_simdiff.errors import InputError, unknown
from st_simdiff.methods.base import Method
from st_simdiff.methods.settings import take_method
from st_simdiff.model_args import read_value
from st_simdiff.videos.decoders import check_decoder
from st_simdiff.videos.reading import FRAMES_PER_READ, check_frames_per_read
from st_simdiff.videos.sampling import FPS
from st_simdiff.videos.settings import Decoder, FrameChoice, ReadSettings
from st_simdiff.vocabulary import LLAVA_VIDEO_DEFAULTS

Dtype = Literal["auto", "float32", "float16", "bfloat16"]
AttentionImplementation = Literal["sdpa", "eager", "flash_attention_2"]
PoolMode = Literal["bilinear", "average", "max"]
NewlinePosition = Literal["grid", "frame", "one_token", "no_token"]
ModelName = Literal["llava_qwen"]
Template = Literal["qwen_1_5"]
"""Of conversations: the only one that these checkpoints were trained with."""
VideoPath = Literal["tsp", "frames"]

CACHE_GB = (1e-6, 1e6)
MOST_AHEAD = 1_000


@dataclass(frozen=True, kw_only=True)
class ReadingArguments:
    """How videos are read, see `st_simdiff.videos.ReadSettings`; video_decode_backend is its `decoder`."""

    video_decode_backend: Decoder = ReadSettings.decoder
    frame_choice: FrameChoice = ReadSettings.frame_choice
    damaged_share: float = ReadSettings.damaged_share
    max_frame_pixels: int = ReadSettings.max_frame_pixels
    shrink_frames: bool = ReadSettings.shrink_frames
    video_time_limit: float = ReadSettings.video_time_limit

    def __post_init__(self) -> None:
        check_decoder(self.read_settings.decoder)

    @property
    def read_settings(self) -> ReadSettings:
        """Raises `InputError` for a value out of its range."""
        return ReadSettings(
            decoder="pyav" if self.video_decode_backend == "auto" else self.video_decode_backend,
            frame_choice=self.frame_choice,
            damaged_share=self.damaged_share,
            max_frame_pixels=self.max_frame_pixels,
            shrink_frames=self.shrink_frames,
            video_time_limit=self.video_time_limit,
        )


@dataclass(frozen=True, kw_only=True)
class AnsweringArguments(ReadingArguments):
    """A checkpoint that this project runs itself, and the method that compresses what it sees.

    pretrained: checkpoint folder, or owner/name or owner/name@revision on the Hugging Face hub.
    device: auto, cpu, cuda or cuda:<index>; auto is CUDA where there is a GPU. In a run of several processes each takes
        the GPU of its local rank.
    dtype: auto is bfloat16 on CUDA and float32 on a CPU.
    journal: folder in which every answer is written down the moment it is there; None writes none.
    video_cache: folder in which the features of every video are kept for other processes and later runs, at most
        video_cache_gb of them; None keeps those of the last video alone, in memory.
    decode_ahead: videos that are read while the model works on another one.
    frames_per_read: a video of more frames is read and encoded in parts of so many, a multiple of 16; features and
        kept tokens are the same.
    share_prefix: go on from the keys and values of an earlier prompt about the same video, where the method allows it.
    model_base: the checkpoint that `pretrained`, a LoRA adapter, was trained on.
    load_4bit, load_8bit: quantise the language model while it is loaded, as LLaVA does, by bitsandbytes.
    """

    pretrained: str
    method: Method
    device: str = "auto"
    dtype: Dtype = LLAVA_VIDEO_DEFAULTS["dtype"]
    attn_implementation: AttentionImplementation = LLAVA_VIDEO_DEFAULTS["attn_implementation"]
    batch_size: int = 1
    journal: str | None = None
    video_cache: str | None = None
    video_cache_gb: float = 20
    decode_ahead: int = 2
    frames_per_read: int = FRAMES_PER_READ
    share_prefix: bool = LLAVA_VIDEO_DEFAULTS["share_prefix"]
    model_base: str | None = None
    load_4bit: bool = False
    load_8bit: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bits(self.load_4bit, self.load_8bit)
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise InputError(f"device is auto, cpu, cuda or cuda:<index>, got {self.device!r}.")
        if self.batch_size != 1:
            raise InputError(f"The model answers one question at a time: batch_size is 1, got {self.batch_size}.")
        check_range("video_cache_gb", self.video_cache_gb, *CACHE_GB, meaning="how much the folder may hold")
        check_range("decode_ahead", self.decode_ahead, 0, MOST_AHEAD, meaning="how many videos to read ahead")
        check_frames_per_read(self.frames_per_read)


@dataclass(frozen=True, kw_only=True)
class LlavaVideoArguments(AnsweringArguments):
    """A LLaVA-Video checkpoint and how it sees a video.

    model_name, conv_template: architecture and prompt format.
    max_frames_num, fps, force_sample: frames at `fps` a second, spread evenly over the video when that would be more
        than `max_frames_num` or with `force_sample`.
    add_time_instruction: tell the model when its frames were taken.
    mm_spatial_pool_mode, mm_newline_position: None is what the checkpoint's config says.
    """

    model_name: ModelName = "llava_qwen"
    conv_template: Template = LLAVA_VIDEO_DEFAULTS["conv_template"]
    max_frames_num: int = LLAVA_VIDEO_DEFAULTS["max_frames_num"]
    fps: float = LLAVA_VIDEO_DEFAULTS["fps"]
    force_sample: bool = LLAVA_VIDEO_DEFAULTS["force_sample"]
    add_time_instruction: bool = LLAVA_VIDEO_DEFAULTS["add_time_instruction"]
    mm_spatial_pool_mode: PoolMode | None = None
    mm_newline_position: NewlinePosition | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_frames("max_frames_num", self.max_frames_num)
        check_range("fps", self.fps, *FPS, meaning="the frames to take a second")

    @property
    def overwrite_config(self) -> dict[str, str]:
        """The entries of the checkpoint's config that the arguments replace."""
        given = {
            "mm_spatial_pool_mode": self.mm_spatial_pool_mode,
            "mm_newline_position": self.mm_newline_position,
        }
        return {key: value for key, value in given.items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class NvilaArguments(AnsweringArguments):
    """An NVILA checkpoint and how it sees a video.

    max_frames_num: frames, spread evenly from the first to the last; None is what the checkpoint was made for.
    video: "tsp" averages every 8 frames, "frames" makes every frame an image; None is what the checkpoint says.
    """

    max_frames_num: int | None = None
    video: VideoPath | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_frames_num is not None:
            check_frames("max_frames_num", self.max_frames_num)


Arguments = TypeVar("Arguments", bound=AnsweringArguments)


def parse(settings: Mapping[str, Any], kind: type[Arguments] = LlavaVideoArguments) -> Arguments:
    """Arguments from key-value pairs, the method's among them, whose values may be text or already typed.

    Raises `InputError` for an unknown key (with the closest valid one), a wrong value, or a setting given twice.
    """
    if "pretrained" not in settings:
        raise InputError("pretrained=<checkpoint> is missing from model_args.")
    method, own = take_method(settings, keys(kind))
    return read_arguments(own, method, kind)


def keys(kind: type[AnsweringArguments]) -> frozenset[str]:
    """The arguments of `kind` that are not the method's."""
    return frozenset(field.name for field in dataclasses.fields(kind)) - {"method"}


def read_arguments(settings: Mapping[str, Any], method: Method, kind: type[Arguments]) -> Arguments:
    """Arguments from values that may be text or already typed. Raises `InputError` for a wrong value."""
    types = get_type_hints(kind)
    return kind(method=method, **{key: _typed(key, value, types[key]) for key, value in settings.items()})


def take_reading(settings: Mapping[str, Any]) -> tuple[ReadingArguments, dict[str, Any]]:
    """How videos are read, and the other ones of `settings`. Raises `InputError` for a wrong value."""
    types = get_type_hints(ReadingArguments)
    reading = {key: _typed(key, value, types[key]) for key, value in settings.items() if key in types}
    return ReadingArguments(**reading), {key: value for key, value in settings.items() if key not in types}


def merge_settings(settings: Mapping[str, Any], placed: Mapping[str, Any] | None) -> dict[str, Any]:
    """`settings`, joined by lmms-eval's own --batch_size, --max_batch_size and --device where they are given.

    Raises `InputError` for a setting that is given both ways.
    """
    merged = dict(settings)
    for key, value in (placed or {}).items():
        if value is None:
            continue
        if key in merged:
            raise InputError(f"{key} is given twice: in model_args ({merged[key]}) and as --{key} {value}.")
        merged[key] = value
    return merged


def _typed(key: str, value: Any, annotation: Any) -> Any:
    """`value` as what the annotation of `key` asks for."""
    options = get_args(annotation)
    if type(None) in options:
        if read_value(value) is None:
            return None
        annotation = next(option for option in options if option is not type(None))
        options = get_args(annotation)
    if options:
        if value not in options:
            raise unknown(key, str(value), options)
        return value
    value = read_value(value)
    if annotation is str:
        return str(value)
    if annotation is float and is_number(value):
        return value
    if annotation is int and is_number(value) and float(value).is_integer():
        return int(value)
    if annotation is bool and isinstance(value, bool):
        return value
    kind = {int: "a whole number", float: "a number", bool: "True or False"}[annotation]
    raise InputError(f"{key} is {kind}, got {value!r}.")
