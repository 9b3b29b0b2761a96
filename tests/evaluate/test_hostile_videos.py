"""An evaluation over good and hostile videos: the bad ones cost their own questions, once."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest
from made_videos import write_video
from PIL import Image

from st_simdiff.runs.journal import read_records
from st_simdiff.vocabulary import UNREADABLE_ANSWER

pytestmark = pytest.mark.slow

GOOD = 20
LIMIT = 4
"""Seconds that a video may take."""

CRASHING = """
import builtins, os, signal, sys
real = builtins.__import__
def hooked(name, *rest):
    module = real(name, *rest)
    containers = sys.modules.get("st_simdiff.videos.containers")
    check = getattr(containers, "check_file", None)
    if check is not None and not hasattr(check, "crashes"):
        def crashing(path):
            if "crash" in str(path):
                os.kill(os.getpid(), signal.SIGSEGV)
            check(path)
        crashing.crashes = True
        containers.check_file = crashing
    return module
if any("st_simdiff.videos.worker" in argument for argument in sys.orig_argv):
    builtins.__import__ = hooked
"""
"""A decoder that crashes on files of that name, in the processes that read videos and nowhere else."""


def write_h264(path: Path) -> Path:
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=5)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(5):
            grey = np.full((48, 64, 3), 128, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def slow_video(path: Path) -> None:
    """An avi that takes far longer than the limit: it does not say when its frames are shown, so all are decoded."""
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=30)
        stream.width, stream.height, stream.pix_fmt = 3840, 2160, "yuvj420p"
        (packet, *_) = stream.encode(av.VideoFrame.from_ndarray(np.zeros((2160, 3840, 3), np.uint8), format="rgb24"))
        data = bytes(packet)
        for number in range(1500):
            copy = av.Packet(data)
            copy.stream, copy.pts, copy.dts, copy.time_base = stream, number, number, stream.codec_context.time_base
            copy.is_keyframe = True
            container.mux(copy)


def write_hostile(folder: Path) -> dict[str, str]:
    """By name, what the sentence about it says; an empty one for a video that can be read after all."""
    write_video(folder / "clip.mp4", frames=8)
    clip = (folder / "clip.mp4").read_bytes()
    (folder / "crash.mp4").write_bytes(clip)
    slow_video(folder / "hang.avi")
    (folder / "concat.mp4").write_text("ffconcat version 1.0\nfile concat.mp4\n")
    (folder / "endless.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nclip.ts\n")
    os.mkfifo(folder / "pipe.mp4")
    (folder / "device.mp4").symlink_to("/dev/zero")
    Image.new("P", (12000, 12000)).save(folder / "bomb.gif")
    h264 = write_h264(folder / "h264.mp4").read_bytes()
    (folder / "unknown.mp4").write_bytes(h264.replace(b"avc1", b"zzzz"))
    (folder / "half.mp4").write_bytes(clip[: len(clip) // 2])
    (folder / "text.mp4").write_text("no video")
    return {
        "crash.mp4": "its process was ended by SIGSEGV",
        "hang.avi": f"took more than {LIMIT} seconds",
        "concat.mp4": "ffconcat",
        "endless.mp4": "HLS",
        "pipe.mp4": "no regular file",
        "device.mp4": "no regular file",
        "bomb.gif": "12000 x 12000 pixels",
        "unknown.mp4": "no decoder",
        "half.mp4": "it begins as MP4 or MOV and is cut off or damaged",
        "text.mp4": "it is no video of a kind that is read",
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for number in range(GOOD):
        write_video(folder / f"good{number}.mp4", frames=3 + number)
    (folder / "sitecustomize.py").write_text(CRASHING)
    (folder / "utils.py").write_text('def video_of(doc):\n    return [doc["video"]]\n')
    return folder


def write_task(folder: Path, name: str, videos: list[str]) -> None:
    rows = [{"video": str(folder / video), "question": "What is seen?", "answer": "A"} for video in videos]
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{name}.yaml").write_text(
        f"task: {name}\ndataset_path: json\ndataset_kwargs:\n  data_files:\n    test: {name}.jsonl\ntest_split: test\n"
        "output_type: generate_until\ndoc_to_visual: !function utils.video_of\ndoc_to_text: question\n"
        "doc_to_target: answer\ngeneration_kwargs:\n  max_new_tokens: 2\nmetric_list:\n  - metric: exact_match\n"
    )


def test_hostile_videos_cost_their_own_questions_once(checkpoint, start, folder):
    hostile = write_hostile(folder)
    good = [f"good{number}.mp4" for number in range(GOOD)]
    mixed = [name for pair in zip(good, [*hostile, *good[10:]], strict=False) for name in pair][:GOOD] + good[10:]
    assert sorted(mixed) == sorted([*good, *hostile])
    write_task(folder, "good", good)
    write_task(folder, "mixed", mixed)

    def run(task: str, at: Path | None = None):
        options = [
            "--tasks",
            task,
            "--model_path",
            checkpoint,
            "--model_args",
            f"max_frames_num=2,video_time_limit={LIMIT}",
        ]
        command = ["st_simdiff", "eval", *options, "--", "--include_path", folder]
        started = time.monotonic()
        done = start(command, {"PYTHONPATH": str(folder)}, folder=at).result()
        assert done.code == 0, done.output
        return done, time.monotonic() - started

    alone, seconds_alone = run("good")
    done, seconds = run("mixed")
    assert seconds < 2 * seconds_alone + LIMIT + 1
    expected = {good[doc]: row["filtered_resps"] for doc, row in alone.samples("good").items()}
    rows = done.samples("mixed")
    assert len(rows) == len(mixed)
    for doc, row in rows.items():
        name = mixed[doc]
        assert row["filtered_resps"] == (UNREADABLE_ANSWER if name in hostile else expected[name]), name
    for name, reason in hostile.items():
        (line,) = [line for line in done.output.splitlines() if line.startswith(f"Not read: {folder / name}:")]
        assert reason in line

    journals = [record for journal in done.folder.rglob("answers") for record in read_records(journal)]
    assert len(journals) == len(mixed)
    for path in [*done.folder.rglob("*_results.json"), *done.folder.rglob("*_samples_*.jsonl")]:
        path.unlink()
    again, _ = run("mixed", done.folder)
    assert {doc: row["filtered_resps"] for doc, row in again.samples("mixed").items()} == {
        doc: row["filtered_resps"] for doc, row in rows.items()
    }
    after = [record for journal in done.folder.rglob("answers") for record in read_records(journal)]
    assert len(after) == len(mixed)  # nothing was asked, and nothing tried, again
