"""What reading 64 frames costs with every decoder: python benchmarks/decoders.py [--json FILE].

Each reading runs in a process of its own: seconds of the processor and peak memory (of the process, or of its worker),
without the start of Python and the imports. `worker`: PyAV in a worker process. `sequential`: PyAV decoding everything,
for comparison (not the long file, where it would take many minutes). Needs ffmpeg, which makes the files.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

FRAMES = 64
READERS = ("pyav", "worker", "decord", "torchcodec", "nearest_key_frame", "sequential")
X265 = ("-c:v", "libx265", "-preset", "ultrafast", "-x265-params", "log-level=none")
MPEG4 = ("-c:v", "mpeg4", "-q:v", "5", "-bf", "2")
X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-preset", "veryfast", "-crf", "30", "-threads", "2")


def make(path: Path, seconds: int, size: str, *options: str, repeats: int = 1) -> Path:
    """A video of moving shapes and noise, `repeats` times in a row without encoding anew; one that is there stays."""
    if path.exists():
        return path
    source = f"testsrc2=size={size}:rate=30:duration={seconds},noise=alls=4:allf=t"
    once = path.with_name("once" + path.suffix) if repeats > 1 else path
    ffmpeg("-f", "lavfi", "-i", source, *options, once)
    if repeats > 1:
        ffmpeg("-stream_loop", repeats - 1, "-i", once, "-c", "copy", path)
    return path


def ffmpeg(*arguments: object) -> None:
    subprocess.run(["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True)


def files(folder: Path, minutes: int) -> dict[str, Path]:
    return {
        f"H.264 mp4, 1280 x 720, {minutes} min, key frames 8.3 s apart": make(
            folder / "long.mp4", 60, "1280x720", *X264, "-g", "250", repeats=minutes
        ),
        "H.264 mp4, 1280 x 720, 2 min, key frames 2 s apart": make(
            folder / "short.mp4", 60, "1280x720", *X264, "-g", "60", repeats=2
        ),
        "HEVC mkv, 1280 x 720, 1 min": make(folder / "hevc.mkv", 10, "1280x720", *X265, repeats=6),
        "MPEG-4 avi, 640 x 480, 1 min": make(folder / "clip.avi", 10, "640x480", *MPEG4, repeats=6),
        "H.264 mp4, 320 x 240, 5 s": make(folder / "tiny.mp4", 5, "320x240", *X264),
    }


def measure_here(reader: str, path: str) -> dict[str, Any]:
    """One reading in this process."""
    import av

    from st_simdiff.videos import VideoWorkers, pyav_decoder, sample_frames

    settings: dict[str, Any] = {"decoder": reader if reader in ("decord", "torchcodec") else "pyav"}
    pool = VideoWorkers() if reader == "worker" else None
    warm = str(Path(path).with_name("tiny.mp4"))
    sample_frames(warm, 2, workers=pool, **settings)  # imports, and the start of the process
    if reader == "nearest_key_frame":
        settings["frame_choice"] = reader
    if reader == "sequential":
        pyav_decoder._WHOLE = 10**9
    before = seconds(pool)
    video = sample_frames(path, FRAMES, force_sample=True, workers=pool, **settings)
    video.frames.sum()
    spent = seconds(pool) - before
    del av
    return {
        "cpu": round(spent, 3),
        "memory": round(peak(pool) / 2**20),
        "decoder": video.record.decoder,
        "remarks": video.record.remarks,
        "offset": round(video.record.largest_offset, 2),
        "numbers": list(video.record.numbers),
    }


def seconds(pool: Any) -> float:
    """Of the processor, spent by this process and its worker."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    spent = own.ru_utime + own.ru_stime
    for worker in pool._idle if pool is not None else ():
        fields = Path(f"/proc/{worker.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        spent += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return spent


def peak(pool: Any) -> int:
    """Bytes of resident memory at most: of the worker where there is one, else of this process."""
    if pool is None:
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status = Path(f"/proc/{pool._idle[0].process.pid}/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def measure(reader: str, path: Path, rounds: int) -> dict[str, Any]:
    found = []
    for _ in range(rounds):
        command = [sys.executable, __file__, "--one", reader, str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return {"failed": done.stderr.strip().splitlines()[-1]}
        found.append(json.loads(done.stdout))
    spent = [one["cpu"] for one in found]
    return {**found[0], "cpu": statistics.median(spent), "spread": round(max(spent) - min(spent), 3)}


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=int, default=60, help="of the long video")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where the files are made, and stay; else in a temporary folder")
    parser.add_argument("--json", type=Path, default=Path(__file__).parent / "results" / "decoders.json")
    parser.add_argument("--one", nargs=2, metavar=("READER", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        sys.stdout.write(json.dumps(measure_here(*options.one)))
        return
    packages = {package: installed(package) for package in ("av", "decord", "torchcodec")}
    result: dict[str, Any] = {"packages": packages, "frames": FRAMES, "load_at_start": os.getloadavg()[0], "files": {}}
    with tempfile.TemporaryDirectory() as temporary:
        for name, path in files(options.folder or Path(temporary), options.minutes).items():
            readers = [reader for reader in READERS if reader != "sequential" or path.stem != "long"]
            rows = {reader: measure(reader, path, options.rounds) for reader in readers}
            result["files"][name] = {"bytes": path.stat().st_size, "readers": rows}
            sys.stdout.write(f"\n{name}\n| reader | CPU s | peak MiB | |\n|---|---:|---:|---|\n")
            for reader, row in rows.items():
                told = row.get("failed") or "; ".join(row["remarks"])
                told = told or (f"{row['offset']} s off" if row["offset"] else "")
                sys.stdout.write(f"| {reader} | {row.get('cpu', '')} | {row.get('memory', '')} | {told} |\n")
            sys.stdout.flush()
            options.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
