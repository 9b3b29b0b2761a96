"""A tiny random model of every family, and prompts for it: text, videos and images in any order, several rows.

Built from the families' own config classes. A prompt knows where its videos stand because it was put together here.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import ClassVar

import torch
import transformers

from st_simdiff.checkpoints.llava_video import modeling, tiny
from st_simdiff.checkpoints.nvila.config import NvilaConfig
from st_simdiff.checkpoints.nvila.modeling import Nvila as NvilaModel
from st_simdiff.selection.grid import TokenGrid

PAD, START, END, IMAGE, VIDEO = 0, 3, 4, 5, 6
VOCABULARY = 96
LAYERS = 4
TEXT = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCABULARY,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": PAD,
}


@dataclass(frozen=True)
class Text:
    length: int
    seed: int = 0


@dataclass(frozen=True)
class Video:
    frames: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Image:
    seed: int = 0


@dataclass
class Placed:
    """A video in its row: its grid, and the positions of its tokens."""

    grid: TokenGrid
    positions: list[int]


@dataclass
class Row:
    """One sequence under construction. types: 0 text, 1 image, 2 video."""

    ids: list[int] = field(default_factory=list)
    types: list[int] = field(default_factory=list)
    videos: list[Placed] = field(default_factory=list)

    def text(self, ids: list[int]) -> None:
        self.ids += ids
        self.types += [0] * len(ids)

    def placeholders(self, token: int, count: int) -> list[int]:
        start = len(self.ids)
        self.ids += [token] * count
        self.types += [2 if token == VIDEO else 1] * count
        return list(range(start, start + count))


@dataclass
class Prompt:
    """inputs: as the model's processor gives them. videos: those of every row, padding included in their positions."""

    inputs: dict[str, torch.Tensor]
    videos: list[list[Placed]]


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def frames_of(seed: int, frames: int, *shape: int) -> torch.Tensor:
    """(frames, *shape): a picture that changes a little from frame to frame, and completely in the middle."""
    scene = torch.stack([random(seed + 1000 * (2 * t >= frames), *shape) for t in range(frames)])
    return scene + 0.3 * random(seed + 500, frames, *shape)


def words(text: Text) -> list[int]:
    generator = torch.Generator().manual_seed(text.seed + 77)
    return torch.randint(10, VOCABULARY, (text.length,), generator=generator).tolist()


def stretched(model: torch.nn.Module, factor: float) -> torch.nn.Module:
    """Larger weights, so that attention is far from uniform and every token matters."""
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(factor)
    return model.eval()


class Zoo:
    """One family. name: as the product calls it. options: what compress needs to know about its videos. since: the
    first version of transformers that has it.

    has_types: whether its prompts say of every token what it is. same_length: all videos of a call have as many frames.
    one_video_a_row: the model is not told which frames are a video. one_placeholder: one id stands for a whole video,
    so behind a cache only the ids that it does not hold are given. entry: a setting of ST-SimDiff at which all its
    stages drop tokens of this model.
    """

    name: str
    text: ClassVar[dict] = TEXT
    options: ClassVar[dict] = {}
    mrope = False
    has_types = False
    takes_images = True
    same_length = False
    since = "5.17"
    entry = 1.0
    one_video_a_row = False
    one_placeholder = False

    @functools.cached_property
    def model(self) -> torch.nn.Module:
        torch.manual_seed(0)
        return self.build()

    def build(self) -> torch.nn.Module:
        raise NotImplementedError

    def grid(self, video: Video) -> TokenGrid:
        raise NotImplementedError

    def add_video(self, row: Row, video: Video) -> None:
        grid = self.grid(video)
        row.text([START])
        row.videos.append(Placed(grid, row.placeholders(VIDEO, grid.count)))
        row.text([END])

    def add_image(self, row: Row, image: Image) -> None:
        raise NotImplementedError

    def pixels(self, visuals: list[Video | Image]) -> dict[str, torch.Tensor]:
        raise NotImplementedError

    def prompt(self, *rows: list[Text | Video | Image]) -> Prompt:
        built = []
        for segments in rows:
            row = Row()
            for segment in segments:
                if isinstance(segment, Text):
                    row.text(words(segment))
                elif isinstance(segment, Video):
                    self.add_video(row, segment)
                else:
                    self.add_image(row, segment)
            built.append(row)
        longest = max(len(row.ids) for row in built)
        pads = [longest - len(row.ids) for row in built]
        inputs = {
            "input_ids": torch.tensor([[PAD] * pad + row.ids for pad, row in zip(pads, built, strict=True)]),
            "attention_mask": torch.tensor(
                [[0] * pad + [1] * len(row.ids) for pad, row in zip(pads, built, strict=True)]
            ),
        }
        if self.mrope or self.has_types:
            inputs["mm_token_type_ids"] = torch.tensor(
                [[0] * pad + row.types for pad, row in zip(pads, built, strict=True)]
            )
        inputs |= self.pixels([segment for row in rows for segment in row if not isinstance(segment, Text)])
        videos = [
            [Placed(video.grid, [pad + position for position in video.positions]) for video in row.videos]
            for pad, row in zip(pads, built, strict=True)
        ]
        return Prompt(inputs, videos)


