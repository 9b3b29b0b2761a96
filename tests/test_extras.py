"""Packages of versions that are known not to work are named before anything is started."""

from importlib import metadata

import pytest

from st_simdiff.cli import main
from st_simdiff.errors import InputError
from st_simdiff.extras import check_versions, missing_package


@pytest.fixture
def install(monkeypatch):
    """install(package, version): as if that version was installed."""
    version = metadata.version

    def pretend(package, given):
        monkeypatch.setattr(metadata, "version", lambda name: given if name == package else version(name))

    return pretend


def test_what_is_installed_here_is_allowed():
    for extra in ("eval", "video", "report", "synth"):
        check_versions("A test", extra)


@pytest.mark.parametrize(
    ("package", "version", "needed"),
    [("filelock", "4.0.0", "filelock<4"), ("lmms-eval", "0.8.0", "lmms-eval<0.8,>=0.7.3")],
)
def test_a_version_that_does_not_work_gets_one_sentence(install, capsys, package, version, needed):
    install(package, version)
    with pytest.raises(SystemExit) as end:
        main(["eval"])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert (
        said
        == f"st-simdiff: An evaluation needs {needed}, and {version} is installed: pip install 'st-simdiff[eval]'.\n"
    )


def test_a_module_of_this_project_is_no_extra():
    error = ModuleNotFoundError("No module named 'st_simdiff.nothing'", name="st_simdiff.nothing")
    with pytest.raises(ModuleNotFoundError):
        missing_package("A test", error, "eval")
    assert isinstance(missing_package("A test", ModuleNotFoundError(name="av.error"), "video"), InputError)
