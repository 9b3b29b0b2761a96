"""The kinds of files that people have. Each entry writes one, from ffmpeg's options or from another file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from numbered_videos import X264, damaged, ffmpeg, turned, with_edits, write

Make = Callable[[Path], Path]


def encoded(*options: object, **settings: object) -> Make:
    return lambda path: write(path, *options, **settings)


def cut(at: float, *options: object, base: tuple = (*X264, "-bf", "2"), source: str = "source.mp4") -> Make:
    """Trimmed without encoding anew."""

    def make(path: Path) -> Path:
        whole = write(path.with_name(source), *base)
        ffmpeg("-ss", at, "-i", whole, *options, "-c", "copy", path)
        return path

    return make


def copied(change: Callable[[Path, Path], Path], *options: object) -> Make:
    """Another mp4 file, changed."""
    return lambda path: change(write(path.with_name("source.mp4"), *(options or (*X264, "-bf", "2"))), path)


def joined_sizes(path: Path) -> Path:
    """A transport stream whose picture size changes in the middle."""
    small = write(path.with_name("small.ts"), *X264, "-bf", "0", count=60)
    large = write(path.with_name("large.ts"), *X264, "-bf", "0", "-s", "320x192", count=60)
    path.write_bytes(small.read_bytes() + large.read_bytes())
    return path


def begun_late(path: Path) -> Path:
    """A recording that begins in the middle of a group of pictures."""
    whole = write(path.with_name("whole.ts"), *X264, "-bf", "2")
    path.write_bytes(whole.read_bytes()[188 * 40 :])
    return path


def stated_wrongly(path: Path) -> Path:
    """A Matroska file of 30 frames a second whose header says 10,000."""
    data = write(path.with_name("source.mkv"), *X264).read_bytes()
    stated = b"\x23\xe3\x83\x84" + (33333333).to_bytes(4, "big")
    assert data.count(stated) == 1
    path.write_bytes(data.replace(stated, stated[:4] + (100000).to_bytes(4, "big")))
    return path


X265 = ("-c:v", "libx265", "-pix_fmt", "yuv420p", "-x265-params")
VFR = ("-vf", "select='not(mod(n,3))+lt(n,50)'", "-vsync", "vfr", "-bf", "2")
HDR = ("-colorspace", "bt2020nc", "-color_primaries", "bt2020", "-color_trc", "smpte2084", "-color_range", "tv")


def colours(matrix: str, span: str, tag: str) -> tuple:
    scaled = f"scale=out_color_matrix={matrix}:out_range={span}"
    return (*X264, "-vf", scaled, "-colorspace", tag, "-color_range", span)


ROWS: dict[str, Make] = {
    "open_gop.mp4": encoded(*X264, "-bf", "3", "-x264-params", "open-gop=1"),
    "hevc.mp4": encoded(*X265, "keyint=30:log-level=none"),
    "h264.ts": encoded(*X264, "-bf", "2"),
    "mpeg4.avi": encoded("-c:v", "mpeg4", "-g", "30", "-bf", "2"),
    "h264.avi": encoded(*X264, "-bf", "0"),
    "turned.mp4": copied(lambda source, path: turned(source, path, (0, 1, -1, 0))),
    "trimmed.mp4": cut(1.5),
    "half_shown.mp4": copied(
        lambda source, path: with_edits(source, path, [(1000, 61440), (1000, 31744), (500, 1024)])
    ),
    "sizes.ts": joined_sizes,
    "av1.mp4": encoded("-c:v", "libaom-av1", "-cpu-used", "8", "-g", "30", "-pix_fmt", "yuv420p"),
    "no_duration.mkv": lambda path: (
        ffmpeg("-i", write(path.with_name("source.mp4"), *X264), "-c", "copy", "-live", "1", path) or path
    ),
    "drawn.gif": encoded(),
    "drawn.apng": encoded("-f", "apng"),
    "raw.h264": encoded(*X264, "-bf", "2"),
    "stated_10000_fps.mkv": stated_wrongly,
    "really_10000_fps.mkv": encoded(*X264, "-bf", "2", rate="10000"),
    "damaged.mp4": copied(lambda source, path: damaged(source, path, 70)),
}
"""Those that common decoders are known to read wrongly, or not at all."""

KINDS: dict[str, Make] = {
    "plain.mp4": encoded(*X264, "-bf", "2"),
    "b_frames.avi": encoded(*X264, "-bf", "2"),
    "raw.hevc": encoded(*X265, "keyint=30:log-level=none"),
    "raw.m2v": encoded("-c:v", "mpeg2video", "-g", "30", "-bf", "2"),
    "raw.mjpeg": encoded("-c:v", "mjpeg", "-q:v", "3"),
    "vp9.webm": encoded("-c:v", "libvpx-vp9", "-cpu-used", "8", "-g", "30", "-pix_fmt", "yuv420p"),
    "vp9.ivf": encoded("-c:v", "libvpx-vp9", "-cpu-used", "8", "-g", "30"),
    "vp8.mkv": encoded("-c:v", "libvpx", "-g", "30", "-pix_fmt", "yuv420p"),
    "mpeg2.mpg": encoded("-c:v", "mpeg2video", "-g", "30", "-bf", "2"),
    "mpeg1.mpg": encoded("-c:v", "mpeg1video", "-g", "30", "-bf", "2"),
    "dvd.vob": encoded("-c:v", "mpeg2video", "-g", "15", "-bf", "2", "-f", "vob"),
    "wmv2.wmv": encoded("-c:v", "wmv2", "-g", "30"),
    "h264.flv": encoded(*X264, "-bf", "2"),
    "theora.ogv": encoded("-c:v", "libtheora", "-q:v", "8", "-g", "30"),
    "prores.mov": encoded("-c:v", "prores"),
    "ffv1.mkv": encoded("-c:v", "ffv1"),
    "fragmented.mp4": encoded(*X264, "-bf", "2", "-movflags", "frag_keyframe+empty_moov"),
    "ntsc.mp4": encoded(*X264, "-bf", "2", rate="30000/1001"),
    "variable.mp4": encoded(*X264, *VFR),
    "variable.mkv": encoded(*X264, *VFR),
    "interlaced.mp4": encoded(*X264, "-bf", "2", "-flags", "+ilme+ildct", "-x264-params", "tff=1"),
    "interlaced.ts": encoded("-c:v", "mpeg2video", "-flags", "+ilme+ildct", "-top", "1", "-bf", "2"),
    "pixel_aspect.mp4": encoded(*X264, "-vf", "setsar=4/3"),
    "ten_bits.mkv": encoded("-c:v", "libx264", "-pix_fmt", "yuv420p10le", "-g", "30"),
    "hdr.mkv": encoded(
        *("-vf", "scale=out_color_matrix=bt2020:out_range=tv", "-c:v", "libx265", "-pix_fmt", "yuv420p10le"),
        *("-x265-params", "log-level=none:hdr-opt=1:repeat-headers=1", *HDR),
    ),
    "full_chroma.mp4": encoded("-c:v", "libx264", "-pix_fmt", "yuv444p", "-g", "30"),
    "bt709.mp4": encoded(*colours("bt709", "tv", "bt709")),
    "bt709_full.mkv": encoded(*colours("bt709", "pc", "bt709")),
    "bt601_full.mp4": encoded(*colours("bt601", "pc", "smpte170m")),
    "intra_refresh.mp4": encoded(*X264[:4], "-g", "250", "-x264-params", "intra-refresh=1"),
    "trimmed.mkv": cut(1.5),
    "trimmed.ts": cut(1.5, source="source.ts"),
    "trimmed_both_ends.mp4": cut(1.5, "-t", 2),
    "trimmed_open_gop.mp4": cut(1.3, base=(*X264, "-bf", "3", "-x264-params", "open-gop=1")),
    "begun_late.ts": begun_late,
    "damaged_key.mp4": copied(lambda source, path: damaged(source, path, 60)),
    "repeated.mp4": copied(lambda source, path: with_edits(source, path, [(2000, 1024), (2000, 1024)])),
    "turned_180.mp4": copied(lambda source, path: turned(source, path, (-1, 0, 0, -1))),
    "turned_270.mp4": copied(lambda source, path: turned(source, path, (0, -1, 1, 0))),
    "mirrored.mp4": copied(lambda source, path: turned(source, path, (-1, 0, 0, 1))),
    "upside_down.mp4": copied(lambda source, path: turned(source, path, (1, 0, 0, -1))),
    "one_frame.mp4": encoded(*X264, count=1),
    "five_frames.mp4": encoded(*X264, count=5),
}
"""Other kinds."""
