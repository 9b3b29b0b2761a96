"""Every method of the registry in every family: identity at retention 1, exact counts, batches, SDPA and eager."""

import pytest
import torch
from helpers import close, generate, hooks_of, logits_of, options_for
from reference import attention
from zoo import ZOO, Text, Video

from st_simdiff import METHODS, InputError, compress
from st_simdiff.methods.registry import make_method

ROWS = [[Text(4), Video(6, 1), Text(5, 1)], [Text(9, 2), Video(6, 2), Text(3, 3), Video(6, 3), Text(4, 4)]]
RECORDED = ("LLaVA-Video", "NVILA", "LLaVA-OneVision")
pairs = [
    (method, family)
    for method in METHODS
    for family in ZOO
    if family in RECORDED or not make_method(method).vision_inputs
]
in_models = pytest.mark.parametrize(("method", "family"), pairs, ids=["-".join(pair) for pair in pairs])


@in_models
def test_retention_one_changes_nothing(method, family):
    zoo = ZOO[family]
    inputs = zoo.prompt(ROWS[1]).inputs
    plain = logits_of(generate(zoo, inputs, steps=3))
    with compress(zoo.model, make_method(method), **options_for(zoo, ROWS[1])) as trace:
        assert torch.equal(logits_of(generate(zoo, inputs, steps=3)), plain)
    assert [video.kept for video in trace.videos] == [video.grid.count for video in trace.videos]


@in_models
def test_rows_of_a_batch_are_their_own_batches_of_one_and_counts_are_exact(method, family):
    if method == "full":
        pytest.skip("full has retention 1 only")
    zoo, chosen = ZOO[family], make_method(method, retention=0.6)
    generate(zoo, zoo.prompt(*ROWS).inputs, steps=1)  # at its first forward transformers adds hooks of its own
    before = hooks_of(zoo.model)
    with compress(zoo.model, chosen, **options_for(zoo, *ROWS)) as trace:
        together = logits_of(generate(zoo, zoo.prompt(*ROWS).inputs, steps=4))
        kept = [video.offsets.tolist() for video in trace.videos]
        counts = [(video.kept, chosen.target(video.grid.count)) for video in trace.videos]
    alone = []
    for row, segments in enumerate(ROWS):
        with compress(zoo.model, chosen, **options_for(zoo, segments)) as trace:
            close(together[row], logits_of(generate(zoo, zoo.prompt(segments).inputs, steps=4))[0])
            alone += [video.offsets.tolist() for video in trace.videos]
            assert set(trace.last.summary()) >= {"visual_tokens", "visual_tokens_kept", "layer_averaged_share"}
    assert hooks_of(zoo.model) == before
    assert kept == alone
    assert len(counts) == 3
    assert not chosen.exact or all(count == target for count, target in counts)
    assert all(0 < count < video.grid.count for (count, _), video in zip(counts, trace.videos * 2, strict=False))


@pytest.mark.parametrize("family", ZOO)
def test_the_order_of_a_batch_changes_nothing(family):
    zoo, chosen, kept = ZOO[family], make_method("st_simdiff_input", retention=0.4), []
    for rows in (ROWS, ROWS[::-1]):
        with compress(zoo.model, chosen, **options_for(zoo, *rows)) as trace:
            generate(zoo, zoo.prompt(*rows).inputs, steps=1)
        by_row = [[video.offsets.tolist() for video in trace.videos if video.row == row] for row in range(len(rows))]
        kept.append(by_row)
    assert kept[0] == kept[1][::-1]


@in_models
def test_sdpa_and_eager_give_the_same(method, family):
    zoo, chosen = ZOO[family], make_method(method, retention=1 if method == "full" else 0.5)
    seen = []
    for implementation in ("sdpa", "eager"):
        with (
            attention(zoo.model, implementation),
            compress(zoo.model, chosen, **options_for(zoo, ROWS[0])) as trace,
        ):
            logits = logits_of(generate(zoo, zoo.prompt(ROWS[0]).inputs, steps=3))
        seen.append((logits, trace.last.offsets.tolist()))
    close(seen[0][0], seen[1][0])
    assert seen[0][1] == seen[1][1]


def test_a_method_that_needs_the_tower_is_refused_where_it_has_no_record():
    zoo = ZOO["Qwen3-VL"]
    for method in METHODS:
        if make_method(method).vision_inputs:
            with pytest.raises(InputError, match="Qwen3-VL"), compress(zoo.model, make_method(method, retention=0.5)):
                pass
