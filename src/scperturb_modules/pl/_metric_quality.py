"""Which metrics can tell a replicate of the experiment from the plain mean, on these data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from scperturb_modules.metrics._quality import ENOUGH_WINS
from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def metric_quality(quality: pd.DataFrame, *, ax: Axes | None = None) -> Axes:
    """Draw per metric the share of conditions in which a replicate scores better than the mean of the training set.

    The replicate is one half of a condition's cells scored against the other half. A metric that prefers the mean to
    the replicate in more than a fifth of the conditions cannot rank models on these data; its bar is grey.

    Parameters
    ----------
    quality
        ``Benchmark.quality()``: a row per metric with columns ``metric`` and ``replicate_wins`` (share, 0 to 1).
    ax
        Where to draw; None makes a figure of fitting size.

    Returns
    -------
    Axes
        The axes drawn in.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> table = pd.DataFrame({"metric": ["l2_top1000", "slope"], "replicate_wins": [0.97, 0.55]})
    >>> ax = spm.pl.metric_quality(table)
    >>> [float(bar.get_width()) for bar in ax.patches]
    [0.97, 0.55]
    """
    from matplotlib.patches import Patch

    table = quality.dropna(subset=["replicate_wins"]).sort_values("replicate_wins", ascending=False, kind="stable")
    ax = _style.axes_or_new(ax, width=7.0, height=1.3 + 0.32 * len(table))
    shares = table["replicate_wins"].to_numpy(dtype=float)
    colors = [_style.PALETTE[0] if share >= ENOUGH_WINS else _style.FAINT_COLOR for share in shares]
    ax.barh(range(len(table)), shares, color=colors, height=0.7)
    ax.axvline(ENOUGH_WINS, color="black", lw=1, ls="--")
    ax.set_yticks(range(len(table)), [_style.metric_name(metric) for metric in table["metric"]], fontsize="small")
    ax.set(xlim=(0, 1), ylim=(len(table) - 0.5, -0.5))
    ax.set_xlabel("Share of conditions where a replicate\nbeats the training mean")
    handles = [Patch(color=_style.PALETTE[0], label="can rank models here")]
    handles.append(Patch(color=_style.FAINT_COLOR, label="cannot"))
    _style.legend_above(ax, handles)
    _style.quiet(ax)
    return ax
