"""What lmms-eval finds through the entry-point group `lmms_eval.models`. Imported while lmms-eval itself is still
initialising, so it imports nothing else."""

from lmms_eval.models.registry_v2 import ModelManifest

LLAVA_VIDEO = ModelManifest(
    model_id="llava_video",
    simple_class_path="st_simdiff.harness.llava_video.LlavaVideo",
)

NVILA = ModelManifest(
    model_id="nvila",
    simple_class_path="st_simdiff.harness.nvila_video.NvilaVideo",
)


def _twin(stock: str) -> ModelManifest:
    module = f"st_simdiff.harness.twins.{stock}"
    return ModelManifest(
        model_id=f"st_simdiff_{stock}",
        simple_class_path=f"{module}.Simple",
        chat_class_path=f"{module}.Chat",
    )


QWEN2_5_VL = _twin("qwen2_5_vl")
QWEN3_VL = _twin("qwen3_vl")
LLAVA_HF = _twin("llava_hf")
