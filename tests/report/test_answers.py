"""The sentence and the word for each kind of prediction, from tables that say what is true."""

from types import SimpleNamespace

import pandas as pd
import pytest

from scperturb_modules.report._answers import answers_of, headline, recommendation

KEY = ("combination", "pair_2of2")
NAN = float("nan")


def source_with(*models, n=30, room=0.8, wins=1.0, bar="AdditiveShrunk"):
    """(name, is_baseline, word, gain, low, high, error) of each predictor, in one regime."""
    columns = ["model", "is_baseline", "word", "gain", "gain_low", "gain_high", "mean"]
    table = pd.DataFrame(models, columns=columns).assign(split_kind=KEY[0], regime=KEY[1], gain_vs=bar, n=n, text="t")
    return SimpleNamespace(
        verdicts=table.drop(columns="mean"),
        primary=table,
        regimes=[KEY],
        room={KEY: {"best_baseline": bar, "room": room, "n": n}},
        wins={KEY: (wins, n)},
    )


BAR = ("AdditiveShrunk", True, "beats", 0.02, 0.01, 0.03, 5.0)
MODEL = ("APP", False, "beats", 0.1, 0.05, 0.15, 4.5)


def answer_of(source):
    (answer,) = answers_of(source)
    return answer


def test_a_model_that_beats_the_baselines_is_recommended_the_best_of_them():
    weaker = ("SCBIG", False, "beats", 0.05, 0.01, 0.09, 4.75)
    answer = answer_of(source_with(weaker, MODEL, BAR))
    assert (answer.use, answer.word, answer.tone) == ("APP", "beats", "good")
    assert answer.sentence == (
        "Use APP: its error is 10.0 % (95 % CI 5.00 to 15.0) lower than that of AdditiveShrunk, "
        "the baseline hardest to beat."
    )
    assert headline([answer]) == (
        "The plain baselines are beaten in 1 of 1 kind of prediction: pair, both genes measured alone."
    )


def test_a_baseline_that_is_as_good_is_named():
    other = ("KernelRidge", True, "beats", 0.08, 0.04, 0.12, 4.6)
    assert "KernelRidge, a baseline that it need not beat here" in answer_of(source_with(MODEL, other, BAR)).sentence
    far = ("KernelRidge", True, "beats", 0.04, 0.01, 0.07, 4.8)
    assert "KernelRidge" not in answer_of(source_with(MODEL, far, BAR)).sentence


@pytest.mark.parametrize("word", ["no better", "worse", "shrinkage only"])
def test_else_the_best_baseline_is(word):
    answer = answer_of(source_with(("APP", False, word, -0.1, -0.2, 0.0, 5.5), BAR))
    assert (answer.use, answer.word) == ("AdditiveShrunk", word)
    assert answer.sentence.startswith("Nothing beats the baselines. Use AdditiveShrunk")
    assert headline([answer]) == "Nothing beats the plain baselines in 1 kind of prediction."


@pytest.mark.parametrize(
    "facts, why",
    [
        ({"n": 9}, "9 test conditions, and at least 10"),
        ({"room": 0.1}, "measurement noise"),
        ({"wins": 0.3}, "in only 30.0 % of conditions"),
    ],
)
def test_data_that_cannot_rank_say_why_and_recommend_no_winner(facts, why):
    answer = answer_of(source_with(MODEL, BAR, **facts))
    assert (answer.use, answer.word, answer.tone) == ("AdditiveShrunk", "cannot tell", "plain")
    assert why in answer.sentence and "not a winner" in answer.sentence
    assert headline([answer]).startswith("These data cannot rank predictors")


def test_without_a_scored_baseline_nothing_is_recommended():
    source = source_with(("APP", False, "", NAN, NAN, NAN, 4.0), bar="")
    answer = answer_of(source)
    assert (answer.use, answer.word) == ("", "no baseline")
    assert recommendation(source, [answer]).lines[0].cells[2].text == "—"


def test_among_baselines_alone_nothing_is_called_a_model():
    other = ("KernelRidge", True, "worse", -0.1, -0.2, -0.05, 5.5)
    assert answer_of(source_with(BAR, other)).sentence.startswith("Only baselines were compared. Use AdditiveShrunk")
