"""What a plan would take."""

import pytest
import torch

from st_simdiff.cli import main
from st_simdiff.errors import InputError
from st_simdiff.evaluate.estimate import (
    Entry,
    count_questions,
    describe_plan,
    entering,
    peak_flops,
    published_cost,
    seconds_a_question,
)
from st_simdiff.methods.registry import make_method
from st_simdiff.runs.run import Evaluation


def full_model(model, task, settings):
    return Evaluation(model=model, task=task, method=make_method("full"), settings=settings, label="full")


def test_the_published_model_costs_what_the_model_itself_says():
    from st_simdiff.bench.random_models import build
    from st_simdiff.models.costs import model_cost

    assert published_cost("llava_video", 64) == model_cost(build("7b", torch.device("meta"), torch.bfloat16))


def test_tokens_of_the_other_models():
    assert published_cost("nvila", 64).tokens(64) == 8 * 257
    assert published_cost("st_simdiff_qwen2_5_vl", 8).tokens(8) == 4 * 768
    assert published_cost("st_simdiff_qwen2_5_vl", 128).tokens(128) <= 0.9 * 24_576
    assert published_cost("st_simdiff_qwen3_vl", 64) is None


@pytest.mark.parametrize(
    ("name", "share"), [("random", 0.3), ("fastv", 1.0), ("importance", 1.0), ("st_simdiff", 0.65)]
)
def test_how_much_enters_follows_from_where_a_method_acts(name, share):
    assert entering(make_method(name, retention=0.3)) == pytest.approx(share)


def test_limits_count():
    assert count_questions("videomme_local") == count_questions("videomme") == 2700
    assert [count_questions("videomme", limit) for limit in ("10", "5000", "0.1")] == [10, 2700, 270]
    assert (count_questions("unheard_of"), count_questions("unheard_of", "7")) == (None, 7)
    assert count_questions("synthevents", full=True) == 1000


def test_a_faster_gpu_takes_less_and_the_unknown_is_said():
    run = full_model("llava_video", "videomme", {"max_frames_num": "64"})
    slow, fast = (seconds_a_question(run, peak_flops(gpu)) for gpu in ("l20", "H100"))
    assert slow / fast == pytest.approx(989 / 119.5)
    other, done = full_model("llava_video", "unheard_of", {}), full_model("llava_video", "videomme", {})
    text = describe_plan([Entry(run), Entry(other), Entry(done, state="finished")], "RTX 4090")
    assert "3 runs, 2 of them to do: 2,700 questions or more." in text
    assert "1 of them are not estimated" in text
    hours = 2700 * seconds_a_question(run, peak_flops("RTX 4090")) / 3600
    assert f"About {hours:.1f} GPU hours" in text
    with pytest.raises(InputError, match="Did you mean 'A100'"):
        peak_flops("A10")


def test_a_dry_run_lists_and_starts_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.yaml").write_text("model: nvila\ntasks: videomme_local\nmethod: [full, fastv]\n")
    main(["eval", "--config", "grid.yaml", "--dry-run", "--gpu", "A100"])
    out = capsys.readouterr().out
    assert "fastv, retention 0.3" in out
    assert "2 runs, 2 of them to do: 5,400 questions." in out
    assert [path.name for path in tmp_path.iterdir()] == ["grid.yaml"]
