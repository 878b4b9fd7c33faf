import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest


@pytest.fixture(autouse=True)
def close_figures():
    plt.close("all")  # examples of docstrings leave theirs open
    yield
    plt.close("all")


@pytest.fixture
def two_axes():
    """Two axes of one figure; the second is the current one, so that drawing without ``ax`` shows."""
    _, (wanted, current) = plt.subplots(1, 2)
    plt.sca(current)
    return wanted, current


SUMMARY_ROWS = [
    # split_kind, regime, metric, model, mean, ci_low, ci_high, is_baseline
    ("combination", "pair_2of2", "l2_top1000", "NoChange", 7.7, 7.1, 8.3, True),
    ("combination", "pair_2of2", "l2_top1000", "Additive", 4.2, 3.9, 4.5, True),
    ("combination", "pair_2of2", "l2_top1000", "Mine", 3.6, 3.3, 4.0, False),
    ("unseen_single", "single_unseen", "l2_top1000", "NoChange", 6.0, 5.5, 6.6, True),
    ("unseen_single", "single_unseen", "l2_top1000", "Additive", 5.0, 4.5, 5.6, True),
    ("unseen_single", "single_unseen", "l2_top1000", "Mine", 5.2, 4.6, 5.9, False),
    ("combination", "pair_2of2", "pearson_delta", "NoChange", 0.0, 0.0, 0.0, True),
    ("combination", "pair_2of2", "pearson_delta", "Additive", 0.84, 0.80, 0.87, True),
    ("combination", "pair_2of2", "pearson_delta", "Mine", 0.80, 0.75, 0.84, False),
    ("combination", "pair_2of2", "slope", "NoChange", 3.0, 2.0, 4.0, True),
    ("combination", "pair_2of2", "slope", "Additive", 0.9, 0.8, 1.0, True),
    ("combination", "pair_2of2", "slope", "Mine", 0.2, 0.1, 0.3, False),
]


@pytest.fixture
def summary():
    columns = ["split_kind", "regime", "metric", "model", "mean", "ci_low", "ci_high", "is_baseline"]
    return pd.DataFrame(SUMMARY_ROWS, columns=columns)


@pytest.fixture
def frame():
    """Two models and three baselines on six conditions; ``effect_norm`` 1 to 6, value by a known rule."""
    rows = []
    error = {"Bad": 3.0, "Good": 1.5, "Worse": 4.0, "MineA": 2.0, "MineB": 2.5}
    for model, scale in error.items():
        for i, condition in enumerate(["A", "B", "C", "A+B", "A+C", "B+C"]):
            for seed in (0, 1):
                value = scale + i + 0.2 * seed
                rows.append((model, condition, "l2_top1000", value, 1.0 + i, 0.5, not model.startswith("Mine")))
                rows.append((model, condition, "pearson_delta", np.nan, 1.0 + i, 0.5, True))
    columns = ["model", "condition", "metric", "value", "effect_norm", "floor", "is_baseline"]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture
def assert_readable():
    """Every text of an axes lies inside the figure, and no two of them touch."""

    def check(ax):
        figure = ax.figure
        figure.canvas.draw()
        renderer = figure.canvas.get_renderer()
        texts = [*ax.texts, ax.xaxis.label, ax.yaxis.label]
        for axis, (low, high) in ((ax.xaxis, ax.get_xlim()), (ax.yaxis, sorted(ax.get_ylim()))):
            ticks = zip(axis.get_majorticklocs(), axis.get_majorticklabels(), strict=True)
            texts += [label for tick, label in ticks if low <= tick <= high]  # others are not drawn
        if ax.get_legend() is not None:
            texts += ax.get_legend().get_texts()
        texts = [text for text in texts if text.get_text()]
        boxes = [text.get_window_extent(renderer) for text in texts]
        for i, box in enumerate(boxes):
            inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
            assert inside, f"{texts[i].get_text()!r} is cut"
            for j in range(i):
                assert not box.overlaps(boxes[j]), f"{texts[i].get_text()!r} overlaps {texts[j].get_text()!r}"

    return check
