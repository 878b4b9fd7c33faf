import numpy as np
import pandas as pd
import pytest

from scperturb_modules.pl import error_by_effect


def clouds(ax):
    """Points per label, in the order drawn."""
    return {cloud.get_label(): np.asarray(cloud.get_offsets()) for cloud in ax.collections}


def test_points_equal_the_table_in_the_given_axes(frame, two_axes):
    wanted, current = two_axes
    assert error_by_effect(frame, models=["MineB"], ax=wanted) is wanted
    assert not current.collections
    points = clouds(wanted)["MineB"]
    points = points[np.argsort(points[:, 0])]
    # the two seeds, 0.2 apart, are one point
    np.testing.assert_allclose(points, [(1.0 + i, 2.6 + i) for i in range(6)])


def test_without_names_the_models_and_the_best_baseline_are_drawn(frame):
    drawn = clouds(error_by_effect(frame))
    assert list(drawn) == ["MineA", "MineB", "Good", "noise floor"]
    np.testing.assert_allclose(drawn["noise floor"][:, 1], 0.5)
    assert len(drawn["noise floor"]) == 6


def test_without_models_the_best_baselines_are_drawn(frame):
    baselines = frame[~frame["model"].str.startswith("Mine")]
    assert list(clouds(error_by_effect(baselines))) == ["Good", "Bad", "Worse", "noise floor"]


def test_each_predictor_has_its_own_color(frame):
    ax = error_by_effect(frame)
    colors = {tuple(cloud.get_facecolor()[0]) for cloud in ax.collections}
    assert len(colors) == 4


def test_an_axis_is_logarithmic_only_where_values_spread(frame):
    ax = error_by_effect(frame)
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "linear")
    wide = frame.assign(effect_norm=frame["effect_norm"] ** 3)
    ax = error_by_effect(wide)
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")


def test_contexts_are_conditions_of_their_own(frame):
    other = frame.assign(stratum="RPE1", value=frame["value"] + 1)
    both = pd.concat([frame.assign(stratum="K562"), other])
    assert len(clouds(error_by_effect(both, models=["Good"]))["Good"]) == 12


def test_a_condition_in_two_regimes_is_two_points(frame):
    hard = frame.assign(regime="pair_0of2", value=frame["value"] + 1)
    both = pd.concat([frame.assign(regime="pair_2of2"), hard])
    points = clouds(error_by_effect(both, models=["Good"]))["Good"]
    assert len(points) == 12
    np.testing.assert_allclose(sorted(points[points[:, 0] == 1.0][:, 1]), [1.6, 2.6])


def test_unknown_names_are_named(frame):
    with pytest.raises(ValueError, match="no 'Nobody'; it holds 'Bad', 'Good'"):
        error_by_effect(frame, models=["Nobody"])
    with pytest.raises(ValueError, match="no metric 'mse'"):
        error_by_effect(frame, metric="mse")
    with pytest.raises(ValueError, match="no metric 'pearson_delta'; it holds l2_top1000"):
        error_by_effect(frame, metric="pearson_delta")  # there, but undefined everywhere


@pytest.mark.parametrize("power", [1, 3])
def test_no_text_is_cut_or_overlaps(frame, assert_readable, power):
    long = {"MineA": "AdditiveShrunk", "MineB": "AdditiveFitted", "Good": "EmbeddingLinear", "Bad": "MatchingMean"}
    renamed = frame.assign(model=frame["model"].replace(long), effect_norm=frame["effect_norm"] ** power)
    assert_readable(error_by_effect(renamed, models=list(long.values())))


def test_one_regime_is_drawn_alone(frame):
    hard = frame.assign(regime="pair_0of2", value=frame["value"] + 1)
    both = pd.concat([frame.assign(regime="pair_2of2"), hard])
    points = clouds(error_by_effect(both, models=["Good"], regime="pair_0of2"))["Good"]
    np.testing.assert_allclose(sorted(points[:, 1]), [2.6 + i for i in range(6)])
    with pytest.raises(ValueError, match="no regime 'measured'; it holds pair_0of2, pair_2of2"):
        error_by_effect(both, regime="measured")
