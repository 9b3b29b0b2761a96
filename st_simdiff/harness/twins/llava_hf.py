"""The lmms-eval model `st_simdiff_llava_hf`: lmms-eval's own wrapper of LLaVA-OneVision, compressed."""

from lmms_eval.models.chat.llava_hf import LlavaHf as StockChat
from lmms_eval.models.simple.llava_hf import LlavaHf as StockSimple

from st_simdiff.harness.twins.base import Twin


class Chat(Twin, StockChat):
    """For tasks that give messages; what lmms-eval takes by default."""

    stock = "llava_hf"


class Simple(Twin, StockSimple):
    """For tasks that give a text and visuals; lmms-eval's --force_simple."""

    stock = "llava_hf"
