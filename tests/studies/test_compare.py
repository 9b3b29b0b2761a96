"""The comparison asks what it says it asks, and its page computes what it says it computes."""

import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from st_simdiff.errors import InputError
from st_simdiff.methods.registry import METHODS
from st_simdiff.models.attach import compress
from st_simdiff.selection.grid import TokenGrid
from st_simdiff.synth.dataset import draw_split
from st_simdiff.synth.embedded import CHECKPOINT
from st_simdiff.synth.world import Event, render
from studies.synthevents.__main__ import main
from studies.synthevents.compare import Comparison, Row, compare, read, write
from studies.synthevents.comparison_claims import claims_section
from studies.synthevents.comparison_page import PAIRS, STEPS, page
from studies.synthevents.comparison_worlds import parts_section
from studies.synthevents.evaluate import Examinee
from studies.synthevents.examiner import Examiner, onsets
from studies.synthevents.scores import Scores
from studies.synthevents.variants import (
    BLIND,
    COMMUNITIES,
    FULL,
    FURTHER,
    NEITHER,
    NO_EVENTS,
    NO_GRAPH,
    VARIANTS,
    Variant,
)

QUESTIONS = 12
MEASURED = tuple(v for v in VARIANTS if v.name in ("random", "st_simdiff", "holitom", "fastv", "similarity, both"))


@pytest.fixture(scope="module")
def clips():
    return draw_split("plain", "dev", QUESTIONS)


@pytest.fixture(scope="module")
def measured():
    return compare(CHECKPOINT, [0.3], split="dev", questions=QUESTIONS, variants=MEASURED)


@pytest.fixture(scope="module")
def examinee():
    return Examinee(CHECKPOINT)


def marks(flags):
    return "".join(str(int(flag)) for flag in flags)


def test_the_rows_are_the_registry_the_ablation_and_the_calibrated_pair():
    names = [variant.name for variant in VARIANTS]
    assert len(set(names)) == len(names)
    assert set(METHODS) - {FULL} < set(names)
    assert {name for name, _ in STEPS} | {name for pair in PAIRS for name in pair} < set(names)
    spatial, temporal, both = (
        next(v for v in VARIANTS if v.name == f"similarity, {edges}").at(0.3)
        for edges in ("spatial", "temporal", "both")
    )
    assert (spatial.spatial, spatial.temporal, spatial.tau_diff) == (True, False, -1)
    assert (temporal.spatial, temporal.temporal, temporal.tau_diff) == (False, True, -1)
    assert (both.spatial, both.temporal, both.tau_diff) == (True, True, -1)
    assert {method.retention for method in (spatial, temporal, both)} == {0.3}
    assert all(variant in VARIANTS for variant in FURTHER)


def test_rows_of_equal_compute_get_the_share_that_the_other_processes(clips):
    """FastV leaves r after two of five layers; the adaptive rule lets more than r enter and prunes after three."""
    by_name = {variant.name: variant for variant in VARIANTS}
    as_fastv, with_one, with_two = (
        by_name[name]
        for name in ("adaptive, fastv's compute", "fastv k=1, adaptive's compute", "fastv k=2, adaptive's compute")
    )
    assert [with_two.affordable(retention) for retention in (0.5, 0.3, 0.15)] == [True, True, False]
    examiner = Examiner(CHECKPOINT, 16)
    examiner.show(clips[0])
    ours = by_name["st_simdiff_adaptive"]
    for variant, other in ((as_fastv, by_name["fastv"]), (with_one, ours), (with_two, ours)):
        answers = [examiner.ask(one.at(0.3))[0] for one in (variant, other)]
        assert answers[0].processed == pytest.approx(answers[1].processed, abs=0.03)


def test_the_full_model_and_the_blind_control_answer_as_in_the_evaluation(measured, clips, examinee):
    answered = [one for clip in clips for one in examinee.answer(clip)]
    assert measured.families == [one.question.family for one in answered]
    assert measured.kinds == [one.question.kind for one in answered]
    assert measured.row(FULL).correct == marks(one.likeliest for one in answered)
    assert measured.row(BLIND).correct == marks(one.blind for one in answered)
    assert "0" in measured.row(BLIND).correct


@pytest.mark.parametrize("variant", MEASURED, ids=lambda variant: variant.name)
def test_a_batch_on_a_replayed_tower_is_every_question_on_its_own(measured, clips, examinee, variant):
    kept, correct, shares = [], [], []
    model = examinee.loaded.model
    for clip in clips:
        pixels = examinee.loaded.image_processor.preprocess(render(clip.spec), return_tensors="pt")["pixel_values"]
        for question in clip.questions:
            with torch.inference_mode(), compress(model, variant.at(0.3)) as trace:
                prompt = examinee._tokens(examinee_prompt(question))
                correct.append(examinee._likeliest(question, prompt, [pixels]) == question.answer)
            left = set(trace.last.offsets.tolist())
            kept.append(len(left & set(onsets(question.evidence, trace.last.grid).tolist())))
            shares.append(trace.last.summary()["layer_averaged_share"])
    row = measured.row(variant.name, 0.3)
    assert row.correct == marks(correct)
    assert row.evidence_kept == kept
    assert row.processed == pytest.approx(np.mean(shares), abs=1e-4)
    assert row.kept == pytest.approx(0.3, abs=0.02)


