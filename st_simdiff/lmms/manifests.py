"""What lmms-eval finds through the entry-point group `lmms_eval.models`. Imported while lmms-eval itself is still
initialising, so it imports nothing else."""

from lmms_eval.models.registry_v2 import ModelManifest

LLAVA_VIDEO = ModelManifest(
    model_id="llava_video",
    simple_class_path="st_simdiff.lmms.llava_video.LlavaVideo",
)

NVILA = ModelManifest(
    model_id="nvila",
    simple_class_path="st_simdiff.lmms.nvila_video.NvilaVideo",
)


QWEN2_5_VL = ModelManifest(
    model_id="st_simdiff_qwen2_5_vl",
    simple_class_path="st_simdiff.lmms.wrappers.qwen2_5_vl.Simple",
    chat_class_path="st_simdiff.lmms.wrappers.qwen2_5_vl.Chat",
)

QWEN3_VL = ModelManifest(
    model_id="st_simdiff_qwen3_vl",
    simple_class_path="st_simdiff.lmms.wrappers.qwen3_vl.Simple",
    chat_class_path="st_simdiff.lmms.wrappers.qwen3_vl.Chat",
)

LLAVA_HF = ModelManifest(
    model_id="st_simdiff_llava_hf",
    simple_class_path="st_simdiff.lmms.wrappers.llava_hf.Simple",
)
