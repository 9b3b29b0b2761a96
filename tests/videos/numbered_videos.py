"""Videos in which every frame shows its own number, written and read by ffmpeg's command line."""

from __future__ import annotations

import shutil
import struct
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

WIDTH, HEIGHT = 160, 96
X264 = ("-c:v", "libx264", "-pix_fmt", "yuv420p", "-g", "30")
needs_ffmpeg = pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="needs ffmpeg's command line")


def usable_decoders() -> list[str]:
    """Those that are installed and find their libraries."""
    usable = [name for name, package in (("pyav", "av"), ("decord", "decord")) if find_spec(package)]
    if find_spec("torchcodec"):
        try:
            import torchcodec.decoders  # noqa: F401
        except (RuntimeError, OSError, ImportError):
            return usable
        usable.append("torchcodec")
    return usable


def picture(number: int) -> np.ndarray:
    """The number in ten blocks above a red and a blue half, uint8 (HEIGHT, WIDTH, 3)."""
    drawn = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    drawn[HEIGHT // 2 :, : WIDTH // 2], drawn[HEIGHT // 2 :, WIDTH // 2 :] = (200, 30, 30), (30, 30, 200)
    for bit in range(10):
        drawn[: HEIGHT // 3, bit * WIDTH // 10 : (bit + 1) * WIDTH // 10] = 255 * (number >> bit & 1)
    return drawn


def number_in(frame: np.ndarray) -> int:
    """The number that a frame shows, of any size."""
    row = frame[frame.shape[0] // 6]
    return sum(int(row[int((bit + 0.5) * len(row) / 10)].mean() > 128) << bit for bit in range(10))


def ffmpeg(*arguments: object, pictures: bytes | None = None) -> None:
    command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *map(str, arguments)]
    if pictures is not None:
        command.remove("-nostdin")
    done = subprocess.run(command, input=pictures, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()[-500:]


def write(path: Path, *options: object, count: int = 150, rate: str = "30") -> Path:
    """`count` numbered frames, encoded as ffmpeg's `options` say."""
    pictures = b"".join(picture(number).tobytes() for number in range(count))
    raw = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{WIDTH}x{HEIGHT}", "-r", rate, "-i", "-")
    ffmpeg(*raw, *options, path, pictures=pictures)
    return path


@dataclass(frozen=True)
class Shown:
    """What ffmpeg shows. frames: uint8 (T, H, W, 3). times: seconds since the first."""

    frames: np.ndarray
    times: np.ndarray

    def numbers(self, places: np.ndarray) -> list[int]:
        return [number_in(self.frames[place]) for place in places]


def shown_by_ffmpeg(path: Path, folder: Path) -> Shown:
    """All frames of the first video stream, each once, in the order and at the times of showing; none of some files."""
    pixels, times = folder / "shown.rgb", folder / "shown.times"
    one = ("-map", "0:v:0", "-vsync", "passthrough")
    clock = ("-enc_time_base", "1:90000", "-f", "framemd5")
    command = ["-i", path, *one, "-f", "rawvideo", "-pix_fmt", "rgb24", pixels, *one, *clock, times]
    subprocess.run(["ffmpeg", "-v", "quiet", "-nostdin", "-y", *map(str, command)], check=False)
    lines = times.read_text().splitlines() if times.exists() else []
    head = {name: value for name, _, value in (line[1:].partition(":") for line in lines if line.startswith("#"))}
    if "dimensions 0" not in head:
        return Shown(np.empty((0, 0, 0, 3), np.uint8), np.empty(0))
    width, height = map(int, head["dimensions 0"].split("x"))
    above, below = map(int, head["tb 0"].split("/"))
    stamps = np.array([int(line.split(",")[2]) for line in lines if not line.startswith("#")])
    frames = np.fromfile(pixels, np.uint8).reshape(-1, height, width, 3)
    assert len(frames) == len(stamps)
    return Shown(frames, (stamps - stamps[0]) * above / below)


def turned(source: Path, path: Path, matrix: tuple[int, int, int, int]) -> Path:
    """A copy of an mp4 file with another display matrix in its track header (a, b, c, d of x' = ax + cy, y' = bx + dy),
    as telephones write it."""
    data = source.read_bytes()
    place = data.index(b"tkhd") + 4 + 40
    a, b, c, d = (65536 * value for value in matrix)
    placed = struct.pack(">9i", a, b, 0, c, d, 0, 96 << 16, 96 << 16, 1 << 30)
    path.write_bytes(data[:place] + placed + data[place + len(placed) :])
    return path


def damaged(source: Path, path: Path, place: int) -> Path:
    """A copy of `source` in which the packet at `place`, in the order of storing, is all zeros."""
    import av

    with av.open(str(source)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(source.read_bytes())
    start, size = packets[place]
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    return path


def with_edits(source: Path, path: Path, edits: list[tuple[int, int]]) -> Path:
    """A copy of an mp4 file whose edit list shows these parts: (milliseconds shown, first media time shown)."""
    data = source.read_bytes()
    start = data.index(b"edts") - 4
    (old,) = struct.unpack(">I", data[start : start + 4])
    entries = b"".join(struct.pack(">IiI", length, begin, 1 << 16) for length, begin in edits)
    elst = struct.pack(">I4sII", 16 + len(entries), b"elst", 0, len(edits)) + entries
    edts = struct.pack(">I4s", 8 + len(elst), b"edts") + elst
    grown = bytearray(data[:start] + edts + data[start + old :])
    for box in (b"moov", b"trak"):
        place = grown.index(box) - 4
        (size,) = struct.unpack(">I", grown[place : place + 4])
        grown[place : place + 4] = struct.pack(">I", size + len(edts) - old)
    path.write_bytes(grown)
    return path
