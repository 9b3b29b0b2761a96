"""What is there after `pip install`: from the wheel and from the checkout, without extras and with one."""

import importlib
import re
import zipfile

import pytest
from clean_environment import ROOT, build_wheel, copy_sources, finish, make_environment, run

SENTENCES = {
    "eval": "An evaluation needs the package {}: pip install 'st-simdiff[eval]'.",
    "plots": "A plot needs the package {}: pip install 'st-simdiff[report]'.",
    "show": "A picture needs the package {}: pip install 'st-simdiff[video]'.",
}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build_wheel(copy_sources(tmp_path_factory.mktemp("sources")), tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """The commands of an environment with the wheel and what it cannot do without."""
    return make_environment(tmp_path_factory.mktemp("bare"), wheel)


def test_the_wheel_holds_one_package_with_its_data(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {"st_simdiff", "st_simdiff-0.1.0.dist-info"}
    sources = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "st_simdiff").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources - set(names) == set()


@pytest.fixture
def logs(tmp_path, monkeypatch):
    """A folder with the results of one run."""
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "report"))
    lmms_logs = importlib.import_module("lmms_logs")
    right = [True, False, True] * 4
    lmms_logs.write_task(tmp_path, "videomme", lmms_logs.task_rows("videomme", right), lmms_logs.model_args(), right)
    return tmp_path


@pytest.mark.parametrize("command", ["methods", "bench --match_budget --frames 64", "tables .", "--help"])
def test_a_command_that_needs_no_extra(bare, logs, command):
    assert run([str(bare / "st-simdiff"), *command.split()], logs).stdout


@pytest.mark.parametrize("command", ["eval", "plots .", "show video.mp4"])
def test_a_command_names_the_extra_that_it_needs(bare, logs, command):
    done = finish([str(bare / "st-simdiff"), *command.split()], logs)
    assert done.returncode == 2
    assert done.stdout == ""
    before, after = map(re.escape, SENTENCES[command.split()[0]].split("{}"))
    assert re.fullmatch(rf"st-simdiff: {before}\w+{after}\n", done.stderr)
