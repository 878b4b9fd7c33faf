"""Error of each condition against the size of its true effect, with the error of a replicate."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from scperturb_modules._errors import name_some
from scperturb_modules.metrics import METRICS
from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

MOST_PREDICTORS = 3
"""More colours than this cannot be told apart in a cloud of points."""


def error_by_effect(
    frame: pd.DataFrame,
    *,
    metric: str = "l2_top1000",
    regime: str | None = None,
    models: Sequence[str] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw the metric of each condition against the size of its true effect; a dash marks the replicate noise.

    A condition is one point (the mean over folds and seeds), or one per regime where it is tested in several. Points on
    the dashes cannot be improved with these data; points that rise with the effect are conditions that a predictor does
    not understand.

    Parameters
    ----------
    frame
        ``Benchmark.frame``: a row per predictor and condition with columns ``model``, ``condition``, ``metric``,
        ``value``, ``effect_norm`` (norm of the true change, log1p CP10k), ``floor``, ``is_baseline``.
    metric
        Id in :data:`scperturb_modules.metrics.METRICS`.
    regime
        One regime, for example ``"pair_2of2"``; None draws all. The table then needs the column ``regime``.
    models
        Predictors to show; None takes the models and the best baseline, or the best baselines where there is no model
        (at most three).
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    ValueError
        The table has no row of this metric, this regime or a named predictor.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> rows = [("Additive", "A+B", 3.0, 5.0), ("Additive", "A+C", 4.5, 9.0)]
    >>> frame = pd.DataFrame(rows, columns=["model", "condition", "value", "effect_norm"])
    >>> ax = spm.pl.error_by_effect(frame.assign(metric="l2_top1000", floor=2.0, is_baseline=True))
    >>> ax.collections[0].get_offsets().tolist()
    [[5.0, 3.0], [9.0, 4.5]]
    """
    points = _points(_style.of_regime(frame, regime), metric)
    shown = _shown(points, metric, models)
    points = points[points["model"].isin(shown)]
    ax = _style.axes_or_new(ax, width=6.0, height=4.5)
    handles: list[Artist] = []
    for i, (name, color) in enumerate(zip(shown, itertools.cycle(_style.PALETTE))):
        own = points[points["model"] == name]
        # opaque, and the first one on top: mixed colors would look like predictors that are not there
        style: dict[str, Any] = {"color": color, "edgecolor": "white", "lw": 0.4, "zorder": 3 - i / len(shown)}
        handles.append(ax.scatter(own["effect_norm"], own["value"], s=22, label=name, **style))
    floor = points.dropna(subset=["floor"]).drop_duplicates(["condition", "effect_norm", "floor"])
    if len(floor):
        x, y = floor["effect_norm"], floor["floor"]
        handles.append(ax.scatter(x, y, s=24, color="black", lw=1, marker="_", label="noise floor"))
    _style.log_where_wide(ax, points["effect_norm"], points["value"])
    ax.set_xlabel("Size of the true effect (L2 norm of the change, log1p CP10k)")
    ax.set_ylabel(_style.metric_axis(metric))
    _style.legend_above(ax, handles)
    _style.quiet(ax)
    return ax


def _points(frame: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row per predictor, condition and task: folds and seeds averaged, undefined values left out."""
    # a metric over all conditions at once has no effect size
    defined = frame[frame["value"].notna() & frame["effect_norm"].notna()]
    _style.require_metric(metric, defined["metric"])
    rows = defined[defined["metric"].astype(str) == metric]
    rows = rows.assign(model=rows["model"].astype(str))
    by = [name for name in ("model", "condition", "stratum", "split_kind", "regime") if name in rows]
    return rows.groupby(by, observed=True)[["value", "effect_norm", "floor", "is_baseline"]].mean().reset_index()


def _shown(points: pd.DataFrame, metric: str, models: Sequence[str] | None) -> list[str]:
    """The predictors to draw, best first where the caller leaves the choice."""
    if models is not None:
        found = sorted(set(points["model"]))
        unknown = sorted(set(models) - set(found))
        if unknown:
            raise ValueError(f"the table holds no {name_some(unknown)}; it holds {name_some(found, most=12)}")
        return list(models)
    mean = points.groupby("model")[["value", "is_baseline"]].mean()
    mean["loss"] = METRICS[metric].loss(mean["value"])
    ranked = mean.sort_values("loss", kind="stable")
    own = list(ranked.index[ranked["is_baseline"] < 0.5])
    baselines = list(ranked.index[ranked["is_baseline"] >= 0.5])
    return (own + baselines[:1])[:MOST_PREDICTORS] if own else baselines[:MOST_PREDICTORS]
