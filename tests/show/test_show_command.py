"""The command: what it writes, and the one sentence it has for what it cannot use."""

from __future__ import annotations

import argparse
import subprocess
import sys
import wave
from pathlib import Path

import pytest

from st_simdiff.cli import build_parser, carry_out
from st_simdiff.show.known_events import KnownEvents
from st_simdiff.show.options import PICTURES


def parsed(*arguments: object) -> argparse.Namespace:
    return build_parser("show").parse_args(["show", *map(str, arguments)])


def run_show(options: argparse.Namespace) -> int:
    """The exit code."""
    return carry_out(options, [], sys.stdout)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one sentence with which `show` refuses `arguments`."""
    assert run_show(parsed(*arguments)) == 2
    said = capsys.readouterr()
    assert said.out == ""
    lines = [line for line in said.err.replace("\r", "\n").splitlines() if line.startswith("st-simdiff: ")]
    assert len(lines) == 1
    assert "Traceback" not in said.err
    return lines[0]


@pytest.fixture
def video(known_clip: tuple[Path, KnownEvents]) -> Path:
    return known_clip[0]


def test_writes_what_is_asked_for(video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "new" / "folder"
    options = parsed(video, "--frames", 4, "--compare", "st_simdiff,random", "--output_path", folder)
    assert run_show(options) == 0
    assert capsys.readouterr().out.split() == [str(folder / name) for name in PICTURES.values()]
    assert sorted(path.name for path in folder.iterdir()) == sorted(PICTURES.values())
    assert all(path.stat().st_size > 5000 for path in folder.iterdir())


def test_the_module_runs_and_shows_no_progress_where_nobody_watches(video: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "st_simdiff.show", str(video), "--frames", "3", "--only", "timeline"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "shown/known_events/timeline.png"
    assert (tmp_path / done.stdout.strip()).exists()
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["contact_sheet.png", "timeline.png", "annotated.mp4", "page.html"])
def test_a_link_is_replaced_not_followed(video: Path, tmp_path: Path, name: str) -> None:
    other = tmp_path / "other"
    other.write_text("another's")
    (tmp_path / name).symlink_to(other)
    only = {file: key for key, file in PICTURES.items()}[name]
    assert run_show(parsed(video, "--frames", 3, "--only", only, "--output_path", tmp_path)) == 0
    assert other.read_text() == "another's"
    assert not (tmp_path / name).is_symlink()
    assert {path.name for path in tmp_path.iterdir()} == {"other", name}


def test_thresholds_and_quantiles_reach_the_method(video: Path, tmp_path: Path) -> None:
    common = (video, "--frames", 3, "--only", "page", "--patches", "6x8", "--output_path")
    assert run_show(parsed(*common, tmp_path / "one", "--tau_sim", 0.65, "--tau_diff", -0.25)) == 0
    assert (
        '"settings": {"retention": 0.3, "tau_sim": 0.65, "tau_diff": -0.25}' in (tmp_path / "one/page.html").read_text()
    )
    assert run_show(parsed(*common, tmp_path / "two", "--tau_sim", "q0.5")) == 0
    assert '"height": 6, "width": 8' in (tmp_path / "two/page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--method", "st_simdif"), "Unknown method 'st_simdif'. Did you mean 'st_simdiff'?"),
        (("--compare", "st_simdiff,rndom"), "Unknown method 'rndom'. Did you mean 'random'?"),
        (("--compare", "random,random"), "names random more than once"),
        (("--compare", "random", "--method", "full"), "give one of them"),
        (("--method", "fastv"), "fastv ranks tokens inside a language model: give a checkpoint"),
        (("--method", "random", "--tau_sim", "0.5"), "--tau_sim is no setting of random"),
        (("--tau_sim", "2"), "tau_sim is a"),
        (("--retention", "0"), "retention is the share of visual tokens to keep, in (0, 1], got 0.0"),
        (("--frames", "0"), "--frames is a number of frames, a whole number from 1 to 100,000, got 0"),
        (("--patches", "14"), "rows x columns, each 1 to 64, such as 14x14, got '14'"),
        (("--only", "page,pictures"), "Unknown picture 'pictures'"),
        (("--question", "Who?"), "--question is for a language model: give a checkpoint with --model_path"),
        (("--patches", "2x2", "--model_path", "nowhere"), "brings its own grid"),
        (("--model_path", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_used_gets_one_sentence(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], sentence: str
) -> None:
    assert sentence in refused(capsys, video, "--output_path", tmp_path, *arguments)


def test_a_file_without_pictures_gets_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audio, text, cut_off = tmp_path / "audio.wav", tmp_path / "text.mp4", tmp_path / "cut_off.mp4"
    with wave.open(str(audio), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(8000)
        sound.writeframes(bytes(16000))
    text.write_text("no video")
    cut_off.write_bytes(b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\x08free")
    for path in (audio, text, cut_off, tmp_path / "missing.mp4", tmp_path):
        assert str(path) in refused(capsys, path, "--output_path", tmp_path / "out")


def test_a_folder_that_cannot_be_written_gets_one_sentence(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    said = refused(capsys, video, "--output_path", tmp_path / "file" / "folder")
    assert f"Nothing can be written to {tmp_path / 'file' / 'folder'}" in said


def test_a_folder_without_permission_gets_one_sentence(
    video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.TemporaryFile", denied)  # a superuser may write anywhere
    assert "(Permission denied)" in refused(capsys, video, "--output_path", tmp_path)


def test_a_missing_package_gets_one_sentence(video: Path, tmp_path: Path) -> None:
    program = "import sys; sys.modules['av'] = None; from st_simdiff.cli import main; main(['show', *sys.argv[1:]])"
    command = [sys.executable, "-c", program, str(video), "--output_path", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "st-simdiff: A picture needs the package av: pip install 'st-simdiff[video]'.\n"
