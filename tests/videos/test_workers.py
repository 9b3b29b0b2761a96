"""Files that crash, hang or flood a decoder, and what is left of the process that asked for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from st_simdiff.errors import InputError
from st_simdiff.videos import ReadSettings, VideoError, VideoWorkers, decoders, read_frames, sample_frames, workers

pytest.importorskip("av")


@pytest.fixture
def clip(write_clip, tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", 20)


@pytest.fixture
def pool():
    with closing(VideoWorkers()) as made:
        yield made


@pytest.fixture
def in_workers(monkeypatch):
    """Runs code in every process that is started afterwards, with `path` naming the video that it reads."""

    def install(code: str) -> None:
        hooked = (
            "import st_simdiff.videos.worker as worker; read = worker.read_here\n"
            "def hooked(path, *rest):\n"
            f"    {code}\n"
            "    return read(path, *rest)\n"
            "worker.read_here = hooked\n"
        )
        program = workers._PROGRAM.replace("from st_simdiff", f"exec({hooked!r}); from st_simdiff")
        monkeypatch.setattr(workers, "_PROGRAM", program)

    return install


def test_a_worker_gives_what_this_process_reads(pool, clip):
    for settings in ({"max_frames": 5, "force_sample": True}, {"max_frames": 64, "fps": 3}):
        here, there = sample_frames(clip, **settings), sample_frames(clip, **settings, workers=pool)
        assert np.array_equal(here.frames, there.frames)
        assert (here.times, here.duration, here.record) == (there.times, there.duration, there.record)
        there.frames[:] = 0  # its own memory, which can be written
    again = sample_frames(clip, 5, force_sample=True, workers=pool)
    assert again.frames.any()


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS"])
def test_a_crash_costs_the_video_and_names_signal_and_video(pool, in_workers, clip, tmp_path, name):
    in_workers(f"import os, signal; 'bad' in path and os.kill(os.getpid(), signal.{name})")
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(clip.read_bytes())
    with pytest.raises(VideoError, match=rf"bad\.mp4: the decoder crashed on this video: .* ended by {name}"):
        sample_frames(bad, 4, workers=pool)
    assert len(sample_frames(clip, 4, force_sample=True, workers=pool).frames) == 4


def test_a_hang_costs_the_time_limit_and_no_more(pool, in_workers, clip):
    """Also where it holds Python's lock, as a decoder may."""
    in_workers("import re; re.match('(a+)+b', 'a' * 60)")
    started = time.perf_counter()
    with pytest.raises(VideoError, match=r"clip\.mp4: reading the video took more than 1 seconds, .* \(SIGALRM\)"):
        sample_frames(clip, 4, video_time_limit=1, workers=pool)
    assert time.perf_counter() - started < 6


def test_memory_that_runs_out_costs_the_video(pool, in_workers, clip):
    in_workers("bytearray(2**36)")
    with pytest.raises(VideoError, match=r"clip\.mp4: .*MemoryError"):
        sample_frames(clip, 4, workers=pool)


def test_any_exception_while_reading_is_the_videos(clip, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("integer division\nor modulo by zero")

    monkeypatch.setitem(decoders.DECODERS, "pyav", ("av", fail))
    expected = r"clip\.mp4: the video cannot be read: ZeroDivisionError: integer division or modulo by zero\.$"
    with pytest.raises(VideoError, match=expected):
        sample_frames(clip, 4)


def test_a_sampling_that_fails_is_no_fault_of_the_video(pool, clip):
    def fail(*_):
        raise KeyError("wrong")

    with pytest.raises(KeyError, match="wrong"):
        read_frames(clip, fail, ReadSettings(), pool)
    assert len(sample_frames(clip, 4, force_sample=True, workers=pool).frames) == 4


def test_a_process_serves_many_videos_and_threads_have_their_own(pool, clip):
    def read() -> None:
        for _ in range(3):
            found.append(sample_frames(clip, 4, force_sample=True, workers=pool).frames.copy())

    found: list[np.ndarray] = []
    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 9
    assert all(np.array_equal(one, found[0]) for one in found)
    assert 1 <= len(pool._idle) <= 3


def test_processes_end_with_the_one_that_started_them(clip):
    """However that ends."""
    program = (
        "import os, signal; from st_simdiff.videos import VideoWorkers, sample_frames; pool = VideoWorkers()\n"
        f"sample_frames({str(clip)!r}, 4, workers=pool)\n"
        "print(pool._idle[0].process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    child = int(done.stdout)
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the process goes on without its parent")


def test_settings_are_checked_before_anything_is_read(clip):
    for wrong, sentence in (
        ({"frame_choice": "keys"}, "Unknown video frame choice 'keys'"),
        ({"threads": 0}, "threads is the number of the decoder's threads"),
        ({"workers": 3}, "workers is a VideoWorkers"),
        ({"damaged_share": 2}, "damaged_share is a share of a video's frames"),
        ({"max_frame_pixels": 0}, "max_frame_pixels is the most pixels"),
        ({"video_time_limit": float("inf")}, "video_time_limit is the seconds"),
    ):
        with pytest.raises(InputError, match=sentence):
            sample_frames(clip, 4, **wrong)
