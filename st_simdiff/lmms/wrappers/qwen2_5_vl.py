"""The lmms-eval model `st_simdiff_qwen2_5_vl`: lmms-eval's own wrapper of Qwen2.5-VL, compressed."""

from lmms_eval.models.chat.qwen2_5_vl import Qwen2_5_VL as StockChat
from lmms_eval.models.simple.qwen2_5_vl import Qwen2_5_VL as StockSimple

from st_simdiff.lmms.wrappers.base import CompressedWrapper


class Chat(CompressedWrapper, StockChat):
    """For tasks that give messages; what lmms-eval takes by default."""

    stock = "qwen2_5_vl"


class Simple(CompressedWrapper, StockSimple):
    """For tasks that give a text and visuals; lmms-eval's --force_simple."""

    stock = "qwen2_5_vl"
