"""What the plugin adds to vLLM's processors: placeholders of the pruned length, and each video's retention.

The retention rides beside a video's pixels to the model, so that the model prunes by what the prompt was sized for. It
is part of the video's hash, by which vLLM shares processed pixels, encoded videos and keys and values of prompts.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from vllm.multimodal.hasher import MultiModalHasher
from vllm.multimodal.inputs import MultiModalFieldConfig

from st_simdiff.selection.grid import TokenGrid
from st_simdiff.serve.vllm.reduction import kept_count
from st_simdiff.serve.vllm.settings import OVERRIDE, REQUEST_KEY, ServerSettings, read_settings

RETENTION = "st_simdiff_retention_of_video"
"""The field of a processed video with its retention, float64."""


def settings_of(hf_config: Any, multimodal_config: Any) -> ServerSettings | None:
    """The settings in a model's config; None if the server does not ask for this plugin."""
    given = getattr(hf_config, OVERRIDE, None)
    return read_settings(given, multimodal_config.video_pruning_rate, hf_config.get_text_config().num_hidden_layers)


class VideoSizing:
    """Comes before a vLLM processor among the bases. Without settings every method is vLLM's own."""

    def __init__(self, info: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(info, *args, **kwargs)
        self.pruning = settings_of(info.get_hf_config(), info.ctx.get_mm_config())

    @abstractmethod
    def video_count(self, data: Mapping[str, Any]) -> int:
        """How many videos are in the processor's output."""

    @abstractmethod
    def video_grid(self, item: Mapping[str, Any]) -> TokenGrid:
        """The visual tokens of one processed video."""

    @abstractmethod
    def video_placeholder(self, item: Mapping[str, Any], kept: int) -> Any:
        """What stands for a video of `kept` tokens in the prompt."""

    def _get_mm_hashes(self, inputs: Any) -> Any:
        if self.pruning is None:
            return super()._get_mm_hashes(inputs)
        retention = self.pruning.requested_retention(inputs.hf_processor_mm_kwargs)
        bare = dataclasses.replace(inputs, hf_processor_mm_kwargs=_without_retention(inputs.hf_processor_mm_kwargs))
        hashes = dict(super()._get_mm_hashes(bare))
        if "video" in hashes:
            algorithm = self.info.ctx.get_mm_config().mm_hasher_algorithm
            identity = self.pruning.identity(retention)
            hashes["video"] = [
                MultiModalHasher.hash_kwargs(algorithm, mm_hash=own, st_simdiff=identity) for own in hashes["video"]
            ]
        return hashes

    def _get_cache_missing_processor_kwargs(self, inputs: Any, mm_is_cached: Any) -> Any:
        given = inputs.hf_processor_mm_kwargs
        if self.pruning is None or REQUEST_KEY not in given:
            return super()._get_cache_missing_processor_kwargs(inputs, mm_is_cached)
        bare = dataclasses.replace(inputs, hf_processor_mm_kwargs=_without_retention(given))
        missing = super()._get_cache_missing_processor_kwargs(bare, mm_is_cached)
        return {**missing, REQUEST_KEY: given[REQUEST_KEY]}

    def _apply_hf_processor_main(self, mm_items: Any, hf_kwargs: Mapping[str, object]) -> Any:
        if self.pruning is None:
            return super()._apply_hf_processor_main(mm_items, hf_kwargs)
        retention = self.pruning.requested_retention(hf_kwargs)
        data = super()._apply_hf_processor_main(mm_items, _without_retention(hf_kwargs))
        if count := self.video_count(data):
            data[RETENTION] = torch.full((count,), retention, dtype=torch.float64)
        return data

    def _get_mm_fields_config(self, hf_inputs: Any, hf_processor_mm_kwargs: Mapping[str, object]) -> Any:
        if self.pruning is None:
            return super()._get_mm_fields_config(hf_inputs, hf_processor_mm_kwargs)
        fields = super()._get_mm_fields_config(hf_inputs, _without_retention(hf_processor_mm_kwargs))
        return {**fields, RETENTION: MultiModalFieldConfig.batched("video", keep_on_cpu=True)}

    def _get_prompt_updates(self, mm_items: Any, hf_processor_mm_kwargs: Mapping[str, Any], out_mm_kwargs: Any) -> Any:
        if self.pruning is None:
            return super()._get_prompt_updates(mm_items, hf_processor_mm_kwargs, out_mm_kwargs)
        settings = self.pruning

        def placeholder(index: int) -> Any:
            item = out_mm_kwargs["video"][index]
            method = settings.method_at(float(item[RETENTION].data))
            return self.video_placeholder(item, kept_count(method, self.video_grid(item), settings.num_layers))

        updates = super()._get_prompt_updates(mm_items, _without_retention(hf_processor_mm_kwargs), out_mm_kwargs)
        return [
            dataclasses.replace(update, replacement=placeholder) if update.modality == "video" else update
            for update in updates
        ]


class QwenVideoSizing(VideoSizing):
    """Of processors whose videos have a `video_grid_thw`, in patches before merging."""

    def video_count(self, data: Mapping[str, Any]) -> int:
        return len(data["video_grid_thw"]) if "video_grid_thw" in data else 0

    def video_grid(self, item: Mapping[str, Any]) -> TokenGrid:
        merge = self.info.get_hf_config().vision_config.spatial_merge_size
        return merged_grid(item["video_grid_thw"].data, merge)


def merged_grid(patches: Any, merge: int) -> TokenGrid:
    """The visual tokens of (frames, height, width) patches that are merged `merge` x `merge`."""
    frames, height, width = (int(size) for size in patches)
    return TokenGrid(frames, height // merge, width // merge)


def _without_retention(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if key != REQUEST_KEY}
