"""LLaVA-OneVision in vLLM. It counts one-dimensional positions itself: kept tokens get contiguous ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vllm.model_executor.models import llava_onevision as stock
from vllm.multimodal import MULTIMODAL_REGISTRY

from st_simdiff.selection.grid import TokenGrid
from st_simdiff.serve.vllm.model import RetentionInput, reduce_on_all_ranks
from st_simdiff.serve.vllm.processing import VideoSizing, settings_of


def pooled_grid(config: Any, frames: int) -> TokenGrid:
    """The visual tokens of a video: a pooled square a frame, and one newline token at the end."""
    vision = config.vision_config
    side = -(-(vision.image_size // vision.patch_size) // 2)
    return TokenGrid(frames, side, side, "end")


class Processor(VideoSizing, stock.LlavaOnevisionMultiModalProcessor):
    def video_count(self, data: Mapping[str, Any]) -> int:
        return len(data["pixel_values_videos"]) if "pixel_values_videos" in data else 0

    def video_grid(self, item: Mapping[str, Any]) -> TokenGrid:
        return pooled_grid(self.info.get_hf_config(), len(item["pixel_values_videos"].data))

    def video_placeholder(self, item: Mapping[str, Any], kept: int) -> list[int]:  # noqa: ARG002
        return [self.info.get_hf_config().video_token_index] * kept


@MULTIMODAL_REGISTRY.register_processor(
    Processor, info=stock.LlavaOnevisionProcessingInfo, dummy_inputs=stock.LlavaOnevisionDummyInputsBuilder
)
class LlavaOnevisionForConditionalGeneration(RetentionInput, stock.LlavaOnevisionForConditionalGeneration):
    """vLLM's model with pruned videos."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.pruning = settings_of(self.config, vllm_config.model_config.multimodal_config)

    def _process_video_pixels(self, inputs: Any) -> Any:
        videos = super()._process_video_pixels(inputs)
        if self.pruning is None:
            return videos
        out = []
        for video, pixels, retention in zip(
            videos, inputs["pixel_values_videos"], inputs["st_simdiff_retentions"], strict=True
        ):
            embeddings = video.reshape(-1, video.shape[-1])
            grid = pooled_grid(self.config, len(pixels))
            reduction = reduce_on_all_ranks(self.pruning, embeddings, grid, retention)
            out.append(embeddings[reduction.kept] if reduction.values is None else reduction.values)
        return out
