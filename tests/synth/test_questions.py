"""Answers are right by a second reading of the specification, and the text alone gives nothing away."""

from collections import Counter

import numpy as np
import pytest

from st_simdiff.errors import InputError
from st_simdiff.synth.dataset import draw_split
from st_simdiff.synth.glyphs import DIGITS
from st_simdiff.synth.questions import FAMILIES, STABLE, ask
from st_simdiff.synth.vocabulary import UNKNOWN, build_tokenizer
from st_simdiff.synth.world import WORLDS, draw_clip


def right_words(spec, text):
    """The words that answer a question rightly, from its text and the clip's tables alone."""
    plain = text.rstrip("?").split()
    shapes = {shape.name: shape for shape in spec.shapes}
    shown = {DIGITS[f.digit]: f for f in spec.flashes}
    onsets = {word: f.onset for word, f in shown.items()}
    if text.startswith("What color is"):
        return {shapes[plain[-1]].color}
    if text.startswith("What color did"):
        return {shapes[plain[4]].new_color}
    if text == "Which digit is on the sign?":
        return {DIGITS[spec.sign.digit]}
    if text.startswith("What is the background"):
        return {spec.backgrounds[{"start": 0, "end": len(spec.backgrounds) - 1}[plain[-1]]].color}
    if text.startswith("Which way"):
        (x0, y0), (x1, y1) = shapes[plain[4]].path[0], shapes[plain[4]].path[-1]
        return {("right" if x1 > x0 else "left") if y1 == y0 else ("down" if y1 > y0 else "up")}
    if text == "Which digit flashed?":
        return set(shown)
    if text == "Which digit flashed first?":
        return {min(onsets, key=onsets.get)}
    if text == "Which digit flashed last?":
        return {max(onsets, key=onsets.get)}
    if text.startswith("How many times"):
        return {("once", "twice", "thrice", "fourfold")[len(shown) - 1]}
    if text.startswith("In which quarter"):
        onset = onsets[plain[5]]
        share = onset / spec.world.frames
        return {"first" if share < 1 / 4 else "second" if share < 1 / 2 else "third" if share < 3 / 4 else "fourth"}
    assert text == "Which shape appeared?"
    return {shape.name for shape in spec.shapes if shape.visible_from > 0}


@pytest.mark.parametrize("world", WORLDS)
def test_exactly_one_option_is_right(world):
    random, families = np.random.default_rng(0), Counter()
    for seed in range(60):
        spec = draw_clip(WORLDS[world], "dev", seed)
        for family in FAMILIES:
            question = ask(family, spec, random)
            if question is None:
                continue
            families[family] += 1
            right = right_words(spec, question.text)
            assert len(set(question.options)) == 4
            assert right & set(question.options) == {question.answer}
            assert question.kind == ("stable" if family in STABLE else "event")
            assert bool(question.evidence) == (question.kind == "event")
    assert set(families) == ({"color", "sign", "background"} if world == "static" else set(FAMILIES))


def test_evidence_is_what_the_question_is_about():
    random = np.random.default_rng(1)
    for seed in range(80):
        spec = draw_clip(WORLDS["plain"], "dev", seed)
        for family, kind in (("count", "flash"), ("appearance", "appearance"), ("change", "change"), ("when", "flash")):
            question = ask(family, spec, random)
            if question is None:
                continue
            assert {event.kind for event in question.evidence} == {kind}
            if family == "when":
                digit = DIGITS.index(question.text.rstrip("?").split()[5])
                (flash,) = (f for f in spec.flashes if f.digit == digit)
                assert [event.frames[0] for event in question.evidence] == [flash.onset]
            if family == "count":
                assert len(question.evidence) == len(spec.flashes)


def test_the_model_knows_every_word():
    tokenizer, random = build_tokenizer(), np.random.default_rng(0)
    for seed in range(150):
        spec = draw_clip(WORLDS["plain"], "train", seed)
        for question in filter(None, (ask(family, spec, random) for family in FAMILIES)):
            ids = tokenizer(question.prompt).input_ids
            assert tokenizer.convert_tokens_to_ids(UNKNOWN) not in ids
            assert len(tokenizer(question.answer).input_ids) == 1


def test_a_question_puts_its_answer_where_it_is_told():
    spec = draw_clip(WORLDS["plain"], "train", 0)
    for position in range(4):
        question = ask("sign", spec, np.random.default_rng(0), position)
        assert question.options.index(question.answer) == position
    with pytest.raises(InputError, match=r"Unknown question family 'colour'\. Did you mean 'color'\?"):
        ask("colour", spec, np.random.default_rng(0))


def test_answers_are_balanced():
    questions = [q for clip in draw_split("plain", "test", 1000) for q in clip.questions]
    assert len(questions) == 1000
    for family in FAMILIES:
        mine = [q for q in questions if q.family == family]
        assert len(mine) >= 40
        positions = Counter(q.options.index(q.answer) for q in mine)
        assert max(positions.values()) - min(positions.get(p, 0) for p in range(4)) <= 1
        offered = {word for q in mine for word in q.options}
        answers = Counter(q.answer for q in mine)
        even = len(mine) / len(offered)
        assert max(answers.values()) <= 1.6 * even + 3
        assert min(answers.get(word, 0) for word in offered) >= 0.4 * even - 3


def option_features(question):
    """What the text says about each option, as words of a bag: (4 lists)."""
    others = [set(question.options) - {option} for option in question.options]
    asked = question.text.rstrip("?").split()[-1]
    return [
        [
            f"{question.family}",
            f"{question.family} {option}",
            f"position {place}",
            f"{question.family} position {place}",
            f"{asked} {option}",
            *(f"{option} beside {other}" for other in others[place]),
        ]
        for place, option in enumerate(question.options)
    ]


def test_a_classifier_that_reads_the_text_alone_is_at_chance():
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import LogisticRegression

    hasher = FeatureHasher(2**14, input_type="string")

    def table(split):
        questions = [q for clip in draw_split("plain", split, 2400) for q in clip.questions]
        features = hasher.transform([row for q in questions for row in option_features(q)])
        return questions, features, [option == q.answer for q in questions for option in q.options]

    _, features, right = table("train")
    model = LogisticRegression(C=0.1, max_iter=200).fit(features, right)
    questions, features, _ = table("test")
    scores = model.decision_function(features).reshape(-1, 4)
    guesses = [q.options[i] for q, i in zip(questions, scores.argmax(1), strict=True)]
    share = np.mean([guess == q.answer for guess, q in zip(guesses, questions, strict=True)])
    assert 0.25 - 0.035 < share < 0.25 + 0.035  # four standard deviations


def test_a_split_needs_a_question():
    with pytest.raises(InputError, match="at least 1 question, not 0"):
        draw_split("plain", "test", 0)
