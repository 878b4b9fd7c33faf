"""The picture of the page of priors: errors relative to the base, a dot per predictor and case."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from priors_cases import Case
from priors_runs import BASE, BOTH, EVERYTHING, FUSED

from scperturb_modules._files import whole_file
from scperturb_modules.pl._style import BASELINE_COLOR, PALETTE, quiet

WITHOUT, ALONE, TOGETHER, OTHERS = (
    "no prior",
    "one source",
    "several, fused",
    "another predictor, GO + Reactome + STRING",
)
STYLES = {
    WITHOUT: ("s", BASELINE_COLOR),
    ALONE: ("o", PALETTE[0]),
    TOGETHER: ("D", PALETTE[1]),
    OTHERS: ("^", PALETTE[2]),
}


def draw(real: Sequence[Case], simulated: Case, path: Path) -> None:
    """Real screens above, side by side on one scale; the simulated ones below."""
    figure = plt.figure(figsize=(9, 7.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=(2.3, 1))
    axes = above.subplots(1, len(real), sharey=True)
    for ax, case in zip(axes, real, strict=True):
        _panel(ax, case, (-20, 20))
        ax.set_title(case.title.replace(", ", "\n", 1), fontsize="medium")
    above.supxlabel(f"error relative to {BASE}, % (left of the line: lower)", fontsize="medium")
    ax = below.subplots()
    _panel(ax, simulated, (-35, 15))
    ax.set_title(simulated.title, fontsize="medium")
    ax.set_xlabel(f"error relative to {BASE}, %")
    handles = [Line2D([], [], color=c, marker=m, linestyle="", label=kind) for kind, (m, c) in STYLES.items()]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize="small")
    with whole_file(path) as temporary:
        figure.savefig(temporary, dpi=120)
    plt.close(figure)


def _panel(ax: Axes, case: Case, limits: tuple[float, float]) -> None:
    """A row per predictor; arrows where an interval goes on, a number where the error itself is beyond."""
    rows = [name for kind in STYLES for name in _of_kind(case, kind)]
    for place, name in enumerate(rows):
        marker, color = STYLES[_kind(case, name)]
        gain = case.gain(name)
        value, bounds = -100 * gain.gain, np.array([-100 * gain.high, -100 * gain.low])
        if not limits[0] < value < limits[1]:
            at, side, text = (1, "right", "{:+.0f} \u2192") if value > 0 else (0, "left", "\u2190 {:+.0f}")
            where = ("axes fraction", "data")
            ax.annotate(text.format(value), (at, place), xycoords=where, ha=side, va="center", color=color)
            continue
        ax.plot(bounds.clip(*limits), [place] * 2, color=color, linewidth=1.3)
        for beyond, limit, arrow in zip(bounds * (-1, 1) > np.abs(limits), limits, "<>", strict=True):
            if beyond:
                ax.plot(limit, place, arrow, color=color, markersize=5, clip_on=False)
        ax.plot(value, place, marker, color=color, markersize=5)
    ax.axvline(0, color=BASELINE_COLOR, linewidth=0.8, zorder=0)
    ax.set_xlim(*limits)
    ax.set_yticks(range(len(rows)), rows)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    quiet(ax)


def _of_kind(case: Case, kind: str) -> list[str]:
    """In the order in which they were run; the base is the line at 0."""
    order = case.runs.errors["predictor"].unique()
    return [str(name) for name in order if name != BASE and _kind(case, str(name)) == kind]


def _kind(case: Case, name: str) -> str:
    if name in case.sources:
        return ALONE
    return TOGETHER if name in (FUSED, EVERYTHING, BOTH) else WITHOUT if name in ("NoChange", "MeanShift") else OTHERS
