"""Qwen3-VL in vLLM, dense and mixture of experts: every frame has its time in text, and a start and an end of its own.

Deepstack features, which enter later layers, follow the tokens that are kept; the selection does not see them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from vllm.model_executor.models import qwen3_vl as stock
from vllm.model_executor.models import qwen3_vl_moe as stock_moe
from vllm.multimodal import MULTIMODAL_REGISTRY

from st_simdiff.selection.grid import TokenGrid
from st_simdiff.serve.vllm.model import QwenPruning, reduce_on_all_ranks
from st_simdiff.serve.vllm.positions import add_position_channels, framed_positions
from st_simdiff.serve.vllm.processing import QwenVideoSizing


class Processor(QwenVideoSizing, stock.Qwen3VLMultiModalProcessor):
    def video_placeholder(self, item: Mapping[str, Any], kept: int) -> Any:
        """All kept tokens stand in the first frame: which frames they are from is known only to the model."""
        frames = self.video_grid(item).frames
        per_frame = [kept] + [0] * (frames - 1)
        return frame_tokens(per_frame, item["timestamps"].data, self.info.get_tokenizer(), self.info.get_hf_config())


def frame_tokens(per_frame: list[int], timestamps: Any, tokenizer: Any, config: Any) -> Any:
    """vLLM's tokens of a video's item with so many visual tokens in each frame."""
    return stock.Qwen3VLMultiModalProcessor.get_video_repl(
        tokens_per_frame=per_frame,
        timestamps=timestamps,
        tokenizer=tokenizer,
        vision_start_token_id=config.vision_start_token_id,
        vision_end_token_id=config.vision_end_token_id,
        video_token_id=config.video_token_id,
    )


class FramedPruning(QwenPruning):
    """Comes before one of vLLM's models with Qwen3-VL's layout of videos."""

    def _postprocess_video_embeds_evs(self, video_embeds_split: Any, video_input: Any) -> Any:
        if self.pruning is None:
            return super()._postprocess_video_embeds_evs(video_embeds_split, video_input)
        out = []
        for embeddings, patches, timestamps, retention in zip(
            video_embeds_split,
            video_input["video_grid_thw"].tolist(),
            video_input["timestamps"],
            video_input["st_simdiff_retentions"],
            strict=True,
        ):
            grid = self.merged_grid(patches)
            reduction = reduce_on_all_ranks(self.pruning, embeddings[:, : self.visual_dim], grid, retention)
            values = embeddings[reduction.kept]
            if reduction.values is not None:
                values[:, : self.visual_dim] = reduction.values
            out.append(self._item(values, reduction.kept, grid, timestamps))
        return tuple(out)

    def _item(self, values: torch.Tensor, kept: torch.Tensor, grid: TokenGrid, timestamps: Any) -> torch.Tensor:
        """All tokens of a video's item, text between the frames included, with their positions as if all were there.

        values: (m, D) of the kept visual tokens, deepstack features behind the first `visual_dim`. kept: int64 (m,).
        """
        size = grid.height * grid.width
        kept_here = kept.cpu()
        per_frame = torch.bincount(kept_here // size, minlength=grid.frames).tolist()
        ids = self._tokens(per_frame, timestamps)
        whole = self._tokens([size] * grid.frames, timestamps)
        is_visual, is_whole_visual = (tokens == self.config.video_token_id for tokens in (ids, whole))
        whole_positions = framed_positions(is_whole_visual, grid.height, grid.width)
        positions = torch.empty(3, len(ids), dtype=torch.long)
        positions[:, is_visual] = whole_positions[:, is_whole_visual][:, kept_here]
        positions[:, ~is_visual] = whole_positions[:, ~is_whole_visual]

        device = values.device
        text = self.get_language_model().embed_input_ids(ids.to(device))
        rows = text.new_zeros(len(ids), values.shape[1])
        rows[:, : text.shape[1]] = text
        rows[is_visual.to(device)] = values.to(rows.dtype)
        lead = int((ids == self.config.vision_start_token_id).nonzero()[0]) + 1
        return add_position_channels(rows, positions.to(device), self.config.video_token_id, lead)

    def _tokens(self, per_frame: list[int], timestamps: Any) -> torch.Tensor:
        return torch.tensor(frame_tokens(per_frame, timestamps, self._tokenizer, self.config).full)

    def whole_video(self, tokens: Sequence[int], grid: TokenGrid) -> list[int]:
        visual, start = self.config.video_token_id, self.config.vision_start_token_id
        frame = [visual] * (grid.height * grid.width)
        whole: list[int] = []
        for token in tokens:
            if token != visual:
                whole.append(token)
            if token == start:
                whole += frame
        return whole


@MULTIMODAL_REGISTRY.register_processor(
    Processor, info=stock.Qwen3VLProcessingInfo, dummy_inputs=stock.Qwen3VLDummyInputsBuilder
)
class Qwen3VLForConditionalGeneration(FramedPruning, stock.Qwen3VLForConditionalGeneration):
    """vLLM's model with pruned videos."""


@MULTIMODAL_REGISTRY.register_processor(
    Processor, info=stock_moe.Qwen3VLMoeProcessingInfo, dummy_inputs=stock.Qwen3VLDummyInputsBuilder
)
class Qwen3VLMoeForConditionalGeneration(FramedPruning, stock_moe.Qwen3VLMoeForConditionalGeneration):
    """vLLM's model with pruned videos."""