class QwenZoo(Zoo):
    """Qwen2-VL, Qwen2.5-VL, Qwen3-VL: 3 x 4 tokens a frame, 2 x 2 for an image."""

    mrope = True
    patch, temporal = 2, 2

    @property
    def text(self) -> dict:
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
        return TEXT | {"rope_parameters": rope}

    @property
    def special(self) -> dict:
        return {
            "image_token_id": IMAGE,
            "video_token_id": VIDEO,
            "vision_start_token_id": START,
            "vision_end_token_id": END,
        }

    def grid(self, video: Video) -> TokenGrid:
        return TokenGrid(video.frames, 3, 4)

    def add_image(self, row: Row, image: Image) -> None:
        del image
        row.text([START])
        row.placeholders(IMAGE, 4)
        row.text([END])

    def pixels(self, visuals: list[Video | Image]) -> dict[str, torch.Tensor]:
        size = 3 * self.temporal * self.patch**2
        videos = [v for v in visuals if isinstance(v, Video)]
        images = [v for v in visuals if isinstance(v, Image)]
        inputs = {}
        if videos:
            inputs["pixel_values_videos"] = torch.cat(
                [frames_of(v.seed, v.frames, 48, size).flatten(0, 1) for v in videos]
            )
            inputs["video_grid_thw"] = torch.tensor([[v.frames, 6, 8] for v in videos])
        if images:
            inputs["pixel_values"] = torch.cat([random(v.seed, 16, size) for v in images])
            inputs["image_grid_thw"] = torch.tensor([[1, 4, 4]] * len(images))
        return inputs


class Qwen2VL(QwenZoo):
    name = "Qwen2-VL"

    def build(self) -> torch.nn.Module:
        vision = {"depth": 2, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "mlp_ratio": 2}
        vision |= {"patch_size": self.patch, "temporal_patch_size": self.temporal}
        config = transformers.Qwen2VLConfig(vision_config=vision, text_config=self.text, **self.special)
        return stretched(transformers.Qwen2VLForConditionalGeneration(config), 6)


class Qwen25VL(QwenZoo):
    name = "Qwen2.5-VL"

    def build(self) -> torch.nn.Module:
        vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32, "num_heads": 2}
        vision |= {"patch_size": self.patch, "temporal_patch_size": self.temporal, "window_size": 8}
        vision |= {"fullatt_block_indexes": [1], "tokens_per_second": 2}
        config = transformers.Qwen2_5_VLConfig(vision_config=vision, text_config=self.text, **self.special)
        return stretched(transformers.Qwen2_5_VLForConditionalGeneration(config), 6)

    def pixels(self, visuals: list[Video | Image]) -> dict[str, torch.Tensor]:
        inputs = super().pixels(visuals)
        if "video_grid_thw" in inputs:
            inputs["second_per_grid_ts"] = torch.full((len(inputs["video_grid_thw"]),), 0.5)
        return inputs


class Qwen3VL(QwenZoo):
    """With a timestamp of two tokens before every frame, and deepstack features for the first three layers."""

    name = "Qwen3-VL"

    def build(self) -> torch.nn.Module:
        vision = {"depth": 4, "hidden_size": 16, "intermediate_size": 24, "out_hidden_size": 32, "num_heads": 2}
        vision |= {"patch_size": self.patch, "temporal_patch_size": self.temporal, "num_position_embeddings": 16}
        vision |= {"deepstack_visual_indexes": [0, 1, 2]}
        config = transformers.Qwen3VLConfig(
            vision_config=vision, text_config=self.text | {"head_dim": 8}, **self.special
        )
        return stretched(transformers.Qwen3VLForConditionalGeneration(config), 5)

    def add_video(self, row: Row, video: Video) -> None:
        grid = self.grid(video)
        positions = []
        for time in range(grid.frames):
            row.text([8, 10 + time, START])
            positions += row.placeholders(VIDEO, grid.height * grid.width)
            row.text([END])
        row.videos.append(Placed(grid, positions))


class LlavaOnevision(Zoo):
    """4 x 4 tokens a frame (7 x 7 patches, pooled) and one at the end; an image is seen whole and as one tile."""

    name = "LLaVA-OneVision"
    same_length = True
    side = 7

    def build(self) -> torch.nn.Module:
        vision = {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 24}
        vision |= {"num_hidden_layers": 3, "num_attention_heads": 2, "image_size": 2 * self.side, "patch_size": 2}
        config = transformers.LlavaOnevisionConfig(
            vision_config=vision | {"vision_use_head": False},
            text_config=TEXT | {"model_type": "qwen2"},
            image_token_index=IMAGE,
            video_token_index=VIDEO,
            image_grid_pinpoints=[[2 * self.side, 2 * self.side]],
        )
        model = stretched(transformers.LlavaOnevisionForConditionalGeneration(config), 6)
        model.model.image_newline.data.copy_(random(9, 32))
        return model

    def grid(self, video: Video) -> TokenGrid:
        return TokenGrid(video.frames, 4, 4, "end")

    def add_image(self, row: Row, image: Image) -> None:
        del image
        row.placeholders(IMAGE, self.side**2 + self.side * (self.side + 1))

    def pixels(self, visuals: list[Video | Image]) -> dict[str, torch.Tensor]:
        shape = (3, 2 * self.side, 2 * self.side)
        videos = [frames_of(v.seed, v.frames, *shape) for v in visuals if isinstance(v, Video)]
        images = [random(v.seed, 2, *shape) for v in visuals if isinstance(v, Image)]
        inputs = {"pixel_values_videos": torch.stack(videos)} if videos else {}
        if images:
            inputs["pixel_values"] = torch.stack(images)
            inputs["image_sizes"] = torch.tensor([[2 * self.side, 2 * self.side]] * len(images))
        return inputs


