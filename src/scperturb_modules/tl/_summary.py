"""From scores per condition to means, gains and their intervals, per split kind and regime.

The unit is the condition: its losses are averaged over training seeds, then over the splits that test it; conditions
with the same genes (in several contexts) are one cluster.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from scperturb_modules.metrics import MANDATORY, METRICS, PRIMARY, Gain, compare, holm, mean_interval
from scperturb_modules.tl._frame import COLUMNS, TEXT

REGIME = ["split_kind", "regime"]
KEY = [*REGIME, "metric", "model"]
UNIT = ["stratum", "condition"]

GAIN_COLUMNS = [
    "split_kind", "regime", "metric", "model", "gain_vs", "gain", "gain_low", "gain_high", "p", "p_wilcoxon", "p_gain",
    "n", "n_undefined", "win_share", "scatter", "seed_sd", "split_sd",
]  # fmt: skip

SUMMARY_COLUMNS = [
    "split_kind", "regime", "metric", "model", "is_baseline", "mean", "ci_low", "ci_high", "gain_vs", "gain",
    "gain_low", "gain_high", "p", "n", "n_undefined", "win_share", "seed_sd", "split_sd", "verdict",
]  # fmt: skip

EFFECTS = ("weak", "middle", "strong")

SECONDARY = "secondary"
"""Stands in column ``verdict`` of every metric but the primary one: no verdict rests on it."""


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """A result table with text in place of categories: groups are those that occur."""
    return frame.astype({name: object for name, kind in COLUMNS.items() if kind == TEXT and name in frame})


def blocks(table: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], pd.DataFrame]]:
    """The parts of a table with equal values in some columns, in the order of these values."""
    for key, block in table.groupby(list(by), sort=True):
        yield (key if isinstance(key, tuple) else (key,)), block


def best_baseline(errors: pd.Series, regime: str) -> str:
    """The mandatory baseline of the smallest mean error, given errors by predictor; "" without any.

    In the order of the table of facts: of equal ones the simplest is the bar.
    """
    mandatory = errors.reindex(MANDATORY.get(regime, ())).dropna()
    return str(mandatory.idxmin()) if len(mandatory) else ""


def losses(frame: pd.DataFrame, by: tuple[str, ...] = ()) -> pd.DataFrame:
    """A row per predictor, metric and condition in its context, averaged over seeds, then over splits.

    Parameters
    ----------
    frame
        The result table.
    by
        Further columns to keep apart (``"model_seed"``, ``"fold"``).

    Returns
    -------
    DataFrame
        ``split_kind, regime, metric, model, is_baseline``, those of ``by``, ``stratum, condition, value, loss``.
    """
    rows = plain(frame)
    loss = np.empty(len(rows))
    for name, where in rows.groupby("metric").indices.items():
        loss[where] = METRICS[str(name)].loss(rows["value"].to_numpy()[where])
    rows["loss"] = loss
    keep = [*REGIME, "metric", "model", "is_baseline", *by, *UNIT]
    split = [name for name in ("split_seed", "fold") if name not in keep]
    over_seeds = rows.groupby([*keep, *split], sort=True)[["value", "loss"]].mean()
    return over_seeds.groupby(keep, sort=True).mean().reset_index()


def gains(frame: pd.DataFrame, *, n_boot: int, seed: int) -> pd.DataFrame:
    """Compare every predictor with the mandatory baselines of its regime.

    On the primary metric with each of them; on a secondary metric with the one that it gains least on, and ``p`` is
    adjusted by Holm's method over the secondary metrics of that predictor and regime.

    Returns
    -------
    DataFrame
        Columns :data:`GAIN_COLUMNS`. ``seed_sd`` and ``split_sd`` are standard deviations of the gain over training
        seeds and over splits, NaN where there is one only.
    """
    table = losses(frame)
    spread = {by: _gain_per(losses(frame, by), by) for by in (("model_seed",), ("split_seed", "fold"))}
    lines = []
    for (split, regime, metric), block in blocks(table, [*REGIME, "metric"]):
        if METRICS[metric].kind == "dataset":
            continue
        wide = block.pivot(index=UNIT, columns="model", values="loss")
        clusters = wide.index.get_level_values("condition")
        for model, baseline in _pairs(wide, regime, every=metric == PRIMARY):
            gain = compare(wide[model], wide[baseline], clusters, n_boot=n_boot, seed=seed)
            found = {by: table.get((split, regime, metric, model, baseline), []) for by, table in spread.items()}
            lines.append(
                {
                    "split_kind": split, "regime": regime, "metric": metric, "model": model, "gain_vs": baseline,
                    **_columns(gain),
                    "seed_sd": _sd(found["model_seed",]), "split_sd": _sd(found["split_seed", "fold"]),
                }
            )  # fmt: skip
    return _adjusted(pd.DataFrame(lines, columns=GAIN_COLUMNS))


def _pairs(wide: pd.DataFrame, regime: str, *, every: bool) -> Iterator[tuple[str, str]]:
    """Predictor and baseline; the baseline of the smallest gain only, unless every one is asked for.

    Baselines come in the order of ``MANDATORY``, so that of equal ones the simplest decides.
    """
    for model in wide.columns:
        ratio = {}
        for name in MANDATORY.get(regime, ()):
            pair = wide[[model, name]].dropna() if name in wide.columns and name != model else wide.iloc[:0]
            if len(pair):
                ratio[name] = pair[model].sum() / pair[name].sum() if pair[name].sum() > 0 else -np.inf
        if every:
            yield from ((model, name) for name in ratio)
        elif ratio:
            yield model, max(ratio, key=ratio.__getitem__)


def _columns(gain: Gain) -> dict[str, Any]:
    return {
        "gain": gain.gain,
        "gain_low": gain.low,
        "gain_high": gain.high,
        "p": gain.p,
        "p_wilcoxon": gain.p_wilcoxon,
        "p_gain": gain.p_gain,
        "n": gain.n,
        "n_undefined": gain.n_undefined,
        "win_share": gain.win_share,
        "scatter": gain.scatter,
    }


def _gain_per(table: pd.DataFrame, by: tuple[str, ...]) -> dict[tuple[Any, ...], list[float]]:
    """Gains of every pair, one for each seed (or split); a baseline without seeds serves all of them."""
    found: dict[tuple[Any, ...], list[float]] = {}
    mean = table.groupby([*REGIME, "metric", *by, "model"])["loss"].mean()
    overall = table.groupby(KEY)["loss"].mean()
    for (split, regime, metric, *_), block in blocks(mean.reset_index(), [*REGIME, "metric", *by]):
        one = block.set_index("model")["loss"]
        for baseline in MANDATORY.get(regime, ()):
            base = one.get(baseline, overall.get((split, regime, metric, baseline), np.nan))
            for model in one.index if base > 0 else ():
                found.setdefault((split, regime, metric, model, baseline), []).append(1 - one[model] / base)
    return found


def _sd(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")


def _adjusted(table: pd.DataFrame) -> pd.DataFrame:
    secondary = table[table["metric"] != PRIMARY]
    for _, block in blocks(secondary, [*REGIME, "model"]):
        table.loc[block.index, "p"] = holm(block["p"])
    return table


def hardest(table: pd.DataFrame) -> pd.DataFrame:
    """Of each predictor's gains on a metric the smallest: the one that decides; of equal ones the first."""
    order = table.sort_values("gain", kind="stable", na_position="last")
    return order.drop_duplicates(KEY).sort_index()


