import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules.pl import metric_quality


@pytest.fixture
def quality():
    return pd.DataFrame(
        {
            "metric": ["slope", "l2_top1000", "pearson_delta", "pds_l1"],
            "replicate_wins": [0.55, 0.97, 0.80, float("nan")],
        }
    )


def test_bars_equal_the_table_in_the_given_axes(quality, two_axes):
    wanted, current = two_axes
    assert metric_quality(quality, ax=wanted) is wanted
    assert not current.patches
    assert [bar.get_width() for bar in wanted.patches] == [0.97, 0.80, 0.55]
    labels = [label.get_text() for label in wanted.get_yticklabels()]
    assert labels == ["L2 distance", "Pearson correlation of the change", "Slope of truth on prediction"]


def test_a_metric_that_cannot_tell_is_grey(quality):
    colors = [to_hex(bar.get_facecolor()) for bar in metric_quality(quality).patches]
    assert colors == ["#0072b2", "#0072b2", "#c8c8c8"]


def test_no_text_is_cut_or_overlaps(assert_readable):
    from scperturb_modules.metrics import CORE

    assert_readable(metric_quality(pd.DataFrame({"metric": CORE, "replicate_wins": 0.9})))
