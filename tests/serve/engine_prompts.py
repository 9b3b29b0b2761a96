"""The prompts that engines and transformers are asked, and their media: arrays that every run draws alike."""

from __future__ import annotations

import numpy as np
from PIL import Image

SYSTEM = "You are a helpful assistant that answers questions. "
PROMPTS = {
    "one video": (SYSTEM + "VIDEO What happens?", (0,), ()),
    "another question": (SYSTEM + "VIDEO Who was there, and why?", (0,), ()),
    "two videos": (SYSTEM + "First VIDEO then VIDEO and?", (1, 2), ()),
    "image and video": (SYSTEM + "IMAGE VIDEO ?", (3,), (4,)),
    "video and image": (SYSTEM + "VIDEO IMAGE ?", (5,), (6,)),
    "no text before": ("VIDEO", (0,), ()),
    "marks of a frame in the text": (SYSTEM + "<|vision_start|><|vision_end|> VIDEO ?", (0,), ()),
    "one image": (SYSTEM + "IMAGE ?", (), (4,)),
    "text": (SYSTEM + "Hello.", (), ()),
}
"""By name: the text, the seeds of its videos, and those of its images."""
LONG = {"long video": (SYSTEM + "VIDEO What happens?", (7,), ())}
FRAMES = {0: 16, 1: 16, 2: 10, 3: 16, 5: 12, 7: 128}
"""Of each video; LLaVA-OneVision's have 16, since transformers wants equally many in one prompt."""
QWEN = {"VIDEO": "<|vision_start|><|video_pad|><|vision_end|>", "IMAGE": "<|vision_start|><|image_pad|><|vision_end|>"}
PLACEHOLDERS = {"llava_onevision": {"VIDEO": "<video>", "IMAGE": "<image>"}}


def draw_clip(seed: int, frames: int, height: int = 112, width: int = 160) -> np.ndarray:
    """A moving square over a still background, with a cut in the middle: uint8 (frames, height, width, 3)."""
    random = np.random.default_rng(seed)
    scenes = [random.integers(0, 255, (height // 8, width // 8, 3)).repeat(8, 0).repeat(8, 1) for _ in range(2)]
    clip = np.stack([scenes[2 * t >= frames] for t in range(frames)]).astype(np.int64)
    y, x = random.integers(0, height - 40), random.integers(0, width - 60)
    for t in range(frames):
        left = (x + 3 * t) % (width - 32)
        clip[t, y : y + 32, left : left + 32] = random.integers(0, 255, 3)
    return np.clip(clip + random.integers(-6, 7, clip.shape), 0, 255).astype(np.uint8)


def draw_video(family: str, seed: int) -> np.ndarray:
    return draw_clip(seed, 16 if family == "llava_onevision" else FRAMES[seed])


def draw_picture(seed: int, side: int = 112) -> Image.Image:
    return Image.fromarray(draw_clip(seed, 1, side, side)[0])


def video_metadata(frames: int, rate: float) -> dict:
    """rate: frames a second."""
    indices = {"frames_indices": list(range(frames)), "total_num_frames": frames, "duration": frames / rate}
    return {"fps": rate, "video_backend": "opencv", **indices}


def frame_rate(family: str, name: str) -> float:
    """Frames a second of a prompt's videos. transformers and vLLM count text behind a Qwen2.5-VL video alike only where
    it is shorter than it is wide. 0.8 makes five positions a grid frame: above 256 bfloat16 has even numbers alone."""
    if family != "qwen2_5_vl":
        return 2.0
    return 0.8 if name in LONG else 8.0


def prompt_text(family: str, text: str) -> str:
    for name, placeholder in PLACEHOLDERS.get(family, QWEN).items():
        text = text.replace(name, placeholder)
    return f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
