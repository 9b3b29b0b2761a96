"""From the text of model_args to method, retention, settings, protocol and names."""

import dataclasses
import importlib

import pytest
from lmms_logs import model_args, results_json

from st_simdiff.errors import InputError
from st_simdiff.report.names import display_name, published_model
from st_simdiff.report.published import LLAVA_VIDEO, NVILA, QWEN
from st_simdiff.report.settings import (
    NAMES_THE_MODEL,
    PAPER_DEFAULTS,
    PROTOCOL_KEYS,
    read_condition,
    split_model_args,
)
from st_simdiff.vocabulary import LLAVA_VIDEO_DEFAULTS, WITHOUT_EFFECT


def condition(model="llava_video", **given):
    return read_condition(results_json("videomme", 50.0, model_args(**given), model), "videomme")


def test_the_published_command_line():
    published = (
        "pretrained=../model/llava-video,conv_template=qwen_1_5,model_name=llava_qwen,max_frames_num=64,cost=0.3,"
        "similarity_lower_bound=0.8,event_upper_bound=0.2,merge_type=new_topk,right=True,bottom=True,spatial=True,"
        "temporal=True,strategy=3,mm_spatial_pool_mode=bilinear"
    )
    found = read_condition(results_json("videomme", 63.2, published), "videomme")
    assert (found.method, found.retention, found.frames) == ("st_simdiff_release", 0.3, 64)
    assert found.settings == {}
    assert published_model(found.model) == LLAVA_VIDEO
    assert found.protocol["mm_spatial_pool_mode"] == "bilinear"


@pytest.mark.parametrize(
    ("given", "variant", "other"),
    [
        ({}, "st_simdiff", ""),
        ({"method": "st_simdiff", "tau_diff": -1}, "st_simdiff/similarity", ""),
        ({"method": "st_simdiff", "tau_diff": -1.0, "temporal": False}, "st_simdiff/spatial", ""),
        ({"method": "st_simdiff", "tau_diff": -1, "spatial": False, "tau_sim": 0.8}, "st_simdiff/temporal", ""),
        ({"method": "st_simdiff", "tau_sim": 0.9, "tau_diff": "q0.05"}, "st_simdiff", "tau_diff=q0.05, tau_sim=0.9"),
        ({"method": "st_simdiff_adaptive", "tau_sim": 0.8}, "st_simdiff_adaptive", "tau_sim=0.8"),
        ({"method": "fastv", "budget": "tokens"}, "fastv", ""),
        ({"method": "fastv", "budget": "as_published"}, "fastv", "budget=as_published"),
        ({"method": "full"}, "full", ""),
    ],
)
def test_variants(given, variant, other):
    found = condition(**given)
    assert (found.variant, found.other_settings) == (variant, other)
    assert found.label == display_name(variant) + (f" ({other})" if other else "")


def test_another_lmms_eval_model_compresses_nothing():
    found = condition(model="llava_vid", max_frames_num=32)
    assert (found.method, found.retention, found.frames) == ("full", 1.0, 32)
    assert found.protocol["max_frames_num"] == "32"


def test_what_counts_as_the_protocol():
    given, left_out = condition(max_frames_num=64, fps=1), condition(device="cuda:1", journal="x", batch_size=1)
    assert given.protocol == left_out.protocol
    assert given.frames == left_out.frames == 64
    assert condition(dtype="float32").protocol != given.protocol
    limited = read_condition(results_json("videomme", 1.0, model_args(), limit=8), "videomme")
    assert limited.protocol == {**given.protocol, "limit": "8"}
    written = read_condition(results_json("videomme", 1.0, model_args(), protocol={"fps": "2"}), "videomme")
    assert written.protocol == {**given.protocol, "fps": "2"}


