"""What a server and a request may ask of the plugin for vLLM, without vLLM."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.base import Method, Reduction
from st_simdiff.methods.registry import METHODS, make_method
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.serve.vllm.reduction import check_servable, kept_count, reduce_video
from st_simdiff.serve.vllm.settings import REQUEST_KEY, read_settings

SERVABLE = {
    *("st_simdiff_input", "random", "uniform_frames", "evs", "vidcom2", "vidcom2_vllm", "dycoke", "divprune", "v_cast"),
    "full",
}
GRID = TokenGrid(8, 3, 5)


def settings(**given):
    return read_settings(given, 0.7, 4)


def test_a_server_that_asks_for_nothing_has_no_settings():
    assert read_settings(None, None, 4) is None
    assert read_settings(None, 0.7, 4) is None


def test_the_retention_is_given_or_what_the_pruning_rate_leaves():
    assert settings().method == make_method("st_simdiff_input", retention=0.3)
    assert settings(retention=0.25, events=False).method == make_method(
        "st_simdiff_input", retention=0.25, events=False
    )
    assert read_settings({"method": "evs"}, 0.9, 4).method == make_method("evs", retention=0.1)


@pytest.mark.parametrize(
    ("given", "rate", "said"),
    [
        ("evs", 0.7, "is a dictionary"),
        ({}, None, "needs --video-pruning-rate"),
        ({}, 0.0, "needs --video-pruning-rate"),
        ({"method": "ev"}, 0.7, "Did you mean 'evs'?"),
        ({"event": True}, 0.7, "Did you mean 'events'?"),
        ({"retention": 1.5}, 0.7, "in (0, 1], got 1.5"),
        ({"method": "evs", "budget": "as_published"}, 0.7, "sizes the prompt before"),
        ({"method": "fastv"}, 0.7, "acts inside the language model, after layer 1"),
        ({"method": "visionzip"}, 0.7, "needs the vision tower's attention and keys"),
    ],
)
def test_a_wrong_server_gets_a_sentence(given, rate, said):
    with pytest.raises(InputError) as error:
        read_settings(given, rate, 4)
    assert said in str(error.value)


@pytest.mark.parametrize("value", [1.7, 0, "half", True, None, [0.5]])
def test_a_wrong_retention_of_a_request_gets_a_sentence(value):
    with pytest.raises(InputError, match=rf"{REQUEST_KEY}: retention is the share of visual tokens to keep"):
        settings().requested_retention({REQUEST_KEY: value})


def test_a_misspelt_key_of_a_request_gets_a_sentence():
    with pytest.raises(InputError, match=f"Unknown setting .* 'st_simdiff_retensions'. Did you mean '{REQUEST_KEY}'"):
        settings().requested_retention({"st_simdiff_retensions": 0.5})


def test_a_request_has_its_own_retention_or_the_servers():
    assert settings().requested_retention({"fps": 2.0}) == 0.3
    assert settings().requested_retention({REQUEST_KEY: 1}) == 1.0


def test_identities_differ_where_kept_tokens_may():
    ours = settings()
    texts = [ours.identity(0.3), ours.identity(0.31), settings(events=False).identity(0.3)]
    texts += [settings(method="evs").identity(0.3)]
    assert len(set(texts)) == len(texts)
    assert ours.identity(0.3) == settings(retention=0.5).identity(0.3)


@pytest.mark.parametrize("name", METHODS.own)
def test_methods_that_run_in_vllm_keep_the_promised_number_and_others_are_refused(name):
    retention = 1.0 if name == "full" else 0.3
    method = make_method(name, retention=retention)
    if name not in SERVABLE:
        with pytest.raises(InputError, match=f"vLLM cannot run {name}: "):
            check_servable(method, 8)
        return
    check_servable(method, 8)
    for grid in (GRID, TokenGrid(5, 4, 4, "end")):
        features = torch.randn(grid.count, 6, generator=torch.Generator().manual_seed(0))
        if name == "dycoke" and grid.frames == 5:
            with pytest.raises(InputError, match="dycoke keeps at least 32 of this video's 81 tokens"):
                kept_count(method, grid, 8)
            continue
        reduction = reduce_video(method, features, grid, 8)
        assert reduction.kept.numel() == kept_count(method, grid, 8) == min(grid.count, method.target(grid.count))
        own = None if name == "full" else method.reduce_input(_tokens(features, grid))
        assert own is None or torch.equal(own.kept, reduction.kept)


def _tokens(features, grid):
    from st_simdiff.methods.base import VisualTokens

    return VisualTokens(features=features, offsets=torch.arange(grid.count), grid=grid, num_layers=8)


@dataclass(frozen=True, kw_only=True)
class Careless(Method):
    """A method of another package that does not keep what it says, or refuses long videos."""

    name = "careless"
    more: int = 0
    most_frames: int = 100

    def reduce_input(self, tokens):
        if tokens.grid.frames > self.most_frames:
            raise InputError("No such long videos.")
        return Reduction(kept=torch.arange(self.target(tokens.grid.count) + self.more))


def test_methods_of_other_packages_are_tried_before_the_engine_runs_them():
    check_servable(Careless(retention=0.3), 4)
    with pytest.raises(InputError, match=r"careless kept 41 of 128 tokens at retention 0\.3, and the prompt has"):
        check_servable(Careless(retention=0.3, more=2), 4)
    with pytest.raises(InputError, match="No such long videos"):
        kept_count(Careless(retention=0.3, most_frames=10), TokenGrid(11, 2, 2), 4)
