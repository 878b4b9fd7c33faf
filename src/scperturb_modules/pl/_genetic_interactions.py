"""Scores of genetic interactions: predicted against observed, or each gene's share in the change of the pair."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules.metrics._status import is_constant
from scperturb_modules.pl import _style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NO_CLASS = "no class"
LOOKS = {
    "synergy": (_style.PALETTE[1], "^"),
    "additive": (_style.BASELINE_COLOR, "o"),
    "suppression": (_style.PALETTE[0], "v"),
    "redundancy": (_style.PALETTE[2], "s"),
    "epistasis": (_style.PALETTE[3], "D"),
    "neomorphic": (_style.PALETTE[4], "P"),
    NO_CLASS: ("black", "x"),
}
"""Colour and marker of each class."""

SCORES = {
    "magnitude": "magnitude",
    "model_fit": "fit of the model",
    "similarity": "similarity of the pair to its singles",
    "singles_similarity": "similarity of the singles",
    "equality": "equality of contribution",
    "dominance": "dominance",
    "residual": "residual of the sum",
    "c1": "c1",
    "c2": "c2",
}
"""Scores in words."""

_THRESHOLDS = {
    "magnitude": ("suppression", "synergy"),
    "model_fit": ("neomorphic_fit",),
    "similarity": ("redundancy",),
    "singles_similarity": ("redundancy_singles",),
    "equality": ("epistasis",),
}
"""Names in ``attrs["thresholds"]`` of the thresholds of a score."""


def genetic_interactions(
    gi: pd.DataFrame, *, observed: pd.DataFrame | None = None, score: str = "magnitude", ax: Axes | None = None
) -> Axes:
    """Draw the genetic interactions of pairs: predicted against observed, or the share of each gene in the change.

    With ``observed`` a point is a pair, its predicted score above its observed one, coloured by its observed class;
    bars are the intervals of both tables, dotted lines the thresholds of the classes, and points on the dashed line
    are right. The title has the correlation; a predictor with the same score for every pair, as the additive one has,
    has none.

    Without ``observed`` a point is a pair ``y = c1 a + c2 b`` (change of the pair y, of its singles a and b) in the
    plane of c1 and c2. A cross marks exact additivity; noise of the singles shrinks both, so that measured additive
    pairs lie nearer to 0. Circles are the thresholds of the magnitude, the distance from 0.

    Parameters
    ----------
    gi
        The table of ``spm.tl.genetic_interactions``, of a prediction or of the truth.
    observed
        The same table of the truth. Pairs in one table only, and pairs without a score, are counted in the figure.
    score
        A score of the tables, for example ``"magnitude"`` or ``"equality"``; of no use without ``observed``.
    ax
        Where to draw; None makes a figure.

    Returns
    -------
    Axes
        The axes drawn in.

    Raises
    ------
    MissingKeyError
        A table lacks the score or the label.
    DataError
        The tables share no pair, no pair has a score, or a pair stands in a table twice.
    ValueError
        There is no such score.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> names = ["A+B", "A+C", "B+C"]
    >>> truth = pd.DataFrame({"magnitude": [1.5, 1.0, 0.6], "label": ["synergy", "additive", "suppression"]}, names)
    >>> said = truth.assign(magnitude=[1.4, 1.2, 0.7])
    >>> spm.pl.genetic_interactions(said, observed=truth).texts[0].get_text()
    'magnitude: Pearson 0.95, n = 3'
    """
    if observed is None:
        return _plane(gi, ax)
    if score not in SCORES:
        raise ValueError(f"score={score!r} is unknown; use one of {', '.join(SCORES)}")
    pairs, facts = in_both(gi, observed, score)
    truth, said = observed.loc[pairs.index], gi.loc[pairs.index]
    ax = _style.axes_or_new(ax, width=4.8, height=5.6)
    _intervals(ax, (truth, score), (said, score))
    handles = _points(ax, pairs["observed"], pairs["predicted"], _labels(truth))
    limits = _thresholds(truth, score), _thresholds(said, score)
    ends = _square(ax, [*ax.dataLim.intervalx, *ax.dataLim.intervaly, *limits[0], *limits[1]])
    handles += ax.plot(ends, ends, color=_style.BASELINE_COLOR, lw=1, ls="--", zorder=1, label="equal")
    dots: dict[str, Any] = {"color": "black", "lw": 0.8, "ls": ":", "zorder": 1, "label": "threshold"}
    lines = [ax.axvline(value, **dots) for value in limits[0]]
    lines += [ax.axhline(value, **dots) for value in limits[1]]
    ax.set_xlabel(f"observed {SCORES[score]}")
    ax.set_ylabel(f"predicted {SCORES[score]}")
    _style.head(ax, handles + lines[:1], [_title(score, pairs), *facts])
    _style.quiet(ax)
    return ax


def in_both(gi: pd.DataFrame, observed: pd.DataFrame, score: str) -> tuple[pd.DataFrame, list[str]]:
    """The ``predicted`` and ``observed`` score of pairs that have both, and in words how many have not."""
    for name, table in (("gi", gi), ("observed", observed)):
        require_key(score, table.columns, name, mend="Make the table by spm.tl.genetic_interactions(...).")
        twice = table.index[table.index.duplicated()]
        if len(twice):
            raise DataError(f"{name} holds {len(twice)} pairs twice: {name_some(twice)}. Give each pair one row.")
    shared = gi.index.intersection(observed.index)
    if shared.empty:
        seen = f"{name_some(gi.index, most=3)} / {name_some(observed.index, most=3)}"
        raise DataError(f"gi and observed share no pair ({seen}); both name pairs 'A+B' or 'A+B|context'.")
    pairs = pd.DataFrame({"predicted": gi.loc[shared, score], "observed": observed.loc[shared, score]}).astype(float)
    known = np.isfinite(pairs.to_numpy()).all(axis=1)
    if not known.any():
        raise DataError(f"None of {len(shared)} pairs has a {score} in both tables; their column status says why.")
    facts = [
        (len(gi) - len(shared), "predicted, not observed"),
        (len(observed) - len(shared), "observed, not predicted"),
        (int((~known).sum()), f"without a {SCORES[score]} (see status)"),
    ]
    left_out = "; ".join(f"{n:,} {why}" for n, why in facts if n)
    return pairs.loc[known], [f"Pairs left out: {left_out}"] if left_out else []


def _labels(table: pd.DataFrame) -> pd.Series:
    """The class of each pair."""
    require_key("label", table.columns, "the table", mend="Make it by spm.tl.genetic_interactions(...).")
    return table["label"].astype(str).replace("", NO_CLASS)


def _title(score: str, pairs: pd.DataFrame) -> str:
    sides = pairs[["predicted", "observed"]].to_numpy().T
    flat = [name for name, values in zip(("prediction", "truth"), sides, strict=True) if is_constant(values)]
    if flat:
        return f"{SCORES[score]}: constant {' and '.join(flat)}, no correlation, n = {len(pairs)}"
    return f"{SCORES[score]}: Pearson {np.corrcoef(sides)[0, 1]:.2f}, n = {len(pairs)}"


def _points(ax: Axes, x: pd.Series, y: pd.Series, labels: pd.Series) -> list[Any]:
    handles: list[Any] = []
    for label, (color, marker) in LOOKS.items():
        own = (labels == label).to_numpy()
        if own.any():
            look: dict[str, Any] = {"color": color, "marker": marker, "s": 24, "linewidths": 0.8, "zorder": 3}
            handles.append(ax.scatter(x[own], y[own], label=f"{label} ({own.sum()})", **look))
    return handles


def _intervals(ax: Axes, of_x: tuple[pd.DataFrame, str], of_y: tuple[pd.DataFrame, str]) -> None:
    """Bars of the interval of each pair along both axes, where the tables have one."""
    for (table, score), (other, across), draw in ((of_x, of_y, ax.hlines), (of_y, of_x, ax.vlines)):
        if f"{score}_lower" in table and f"{score}_upper" in table:
            ends = table[[f"{score}_lower", f"{score}_upper"]].to_numpy(dtype=float).T
            draw(other[across], *ends, color=_style.FAINT_COLOR, lw=1, zorder=2)


def _square(ax: Axes, values: list[float]) -> tuple[float, float]:
    """Both axes from the smallest to the largest value, and these."""
    low, high = min(values), max(values)
    room = 0.05 * (high - low) or 0.5
    ax.set(xlim=(low - room, high + room), ylim=(low - room, high + room))
    for axis in ("x", "y"):
        ax.locator_params(axis=axis, nbins=6)
    return low, high


def _thresholds(table: pd.DataFrame, score: str) -> list[float]:
    """The finite thresholds of a score; none where the table does not say."""
    said = table.attrs.get("thresholds", {})
    return [float(said[name]) for name in _THRESHOLDS.get(score, ()) if np.isfinite(said.get(name, np.nan))]


def _plane(gi: pd.DataFrame, ax: Axes | None) -> Axes:
    """Pairs in the plane of c1 and c2."""
    from matplotlib.patches import Circle

    for column in ("c1", "c2"):
        require_key(column, gi.columns, "gi", mend="Make the table by spm.tl.genetic_interactions(...).")
    pairs = gi.loc[np.isfinite(gi[["c1", "c2"]].to_numpy(dtype=float)).all(axis=1)]
    if pairs.empty:
        raise DataError(f"None of {len(gi)} pairs has c1 and c2; their column status says why.")
    ax = _style.axes_or_new(ax, width=4.8, height=5.6)
    _intervals(ax, (pairs, "c1"), (pairs, "c2"))
    handles = _points(ax, pairs["c1"], pairs["c2"], _labels(pairs))
    look: dict[str, Any] = {"ls": "none", "marker": "+", "ms": 11, "mew": 1.8, "color": "black", "zorder": 4}
    handles += ax.plot(1, 1, label="c1 = c2 = 1", **look)
    radii = _thresholds(gi, "magnitude")
    for radius in radii:
        ax.add_artist(Circle((0, 0), radius, fill=False, ls=":", lw=0.8, zorder=1))
    if radii:
        handles += ax.plot([], [], color="black", lw=0.8, ls=":", label="threshold")
    ax.axhline(0, color=_style.FAINT_COLOR, lw=0.8, zorder=0)
    ax.axvline(0, color=_style.FAINT_COLOR, lw=0.8, zorder=0)
    _square(ax, [0.0, *radii, *ax.dataLim.intervalx, *ax.dataLim.intervaly])
    ax.set_xlabel("c1 (weight of the first gene)")
    ax.set_ylabel("c2 (weight of the second gene)")
    n_left_out = len(gi) - len(pairs)
    fact = f"Pairs left out: {n_left_out:,} without c1 and c2 (see status)" if n_left_out else ""
    _style.head(ax, handles, [f"Genetic interactions, n = {len(pairs)}", fact])
    _style.quiet(ax)
    return ax