class InternVL(Zoo):
    """Frames are images, 3 x 3 tokens each; a frame number in text before every one."""

    name = "InternVL"
    options: ClassVar[dict] = {"images_as_frames": True}
    scale = 2

    @property
    def side(self) -> int:
        """Pixels: 3 tokens of `scale` patches of 2 pixels."""
        return 3 * self.scale * 2

    def build(self) -> torch.nn.Module:
        vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
        config = transformers.InternVLConfig(
            vision_config=vision | {"image_size": [self.side, self.side], "patch_size": [2, 2]},
            text_config={"model_type": "qwen2"} | self.text,
            image_token_id=IMAGE,
            downsample_ratio=0.5,
        )
        return stretched(transformers.InternVLForConditionalGeneration(config), 6)

    def grid(self, video: Video) -> TokenGrid:
        return TokenGrid(video.frames, 3, 3)

    def add_video(self, row: Row, video: Video) -> None:
        grid = self.grid(video)
        positions = []
        for time in range(grid.frames):
            row.text([8, 10 + time, START])
            positions += row.placeholders(IMAGE, grid.height * grid.width)
            row.text([END])
        row.videos.append(Placed(grid, positions))

    def add_image(self, row: Row, image: Image) -> None:
        del image
        row.text([START])
        row.placeholders(IMAGE, 9)
        row.text([END])

    def pixels(self, visuals: list[Video | Image]) -> dict[str, torch.Tensor]:
        pixels = [frames_of(v.seed, v.frames if isinstance(v, Video) else 1, 3, self.side, self.side) for v in visuals]
        return {"pixel_values": torch.cat(pixels)} if pixels else {}


class LlavaVideo(Zoo):
    """4 x 4 tokens a frame, and a newline after every row. One placeholder stands for a whole video."""

    name = "LLaVA-Video"
    takes_images = False
    one_placeholder = True
    image_size = 112

    def build(self) -> torch.nn.Module:
        config = tiny.random_config(
            VOCABULARY, image_size=112, vision_hidden=16, vision_heads=2, hidden=32, intermediate=48
        )
        return stretched(modeling.LlavaVideo(config), 3)

    def grid(self, video: Video) -> TokenGrid:
        return TokenGrid(video.frames, 4, 4, "row")

    def prompt(self, *rows: list[Text | Video | Image]) -> Prompt:
        prompt = super().prompt(*rows)
        ids = []
        for row, places in zip(prompt.inputs["input_ids"].tolist(), prompt.videos, strict=True):
            for place in reversed(places):
                row[place.positions[0] : place.positions[-1] + 1] = [modeling.IMAGE_TOKEN_INDEX]
            ids.append(row[row.count(PAD) :])
        longest = max(map(len, ids))
        prompt.inputs["input_ids"] = torch.tensor([[PAD] * (longest - len(row)) + row for row in ids])
        prompt.inputs["attention_mask"] = (prompt.inputs["input_ids"] != PAD).long()
        return prompt

    def pixels(self, visuals: list[Video | Image]) -> dict[str, torch.Tensor]:
        return (
            {"images": [frames_of(v.seed, v.frames, 3, self.image_size, self.image_size) for v in visuals]}
            if visuals
            else {}
        )


class Nvila(LlavaVideo):
    """Every frame an image of 3 x 3 tokens, and a newline after it."""

    name = "NVILA"
    image_size = 12

    def build(self) -> torch.nn.Module:
        vision = transformers.SiglipVisionConfig(
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=3,
            num_attention_heads=2,
            image_size=12,
            patch_size=2,
        )
        text = transformers.Qwen2Config(**TEXT)
        tower, decoder = transformers.SiglipVisionModel(vision), transformers.Qwen2ForCausalLM(text)
        return stretched(NvilaModel(NvilaConfig(text, vision, pool_frames=1), decoder, tower, newline_id=9), 6)

    def grid(self, video: Video) -> TokenGrid:
        return TokenGrid(video.frames, 3, 3, "frame")


ZOO: dict[str, Zoo] = {
    zoo.name: zoo for zoo in (LlavaVideo(), Nvila(), LlavaOnevision(), Qwen2VL(), Qwen25VL(), Qwen3VL(), InternVL())
}
