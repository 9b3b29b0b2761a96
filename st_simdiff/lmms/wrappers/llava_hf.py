"""The lmms-eval model `st_simdiff_llava_hf`: lmms-eval's own wrapper of LLaVA-OneVision, compressed.

It is the wrapper for tasks that give a text and visuals (--force_simple). The one for messages takes every
frame of a video, and fails on transformers 5 where a question has a video and no image.
"""

from typing import Any

import numpy as np
from lmms_eval.models.simple.llava_hf import LlavaHf

from st_simdiff.lmms.refusal import nothing_swallowed
from st_simdiff.lmms.wrappers.base import CompressedWrapper


class Simple(CompressedWrapper, LlavaHf):
    stock = "llava_hf"

    def load_video(self, video_path: Any, max_frames_num: int) -> np.ndarray:
        """`max_frames_num` frames from the first to the last, (T, H, W, 3), as the wrapper takes them."""
        with nothing_swallowed(self.name()):
            video = video_path if isinstance(video_path, str) else video_path[0]
            return self.videos.evenly(video, max_frames_num)