def examinee_prompt(question):
    from st_simdiff.checkpoints.llava_video.prompt import build_prompt

    return build_prompt(question.prompt)


def test_without_compression_no_event_token_is_lost(measured):
    full = measured.row(FULL)
    assert full.evidence_kept == measured.evidence
    assert (full.events_kept, full.kept, full.processed) == (1, 1, 1)
    assert all((count > 0) == (kind == "event") for count, kind in zip(measured.evidence, measured.kinds, strict=True))
    assert sum(measured.row("random", 0.3).evidence_kept) < sum(measured.evidence)


def test_the_tower_looks_at_a_clip_once(clips):
    examiner = Examiner(CHECKPOINT, 16)
    looks = []
    tower = examiner.loaded.model.embedder.vision_tower
    tower.register_forward_hook(lambda *_: looks.append(1))
    for number, clip in enumerate(clips, start=1):
        examiner.show(clip)
        examiner.ask(Variant("fastv", "fastv").at(0.5))
        examiner.ask(Variant("visionzip", "visionzip").at(0.5))
        assert len(looks) == number


def test_onsets_are_the_cells_of_the_first_frame():
    events = (Event("flash", (3, 5), (16, 32, 32, 48)), Event("change", (3, 16), (20, 40, 40, 56)))
    grid = TokenGrid(16, 4, 4, "row")
    expected = {3 * 20 + row * 5 + col for row, col in ((2, 1), (2, 2), (3, 1), (3, 2))}
    assert onsets(events, grid).tolist() == sorted(expected)
    assert onsets((), grid).tolist() == []


def test_numbers_survive_the_file_and_mistakes_are_told(measured, tmp_path, caplog):
    still = dataclasses.replace(measured, world="camera", stress="noise")
    write([measured, still], tmp_path / "new" / "numbers.json")
    assert read(tmp_path / "new" / "numbers.json") == [measured, still]
    with pytest.raises(InputError, match=r"no row 'fastv' at retention 0\.9"):
        measured.row("fastv", 0.9)
    with pytest.raises(InputError, match="given once"):
        compare(CHECKPOINT, [0.3, 0.3])
    for option, value in (("--retention", "0.3;0.5"), ("--stress", "ofset"), ("--world", "plain,camra")):
        assert main(["compare", "--out", str(tmp_path / "x"), option, value]) == 2
    for sentence in ("'0.3;0.5'", "Did you mean 'offset'?", "Did you mean 'camera'?"):
        assert sentence in caplog.text
    assert main(["compare", "--out", str(tmp_path / "new" / "numbers"), "--page-only"]) == 0
    assert (tmp_path / "new" / "numbers.md").read_text() == page([measured, still])


