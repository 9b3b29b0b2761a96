"""`st-simdiff serve`: the command that starts vLLM's own server with the plugin's settings."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from decimal import Decimal
from importlib import metadata
from importlib.util import find_spec
from typing import Any, TextIO

from transformers import AutoConfig

from st_simdiff.checkpoints.files import read_json
from st_simdiff.checkpoints.hub import Layout, locate, split_name
from st_simdiff.errors import InputError, unknown
from st_simdiff.extras import check_versions, missing_package
from st_simdiff.methods.settings import as_data
from st_simdiff.model_args import read_value, split_model_args
from st_simdiff.serve.vllm import MODELS
from st_simdiff.serve.vllm.settings import OVERRIDE, read_settings
from st_simdiff.serve.vllm.versions import unknown_version

_CONFIG = Layout(("config.json",), parts=())
_OWN_OPTIONS = {
    "--model": "MODEL",
    "--revision": "MODEL@REVISION",
    "--video-pruning-rate": "--retention",
    "--video-pruning-method": "--method",
}
"""Arguments of vLLM's server that this command sets, and by which of its own."""
_RATE_OF_FULL = Decimal("0.5")
"""vLLM's switch must be above 0; at retention 1 the plugin's own setting says that nothing is pruned."""


def run(options: argparse.Namespace, extra: Sequence[str], out: TextIO) -> None:
    """Prints the command and becomes it. Raises `InputError` for what would fail in the server."""
    name, revision = split_name(options.model) or (options.model, None)
    given = {"method": options.method, "retention": options.retention}
    settings = split_model_args(options.method_args)
    if both := given.keys() & settings.keys():
        raise InputError(f"{min(both)} has an option of its own, --{min(both)}: it is none of --method_args.")
    given |= {key: read_value(value) for key, value in settings.items()}
    command = [*server_command(name), *server_flags(given, decoder_layers(options.model), extra)]
    if revision:
        command += ["--revision", revision]
    if options.request_retention:
        command.append("--trust-request-mm-kwargs")
    out.write(f"{shlex.join(command)}\n")
    out.flush()
    if not options.dry_run:
        check_server()
        os.execv(command[0], command)


def decoder_layers(model: str) -> int:
    """How many layers a checkpoint's decoder has, by its config.json.

    Raises `InputError` if there is none, or the plugin does not know the model.
    """
    folder = locate(model, _CONFIG).folder
    try:
        architectures = read_json(folder / "config.json", "a checkpoint").get("architectures")
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from error
    named = architectures if isinstance(architectures, list) and architectures else ["none"]
    if not any(architecture in MODELS for architecture in map(str, named)):
        raise unknown("architecture of a model to serve", named[0], MODELS)
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config().num_hidden_layers
    except Exception as error:  # what transformers has to say about an entry
        said = " ".join(str(error).split())
        raise InputError(f"{folder / 'config.json'} is no config of {named[0]}: {said}") from error


def server_command(name: str) -> list[str]:
    """The command of vLLM's server. Its command line needs a distribution that is called vllm, its module does not."""
    try:
        metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model", name]
    return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", name]


def server_flags(given: Mapping[str, Any], num_layers: int, extra: Sequence[str]) -> list[str]:
    """The flags that make a server prune, and `extra`, whose `--hf-overrides` are joined with the plugin's.

    given: the plugin's settings, as in `--hf-overrides`. Raises `InputError` for settings that no server can have.
    """
    settings = read_settings(given, 0.5, num_layers)
    assert settings is not None
    data = as_data(settings.method)
    override = {"method": data.pop("name"), **data}
    rate = 1 - Decimal(str(settings.method.retention)) or _RATE_OF_FULL
    others, overrides = take_overrides(extra)
    overrides[OVERRIDE] = override
    return ["--video-pruning-rate", str(rate), "--hf-overrides", json.dumps(overrides), *others]


def take_overrides(extra: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """vLLM's arguments without `--hf-overrides`, and what these are.

    Raises `InputError` for arguments that would undo those of this command.
    """
    others: list[str] = []
    overrides: dict[str, Any] = {}
    arguments = iter(extra)
    for argument in arguments:
        given, joined, value = argument.partition("=")
        flag = given.replace("_", "-")
        if flag in _OWN_OPTIONS:
            raise InputError(f"{flag} is not for behind --: st-simdiff serve has {_OWN_OPTIONS[flag]} for it.")
        if flag.startswith("--hf-overrides."):
            raise InputError(f"--hf-overrides is one JSON object here, got {argument!r}.")
        if flag != "--hf-overrides":
            others.append(argument)
            continue
        text = value if joined else next(arguments, "")
        try:
            overrides |= json.loads(text)
        except (ValueError, TypeError, RecursionError) as error:
            raise InputError(f"--hf-overrides is a JSON object, got {text!r}.") from error
    if OVERRIDE in overrides:
        raise InputError(
            f"{OVERRIDE} is not for --hf-overrides here: st-simdiff serve has --retention, --method and --method_args "
            "for it."
        )
    return others, overrides


def check_server() -> None:
    """Raises `InputError` unless vLLM is here, in a version that the plugin knows."""
    if find_spec("vllm") is None:
        raise missing_package("A server", ModuleNotFoundError("No module named 'vllm'", name="vllm"), "vllm")
    check_versions("A server", "vllm")
    from vllm.version import __version__

    if problem := unknown_version(__version__):
        raise InputError(problem)
