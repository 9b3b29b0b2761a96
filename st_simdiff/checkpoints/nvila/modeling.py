"""NVILA: frames -> SigLIP patches -> projector (2 x 2 patches a token) -> pooled frames, a newline after each -> Qwen2.

Calling and generating are LLaVA-Video's: only what happens to the frames differs.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn
from transformers import GenerationConfig, Qwen2ForCausalLM, SiglipVisionModel

from st_simdiff.checkpoints.llava_video.modeling import LlavaVideo, VideoEmbedder
from st_simdiff.checkpoints.nvila.config import NvilaConfig
from st_simdiff.checkpoints.nvila.projector import blocks_of, build_projector, check_frames, pool_frames


class NvilaEmbedder(VideoEmbedder):
    """Turns prompts with placeholders, and the videos they stand for, into the embeddings of one sequence.

    A frame of 32 x 32 patches becomes 16 x 16 visual tokens, then every pooled frame gets the embedding of a newline.
    """

    newline_mode = "frame"

    def __init__(
        self,
        config: NvilaConfig,
        vision_tower: SiglipVisionModel,
        text_embedding: Any,
        newline_id: int,
        frames_per_chunk: int,
    ) -> None:
        """vision_tower: with all of its layers; those behind the features are taken off."""
        nn.Module.__init__(self)
        self.pool_size = config.pool_frames
        self.frames_per_chunk = frames_per_chunk
        self.vision_tower = without_unused_layers(vision_tower, config.kept_layers)
        self.projector = build_projector(config.vision.hidden_size, config.text.hidden_size)
        self.newline_id = newline_id
        self._text_embedding = text_embedding

    def encode(self, pixel_values: torch.Tensor, frames_per_chunk: int | None = None) -> torch.Tensor:
        """Visual tokens (T / pool size, H, W, D) of the frames (T, 3, S, S), without newlines.

        Raises ValueError if the pool size does not divide T.
        """
        check_frames(len(pixel_values), self.pool_size)
        weight = self.projector[2].weight
        size = self.pool_size * max(1, (frames_per_chunk or self.frames_per_chunk) // self.pool_size)
        chunks = pixel_values.split(size)
        return torch.cat([self._encode_chunk(chunk.to(weight.device, weight.dtype)) for chunk in chunks])

    def pool(self, patches: torch.Tensor) -> torch.Tensor:
        """(T, n, d), values of every frame's n patches -> (T / pool size, H, W, d), means over a token's patches."""
        return pool_frames(blocks_of(patches).mean(-2), self.pool_size)

    def add_newlines(self, tokens: torch.Tensor) -> torch.Tensor:
        """(T, H, W, D) -> (T * (H * W + 1), D): the embedding of a newline after every frame."""
        embedding = self._text_embedding()
        newline = embedding(torch.tensor([self.newline_id], device=embedding.weight.device)).to(tokens)
        return torch.cat([tokens.flatten(1, 2), newline.expand(len(tokens), 1, -1)], dim=1).flatten(0, 1)

    def _encode_chunk(self, pixel_values: torch.Tensor) -> torch.Tensor:
        tokens = self.projector(self.vision_tower(pixel_values).last_hidden_state)
        side = int(tokens.shape[1] ** 0.5)
        return pool_frames(tokens.unflatten(1, (side, side)), self.pool_size)


class Nvila(LlavaVideo):
    """An NVILA model. `embedder` and `language_model` are called as modules, one after the other."""

    def __init__(
        self,
        config: NvilaConfig,
        language_model: Qwen2ForCausalLM,
        vision_tower: SiglipVisionModel,
        newline_id: int,
        *,
        frames_per_chunk: int = 16,
    ) -> None:
        """newline_id: the token of "\\n". frames_per_chunk: frames that go through the vision tower at once."""
        nn.Module.__init__(self)
        self.config = config
        self.language_model = language_model
        # The checkpoint's settings are kept here: `generate` hands the language model complete ones.
        self.language_model.generation_config = GenerationConfig()
        self.generation_config = GenerationConfig()
        self.embedder = NvilaEmbedder(
            config, vision_tower, language_model.get_input_embeddings, newline_id, frames_per_chunk
        )

    @property
    def frames_per_step(self) -> int:
        """Frames that one frame of visual tokens stands for."""
        return self.embedder.pool_size

    @property
    def device(self) -> torch.device:
        """Where inputs go."""
        return self.projector[2].weight.device

    @property
    def dtype(self) -> torch.dtype:
        return self.projector[2].weight.dtype

    @property
    def image_newline(self) -> torch.Tensor:
        """The embedding that stands after every frame, (D,)."""
        return self.get_input_embeddings().weight[self.embedder.newline_id]


def without_unused_layers(tower: SiglipVisionModel, kept: int) -> SiglipVisionModel:
    """The tower with its first `kept` layers, whose output, not normalised, is its last hidden state."""
    config = copy.deepcopy(tower.config)
    config.num_hidden_layers, config.vision_use_head = kept, False
    tower.config = tower.encoder.config = config
    tower.encoder.layers = tower.encoder.layers[:kept]
    tower.post_layernorm = nn.Identity()
    tower.use_head = False
    if hasattr(tower, "head"):
        del tower.head
    return tower