def test_a_comparison_that_was_stopped_goes_on_from_its_journal(measured, tmp_path, monkeypatch):
    given = {"split": "dev", "questions": QUESTIONS, "variants": MEASURED, "journal": tmp_path / "journal.jsonl"}
    assert compare(CHECKPOINT, [0.3], **given) == measured
    *whole, last = given["journal"].read_text().splitlines(keepends=True)
    given["journal"].write_text("".join(whole) + last[: len(last) // 2])
    shown, show = [], Examiner.show
    monkeypatch.setattr(Examiner, "show", lambda self, clip: (shown.append(clip.seed), show(self, clip)))
    assert compare(CHECKPOINT, [0.3], **given) == measured
    assert shown == [measured.clips[-1]]
    with pytest.raises(InputError, match="other settings"):
        compare(CHECKPOINT, [0.5], **given)


@pytest.fixture(scope="module")
def drawn():
    """60 clips of two questions: the paper's thresholds beat random and lose to fastv by a known margin."""
    random = np.random.default_rng(0)
    right = {FULL: np.ones(120), BLIND: random.random(120) < 0.25}
    paper = random.random(120) < 0.7
    right |= {
        "st_simdiff": paper,
        "fastv": paper | (random.random(120) < 0.6),
        "random": paper & (np.arange(120) % 4 > 0),
    }
    right["importance"] = np.where(np.arange(120) == 7, ~paper, paper)
    rows = [
        Row(name, name, {}, None if name in (FULL, BLIND) else 0.3, marks(flags), [0, 1] * 60, 0.5, 0.3, 0.3)
        for name, flags in right.items()
    ]
    kinds = ["stable", "event"] * 60
    return Comparison("plain", "test", 0, np.repeat(np.arange(60), 2).tolist(), kinds, kinds, [0, 2] * 60, rows)


def test_means_differences_and_recall_are_those_of_the_definition(drawn):
    scores = Scores(drawn)
    paper, other = (drawn.row(name, 0.3) for name in ("st_simdiff", "fastv"))
    flags, others = (np.array([int(c) for c in row.correct]) for row in (paper, other))
    assert scores.accuracy(paper, "event").mean == pytest.approx(flags[1::2].mean())
    assert scores.accuracy(paper, "all").mean == pytest.approx(flags.mean())
    gap = scores.difference(other, paper, "stable")
    assert gap.mean == pytest.approx((others - flags)[::2].mean())
    assert gap.low < gap.mean < gap.high
    assert scores.recall(paper).mean == 0.5


def test_the_page_says_who_is_ahead_and_who_behind(drawn):
    line = next(line for line in page([drawn]).splitlines() if line.startswith("- **30%**"))
    ahead, rest = line.split("Behind it: ")
    behind, even = rest.split("Not separated: ")
    assert "`fastv` +" in ahead
    assert "`random` -" in behind
    assert "`importance`" in even


def test_the_page_counts_where_a_part_of_the_rule_helps(drawn):
    """Without events half of the questions on events go wrong and their tokens are lost; without the graph nothing."""
    ours, clip = drawn.row("fastv", 0.3), np.arange(120) // 2
    lost = marks(np.where((np.arange(120) % 2 == 1) & (clip % 2 == 0), 0, [int(c) for c in ours.correct]))
    rows = {COMMUNITIES: ours, NO_GRAPH: ours, NO_EVENTS: ours, NEITHER: ours}
    for name in (NO_EVENTS, NEITHER):
        rows[name] = dataclasses.replace(ours, correct=lost, evidence_kept=[0] * 120)
    named = [dataclasses.replace(row, name=name) for name, row in rows.items()]
    section = parts_section([dataclasses.replace(drawn, rows=[*drawn.rows, *named])])
    assert "| the graph | 0 | 1 | 0 | 0 | 1 | 0 |" in section
    assert "| the events | 1 | 0 | 0 | 1 | 0 | 0 |" in section
    assert "| plain: the graph | 0.3 | +0.000 [+0.000, +0.000] |" in section


def test_a_world_without_events_has_a_page():
    kinds = ["stable"] * 24
    rows = [Row(name, name, {}, None, "1" * 24, [0] * 24, 0.0, 1.0, 1.0) for name in (FULL, BLIND)]
    still = Comparison("static", "test", 0, np.repeat(np.arange(12), 2).tolist(), kinds, kinds, [0] * 24, rows)
    assert "| `full` | 1.000" in page([still])
    assert Scores(still).recall(rows[0]) is None


@pytest.mark.parametrize("name", ["synth_results", "synth_results_second", "synth_results_finer"])
def test_the_documented_page_is_that_of_the_documented_numbers(name):
    docs = Path(__file__).parents[2] / "docs"
    assert (docs / f"{name}.md").read_text(encoding="utf-8") == page(read(docs / f"{name}.json"))


def claimed(ours: str, other: str, clips: int = 60) -> Comparison:
    """Two rows at r = .15 whose answers are given, beside two steps and FastV, which are equal; a clip a question."""
    common = {"retention": 0.15, "evidence_kept": [1] * clips, "events_kept": 1.0, "kept": 0.15}
    level = "1" * clips
    rows = [
        Row("full", "full", {}, None, level, [1] * clips, 1.0, 1.0, 1.0),
        Row("st_simdiff_input", "st_simdiff_input", {}, correct=ours, processed=0.15, **common),
        Row("random", "random", {}, correct=other, processed=0.15, **common),
        Row("fastv", "fastv", {}, correct=level, processed=0.5, **common),
        Row("st_simdiff_two_steps", "st_simdiff_two_steps", {}, correct=level, processed=0.41, **common),
        Row("fastv, k=3", "fastv", {"k": 3}, correct=level, processed=0.66, **common),
    ]
    kinds = ["stable", "event"] * (clips // 2)
    return Comparison("plain", "test", 1, list(range(clips)), kinds, kinds, [1] * clips, rows)


@pytest.mark.parametrize(
    ("ours", "other", "word"),
    [("1" * 60, "0" * 60, "ahead"), ("0" * 60, "1" * 60, "behind"), ("10" * 30, "01" * 30, "not separated")],
)
def test_claims_are_made_of_methods_that_ask_no_query(ours, other, word):
    text = claims_section(Scores(claimed(ours, other)))
    (line,) = [line for line in text.splitlines() if line.startswith("| minus")]
    assert "`random`" in line
    assert line.endswith(f"| {word} |")
    assert "corrected for 1 comparisons" in text
    assert text.splitlines()[-1].endswith("| .410 | .660 | level |")


def test_claims_are_corrected_for_their_number():
    """A gap whose plain interval just excludes zero is not separated among forty."""
    ours, other = "1" * 60, "0" * 4 + "1" * 56
    comparison = claimed(ours, other)
    alone = claims_section(Scores(comparison))
    assert "| ahead |" in alone
    row = comparison.row("random", 0.15)
    more = [replace(row, name=f"random {number}", settings={"seed": number}) for number in range(1, 60)]
    many = claims_section(Scores(replace(comparison, rows=[*comparison.rows, *more])))
    assert "corrected for 60 comparisons" in many
    assert "| ahead |" not in many
    assert claims_section(Scores(replace(comparison, rows=comparison.rows[:1]))) is None
