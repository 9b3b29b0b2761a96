"""What lmms-eval finds through the entry-point group `lmms_eval.models`. Imported while lmms-eval itself is still
initialising, so it imports nothing heavy."""

from lmms_eval.models.registry_v2 import ModelManifest

from st_simdiff.stock_wrappers import CHAT, SIMPLE, STOCK_WRAPPERS
from st_simdiff.vocabulary import WRAPPER


def _compressed(stock: str) -> ModelManifest:
    """Of one of lmms-eval's own wrappers; its classes are made when they are asked for."""
    classes = {kind: f"st_simdiff.lmms.wrappers.classes.{stock}_{kind}" for kind in STOCK_WRAPPERS[stock].kinds}
    return ModelManifest(
        model_id=WRAPPER + stock, simple_class_path=classes.get(SIMPLE), chat_class_path=classes.get(CHAT)
    )


LLAVA_VIDEO = ModelManifest(model_id="llava_video", simple_class_path="st_simdiff.lmms.llava_video.LlavaVideo")
NVILA = ModelManifest(model_id="nvila", simple_class_path="st_simdiff.lmms.nvila_video.NvilaVideo")
QWEN2_VL = _compressed("qwen2_vl")
QWEN2_5_VL = _compressed("qwen2_5_vl")
QWEN3_VL = _compressed("qwen3_vl")
QWEN3_5 = _compressed("qwen3_5")
QWEN3_OMNI = _compressed("qwen3_omni")
LLAVA_HF = _compressed("llava_hf")
INTERNVL_HF = _compressed("internvl_hf")
GEMMA4 = _compressed("gemma4")
