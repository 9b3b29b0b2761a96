"""Faults that a command meets on the disk or in its input end in one sentence, and links are not followed."""

from __future__ import annotations

import errno
import os

import pytest

from st_simdiff.checkpoints.llava_video.prompt import build_prompt
from st_simdiff.checkpoints.nvila.prompt import VIDEO_TOKEN
from st_simdiff.checkpoints.nvila.prompt import build_prompt as build_nvila_prompt
from st_simdiff.cli import main
from st_simdiff.errors import InputError
from st_simdiff.files import check_folder
from st_simdiff.methods import listing
from st_simdiff.report.render import Column, Sheet, Table, to_markdown


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC, errno.ENAMETOOLONG])
def test_what_the_system_refuses_is_one_sentence(number, monkeypatch, capsys):
    def fail(*_):
        raise OSError(number, os.strerror(number), "/of/another")

    monkeypatch.setattr(listing, "run", fail)
    with pytest.raises(SystemExit) as end:
        main(["methods"])
    assert end.value.code == 2
    assert capsys.readouterr().err == f"st-simdiff: /of/another: {os.strerror(number)}.\n"


def test_an_interrupt_before_anything_is_started_is_one_line(monkeypatch, capsys):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(listing, "run", interrupt)
    with pytest.raises(SystemExit) as end:
        main(["methods"])
    assert end.value.code == 130
    assert capsys.readouterr().err == "st-simdiff: stopped.\n"


def test_a_folder_of_another_user_is_refused_before_anything_is_computed(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(InputError, match=r"Nothing can be written to .*: name another folder with --output_path"):
        check_folder(tmp_path / "a" / "b", "--output_path")
    assert not (tmp_path / "a").exists()


def test_a_question_cannot_stand_for_the_video():
    for build, token in ((build_prompt, "<image>"), (build_nvila_prompt, VIDEO_TOKEN)):
        with pytest.raises(InputError, match=f"{token} stands for the video"):
            build(f"What is {token}?")


def test_a_name_of_a_task_is_no_markup():
    rows = (("<b>a</b> [x](http://y) `c`\n# d | *e*", 1.0),)
    text = to_markdown(Sheet("s", (Table("t", "Title", (Column("task"), Column("score")), rows),)))
    assert text.splitlines()[-1] == r"| \<b>a\</b> [x\](http://y) \`c\` # d \| \*e\* | 1.0 |"