def test_defaults_are_those_of_the_harness_and_of_the_method():
    from st_simdiff.answering.arguments import LlavaVideoArguments
    from st_simdiff.methods.st_simdiff import STSimDiff

    method = STSimDiff(retention=0.3)
    published_only = {"strategy"}
    for name in PAPER_DEFAULTS.keys() - published_only:
        assert getattr(method, name) == PAPER_DEFAULTS[name], name
    fields = {field.name: field.default for field in dataclasses.fields(LlavaVideoArguments)}
    for name, default in LLAVA_VIDEO_DEFAULTS.items():
        assert fields[name] == default, name


@pytest.mark.parametrize("arguments", ["LlavaVideoArguments", "NvilaArguments"])
def test_every_argument_of_the_harness_is_of_the_protocol_or_without_effect(arguments):
    """An argument that is neither would be taken for a setting of the method."""
    kind = getattr(importlib.import_module("st_simdiff.answering.arguments"), arguments)
    fields = {field.name for field in dataclasses.fields(kind)}
    assert fields - {"method"} <= PROTOCOL_KEYS | WITHOUT_EFFECT | NAMES_THE_MODEL


def test_harness_models_run_st_simdiff_when_no_method_is_named():
    from st_simdiff.lmms.models import MODELS

    assert {condition(model=name).method for name in MODELS} == {"st_simdiff"}


def test_the_written_protocol_names_each_difference_and_the_frames():
    written = {"max_frames_num": 8, "software": {"torch": "2.9", "python": "3.11"}}
    found = read_condition(results_json("videomme", 1.0, model_args(), "nvila", protocol=written), "videomme")
    assert found.protocol["software.torch"] == "2.9"
    assert found.frames == 8


def test_model_args_become_typed():
    assert split_model_args("a=True, b=0.3,c=x,d=-1,e=") == {"a": True, "b": 0.3, "c": "x", "d": -1.0, "e": ""}
    assert split_model_args({"a": False, "b": 2}) == {"a": False, "b": 2.0}
    assert split_model_args(None) == {}


def test_a_retention_that_is_no_number():
    with pytest.raises(InputError, match="retention that is no number: 'lots'"):
        condition(retention="lots")


@pytest.mark.parametrize(
    ("folder", "published"),
    [
        ("LLaVA-Video-7B-Qwen2", LLAVA_VIDEO),
        ("llava-video", LLAVA_VIDEO),
        ("LLaVA-Video-72B-Qwen2", None),
        ("llava-video-tiny", None),
        ("NVILA-8B-Video", NVILA),
        ("NVILA-15B", None),
        ("Qwen2.5-VL-7B-Instruct", QWEN),
        ("Qwen2.5-VL-3B-Instruct", None),
        ("llava-onevision-7b", None),
    ],
)
def test_models_of_the_paper(folder, published):
    assert published_model(folder) == published


def test_names():
    assert display_name("st_simdiff_release") == "ST-SimDiff (release)"
    assert display_name("my_method") == "my_method"
    assert condition(pretrained="/a/b/My-Model/").model == "My-Model"
    cached = "/hf/hub/models--lmms-lab--LLaVA-Video-7B-Qwen2/snapshots/6d8062190ec8a0a5/"
    assert condition(pretrained=cached).model == "LLaVA-Video-7B-Qwen2"
    assert condition(pretrained="st_simdiff/synth/checkpoint").model == "synth-checkpoint"
    assert condition(pretrained="checkpoint").model == "checkpoint"


@pytest.mark.parametrize(
    ("method", "record", "settings"),
    [
        ("st_simdiff_adaptive", {"tau_sim": "q0.25"}, {"candidates": "communities"}),
        ("st_simdiff_adaptive", {"tau_sim": "q0.25", "candidates": "input"}, {}),
        ("st_simdiff", {"tau_sim": 0.8}, {}),
    ],
)
def test_adaptive_results_older_than_candidates_are_of_communities(method, record, settings):
    written = {"name": method, "retention": 0.3} | record
    results = results_json("videomme", 1.0, model_args(method=method)) | {"method": written, "changed_settings": {}}
    assert read_condition(results, "videomme").settings == settings
