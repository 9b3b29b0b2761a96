"""Qwen3.5 in vLLM, dense and mixture of experts: videos as in Qwen3-VL, without deepstack."""

from __future__ import annotations

from vllm.model_executor.models import qwen3_5 as stock
from vllm.model_executor.models.qwen3_vl import Qwen3VLDummyInputsBuilder
from vllm.multimodal import MULTIMODAL_REGISTRY

from st_simdiff.serve.vllm.qwen3_vl import FramedPruning, Processor


@MULTIMODAL_REGISTRY.register_processor(
    Processor, info=stock.Qwen3_5ProcessingInfo, dummy_inputs=Qwen3VLDummyInputsBuilder
)
class Qwen3_5ForConditionalGeneration(FramedPruning, stock.Qwen3_5ForConditionalGeneration):
    """vLLM's model with pruned videos."""


@MULTIMODAL_REGISTRY.register_processor(
    Processor, info=stock.Qwen3_5MoeProcessingInfo, dummy_inputs=Qwen3VLDummyInputsBuilder
)
class Qwen3_5MoeForConditionalGeneration(FramedPruning, stock.Qwen3_5MoeForConditionalGeneration):
    """vLLM's model with pruned videos."""
