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

from transformers import PretrainedConfig

from st_simdiff.checkpoints.hub import split_name
from st_simdiff.errors import InputError, unknown
from st_simdiff.extras import check_versions, missing_package
from st_simdiff.methods.settings import as_data
from st_simdiff.model_args import read_value, split_model_args
from st_simdiff.serve.vllm import MODELS
from st_simdiff.serve.vllm.settings import OVERRIDE, read_settings
from st_simdiff.serve.vllm.versions import unknown_version

_RATE_OF_FULL = Decimal("0.5")
"""vLLM's switch must be above 0; at retention 1 the plugin's own setting says that nothing is pruned."""


def run(options: argparse.Namespace, extra: Sequence[str], out: TextIO) -> None:
    """Prints the command and becomes it. Raises `InputError` for what would fail in the server."""
    name, revision = split_name(options.model) or (options.model, None)
    config = read_config(name, revision)
    method = {"method": options.method, "retention": options.retention}
    method |= {key: read_value(value) for key, value in split_model_args(options.method_args).items()}
    command = [*server_command(name), *server_flags(method, config, extra)]
    if revision:
        command += ["--revision", revision]
    if options.request_retention:
        command.append("--trust-request-mm-kwargs")
    out.write(f"{shlex.join(command)}\n")
    out.flush()
    if not options.dry_run:
        check_server()
        os.execv(command[0], command)


def read_config(name: str, revision: str | None) -> dict[str, Any]:
    """The checkpoint's config.json. Raises `InputError` if there is none, or the plugin does not know the model."""
    try:
        config, _ = PretrainedConfig.get_config_dict(name, revision=revision)
    except OSError as error:
        raise InputError(f"The checkpoint {name} cannot be read: {' '.join(str(error).split())}") from error
    architectures = config.get("architectures") or ["none"]
    if not set(architectures) & MODELS.keys():
        raise unknown("architecture of a model to serve", architectures[0], MODELS)
    return config


def server_command(name: str) -> list[str]:
    """The command of vLLM's server. Its command line needs a distribution that is called vllm, its module does not."""
    try:
        metadata.version("vllm")
    except metadata.PackageNotFoundError:
        return [sys.executable, "-m", "vllm.entrypoints.launchers.api_server.entry", "--model", name]
    return [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", name]


def server_flags(given: Mapping[str, Any], config: Mapping[str, Any], extra: Sequence[str]) -> list[str]:
    """The flags that make a server prune, and `extra`, whose `--hf-overrides` are joined with the plugin's.

    given: the plugin's settings, as in `--hf-overrides`. Raises `InputError` for settings that no server can have.
    """
    text = config.get("text_config") or config
    settings = read_settings(given, 0.5, int(text["num_hidden_layers"]))
    assert settings is not None
    data = as_data(settings.method)
    override = {"method": data.pop("name"), **data}
    rate = 1 - Decimal(str(settings.method.retention)) or _RATE_OF_FULL
    others, overrides = take_overrides(extra)
    overrides[OVERRIDE] = override
    return ["--video-pruning-rate", str(rate), "--hf-overrides", json.dumps(overrides), *others]


def take_overrides(extra: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """vLLM's arguments without `--hf-overrides`, and what these are."""
    others: list[str] = []
    overrides: dict[str, Any] = {}
    arguments = iter(extra)
    for argument in arguments:
        flag, joined, value = argument.partition("=")
        if flag not in ("--hf-overrides", "--hf_overrides"):
            others.append(argument)
            continue
        text = value if joined else next(arguments, "")
        try:
            overrides |= json.loads(text)
        except (json.JSONDecodeError, TypeError) as error:
            raise InputError(f"--hf-overrides is a JSON object, got {text!r}.") from error
    return others, overrides


def check_server() -> None:
    """Raises `InputError` unless vLLM is here, in a version that the plugin knows."""
    if find_spec("vllm") is None:
        raise missing_package("A server", ModuleNotFoundError("No module named 'vllm'", name="vllm"), "vllm")
    check_versions("A server", "vllm")
    from vllm.version import __version__

    if problem := unknown_version(__version__):
        raise InputError(problem)
