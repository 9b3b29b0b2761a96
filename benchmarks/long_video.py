"""A long video through the whole path: python benchmarks/long_video.py [--frames 3600] [--model wide] [--json FILE].

A made clip of so many seconds, one frame a second, is read, encoded, compressed and asked about in one process. "tiny"
is the trained model that the package carries (20 tokens a frame). "wide" has random weights and 210 tokens a frame of
width 64: an hour has 0.75 million. Prints the time of every stage, the largest resident memory of this process and of
the one that decodes, and a digest of the kept tokens: the same for every `--frames_per_read`.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

import av
import numpy as np
import torch

from st_simdiff.answering.answering import VideoAnswerer
from st_simdiff.answering.arguments import parse
from st_simdiff.bench.results_file import hardware
from st_simdiff.checkpoints.llava_video.tiny import write_tiny_checkpoint
from st_simdiff.models.clock import StageClock
from st_simdiff.models.memory import resident_bytes
from st_simdiff.synth.embedded import CHECKPOINT

WIDE = {
    **{"image_size": 378, "vision_hidden": 32, "vision_layers": 2, "hidden": 64, "layers": 4, "heads": 4},
    **{"kv_heads": 2, "intermediate": 128},
}
"""27 x 27 patches of 14 pixels, pooled to 14 x 14 and a newline a row."""
STAGES = ("decode", "preprocess", "vision", "projector", "selection", "prefill", "scoring", "decoding", "other")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", choices=("tiny", "wide"), default="wide")
    parser.add_argument("--frames", type=int, default=3600)
    parser.add_argument("--frames_per_read", type=int, default=256)
    parser.add_argument("--method", default="st_simdiff")
    parser.add_argument("--retention", type=float, default=0.01)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall")
    parser.add_argument("--json", type=Path, help="results file; the row is added to those in it")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    now = {"wall": time.perf_counter, "cpu": time.thread_time}[asked.clock]
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, asked.frames)
        checkpoint = CHECKPOINT if asked.model == "tiny" else write_tiny_checkpoint(Path(folder) / "m", **WIDE)
        given = {"pretrained": checkpoint, "max_frames_num": asked.frames, "fps": 1, "device": "cpu"}
        given |= {"method": asked.method, "retention": asked.retention, "frames_per_read": asked.frames_per_read}
        answerer = VideoAnswerer(parse(given), "cpu")
        before, began = resident_bytes("VmRSS"), time.process_time()
        with mock.patch("st_simdiff.answering.answering.StageClock", functools.partial(StageClock, now=now)):
            answer = answerer.generate(str(clip), "What happens?", {"max_new_tokens": 4})
        seconds = time.process_time() - began
        answerer.reader.workers.close()
    trace, counts = answerer.viewer.last.prefix.trace, answer.counts
    row = {
        **{name: value for name, value in vars(asked).items() if name not in ("json", "threads")},
        **{key: counts[key] for key in ("visual_tokens", "visual_tokens_kept", "candidates") if key in counts},
        "frames_read": trace.grid.frames,
        "stages_ms": {stage: round(counts[f"{stage}_ms"]) for stage in STAGES},
        "cpu_seconds": round(seconds, 1),
        "resident_before": before,
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "decoder_peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "kept": hashlib.sha256(trace.offsets.numpy().tobytes()).hexdigest()[:16],
        "hardware": hardware(torch.device("cpu")),
    }
    sys.stdout.write(json.dumps(row) + "\n")
    if asked.json:
        rows = json.loads(asked.json.read_text(encoding="utf-8")) if asked.json.exists() else []
        asked.json.write_text(json.dumps([*rows, row], indent=1) + "\n", encoding="utf-8")


def write_clip(path: Path, frames: int) -> None:
    """A scene every minute: a coloured ground, a disc that moves over it, and noise. 320 x 240, one frame a second."""
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:240, :320]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        stream.codec_context.thread_count = 1  # so that the file does not depend on the machine
        for second in range(frames):
            if second % 60 == 0:
                ground, disc = generator.integers(40, 216, (2, 3))
            place = 20 + (second % 60) * 280 // 60
            inside = (rows - 120) ** 2 + (columns - place) ** 2 < 900
            picture = np.where(inside[..., None], disc, ground) + generator.integers(-8, 9, (240, 320, 1))
            frame = av.VideoFrame.from_ndarray(picture.clip(0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


if __name__ == "__main__":
    main()
