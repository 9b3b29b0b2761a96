"""The committed sets of versions are whole, and are what pyproject.toml asks for."""

import re
import tomllib

import pytest
from clean_environment import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OWN_ENVIRONMENT = {"vllm", "omni"}
"""Extras that are not installed beside the others: they pin versions of their own, or hold others back."""
EXTRAS = {name: lines for name, lines in PROJECT["optional-dependencies"].items() if name not in OWN_ENVIRONMENT}
ASKED = [*PROJECT["dependencies"], *(line for extra in EXTRAS.values() for line in extra)]


def pins(name):
    """The lines of a set, by package: a package may have one line a Python version."""
    found = {}
    for line in (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        found.setdefault(canonicalize_name(Requirement(line).name), []).append(Requirement(line))
    return found


@pytest.mark.parametrize("name", ["tested", "oldest"])
def test_every_package_that_is_asked_for_has_a_version_that_is_allowed(name):
    pinned = pins(name)
    for requirement in map(Requirement, ASKED):
        if requirement.name == PROJECT["name"]:
            continue
        name_of_package = canonicalize_name(requirement.name)
        assert name_of_package in pinned, "bash requirements/renew.sh"
        for pin in pinned[name_of_package]:
            (exact,) = pin.specifier
            assert exact.operator == "=="
            assert exact.version in requirement.specifier, f"{pin} in requirements/{name}.txt"


def test_the_oldest_set_has_the_oldest_transformers():
    (asked,) = (one for one in map(Requirement, PROJECT["dependencies"]) if one.name == "transformers")
    (lowest,) = asked.specifier
    (pin,) = pins("oldest")["transformers"]
    assert lowest.operator == ">="
    assert Version(str(pin.specifier)[2:]).release[:2] == Version(lowest.version).release[:2]
    tested = {name: [line.specifier for line in lines] for name, lines in pins("tested").items()}
    oldest = {name: [line.specifier for line in lines] for name, lines in pins("oldest").items()}
    differing = {name for name, versions in oldest.items() if versions != tested.get(name)}
    assert differing <= {"transformers", "huggingface-hub", "tokenizers"}


@pytest.mark.parametrize("name", ["tested", "oldest"])
def test_a_set_holds_names_and_versions_alone(name):
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert re.search(r"://|--|@", text) is None
