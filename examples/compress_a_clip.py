"""Compression of a video from start to finish: a clip, a model, the full answer, the compressed one, and what was kept.

    pip install ".[video,synth]"            # from a clone of this repository
    python examples/compress_a_clip.py      # takes seconds on a CPU and downloads nothing

The model is the small LLaVA-Video of this repository, which was trained on drawn clips. The clip is drawn here like
those; its events (a flash, a cut, an appearance) are known, so that what is kept can be compared with what happened.
"""

import tempfile
from pathlib import Path

import torch

from st_simdiff import METHODS, STSimDiffAdaptive, compress, make_method
from st_simdiff.checkpoints.llava_video.loading import load_llava_video
from st_simdiff.checkpoints.llava_video.prompt import build_prompt, tokenize_prompt
from st_simdiff.synth.dataset import draw_split, write_video
from st_simdiff.synth.embedded import CHECKPOINT
from st_simdiff.synth.world import render
from st_simdiff.videos import sample_frames

# 1. A clip, as a video file, and a question about it.
clip = draw_split("plain", "test", questions=6)[0]
question = clip.questions[0]
path = Path(tempfile.mkdtemp()) / "clip.mp4"
write_video(path, render(clip.spec))

# 2. A model, and the prompt with the frames of the clip.
tokenizer, model, image_processor, _ = load_llava_video(CHECKPOINT, dtype=torch.float32)
frames = sample_frames(path, max_frames=16, force_sample=True).frames
pixels = image_processor.preprocess(frames, return_tensors="pt")["pixel_values"]
ids = torch.tensor([tokenize_prompt(build_prompt(question.prompt), tokenizer)])


def answer() -> str:
    return tokenizer.decode(model.generate(ids, images=[pixels], max_new_tokens=8)[0], skip_special_tokens=True).strip()


# 3. Without compression, and with it.
print(f"{question.prompt}\nright answer: {question.answer}\nfull model:   {answer()}")
with compress(model, STSimDiffAdaptive(retention=0.3)) as trace:
    print(f"30 % kept:    {answer()}")

# 4. What was kept: counts, and the place of every token in the video.
print(trace.last.summary())
grid, offsets = trace.last.grid, trace.last.offsets
kept = torch.isin(grid.patches(), offsets)  # bool (frames, rows, columns); newline tokens are left out
for frame, rows in enumerate(kept.tolist()):
    events = [event.kind for event in clip.spec.events() if frame in range(*event.frames)]
    drawn = " ".join("".join("#" if token else "." for token in row) for row in rows)
    print(f"frame {frame:2}: {drawn}  {', '.join(events)}")
print(f"The first kept token has (frame, row, column) {tuple(kept.nonzero()[0].tolist())}.")

# 5. Other methods, by name, at one budget.
for name in ("uniform_frames", "fastv", "visionzip", "st_simdiff"):
    with compress(model, make_method(name, retention=0.3)) as trace:
        print(f"{name:20} {answer():10} {trace.last.kept} of {trace.last.grid.count} tokens")
print(f"There are {len(METHODS)} methods: {', '.join(METHODS)}")
