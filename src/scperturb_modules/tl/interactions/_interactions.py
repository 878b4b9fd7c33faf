"""Genetic interactions: how the change of a pair differs from the sum of the changes of its two genes."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError
from scperturb_modules.pp._affected import welch
from scperturb_modules.tl.interactions._bootstrap import cells_of, score_intervals
from scperturb_modules.tl.interactions._classes import Thresholds, classify, is_firm, resolve_thresholds
from scperturb_modules.tl.interactions._genes import choose_genes
from scperturb_modules.tl.interactions._noise import Noise, noise_of, noisy_scores, unmeasured
from scperturb_modules.tl.interactions._pairs import Pairs, find_pairs, values_of
from scperturb_modules.tl.interactions._scores import SCORES, Array, as_table, interaction_scores

if TYPE_CHECKING:
    from anndata import AnnData

OK = "ok"
MIN_CHANGED, CHANGED_FDR = 10, 0.001
"""A measured pair with so few changed genes at this false discovery rate gets no class."""


def genetic_interactions(
    data: AnnData,
    *,
    pairs: Iterable[str] | None = None,
    singles: AnnData | None = None,
    genes: Iterable[str] | None = None,
    layer: str | None = keys.DELTA,
    thresholds: str | Thresholds = "norman",
    noise: AnnData | None = None,
    n_repeats: int = 20,
    cells: AnnData | None = None,
    n_boot: int = 200,
    ci: float = 0.9,
    seed: int = 0,
) -> pd.DataFrame:
    """Score and classify the genetic interaction of every pair of perturbed genes.

    With a, b and y the changes of A, of B and of both over the same genes, slopes ``y = c1 a + c2 b`` are fitted by
    Theil-Sen without intercept, and the scores of Norman et al. (2019) follow. It works alike on a measured
    pseudobulk, on a Prediction and on any other table of changes.

    Parameters
    ----------
    data
        Conditions x features; rows are named ``A+B`` or ``A+B|context``.
    pairs
        Names of pairs, in every context or with one (``A+B|context``); None scores all.
    singles
        Another such table, for singles that ``data`` lacks. A single must be of the pair's own context.
    genes
        Over which genes. None: of those that no row of ``data``, ``singles`` and ``noise`` perturbs, the 1,000 highest
        in ``var["control_mean"]``, or all where there is no such column. Norman et al. took those with a mean count
        above .5. Compare truth and prediction over the same genes: ``genes=table.attrs["genes"]``.
    layer
        With the changes (log1p CP10k against control); None: ``X``.
    thresholds
        ``"norman"``, ``"gears"``, or a mapping that replaces some of the former.
    noise
        The measured pseudobulk, for predictions. Noise of the singles shrinks measured slopes: an exactly additive
        pair has the magnitude 1.41 without noise and one near 1.0 on a usual screen. With this, Gaussian noise of the
        measured standard errors is added to the predicted changes, and the scores are averaged over ``n_repeats``
        draws. Rows measured against the same controls share the noise of these. Predictions that carry noise of their
        own, such as the sum of few measured cells, stay above the measured magnitudes.
    n_repeats
        Draws of that noise.
    cells
        The screen that ``data`` was made of, to get intervals by resampling cells.
    n_boot
        Resamples.
    ci
        Coverage of the intervals.
    seed
        Of every draw.

    Returns
    -------
    DataFrame
        A row per pair, named as in ``data``: ``perturbation``, ``cell_type`` (if there are contexts), ``gene_a``,
        ``gene_b``, the scores, a flag per class, ``label``, ``n_genes`` (compared) and ``status``. With ``cells``
        also ``<score>_lower`` and ``<score>_upper``, and ``firm``: the intervals of the scores that make the label lie
        wholly beyond their thresholds. ``attrs`` hold ``thresholds``, ``genes``, ``level``, ``n_boot``, ``noise``,
        ``seed`` and ``n_higher_order``, the number of conditions of three genes or more, which are not scored.

        ``status`` is ``ok``, or says why there is no label: ``missing: A`` (rows that are not there),
        ``no_noise: A`` (rows without a measured standard error), ``not_finite``, ``undefined: equality`` (scores that
        these changes do not have, as those of no change), or ``few_changed_genes: 7``, where ``layers["se2"]`` tells
        that at most ten genes of the pair are changed (Welch's test, Benjamini-Hochberg q < .001).

    Raises
    ------
    MissingKeyError
        A layer does not exist.
    DataError
        No pair; a gene or threshold that does not exist; ``noise`` for measured data, or ``cells`` of which ``data``
        was not made.

    Notes
    -----
    dcor is the distance correlation. Flags are not exclusive; ``label`` is the first class that holds.

    =================== ======================================== ===================== ===========================
    score               formula                                  class                 norman (gears)
    =================== ======================================== ===================== ===========================
    model_fit           dcor(c1 a + c2 b, y) (gears: Pearson)    1 neomorphic          < .73 (< .88), and
    magnitude           sqrt(c1^2 + c2^2)                                              magnitude < 1.3 (any)
    equality            min / max of dcor(a, y), dcor(b, y)      2 epistasis           < .34 (< .28)
    similarity          dcor((a, b), y)                          3 redundancy          > .84 (> .85), and
    singles_similarity  dcor(a, b)                                                     singles > .69 (any)
    magnitude                                                    4 synergy             > 1.15 (> 1.15)
    magnitude                                                    5 suppression         < .9 (< 1.0)
    dominance           absolute log10 of abs(c1) / abs(c2)
    residual            norm of y - a - b                        6 additive            no other
    =================== ======================================== ===================== ===========================

    Names of the thresholds: ``neomorphic_fit``, ``neomorphic_magnitude``, ``epistasis``, ``redundancy``,
    ``redundancy_singles``, ``synergy``, ``suppression``. Norman et al. named classes by hand; these cuts reproduce 78
    of 87 of their labels and were chosen on them. They fit measured data: on changes without noise, where an additive
    pair has the magnitude sqrt(2), use ``thresholds={"synergy": 1.5}`` or add ``noise``.

    Intervals are for the score expected of so many cells, not for one without noise. Cells drawn from cells carry
    their noise twice, which moves all scores; the percentile interval is moved back by that shift.

    References
    ----------
    Norman et al. (2019), Science 365, 786. Roohani, Huang and Leskovec (2024), Nature Biotechnology 42, 927 (GEARS).

    Examples
    --------
    >>> import anndata, numpy as np, scperturb_modules as spm
    >>> rng = np.random.default_rng(0)
    >>> a, b = rng.normal(size=(2, 50))
    >>> changes = anndata.AnnData(np.stack([a, b, 0.4 * a + 0.4 * b]))
    >>> changes.obs_names = ["A", "B", "A+B"]
    >>> spm.tl.genetic_interactions(changes, layer=None)[["c1", "c2", "label"]].round(6)
          c1   c2        label
    A+B  0.4  0.4  suppression
    """
    limits = resolve_thresholds(thresholds)
    _check(data, layer, noise, n_repeats, n_boot, ci)
    found = find_pairs(data, pairs, singles)
    chosen = choose_genes(genes, data=data, singles=singles, noise=noise, cells=cells)
    changes = found.values(layer, chosen)
    score = partial(interaction_scores, fit="pearson" if thresholds == "gears" else "distance", seed=seed)
    rng = np.random.default_rng(seed)
    if noise is None:
        added, scores = None, score(found.of_pairs(changes))
    else:
        added = noise_of(noise, found, chosen)
        scores = noisy_scores(added, found, changes, score, n_repeats=n_repeats, rng=rng)
    names = found.table()
    table = as_table(scores, names.index)
    status = _status(found, table, found.of_pairs(changes), added, _n_changed(data, layer, found, chosen))
    classes = classify(table, (status == OK).to_numpy(), limits)
    result = pd.concat([names, table, classes], axis=1).assign(n_genes=len(chosen), status=status)
    if cells is not None:
        screen = cells_of(data, layer, cells, found, chosen)
        low, high = score_intervals(screen, found, score, n_boot=n_boot, ci=ci, rng=rng)
        result = _with_intervals(result, low, high, limits)
    result.attrs = {
        "thresholds": limits,
        "genes": chosen,
        "level": ci,
        "n_boot": 0 if cells is None else n_boot,
        "noise": "none" if noise is None else "matched",
        "seed": seed,
        "n_higher_order": found.n_higher_order,
    }
    return result


def _check(data: AnnData, layer: str | None, noise: AnnData | None, n_repeats: int, n_boot: int, ci: float) -> None:
    if min(n_repeats, n_boot) < 1:
        raise ValueError(f"n_repeats={n_repeats} and n_boot={n_boot} must be at least 1.")
    if not 0 < ci < 1:
        raise ValueError(f"ci={ci}, but a coverage lies between 0 and 1, as .9 does.")
    if noise is not None and layer == keys.DELTA and keys.SE2 in data.layers:
        raise DataError("data was measured (it has layers['se2']) and is noisy already; noise= is for predictions.")


def _n_changed(data: AnnData, layer: str | None, pairs: Pairs, genes: list[str]) -> Array:
    """(D,) changed genes of each pair; infinite where no standard errors tell."""
    count = np.full(len(pairs.pairs), np.inf)
    if layer != keys.DELTA or keys.SE2 not in data.layers:
        return count
    own = pairs.sources[0][1]
    there = np.flatnonzero(pairs.index[:, 2] >= 0)
    at = own[pairs.index[there, 2]]
    count[there] = _changed(data, layer, at, genes).sum(axis=1)
    return count


def _changed(data: AnnData, layer: str, at: NDArray[np.intp], genes: list[str]) -> NDArray[np.bool_]:
    from scipy import stats

    change, se2 = (values_of(data, name, genes)[at] for name in (layer, keys.SE2))
    if keys.SE2_CONTROL in data.layers and {keys.N_CELLS, keys.N_CONTROLS} <= set(data.obs):
        n_cells, n_controls = (
            data.obs[key].to_numpy(dtype=np.float64)[at, None] for key in (keys.N_CELLS, keys.N_CONTROLS)
        )
        _, _, p = welch(change, se2, values_of(data, keys.SE2_CONTROL, genes)[at], n_cells, n_controls)
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            p = 2 * stats.norm.sf(np.abs(change) / np.sqrt(se2))
    p = np.nan_to_num(p, nan=1.0)  # a condition of one cell, or no change without any noise
    return np.asarray(stats.false_discovery_control(p, axis=1) < CHANGED_FDR)


def _status(pairs: Pairs, scores: pd.DataFrame, changes: Array, noise: Noise | None, n_changed: Array) -> pd.Series:
    """Why a pair has no class, the gravest reason first."""
    finite = np.all(np.isfinite(changes), axis=(1, 2))
    no_noise = [[] for _ in pairs.pairs] if noise is None else unmeasured(noise, pairs)
    undefined = [[name for name, is_nan in row.items() if is_nan] for row in scores.isna().to_dict("records")]

    def reason(i: int, missing: list[str]) -> str:
        if missing:
            return f"missing: {', '.join(missing)}"
        if not finite[i]:
            return "not_finite"
        if no_noise[i]:
            return f"no_noise: {', '.join(no_noise[i])}"
        if undefined[i]:
            return f"undefined: {', '.join(map(str, undefined[i]))}"
        if n_changed[i] <= MIN_CHANGED:
            return f"few_changed_genes: {int(n_changed[i])}"
        return OK

    return pd.Series([reason(i, missing) for i, missing in enumerate(pairs.missing)], index=scores.index, dtype=object)


def _with_intervals(table: pd.DataFrame, low: Array, high: Array, limits: dict[str, float]) -> pd.DataFrame:
    ends: dict[str, Any] = {}
    for i, score in enumerate(SCORES):
        ends |= {f"{score}_lower": low[:, i], f"{score}_upper": high[:, i]}
    result = table.assign(**ends)
    return result.assign(firm=is_firm(result, SCORES, limits))
