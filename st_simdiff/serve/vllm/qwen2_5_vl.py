"""Qwen2.5-VL in vLLM: a video is one run of visual tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vllm.model_executor.models import qwen2_5_vl as stock
from vllm.multimodal import MULTIMODAL_REGISTRY

from st_simdiff.selection.grid import TokenGrid
from st_simdiff.serve.vllm.model import QwenPruning, reduce_on_all_ranks
from st_simdiff.serve.vllm.positions import add_position_channels, grid_positions
from st_simdiff.serve.vllm.processing import QwenVideoSizing


class Processor(QwenVideoSizing, stock.Qwen2_5_VLMultiModalProcessor):
    def video_placeholder(self, item: Mapping[str, Any], kept: int) -> list[int]:  # noqa: ARG002
        return [self.info.get_hf_config().video_token_id] * kept


@MULTIMODAL_REGISTRY.register_processor(
    Processor, info=stock.Qwen2_5_VLProcessingInfo, dummy_inputs=stock.Qwen2_5_VLDummyInputsBuilder
)
class Qwen2_5_VLForConditionalGeneration(QwenPruning, stock.Qwen2_5_VLForConditionalGeneration):
    """vLLM's model with pruned videos."""

    def _postprocess_video_embeds_evs(self, video_embeds_split: Any, video_input: Any) -> Any:
        if self.pruning is None:
            return super()._postprocess_video_embeds_evs(video_embeds_split, video_input)
        tokens_per_second = getattr(self.config.vision_config, "tokens_per_second", 1.0)
        grids = video_input["video_grid_thw"].tolist()
        seconds = video_input.get("second_per_grid_ts")
        seconds = [1.0] * len(grids) if seconds is None else [float(value) for value in seconds]
        out = []
        for embeddings, patches, second, retention in zip(
            video_embeds_split, grids, seconds, video_input["st_simdiff_retentions"], strict=True
        ):
            grid = self.merged_grid(patches)
            reduction = reduce_on_all_ranks(self.pruning, embeddings, grid, retention)
            values = embeddings[reduction.kept] if reduction.values is None else reduction.values
            positions = grid_positions((grid.frames, grid.height, grid.width), second * tokens_per_second)
            positions = positions.to(values.device)[:, reduction.kept]
            out.append(add_position_channels(values, positions, self.config.video_token_id))
        return tuple(out)

    def whole_video(self, tokens: Sequence[int], grid: TokenGrid) -> list[int]:  # noqa: ARG002
        return [self.config.video_token_id] * grid.count
