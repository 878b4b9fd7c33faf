"""The shared-control trap on the user's own data: what the training mean scores with and without shared controls."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scperturb_modules import _keys as keys
from scperturb_modules import baselines, pp
from scperturb_modules._conditions import parse_row_name, row_name
from scperturb_modules.metrics import Interval, mean_interval, pearson
from scperturb_modules.metrics._bootstrap import N_BOOT
from scperturb_modules.tl._ceilings import MIN_HALVED
from scperturb_modules.tl._evaluate import evaluate
from scperturb_modules.tl._folds import HOLDOUT_CONTROLS, light_copy
from scperturb_modules.tl._yardstick import PUBLISHED

if TYPE_CHECKING:
    from anndata import AnnData

METRIC = "pearson_delta"
HELD_OUT = {PUBLISHED: 0.0, "strict": HOLDOUT_CONTROLS}
COLUMNS = [
    "protocol", "predictor", "pearson", "low", "high", "draw_sd", "expected", "halves", "halves_low", "halves_high",
    "n_conditions", "n_cells", "n_controls", "n_training",
]  # fmt: skip
MATTERS = 0.1
"""A difference between the protocols of less than this is called small."""

SCORES = (
    "On these data the training mean scores {published:.2f} against shared controls (their noise alone, without any "
    "effect, would give {expected:.2f}) and {strict:.2f} against held-out ones; two halves of the data agree by "
    "{halves:.2f}: "
)
NOTHING = "correlations say nothing here."
NO_HALVES = "cells or controls are too few to halve, so correlations cannot be judged here."
HELD_OUT_ONLY = "read correlations against held-out controls only."
HARMLESS = "shared controls make little difference here."


def shared_control_trap(
    adata: AnnData,
    *,
    scheme: str = "unseen_single",
    n_folds: int = 5,
    n_draws: int = 5,
    n_boot: int = N_BOOT,
    seed: int = 0,
    perturbation_key: str = keys.PERTURBATION,
    control: str = "control",
    layer: str | None = None,
    batch_key: str | None = None,
    cell_type_key: str | None = None,
) -> pd.DataFrame:
    """Measure how much of a correlation of changes is noise of control cells that prediction and truth share.

    Every condition is held out once, and ``MeanShift``, which knows nothing of the perturbed gene, is scored under
    both protocols: with all controls on both sides, and against controls that it has not seen. ``adata`` is not
    changed, and a split that it holds is not used.

    Parameters
    ----------
    adata
        Cells x genes; ``X`` or ``layer`` is log1p of counts per 10,000, labels are canonical.
    scheme, n_folds
        Of :func:`scperturb_modules.pp.split`.
    n_draws
        Draws of the held-out controls under the strict protocol; with few controls one draw says little.
    n_boot
        Bootstrap draws of the intervals.
    seed
        Of splits, halvings and the bootstrap.
    perturbation_key, control, layer, batch_key, cell_type_key
        As in :func:`scperturb_modules.pp.pseudobulk`.

    Returns
    -------
    DataFrame
        A row per ``protocol`` (``published``, ``strict``) and ``predictor`` (``MeanShift``): mean ``pearson`` of change
        over the held-out conditions, its 95 % interval ``low``, ``high`` over conditions (they share their controls,
        which it cannot show) and ``draw_sd``, the standard deviation of the mean over draws of the held-out controls;
        ``expected``, the mean without any effect; ``halves``, the mean Pearson of change between two halves of the
        cells of a condition, each against a half of the controls of its own, with its interval (the same in both rows;
        NaN below 20 cells); the numbers of conditions and the medians of cells, controls (of the truth) and training
        conditions. :func:`shared_control_verdict` puts it in words.

    Raises
    ------
    DataError, MissingKeyError
        As :func:`scperturb_modules.pp.split` and :func:`scperturb_modules.pp.pseudobulk`.

    Notes
    -----
    Without any effect and with equal variance per gene, ``n_p`` cells per condition, ``n_c`` controls and ``m``
    training conditions, the training mean reaches
    ``(1/n_c) / sqrt((1/n_c + 1/(n_p m)) (1/n_c + 1/n_p))`` under the published protocol, and 0 under the strict one.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate(preset="tiny", seed=0)
    >>> spm.tl.shared_control_trap(adata, n_folds=3, n_draws=2, n_boot=200)["protocol"].tolist()
    ['published', 'strict']
    """
    setup = keys.ScreenKeys(perturbation_key, control, layer, batch_key, cell_type_key)
    screen = light_copy(adata)
    if keys.SPLIT in screen.obs:
        del screen.obs[keys.SPLIT]
    halves = _halves(screen, setup, n_boot=n_boot, seed=seed)
    lines = []
    for protocol in HELD_OUT:
        draws = range(seed, seed + (1 if protocol == PUBLISHED else n_draws))
        scores = pd.concat(
            [_scores(screen, setup, protocol, scheme, n_folds, draw).assign(draw=draw) for draw in draws]
        )
        rows = scores.groupby("row", sort=True)[["value", "expected"]].mean()
        mean = mean_interval(rows["value"], _conditions(rows.index), n_boot=n_boot, seed=seed)
        lines.append(
            {
                "protocol": protocol, "predictor": baselines.MeanShift.__name__,
                "pearson": mean.value, "low": mean.low, "high": mean.high,
                "draw_sd": scores.groupby("draw")["value"].mean().std(ddof=1),
                "expected": rows["expected"].mean(),
                "halves": halves.value, "halves_low": halves.low, "halves_high": halves.high, "n_conditions": len(rows),
                **scores[["n_cells", "n_controls", "n_training"]].median().astype(int),
            }
        )  # fmt: skip
    return pd.DataFrame(lines, columns=COLUMNS)


def shared_control_verdict(table: pd.DataFrame) -> str:
    """What :func:`shared_control_trap` found, in one sentence.

    Correlations say nothing where a prediction without any knowledge of the gene scores more, by shared controls, than
    one half of the data says of the other.

    >>> row = {"pearson": [0.78, 0.03], "expected": [0.76, 0.0], "halves": 0.11}
    >>> print(shared_control_verdict(pd.DataFrame(row, index=["published", "strict"]).rename_axis("protocol")))
    On these data the training mean scores 0.78 against shared controls (their noise alone, without any effect, \
would give 0.76) and 0.03 against held-out ones; two halves of the data agree by 0.11: correlations say nothing here.
    """
    rows = table if table.index.name == "protocol" else table.set_index("protocol")
    (published, strict), halves = rows["pearson"].loc[list(HELD_OUT)], rows["halves"].iloc[0]
    expected = rows["expected"].loc[PUBLISHED]
    if np.isnan(halves):
        end = NO_HALVES
    elif published > halves:
        end = NOTHING
    else:
        end = HELD_OUT_ONLY if published - strict > MATTERS else HARMLESS
    return SCORES.format(published=published, expected=expected, strict=strict, halves=halves) + end


def expected_pearson(n_cells: Any, n_controls: Any, training_noise: Any) -> Any:
    """Pearson of change that the training mean reaches from shared control noise alone.

    Parameters
    ----------
    n_cells, n_controls
        Cells behind a condition and behind its control.
    training_noise
        Variance of the mean over the training conditions, in units of that of a cell: ``1 / (n_p m)`` for ``m``
        conditions of ``n_p`` cells.

    >>> round(float(expected_pearson(50, 50, 1 / (50 * 20))), 3)
    0.69
    """
    shared = 1.0 / n_controls
    return shared / np.sqrt((shared + training_noise) * (shared + 1.0 / n_cells))


def _scores(
    screen: AnnData, setup: keys.ScreenKeys, protocol: str, scheme: str, n_folds: int, seed: int
) -> pd.DataFrame:
    """A line per held-out row: its score, what is expected of it, and the numbers behind."""
    parts = []
    for fold in range(n_folds):
        columns = {name: value for name, value in vars(setup).items() if name != "layer"}
        pp.split(
            screen, scheme, seed=seed, n_folds=n_folds, fold=fold, holdout_controls=HELD_OUT[protocol], overwrite=True,
            **columns,
        )  # fmt: skip
        truth = pp.pseudobulk(screen, **vars(setup))
        model = baselines.MeanShift(pp.pseudobulk(screen, **vars(setup), cells="training"))
        model.train()
        tested = truth.obs_names[truth.obs[keys.SPLIT] == keys.TEST]
        frame = evaluate(model.predict(list(tested)), truth, metrics=[METRIC])
        facts = _facts(truth, is_strict=protocol != PUBLISHED)
        names = [row_name(c, context or None) for c, context in zip(frame["condition"], frame["stratum"], strict=True)]
        parts.append(facts.loc[names].assign(value=frame["value"].to_numpy(), row=names))
    return pd.concat(parts, ignore_index=True)


def _facts(truth: AnnData, *, is_strict: bool) -> pd.DataFrame:
    """Of each row: cells, controls, training conditions of its context, and the score expected without any effect."""
    obs = truth.obs
    contexts = pd.Series([parse_row_name(name)[1] or "" for name in obs.index], index=obs.index)
    training = obs[keys.SPLIT] != keys.TEST
    noise = (1.0 / obs.loc[training, keys.N_CELLS]).groupby(contexts[training]).agg(["sum", "size"])
    by_row = noise.reindex(contexts).set_axis(obs.index)
    variance = by_row["sum"] / by_row["size"] ** 2
    expected = 0.0 if is_strict else expected_pearson(obs[keys.N_CELLS], obs[keys.N_CONTROLS], variance)
    return pd.DataFrame(
        {
            "n_cells": obs[keys.N_CELLS],
            "n_controls": obs[keys.N_CONTROLS],
            "n_training": by_row["size"].fillna(0),
            "expected": expected,
        }
    )


def _halves(screen: AnnData, setup: keys.ScreenKeys, *, n_boot: int, seed: int) -> Interval:
    """Mean Pearson of change between halves of cells and controls, over conditions."""
    truth = pp.pseudobulk(screen, **vars(setup))
    rows = list(truth.obs_names[truth.obs[keys.N_CELLS] >= MIN_HALVED])
    if not rows:
        return mean_interval([np.nan], n_boot=n_boot, seed=seed)
    found = [
        [pearson(left, right)[0] for left, right in zip(*(half.layers[keys.DELTA] for half in pair), strict=True)]
        for pair in baselines.replicate_halves(screen, rows, **vars(setup), seed=seed)
    ]
    return mean_interval(np.mean(found, axis=0), _conditions(rows), n_boot=n_boot, seed=seed)


def _conditions(rows: Iterable[str]) -> list[str]:
    return [parse_row_name(str(name))[0] for name in rows]