def by_effect(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean of the primary metric in thirds of the conditions, by the size of their true effect over its noise.

    Returns
    -------
    DataFrame
        A row per split kind, regime, third (``weak``, ``middle``, ``strong``) and predictor: ``mean`` and ``n``.
    """
    primary = frame[frame["metric"] == PRIMARY]
    table = losses(primary).merge(plain(primary).groupby([*REGIME, *UNIT])["snr"].mean().reset_index())
    lines = []
    for (split, regime), block in blocks(table, REGIME):
        rank = block.groupby(UNIT)["snr"].first().rank(method="first")
        third = (3 * (rank - 1) // len(rank)).dropna().map(dict(enumerate(EFFECTS)))
        block = block.join(third.rename("effect"), on=UNIT)
        for (effect, model), rows in blocks(block, ["effect", "model"]):
            lines.append((split, regime, effect, model, rows["value"].mean(), int(rows["value"].notna().sum())))
    result = pd.DataFrame(lines, columns=[*REGIME, "effect", "model", "mean", "n"])
    order = result["effect"].map({name: i for i, name in enumerate(EFFECTS)})
    ranked = result.assign(order=order).sort_values([*REGIME, "order", "mean", "model"], kind="stable")
    return ranked.drop(columns="order").reset_index(drop=True)


def summarise(
    frame: pd.DataFrame, gain_table: pd.DataFrame, words: Mapping[tuple[str, str, str], str], *, n_boot: int, seed: int
) -> pd.DataFrame:
    """One row per split kind, regime, metric and predictor.

    Parameters
    ----------
    frame
        The result table.
    gain_table
        From :func:`gains`.
    words
        Verdict by (split kind, regime, model).
    n_boot, seed
        Of the bootstrap.

    Returns
    -------
    DataFrame
        Columns :data:`SUMMARY_COLUMNS`; best predictor first within a metric.
    """
    table = losses(frame)
    decides = {tuple(row[name] for name in KEY): row for row in hardest(gain_table).to_dict(orient="records")}
    lines = []
    for (split, regime, metric, model), block in blocks(table, KEY):
        interval = mean_interval(block["value"], block["condition"], n_boot=n_boot, seed=seed)
        gain = decides.get((split, regime, metric, model), {})
        word = words.get((split, regime, model), "") if metric == PRIMARY else SECONDARY
        lines.append(
            {
                "split_kind": split, "regime": regime, "metric": metric, "model": model,
                "is_baseline": bool(block["is_baseline"].iloc[0]),
                "mean": interval.value, "ci_low": interval.low, "ci_high": interval.high,
                "gain_vs": gain.get("gain_vs", ""),
                **{name: gain.get(name, np.nan) for name in ("gain", "gain_low", "gain_high", "p")},
                "n": interval.n, "n_undefined": int(block["value"].isna().sum()),
                **{name: gain.get(name, np.nan) for name in ("win_share", "seed_sd", "split_sd")},
                "verdict": word, "loss": block["loss"].mean(),
            }
        )  # fmt: skip
    order = {name: i for i, name in enumerate(METRICS)}
    result = pd.DataFrame(lines, columns=[*SUMMARY_COLUMNS, "loss"])
    result = result.assign(rank=result["metric"].map(order)).sort_values(
        [*REGIME, "rank", "loss", "model"], kind="stable"
    )
    return result[SUMMARY_COLUMNS].reset_index(drop=True)
