"""What a budget curve says: areas, ratios, and a sentence per ranking."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scperturb_modules._errors import DataError, require_key
from scperturb_modules.metrics._design import budget_gain

EFFECT, RANDOM = "effect", "random"
COLUMNS = ("method", "seed", "n_tested", "n_found", "n_true")


def backtest_summary(frame: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Compare every ranking of :func:`backtest` with random choice and with ranking by effect size.

    Parameters
    ----------
    frame
        The result of :func:`backtest`, or several of the same plan put together.
    seed
        Of the bootstrap over seeds.

    Returns
    -------
    DataFrame
        A row per ``method`` and reference (``against``): ``n_seeds``, ``half_budget`` (experiments), ``found`` and
        ``found_against`` (mean number then), ``ratio`` with ``ratio_low`` and ``ratio_high`` (95 %, paired over
        seeds), ``area`` with ``area_low`` and ``area_high`` (0 = the reference, 1 = an oracle that picks the strongest
        first), ``saved`` with ``saved_low`` and ``saved_high`` (share of experiments), ``test_l2`` (mean at the end of
        the budget), ``word`` and ``text``.

    Raises
    ------
    MissingKeyError
        A column is absent.
    DataError
        Rankings that were not run on the same seeds and numbers of experiments.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = [(m, s, t, k * t, 4) for m, k in (("effect", 1), ("random", 0.5)) for s in range(20) for t in (0, 2, 4)]
    >>> frame = pd.DataFrame(rows, columns=["method", "seed", "n_tested", "n_found", "n_true"])
    >>> backtest_summary(frame.assign(test_l2=1.0))[["method", "against", "ratio", "word"]].to_numpy().tolist()
    [['effect', 'random', 2.0, 'beats']]
    """
    for column in COLUMNS:
        require_key(column, frame.columns, "frame", mend="Pass the result of spm.tl.backtest.")
    if frame.duplicated(["method", "seed", "n_tested"]).any():
        raise DataError("A ranking stands there twice with one seed; summarise different screens one by one.")
    tables = {
        str(method): part.pivot_table(index="seed", columns="n_tested", values="n_found")
        for method, part in frame.groupby("method", sort=False, observed=True)
    }
    if RANDOM not in tables:
        raise DataError("The table holds no random choice to compare with; pass the result of spm.tl.backtest.")
    random = tables[RANDOM]
    for method, table in tables.items():
        if not (table.index.equals(random.index) and table.columns.equals(random.columns)) or table.isna().any(
            axis=None
        ):
            raise DataError(f"{method!r} and 'random' were not run on the same seeds and numbers of experiments.")
    n_true = frame.groupby("seed")["n_true"].first().loc[random.index].to_numpy(dtype=np.float64)
    pairs = [(method, other) for method in tables for other in (RANDOM, EFFECT) if other in tables]
    return pd.DataFrame(
        [_row(method, other, tables, n_true, frame, seed) for method, other in pairs if method not in (RANDOM, other)]
    )


def _row(
    method: str, other: str, tables: dict[str, pd.DataFrame], n_true: np.ndarray, frame: pd.DataFrame, seed: int
) -> dict[str, object]:
    table, reference = tables[method], tables[other]
    tested = table.columns.to_numpy(dtype=np.float64)
    name = "ranking by effect size" if other == EFFECT else other
    gain = budget_gain(tested, table.to_numpy(), reference.to_numpy(), n_true, method=method, other=name, seed=seed)
    half = tested[-1] / 2
    last = frame[(frame["method"] == method) & (frame["n_tested"] == tested[-1])]
    return {
        "method": method,
        "against": other,
        "n_seeds": len(table),
        "half_budget": half,
        "found": float(np.interp(half, tested, table.mean())),
        "found_against": float(np.interp(half, tested, reference.mean())),
        "ratio": gain.ratio.value,
        "ratio_low": gain.ratio.low,
        "ratio_high": gain.ratio.high,
        "area": gain.area.value,
        "area_low": gain.area.low,
        "area_high": gain.area.high,
        "saved": gain.saved[0],
        "saved_low": gain.saved[1],
        "saved_high": gain.saved[2],
        "test_l2": float(last["test_l2"].mean()) if "test_l2" in last else float("nan"),
        "word": gain.word,
        "text": gain.text,
    }
