"""The lmms-eval model `st_simdiff_qwen3_vl`: lmms-eval's own wrapper of Qwen3-VL, compressed."""

from lmms_eval.models.chat.qwen3_vl import Qwen3_VL as StockChat
from lmms_eval.models.simple.qwen3_vl import Qwen3_VL as StockSimple

from st_simdiff.lmms.wrappers.base import CompressedWrapper


class Chat(CompressedWrapper, StockChat):
    """For tasks that give messages; what lmms-eval takes by default."""

    stock = "qwen3_vl"


class Simple(CompressedWrapper, StockSimple):
    """For tasks that give a text and visuals; lmms-eval's --force_simple."""

    stock = "qwen3_vl"
