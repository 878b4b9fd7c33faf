"""The sentences, word by word, and the rule that chooses between them."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from scperturb_modules import _conditions
from scperturb_modules.metrics import MANDATORY, Gain, verdict
from scperturb_modules.metrics._verdict import claim_p


def gain(value: float, low: float, high: float) -> Gain:
    return Gain(
        value, low, high, p=0.01, p_wilcoxon=0.01, n=62, n_undefined=0, win_share=0.7, scatter=0.1, method="bca"
    )


WON, BETTER = gain(0.052, 0.021, 0.083), gain(0.31, 0.27, 0.352)
TIED, LOST = gain(-0.004, -0.03, 0.0201), gain(-0.08, -0.121, -0.04)
REST = {"NoChange": BETTER, "MeanShift": BETTER}


def judge(regime="pair_2of2", n=62, room=0.6, **options):
    gains = dict.fromkeys(MANDATORY[regime], BETTER) | options.pop("gains", {})
    return verdict("SCBIG", regime, gains, n=n, room=room, **options)


def test_beats_names_the_closest_baseline():
    result = judge(gains={"AdditiveShrunk": WON})
    assert result.word == "beats"
    assert (
        str(result)
        == result.text
        == (
            "SCBIG beats the baselines on pair_2of2: L2 5.2 % lower than AdditiveShrunk "
            "(95 % CI 2.1 to 8.3, n = 62 conditions)."
        )
    )


def test_no_better():
    result = judge("single_unseen", gains={"NearestPrior": TIED})
    assert result.word == "no better"
    assert result.text == (
        "SCBIG is no better than NearestPrior on single_unseen (-0.4 %, CI -3.0 to 2.0, n = 62). "
        "Use NearestPrior: it is simpler."
    )


def test_among_several_models_the_corrected_p_decides():
    gains = {"AdditiveShrunk": WON}
    alone = judge(gains=gains)
    assert judge(gains=gains, n_models=3, p_adjusted=0.049) == alone
    assert judge(gains=gains, n_models=1, p_adjusted=0.9) == alone
    result = judge(gains=gains, n_models=3, p_adjusted=0.0613, seed_sd=0.06)
    assert result.word == "no better"
    assert result.text == (
        "SCBIG is not shown to beat AdditiveShrunk on pair_2of2: L2 5.2 % lower (95 % CI 2.1 to 8.3, n = 62 "
        "conditions), but 3 models were compared, and the best of several looks better than it is (p = 0.061 by "
        "Holm's correction)."
    )
    for name, other in (("worse", LOST), ("no better", TIED)):
        said = judge(gains={"NoChange": other}, n_models=3, p_adjusted=1.0)
        assert said == judge(gains={"NoChange": other}) and said.word == name


def test_the_claim_is_as_weak_as_its_weakest_part():
    gains = {name: replace(BETTER, p_gain=p) for name, p in (("NoChange", 0.01), ("MeanShift", 0.2), ("Other", 0.9))}
    assert claim_p("SCBIG", "measured", gains) == 0.2
    assert claim_p("MeanShift", "measured", gains) == 0.01
    assert math.isnan(claim_p("SCBIG", "measured", gains | {"MeanFitted": replace(BETTER, p_gain=math.nan)}))


def test_worse_names_the_baseline_that_wins_most():
    result = judge("pair_1of2", gains={"MeanShift": gain(-0.02, -0.03, -0.01), "Additive": LOST, "NearestPrior": TIED})
    assert result.word == "worse"
    assert result.text == "SCBIG is worse than Additive on pair_1of2 (-8.0 %, CI -12.1 to -4.0). Do not use it here."


def test_every_mandatory_baseline_must_be_beaten():
    for name in MANDATORY["pair_2of2"]:
        assert judge(gains={name: TIED}).word in ("no better", "shrinkage only")
        assert judge(gains={name: gain(0.01, 0.0, 0.02)}).word != "beats"  # the bound must lie above 0
    assert judge().word == "beats"


SHRINKAGE = "SCBIG beats plain additive, but not the shrunken sum: no evidence that interactions were learned."


def test_beating_the_plain_sum_only_is_shrinkage():
    for unbeaten in (("AdditiveShrunk",), ("AdditiveFitted", "AdditiveShrunk")):
        result = judge(gains={"Additive": WON} | dict.fromkeys(unbeaten, TIED))
        assert (result.word, result.text) == ("shrinkage only", SHRINKAGE)


def test_shrinkage_is_not_claimed_where_it_is_not_the_reason():
    assert judge(gains={"Additive": TIED, "AdditiveShrunk": TIED}).word == "no better"
    assert judge(gains={"AdditiveShrunk": TIED, "NoChange": TIED}).word == "no better"
    assert judge(gains={"AdditiveShrunk": LOST}).word == "worse"
    only_fitted = judge(gains={"AdditiveFitted": TIED})
    assert only_fitted.word == "no better" and "AdditiveFitted" in only_fitted.text


def test_cannot_tell_with_few_conditions():
    result = judge(n=9, room=0.75)
    assert result.word == "cannot tell"
    assert result.text == "Cannot tell on pair_2of2: 9 test conditions, replicate noise explains 25.0 % of the error."
    assert judge(n=10, room=0.75).word == "beats"


def test_cannot_tell_with_little_room():
    result = judge(room=0.19)
    assert result.text == "Cannot tell on pair_2of2: 62 test conditions, replicate noise explains 81.0 % of the error."
    assert judge(room=0.2).word == "beats"
    assert "explains 100.0 %" in judge(room=-0.4).text


def test_cannot_tell_without_an_interval_or_a_floor():
    undefined = gain(0.1, math.nan, math.nan)
    assert judge(gains={"Additive": undefined}).word == "cannot tell"
    for room in (None, math.nan):
        assert judge(n=5, room=room).text == "Cannot tell on pair_2of2: 5 test conditions."
        assert judge(room=room).word == "beats"


def test_cannot_tell_where_a_replicate_loses_to_the_mean():
    result = judge(replicate_wins=0.1)
    assert result.word == "cannot tell"
    assert result.text == (
        "Cannot tell on pair_2of2: 62 test conditions, replicate noise explains 40.0 % of the error. These data "
        "cannot rank models: one half of the cells is closer to the other than the training mean is in only 10 % of "
        "conditions."
    )
    for known in (0.5, 1.0, math.nan, None):
        assert judge(replicate_wins=known).word == "beats"
    assert "cannot rank" not in judge(n=9, replicate_wins=0.9).text


def test_published_scores_say_so():
    suffix = " Scores use shared controls and are comparable to the literature only."
    for options in ({}, {"n": 5}, {"gains": {"Additive": LOST}}):
        assert judge(protocol="published", **options).text == judge(**options).text + suffix


def test_ten_to_nineteen_conditions_are_provisional():
    assert judge(n=19).text.endswith(" Provisional: fewer than 20 conditions.")
    assert judge(n=19).word == "beats"
    for n in (9, 20):
        assert "Provisional" not in judge(n=n).text


def test_a_gain_smaller_than_the_seeds_scatter_is_named():
    result = judge(gains={"Additive": WON}, seed_sd=0.06)
    assert result.text.endswith(" The gain is within seed noise (standard deviation over seeds 6.0 %).")
    assert "seed noise" not in judge(gains={"Additive": WON}, seed_sd=0.05).text
    assert "seed noise" not in judge(gains={"Additive": TIED}, seed_sd=0.06).text


def test_absent_baselines_are_named_and_the_model_itself_is_not():
    gains = {"NoChange": BETTER, "MeanShift": WON, "Linear": BETTER}
    text = verdict("SCBIG", "single_unseen", gains, n=40, room=0.5).text
    assert text.endswith("n = 40 conditions). Not compared with MeanFitted, NearestPrior.")
    own = verdict("NearestPrior", "single_unseen", gains | {"MeanFitted": BETTER}, n=40, room=0.5)
    assert "Not compared" not in own.text


def test_other_baselines_do_not_enter():
    assert judge(gains={"KernelRidge": LOST}).word == "beats"


def test_minus_zero_is_not_printed():
    assert "(0.0 %, CI -0.1 to 0.1" in judge(gains={"NoChange": gain(-0.0001, -0.001, 0.001)}).text


def test_wrong_calls_are_refused():
    with pytest.raises(ValueError, match=r"regime 'pairs' is not known; use one of .*pair_2of2"):
        verdict("SCBIG", "pairs", REST, n=30, room=0.5)
    with pytest.raises(
        ValueError, match=r"none of the baselines that count on context_unseen \(NoChange, MeanShift, MeanFitted, T"
    ):
        verdict("SCBIG", "context_unseen", {"Linear": WON}, n=30, room=0.5)


def test_the_mandatory_baselines():
    assert set(MANDATORY) == set(_conditions.REGIMES)
    assert MANDATORY["pair_2of2"][3:] == ("Additive", "AdditiveFitted", "AdditiveShrunk")
    assert MANDATORY["pair_1of2"] == MANDATORY["pair_0of2"] == MANDATORY["higher_order"]
    assert MANDATORY["pair_1of2"][3:] == ("Additive", "AdditiveShrunk", "NearestPrior")
    assert MANDATORY["single_unseen"][3:] == ("NearestPrior", "Linear")
    assert MANDATORY["context_unseen"][3:] == ("Transfer",)
    assert all(names[:3] == ("NoChange", "MeanShift", "MeanFitted") for names in MANDATORY.values())
