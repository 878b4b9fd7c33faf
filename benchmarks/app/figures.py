"""Pictures of the page."""

from __future__ import annotations

from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import pandas as pd
import plan
from comparisons import ANCHOR, wide
from matplotlib.axes import Axes
from runs import APP, errors

import scperturb_modules as spm
from scperturb_modules._files import whole_file

COLORS = {
    APP: "#D55E00",
    ANCHOR: "#0072B2",
    "NearestPrior": "#009E73",
    "EmbeddingLinear": "#CC79A7",
    "NoChange": "#7F7F7F",
}
LABELS = {APP: "APP", ANCHOR: "anchor (AdditiveShrunk)"}
PAIRS = ("pair_2of2", "pair_1of2", "pair_0of2")


def draw_unseen(folder: Path) -> None:
    """Error of pairs against the number of their genes that are unseen, and of unseen singles."""
    table = wide(errors(plan.UNSEEN))
    figure, (left, right) = plt.subplots(
        1, 2, figsize=(7.5, 3.8), width_ratios=(3, 1.3), sharey=True, layout="constrained"
    )
    for i, (name, color) in enumerate(COLORS.items()):
        shift = 0.05 * (i - 2)
        _points(left, [k + shift for k in range(3)], table[name], PAIRS, color, LABELS.get(name, name))
        _points(right, [shift], table[name], ("single_unseen",), color, "")
    left.set_xticks(range(3), ["0", "1", "2"])
    left.set_xlabel("unseen genes of a pair")
    left.set_ylabel("L2 distance (log1p CP10k), lower is better")
    right.set_xticks([0], ["unseen\nsingle"])
    right.set_xlim(-0.5, 0.5)
    left.set_ylim(0, None)
    left.legend(frameon=False, fontsize="small", loc="lower right")
    _save(figure, (left, right), folder / "app_unseen.png")


def draw_quality(folder: Path) -> None:
    """Error at unseen genes under worse and worse networks."""
    levels = (*(one.network for one in plan.QUALITY_SHOWN),)
    figure, axes = plt.subplots(1, 3, figsize=(9, 4), sharey=True, layout="constrained")
    for ax, regime in zip(axes, ("single_unseen", "pair_1of2", "pair_0of2"), strict=True):
        for model, shift in ((ANCHOR, 0.12), (APP, -0.12)):
            for row, one in enumerate(plan.QUALITY_SHOWN):
                values = wide(errors(one), [regime])[model]
                found = spm.metrics.mean_interval(values.to_numpy())
                label = LABELS[model] if row == 0 else None
                ax.plot([found.low, found.high], [row + shift] * 2, color=COLORS[model], linewidth=1)
                ax.plot(found.value, row + shift, "o", color=COLORS[model], markersize=5, label=label)
        ax.set_title(regime, fontsize="medium")
        ax.set_xlabel("L2 distance")
    axes[0].set_yticks(range(len(levels)), [plan.QUALITY_NAMES[name] for name in levels])
    axes[0].invert_yaxis()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=2, frameon=False)
    _save(figure, tuple(axes), folder / "app_network_quality.png")


def _points(ax: Axes, at: list[float], values: pd.Series, regimes: tuple[str, ...], color: str, label: str) -> None:
    of_regime = values.index.get_level_values("regime")
    found = [spm.metrics.mean_interval(values[of_regime == regime].to_numpy()) for regime in regimes]
    means = [one.value for one in found]
    bars = [[one.value - one.low for one in found], [one.high - one.value for one in found]]
    ax.errorbar(at, means, bars, color=color, marker="o", markersize=4, linewidth=1.2, label=label or None)


def _save(figure: plt.Figure, axes: tuple[Axes, ...], path: Path) -> None:
    for ax in axes:
        ax.spines[["top", "right"]].set_visible(False)
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)
