"""What a family cannot serve is refused by its config alone, and the page of families follows the registry."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
from reference import decoder_of
from zoo import ZOO
from zoo_more import MORE

from st_simdiff import InputError, STSimDiff, compress, make_method
from st_simdiff.models import families
from st_simdiff.models.families import FAMILIES, check_served
from st_simdiff.models.families.table import BEGIN, END, families_table, with_table
from st_simdiff.models.layer_kinds import decoder_kinds

DOCS = Path(__file__).parents[2] / "docs" / "families.md"
TRANSFORMERS = {name: zoo for name, zoo in (ZOO | MORE).items() if name not in ("LLaVA-Video", "NVILA")}


def sentence_of(check):
    with contextlib.suppress(StopIteration):
        try:
            check()
        except InputError as error:
            return str(error)
    return None


@pytest.mark.parametrize("method", ["visionzip", "sttm", "framefusion", "st_simdiff"])
@pytest.mark.parametrize(
    "zoo", [pytest.param(z, id=n) for n, z in TRANSFORMERS.items() if n in ("Qwen2.5-VL", "Qwen3.5")]
)
def test_the_config_refuses_what_the_model_refuses(method, zoo):
    method = make_method(method, retention=0.5)

    def model():
        with compress(zoo.model, method, **zoo.options):
            pass

    assert sentence_of(lambda: check_served(zoo.model.config, method)) == sentence_of(model)


@pytest.mark.slow
@pytest.mark.parametrize("zoo", TRANSFORMERS.values(), ids=list(TRANSFORMERS))
def test_the_config_refuses_what_the_model_refuses_everywhere(zoo):
    for name in ("visionzip", "sttm", "framefusion", "st_simdiff"):
        test_the_config_refuses_what_the_model_refuses(name, zoo)


def test_a_config_of_no_family_passes():
    check_served(decoder_of(ZOO["Qwen2-VL"].model).config, make_method("visionzip", retention=0.5))


def test_an_older_transformers_is_told(monkeypatch):
    monkeypatch.setattr(families.base.transformers, "__version__", "5.16.3")
    match = "Qwen2-VL needs transformers 5.17 or later, this is 5.16.3"
    with pytest.raises(InputError, match=match):
        check_served(ZOO["Qwen2-VL"].model.config, STSimDiff(retention=0.5))
    with pytest.raises(InputError, match=match), compress(ZOO["Qwen2-VL"].model, STSimDiff(retention=0.5)):
        pass


def test_stages_move_to_full_attention():
    config = decoder_of(MORE["Qwen3.5"].model).config
    layers = decoder_kinds(config)
    assert layers.stages(STSimDiff(retention=0.5)) == (3,)
    assert layers.stages(STSimDiff(retention=0.5, prune_layer=3)) == (3,)
    assert layers.stages(make_method("st_simdiff_adaptive", retention=0.5, score="visual", prune_layer=3)) == (6,)
    assert layers.stages(make_method("st_simdiff_two_steps", retention=0.5)) == (3,)
    assert layers.stages(make_method("sttm", retention=0.5)) == (1,)
    linear = replace(layers, kinds=("linear_attention",) * 8)
    assert linear.stages(make_method("uniform_frames", retention=0.5)) == ()
    with pytest.raises(InputError, match="from decoder layer 1 on"):
        linear.stages(STSimDiff(retention=0.5))


def test_the_table_of_families_is_up_to_date():
    text = DOCS.read_text()
    assert with_table(text) == text, "run: python -m st_simdiff.models.families.table docs/families.md"
    rows = families_table().splitlines()[2:]
    assert len(rows) == len(FAMILIES)
    assert {row.count("|") for row in rows} == {8}
    for row, family in zip(rows, FAMILIES, strict=True):
        assert family.checkpoints
        assert row.startswith(f"| {family.name} | {family.checkpoints} |")
    with pytest.raises(InputError, match="needs the lines"):
        with_table(f"{END}\n{BEGIN}")


def test_a_function_that_somebody_has_put_on_the_model_stays():
    model = ZOO["Qwen2-VL"].model
    vars(model)["generate"] = own = model.generate
    try:
        with compress(model, STSimDiff(retention=0.5)):
            assert vars(model)["generate"] is not own
        assert vars(model)["generate"] is own
    finally:
        del model.generate
