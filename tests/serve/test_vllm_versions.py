"""What the plugin registers in vLLM, known and unknown, with a stand-in for vLLM."""

from __future__ import annotations

import importlib
import logging
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from st_simdiff.errors import InputError
from st_simdiff.serve.vllm import MODELS, refusal, register
from st_simdiff.serve.vllm.versions import unknown_version

SENTENCE = "st-simdiff prunes videos in vLLM 0.32 and 0.33, and 0.34.0 is installed."


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0", "0.33.2+cpu", "0.32.1rc1"])
def test_versions_in_which_videos_are_pruned(version):
    assert unknown_version(version) == ""


@pytest.mark.parametrize("version", ["0.31.0", "0.34.0", "1.32.0", "dev"])
def test_other_versions_get_a_sentence(version):
    assert unknown_version(version) == SENTENCE.replace("0.34.0", version)


class StockModel:
    def __init__(self, *, vllm_config, prefix=""):
        self.made_with = vllm_config, prefix


class Registry:
    """As much of vLLM's registry as a plugin sees."""

    def __init__(self, architectures):
        self.models = {
            name: SimpleNamespace(module_name="vllm.moved_models", class_name=name) for name in architectures
        }
        self.registered = {}

    def register_model(self, architecture, location):
        module, name = location.split(":")
        self.registered[architecture] = location
        self.models[architecture] = self.entry(module, name)

    def entry(self, module, name):
        return SimpleNamespace(module_name=module, class_name=name)

    def load(self, architecture):
        entry = self.models[architecture]
        return getattr(importlib.import_module(entry.module_name), entry.class_name)


@pytest.fixture
def registry(monkeypatch):
    """A function of a version that puts a stand-in for this vLLM in place."""

    def install(version, architectures=MODELS):
        vllm, models = ModuleType("vllm"), ModuleType("vllm.moved_models")
        vllm.__version__, vllm.ModelRegistry = version, Registry(architectures)
        for name in architectures:
            setattr(models, name, type(name, (StockModel,), {}))
        for module in (vllm, models):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return vllm.ModelRegistry

    return install


def config(**overrides):
    return SimpleNamespace(model_config=SimpleNamespace(hf_config=SimpleNamespace(**overrides)))


@pytest.mark.parametrize("version", ["0.32.0", "0.33.0"])
def test_known_versions_get_the_classes_that_prune(registry, version, caplog):
    models = registry(version)
    register()
    assert models.registered.keys() == MODELS.keys()
    for architecture, location in models.registered.items():
        module, name = location.split(":")
        assert name == architecture  # vLLM looks at the names of classes
        assert f"class {name}(" in Path(find_spec(module).origin).read_text()
    assert not caplog.records


def test_unknown_versions_keep_their_own_classes_which_refuse_to_prune(registry, caplog):
    models = registry("0.34.0")
    with caplog.at_level(logging.WARNING):
        register()
    assert caplog.messages == [f"{SENTENCE} Videos are not pruned by st-simdiff."]
    for architecture in MODELS:
        loaded = models.load(architecture)
        stock = sys.modules["vllm.moved_models"].__dict__[architecture]
        assert issubclass(loaded, stock)
        assert loaded.__name__ == architecture
        assert set(vars(loaded)) - {"__init__", "__module__", "__doc__"} == set()
        plain = config()
        assert loaded(vllm_config=plain, prefix="p").made_with == (plain, "p")
        with pytest.raises(InputError) as error:
            loaded(vllm_config=config(st_simdiff={}))
        assert str(error.value) == SENTENCE


def test_what_vllm_remembers_of_a_class_does_not_outlive_its_version(registry):
    locations = []
    for version in ("0.34.0", "0.35.0"):
        models = registry(version)
        register()
        locations.append(models.registered)
    assert not locations[0].items() & locations[1].items()


def test_an_unknown_vllm_whose_registry_is_another_is_left_alone(registry):
    models = registry("0.40.0", ["Qwen3VLForConditionalGeneration"])
    register()
    register()
    assert list(models.registered) == ["Qwen3VLForConditionalGeneration"]
    assert issubclass(models.load("Qwen3VLForConditionalGeneration"), StockModel)
    models = registry("0.40.0")
    del models.models
    models.register_model = None
    register()


def test_an_attribute_that_is_no_location_is_missing():
    with pytest.raises(AttributeError):
        refusal.absent  # noqa: B018
