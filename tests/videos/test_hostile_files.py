"""Files that are no videos, name other files, are too large, damaged, or strangely named: one sentence each."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numbered_videos import X264, damaged, ffmpeg, needs_ffmpeg, number_in, usable_decoders, write

from st_simdiff.errors import InputError
from st_simdiff.videos import VideoError, decoders, pyav_decoder, sample_frames

av = pytest.importorskip("av")


def refused(path: Path, **settings: object) -> str:
    with pytest.raises(VideoError) as raised:
        sample_frames(path, 8, force_sample=True, **settings)
    message = str(raised.value)
    assert message.startswith(str(path))
    assert message.endswith(".")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("ffconcat version 1.0\nfile clip.mp4\n", "ffconcat"),
        ("#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nclip.ts\n", "HLS"),
        ('<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"></MPD>', "DASH"),
        ("v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=video 5004 RTP/AVP 96\n", "SDP"),
    ],
)
def test_lists_of_other_files_are_refused(tmp_path, write_clip, text, kind):
    write_clip(tmp_path / "clip.mp4", 5)
    for name in ("list.mp4", "list.m3u8", "list.mpd", "list.sdp", "list.ffconcat"):
        (tmp_path / name).write_text(text)
        assert kind in refused(tmp_path / name)


@pytest.mark.parametrize(("name", "container"), [("a.mp4", "MP4"), ("a.mkv", "Matroska"), ("a.avi", "AVI")])
def test_a_cut_video_is_told_from_what_is_none(tmp_path, write_clip, name, container):
    whole = write_clip(tmp_path / name, 5).read_bytes()
    (tmp_path / f"cut_{name}").write_bytes(whole[:100])
    (tmp_path / f"text_{name}").write_text("Dear reader, this is a letter.\n" * 50)
    cut, text = refused(tmp_path / f"cut_{name}"), refused(tmp_path / f"text_{name}")
    assert f"it begins as {container}" in cut
    assert "cut off or damaged" in cut
    assert "it is no video of a kind that is read" in text


@pytest.mark.parametrize(("given", "told"), [(None, "got None"), (b"a.mp4", "an object of bytes"), (["a.mp4"], "list")])
def test_a_video_is_the_name_of_a_file(given, told):
    with pytest.raises(InputError, match=told):
        sample_frames(given, 4)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "device.mp4").symlink_to("/dev/zero")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    (tmp_path / "empty.mp4").touch()
    assert "no regular file" in refused(tmp_path / "pipe.mp4")
    assert "no regular file" in refused(tmp_path / "device.mp4")
    assert "a folder" in refused(tmp_path / "folder.mp4")
    assert "empty" in refused(tmp_path / "empty.mp4")
    refused(tmp_path / "loop.mp4")


def test_names_of_any_kind_are_read(tmp_path, write_clip, caplog):
    clip = write_clip(tmp_path / "clip.mp4", 10)
    for name in (b"\xff\xfe.mp4", b"concat:x.mp4", b"%03d.mp4", b" -y.mp4"):
        path = Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name)))
        path.write_bytes(clip.read_bytes())
        for decoder in usable_decoders():
            assert len(sample_frames(path, 4, force_sample=True, decoder=decoder).frames) == 4
    with pytest.raises(VideoError, match=r"\\udcff\.mp4: there is no such video file"):
        sample_frames(os.fsdecode(os.path.join(os.fsencode(tmp_path), b"\xff.mp4")), 4)
    assert caplog.text.encode()  # a log can be written


def test_an_unknown_codec_is_one_sentence(tmp_path, write_clip):
    data = write_clip(tmp_path / "clip.mp4", 10).read_bytes()
    assert data.count(b"avc1") >= 1
    (tmp_path / "unknown.mp4").write_bytes(data.replace(b"avc1", b"zzzz"))
    assert "no decoder" in refused(tmp_path / "unknown.mp4")


def test_frames_above_the_limit_are_refused_or_shrunk_where_that_is_asked_for(tmp_path, write_clip):
    large = write_clip(tmp_path / "large.mp4", 6, width=320, height=240)
    assert "a frame has 320 x 240 pixels" in refused(large, max_frame_pixels=320 * 240 - 1)
    exact = sample_frames(large, 3, force_sample=True)
    small = sample_frames(large, 3, force_sample=True, max_frame_pixels=160 * 120, shrink_frames=True)
    assert small.frames.shape == (3, 120, 160, 3)
    assert (small.record.rescaled, exact.record.rescaled) == (3, 0)
    assert (small.times, small.record.numbers) == (exact.times, exact.record.numbers)


def test_more_pictures_than_memory_are_refused(tmp_path, write_clip):
    clip = write_clip(tmp_path / "clip.mp4", 3, width=640, height=480)
    with pytest.raises(VideoError, match=r"clip\.mp4: 100000 frames of 640 x 480 pixels take 85\.8 GiB"):
        sample_frames(clip, 100_000, force_sample=True)


@needs_ffmpeg
def test_the_share_of_undecodable_frames_is_a_setting(tmp_path):
    whole = write(tmp_path / "whole.mp4", *X264, "-bf", "0", count=40)
    path = whole
    for place in (11, 13, 15, 17):
        path = damaged(path, tmp_path / f"damaged_{place}.mp4", place)
    video = sample_frames(path, 6, force_sample=True)
    assert (video.record.shown, video.record.skipped) == (36, 4)
    assert "4 of 40 frames could not be decoded, and 5% are tolerated" in refused(path, damaged_share=0.05)


@needs_ffmpeg
def test_a_decoder_that_gives_up_is_followed_by_the_next(tmp_path):
    path = damaged(write(tmp_path / "whole.mp4", *X264), tmp_path / "damaged.mp4", 70)
    if "decord" not in usable_decoders():
        pytest.skip("needs decord")
    video = sample_frames(path, 6, force_sample=True, decoder="decord")
    assert video.record.decoder == "pyav"
    assert video.record.remarks == ("decord cannot decode this video.",)


@needs_ffmpeg
def test_decord_says_where_its_frames_are_not_the_ones_that_are_shown(tmp_path):
    if "decord" not in usable_decoders():
        pytest.skip("needs decord")
    path = write(tmp_path / "open.mp4", *X264, "-bf", "3", "-x264-params", "open-gop=1")
    video = sample_frames(path, 6, force_sample=True, decoder="decord")
    assert [number_in(frame) for frame in video.frames] != [0, 29, 59, 89, 119, 149]
    (remark,) = video.record.remarks
    assert "miscounts behind key frames" in remark
    assert sample_frames(path, 6, force_sample=True).record.remarks == ()


@needs_ffmpeg
def test_nearest_key_frames_are_taken_where_that_is_asked_for(tmp_path, monkeypatch):
    """They are the key frames, their times are their own, and the distance is told."""
    for name, options in (("closed.mp4", ("-bf", "2")), ("open.mkv", ("-bf", "3", "-x264-params", "open-gop=1"))):
        path = write(tmp_path / name, *X264, *options, count=301)
        for decoder in ("auto", *usable_decoders()):
            video = sample_frames(path, 7, force_sample=True, frame_choice="nearest_key_frame", decoder=decoder)
            numbers = [number_in(frame) for frame in video.frames]
            if video.record.decoder != "decord" or not video.record.remarks:
                assert numbers == list(video.record.numbers)
            assert all(number % 30 == 0 for number in video.record.numbers)
            wanted = np.linspace(0, 300, 7, dtype=int)
            assert np.abs(np.array(video.record.numbers) - wanted).max() <= 15
            assert video.times == list(video.record.taken_at)
            assert video.record.largest_offset == pytest.approx(
                np.abs(np.array(video.record.taken_at) - wanted / 30).max(), abs=0.002
            )
    path = tmp_path / "closed.mp4"
    by_index = sample_frames(path, 9, force_sample=True, frame_choice="nearest_key_frame")
    monkeypatch.setattr(decoders, "read_key_frames", lambda *_: None)
    by_packets = sample_frames(path, 9, force_sample=True, frame_choice="nearest_key_frame")
    assert np.array_equal(by_index.frames, by_packets.frames)
    assert by_index.record.numbers == by_packets.record.numbers
    assert by_index.times == pytest.approx(by_packets.times)
    path = write(tmp_path / "untimed.avi", *X264, "-bf", "0", count=40)
    video = sample_frames(path, 4, force_sample=True, frame_choice="nearest_key_frame")
    assert (video.record.numbers, video.record.largest_offset) == ((0, 13, 26, 39), 0)


@needs_ffmpeg
def test_a_jump_costs_the_group_of_pictures_and_not_the_video(tmp_path, monkeypatch):
    path = write(tmp_path / "long.mp4", *X264, "-bf", "2", count=1000)
    sent = []
    needed = pyav_decoder._needed

    def counting(*arguments):
        for packet in needed(*arguments):
            sent.append(packet)
            yield packet

    monkeypatch.setattr(pyav_decoder, "_needed", counting)
    video = sample_frames(path, 8, force_sample=True)
    assert [number_in(frame) for frame in video.frames] == np.linspace(0, 999, 8, dtype=int).tolist()
    assert len(sent) < 8 * 36


def test_a_missing_package_is_a_sentence_that_names_the_extra(tmp_path, write_clip, monkeypatch):
    clip = write_clip(tmp_path / "clip.mp4", 3)
    monkeypatch.setattr(decoders, "find_spec", lambda _: None)
    for decoder, extra in (("auto", "video"), ("decord", "video"), ("torchcodec", "torchcodec")):
        with pytest.raises(InputError, match=rf"not installed: pip install 'st-simdiff\[{extra}\]'"):
            sample_frames(clip, 3, decoder=decoder)


@needs_ffmpeg
def test_the_picture_of_a_song_is_no_video(tmp_path):
    ffmpeg("-f", "lavfi", "-i", "sine=duration=1", tmp_path / "song.mp3")
    ffmpeg("-f", "lavfi", "-i", "color=red:s=64x64", "-frames:v", "1", tmp_path / "cover.png")
    cover = ("-map", "0", "-map", "1", "-c:v", "mjpeg", "-disposition:v", "attached_pic")
    ffmpeg("-i", tmp_path / "song.mp3", "-i", tmp_path / "cover.png", *cover, tmp_path / "song.m4a")
    assert "no picture" in refused(tmp_path / "song.m4a")
