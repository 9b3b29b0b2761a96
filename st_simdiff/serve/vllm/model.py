"""What the plugin adds to vLLM's models: the selection behind the vision tower, and M-RoPE positions of what is left.

Nothing is kept on the model between two calls: a call's retentions travel with its video input, and positions with the
embeddings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import torch
from vllm.distributed import get_tp_group
from vllm.multimodal.inputs import PlaceholderRange
from vllm.utils.gpu_sync_debug import gpu_sync_allowed

from st_simdiff.methods.base import Reduction
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.serve.vllm.positions import (
    CHANNELS,
    add_position_channels,
    grid_positions,
    place_items,
    whole_prompt,
)
from st_simdiff.serve.vllm.processing import RETENTION, merged_grid, settings_of
from st_simdiff.serve.vllm.reduction import reduce_video
from st_simdiff.serve.vllm.settings import ServerSettings


def reduce_on_all_ranks(
    settings: ServerSettings, embeddings: torch.Tensor, grid: TokenGrid, retention: float
) -> Reduction:
    """The reduction of one video, the same on all ranks of a tensor-parallel group: the first one's.

    embeddings: (N, D), what enters the language model. `values` of the reduction are None where nothing was merged.
    """
    with gpu_sync_allowed():
        reduction = reduce_video(settings.method_at(retention), embeddings, grid, settings.num_layers)
    group = get_tp_group()
    kept = group.broadcast(reduction.kept.contiguous())
    values = reduction.values
    if values is not None:
        values = group.broadcast(values.to(embeddings.dtype).contiguous())
    return Reduction(kept=kept, values=values)


class RetentionInput:
    """Comes before a vLLM model among the bases: a video input brings its videos' retentions along.

    pruning: the server's settings, None where vLLM's own code runs.
    """

    pruning: ServerSettings | None

    def _parse_and_validate_video_input(self, **kwargs: object) -> Any:
        retentions = kwargs.pop(RETENTION, None)
        video_input = super()._parse_and_validate_video_input(**kwargs)
        if video_input is not None and retentions is not None:
            video_input.st_simdiff_retentions = [float(value) for value in retentions]
        return video_input


class QwenPruning(RetentionInput):
    """Comes before one of vLLM's Qwen models among the bases."""

    def __init__(self, *, vllm_config: Any, prefix: str = "") -> None:
        super().__init__(vllm_config=vllm_config, prefix=prefix)
        self.pruning = settings_of(self.config, self.multimodal_config)

    def merged_grid(self, patches: Any) -> TokenGrid:
        return merged_grid(patches, self.config.vision_config.spatial_merge_size)

    def _postprocess_image_embeds_evs(self, image_embeds_split: Any, image_input: Any) -> Any:
        if self.pruning is None:
            return super()._postprocess_image_embeds_evs(image_embeds_split, image_input)
        return tuple(
            add_position_channels(
                embeddings, grid_positions((grid.frames, grid.height, grid.width)), self.config.image_token_id
            )
            for embeddings, grid in zip(
                image_embeds_split, map(self.merged_grid, image_input["image_grid_thw"].tolist()), strict=True
            )
        )

    def whole_video(self, tokens: Sequence[int], grid: TokenGrid) -> list[int]:
        """The tokens of a video's item as if nothing was pruned, given those that stand for it in a prompt."""
        raise NotImplementedError

    def get_mrope_input_positions(self, input_tokens: list[int], mm_features: list[Any]) -> tuple[torch.Tensor, int]:
        """vLLM's positions of the whole prompt, for the tokens that are left: right for text, provisional in videos.

        They depend on grids alone, so that text behind a video has its position before the video was encoded.
        """
        if self.pruning is None:
            return super().get_mrope_input_positions(input_tokens, mm_features)
        features = sorted(mm_features, key=lambda feature: feature.mm_position.offset)

        def whole(index: int, tokens: Sequence[int]) -> list[int]:
            feature = features[index]
            if feature.modality != "video":
                return list(tokens)
            return self.whole_video(tokens, self.merged_grid(feature.data["video_grid_thw"].data))

        items = [(feature.mm_position.offset, feature.mm_position.length) for feature in features]
        full, full_items, places = whole_prompt(input_tokens, items, whole)
        moved = [
            dataclasses.replace(feature, mm_position=PlaceholderRange(offset=offset, length=length))
            for feature, (offset, length) in zip(features, full_items, strict=True)
        ]
        positions, _ = super().get_mrope_input_positions(full, moved)
        return positions[:, torch.tensor(places)], int(positions.max()) + 1 - len(input_tokens)

    def recompute_mrope_positions(
        self, input_ids: Any, multimodal_embeddings: Any, mrope_positions: torch.Tensor, num_computed_tokens: int
    ) -> Any:
        if self.pruning is None:
            return super().recompute_mrope_positions(
                input_ids, multimodal_embeddings, mrope_positions, num_computed_tokens
            )
        with gpu_sync_allowed():
            embeddings, positions = [], mrope_positions
            if len(multimodal_embeddings):
                ids = torch.as_tensor(input_ids).cpu().long()
                embeddings, positions = place_items(multimodal_embeddings, mrope_positions, num_computed_tokens, ids)
            return embeddings, positions, int(positions.max()) + 1 - len(input_ids)

    def embed_input_ids(self, input_ids: Any, multimodal_embeddings: Any = None, **kwargs: Any) -> Any:
        if self.pruning is not None and multimodal_embeddings is not None:
            inputs = self.model_config.get_inputs_embeds_size()
            if any(rows.shape[-1] > inputs and rows.shape[-1] % inputs == CHANNELS for rows in multimodal_embeddings):
                raise RuntimeError(
                    "This runner of vLLM leaves position channels on the embeddings of pruned videos, as the CPU "
                    "runner of 0.32 and 0.33 does: videos cannot be pruned with it."
                )
        return super().embed_input_ids(input_ids, multimodal_embeddings, **kwargs)
