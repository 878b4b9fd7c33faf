import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules._errors import MissingKeyError
from scperturb_modules.metrics import mean_interval
from scperturb_modules.pl._budget_curve import budget_curve
from scperturb_modules.pl._style import BASELINE_COLOR


@pytest.fixture
def frame():
    """Three rankings on 12 seeds; random comes first in the table."""
    rng = np.random.default_rng(0)
    rows = [
        (method, seed, n_tested, min(1.0, speed * n_tested / 12 + (0.1 * rng.random() if n_tested else 0)), 6)
        for method, speed in (("random", 0.4), ("interaction", 0.9), ("effect", 0.6))
        for seed in range(12)
        for n_tested in (0, 4, 8, 12)
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "n_tested", "share_found", "n_true"])


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def test_draws_in_the_given_axes_and_nowhere_else(frame, two_axes):
    wanted, current = two_axes
    assert budget_curve(frame, ax=wanted) is wanted
    assert not current.get_lines() and not current.collections


def test_lines_are_means_and_bands_their_intervals(frame):
    ax = budget_curve(frame)
    drawn = lines(ax)
    assert list(drawn) == ["interaction", "by effect size", "at random", "oracle"]
    rows = frame[frame["method"] == "interaction"]
    np.testing.assert_allclose(drawn["interaction"].get_xdata(), [0, 4, 8, 12])
    np.testing.assert_allclose(drawn["interaction"].get_ydata(), rows.groupby("n_tested")["share_found"].mean())
    at_4 = rows[rows["n_tested"] == 4]
    interval = mean_interval(at_4["share_found"], at_4["seed"])
    corners = ax.collections[0].get_paths()[0].vertices
    np.testing.assert_allclose(sorted(set(corners[corners[:, 0] == 4, 1])), [interval.low, interval.high])


def test_random_is_grey_and_the_oracle_dashed(frame):
    drawn = lines(budget_curve(frame))
    assert to_hex(drawn["at random"].get_color()).upper() == BASELINE_COLOR
    assert drawn["oracle"].get_linestyle() == "--"
    np.testing.assert_allclose(drawn["oracle"].get_xdata(), [0, 4, 6, 8, 12])
    np.testing.assert_allclose(drawn["oracle"].get_ydata(), [0, 4 / 6, 1, 1, 1])


def test_no_band_and_a_note_with_few_seeds(frame):
    ax = budget_curve(frame[frame["seed"] < 5])
    texts = " ".join(text.get_text().replace("\n", " ") for text in ax.texts)
    assert "6 strong interactions to be found, 5 seeds; no band: fewer than 10 seeds" in texts
    assert all(not len(one.get_paths()) or not len(one.get_paths()[0].vertices) for one in ax.collections)


def test_a_missing_column(frame):
    with pytest.raises(MissingKeyError, match="share_found"):
        budget_curve(frame.drop(columns="share_found"))
