"""`st-simdiff serve` as far as it goes without vLLM: the command that it would become."""

from __future__ import annotations

import json
import shlex

import pytest

from st_simdiff.cli import main


@pytest.fixture
def folder(tmp_path):
    write_config(tmp_path, {"model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"]})
    return tmp_path


def write_config(folder, config):
    (folder / "config.json").write_text(json.dumps(config))


def serve(capsys, *arguments):
    main(["serve", *map(str, arguments)])
    return shlex.split(capsys.readouterr().out)


def overrides(command):
    return json.loads(command[command.index("--hf-overrides") + 1])


def test_the_command(folder, capsys):
    command = serve(
        capsys, folder, "--retention", 0.25, "--method_args", "events=False", "--dry_run", "--", "--port", 8
    )
    assert str(folder) in command
    assert command[command.index("--video-pruning-rate") + 1] == "0.75"
    assert overrides(command) == {
        "st_simdiff": {"method": "st_simdiff_input", "retention": 0.25, "budget": "tokens", "events": False}
    }
    assert command[-2:] == ["--port", "8"]
    assert "--trust-request-mm-kwargs" not in command


def test_requests_choose_where_that_is_allowed_and_overrides_are_joined(folder, capsys):
    extra = ("--", "--hf-overrides", '{"text_config": {"rope_theta": 1}}', "--hf_overrides={}")
    command = serve(capsys, folder, "--retention", 1, "--request_retention", "--method", "evs", "--dry-run", *extra)
    assert command[-1] == "--trust-request-mm-kwargs"
    assert command[command.index("--video-pruning-rate") + 1] == "0.5"
    assert overrides(command)["text_config"] == {"rope_theta": 1}
    assert overrides(command)["st_simdiff"]["retention"] == 1
    assert command.count("--hf-overrides") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--method", "fastv"], "vLLM cannot run fastv: it acts inside the language model"),
        (["--retention", "1.5"], "in (0, 1], got 1.5"),
        (["--method_args", "event=False"], "Did you mean 'events'?"),
        (["--method_args", "retention=0.2"], "retention has an option of its own, --retention"),
        (["--", "--hf-overrides", "{"], "--hf-overrides is a JSON object, got '{'"),
        (["--", "--hf-overrides", "[1]"], "--hf-overrides is a JSON object, got '[1]'"),
        (["--", "--hf-overrides.rope_theta", "1"], "--hf-overrides is one JSON object here"),
        (["--", '--hf-overrides={"st_simdiff": {"method": "evs"}}'], "st_simdiff is not for --hf-overrides here"),
        (["--", "--video_pruning_rate=0.5"], "st-simdiff serve has --retention for it"),
        (["--", "--model", "other"], "st-simdiff serve has MODEL for it"),
    ],
)
def test_a_wrong_command_gets_one_sentence(folder, capsys, arguments, said):
    with pytest.raises(SystemExit) as end:
        main(["serve", str(folder), *arguments])
    assert end.value.code == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"architectures": ["Qwen2VLForConditionalGeneration"]}, "serve 'Qwen2VLForConditionalGeneration'"),
        ({"architectures": "Qwen3VLForConditionalGeneration"}, "Unknown architecture of a model to serve 'none'"),
        ([], "must hold a JSON object, it holds a list"),
        ({"architectures": ["Qwen3VLForConditionalGeneration"]}, "config.json is no config of Qwen3VLForCond"),
    ],
)
def test_what_is_no_checkpoint_to_serve_gets_one_sentence(folder, capsys, config, said):
    write_config(folder, config)
    with pytest.raises(SystemExit) as end:
        main(["serve", str(folder)])
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_a_folder_that_is_not_there_gets_one_sentence(folder, capsys):
    for wrong in (folder / "absent", folder / "config.json"):
        with pytest.raises(SystemExit):
            main(["serve", str(wrong)])
        assert f"There is no folder {wrong}, where a checkpoint should be." in capsys.readouterr().err


def test_without_vllm_the_extra_is_named(folder, capsys):
    if __import__("importlib.util").util.find_spec("vllm"):
        pytest.skip("vLLM is installed")
    with pytest.raises(SystemExit):
        main(["serve", str(folder)])
    assert "A server needs the package vllm: pip install 'st-simdiff[vllm]'." in capsys.readouterr().err
