"""Everything about the truth that scoring needs: worked out once per split, used for every predictor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules import metrics
from scperturb_modules._conditions import Row, genes_of, parse_row_name, regimes_of
from scperturb_modules._errors import DataError, name_some, require_key
from scperturb_modules.pp._affected import welch
from scperturb_modules.tl._others import Others, others_of

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]
Index = NDArray[np.intp]

PUBLISHED = "published"


@dataclass(frozen=True)
class Yardstick:
    """What P conditions are scored against; G genes.

    Attributes
    ----------
    names, rows
        Name, and condition and context, of each scored row, sorted by name.
    genes
        The perturbed genes of each row.
    var_names
        The G genes.
    regimes
        How much of each condition was seen in training.
    statuses
        ``ok`` or ``control_unmatched``.
    n_cells, n_controls
        (P,) cells behind the truth and behind its control.
    mean
        (P, G) mean expression.
    difference
        (P, G) mean minus training controls: for errors, in which the control cancels.
    change
        (P, G) mean minus controls that no predictor has seen: for correlations, directions and sizes.
    se2, se2_control
        (P, G) squared standard error of ``change``, and the control's part of it.
    detection
        (P, G) share of cells in which a gene is seen.
    center
        (P, G) mean of ``difference`` over the training conditions of the row's context; NaN where it has none.
    se2_pooled
        (P, G) mean squared standard error over the same conditions; over the scored rows where there are none.
    control_mean
        (P, G) training controls of the row's context.
    protocol
        ``strict`` or ``published``.
    measured
        The pseudobulk that all this was read from, for what few metrics need: the rows that are not scored.
    """

    names: tuple[str, ...]
    rows: tuple[Row, ...]
    genes: tuple[tuple[str, ...], ...]
    var_names: tuple[str, ...]
    regimes: tuple[str, ...]
    statuses: tuple[str, ...]
    n_cells: NDArray[np.int64]
    n_controls: NDArray[np.int64]
    mean: Array
    difference: Array
    change: Array
    se2: Array
    se2_control: Array
    detection: Array
    center: Array
    se2_pooled: Array
    control_mean: Array
    protocol: str
    measured: AnnData

    @property
    def contexts(self) -> tuple[str, ...]:
        """Context of each row; ``""`` where the screen has one only."""
        return tuple(context or "" for _, context in self.rows)

    @cached_property
    def noise(self) -> Array:
        """(P, G) squared standard error of the perturbed cells' mean."""
        return self.se2 - self.se2_control

    @cached_property
    def targets(self) -> tuple[Index, ...]:
        """Columns of the perturbed genes of each row, as far as they are measured."""
        column = {gene: i for i, gene in enumerate(self.var_names)}
        return tuple(np.array([column[gene] for gene in some if gene in column], dtype=np.intp) for some in self.genes)

    @cached_property
    def top(self) -> tuple[Index, ...]:
        """Columns of the genes highest in training controls, for each row."""
        by_context = {}
        for context, mean in zip(self.contexts, self.control_mean, strict=True):
            if context not in by_context:
                by_context[context] = metrics.top_genes(mean, self.var_names)
        return tuple(by_context[context] for context in self.contexts)

    @cached_property
    def welch(self) -> tuple[Array, Array]:
        """(P, G) Welch t of perturbed cells against controls, and its two-sided p; NaN for a condition of one cell."""
        t, _, p = welch(self.change, self.se2, self.se2_control, self.n_cells[:, None], self.n_controls[:, None])
        return t, p

    @cached_property
    def de(self) -> tuple[Index, ...]:
        """Columns of the most changed genes of each row."""
        t, _ = self.welch
        lots = zip(t, self.detection, self._never_called, strict=True)
        return tuple(metrics.de_genes(row, seen, exclude) for row, seen, exclude in lots)

    @cached_property
    def significant(self) -> tuple[tuple[NDArray[np.bool_], NDArray[np.bool_]], ...]:
        """(G,) masks of the significantly changed and of the tested genes of each row."""
        _, p = self.welch
        lots = zip(p, self.detection, self._never_called, strict=True)
        return tuple(metrics.significant_genes(row, seen, exclude) for row, seen, exclude in lots)

    @cached_property
    def others(self) -> Others:
        """The mean of all other perturbed cells of the row's context, training and test, for each row."""
        return others_of(self.measured, self.rows)

    @cached_property
    def welch_others(self) -> tuple[Array, Array]:
        """(P, G) Welch t of perturbed cells against all others, and its p; NaN where a side is no more than a cell."""
        rest = self.others
        t, _, p = welch(self.mean - rest.mean, self.noise + rest.se2, rest.se2, self.n_cells[:, None], rest.n[:, None])
        return t, p

    @cached_property
    def weights(self) -> Array:
        """(P, G) weights of the genes by how they tell the row from all other perturbed cells; NaN where unknown."""
        t, _ = self.welch_others
        weights = np.array([metrics.effect_weights(row) for row in t])
        weights[np.isnan(t).all(axis=1)] = np.nan
        return weights

    @cached_property
    def significant_others(self) -> tuple[tuple[NDArray[np.bool_], NDArray[np.bool_]], ...]:
        """As ``significant``, against all other perturbed cells."""
        _, p = self.welch_others
        seen = np.maximum(self.detection, self.others.detection)
        lots = zip(p, seen, self._never_called, strict=True)
        return tuple(metrics.significant_genes(row, some, exclude) for row, some, exclude in lots)

    @property
    def _never_called(self) -> tuple[Index, ...]:
        # the published protocol counts the target's own change as found
        none = np.array([], dtype=np.intp)
        return self.targets if self.protocol != PUBLISHED else (none,) * len(self.names)

    @cached_property
    def effect_norm(self) -> Array:
        """(P,) norm of the true change over the top genes."""
        return np.array([np.linalg.norm(row[top]) for row, top in zip(self.change, self.top, strict=True)])

    @cached_property
    def snr(self) -> Array:
        """(P,) ``effect_norm`` over the norm of its standard errors; NaN for a condition of one cell."""
        noise = np.array([np.sqrt(row[top].sum()) for row, top in zip(self.se2, self.top, strict=True)])
        return np.divide(self.effect_norm, noise, out=np.full_like(noise, np.nan), where=noise > 0)


def yardstick(truth: AnnData, names: Sequence[str] | None = None) -> Yardstick:
    """Read a pseudobulk of all cells.

    Parameters
    ----------
    truth
        Made by ``spm.pp.pseudobulk(adata)``, with all rows.
    names
        Rows to score where the truth has no split (unknown ones are left out); None scores all. With a split the
        test rows are scored.

    Raises
    ------
    DataError
        Not a pseudobulk of all cells, or no row to score.
    """
    record = truth.uns.get(keys.ROOT, {}).get(keys.PSEUDOBULK)
    if record is None or str(record["cells"]) != "all":
        raise DataError("truth is no pseudobulk of all cells; make it by spm.pp.pseudobulk(adata).")
    for layer in (keys.DELTA, keys.CONTROL_TRAIN, keys.SE2, keys.SE2_CONTROL, keys.DETECTION):
        require_key(layer, truth.layers, "layers of truth")
    setup = keys.ScreenKeys.from_uns(truth.uns[keys.ROOT][keys.SETUP])
    all_names = np.array(truth.obs_names, dtype=object)
    all_rows = [parse_row_name(str(name)) for name in all_names]
    is_test, is_training = _parts(truth, names)
    scored = np.flatnonzero(is_test)
    if not len(scored):
        raise DataError(f"No condition to score: {_why_none(truth, names)}.")
    training = {all_rows[i] for i in np.flatnonzero(is_training)}
    rows = tuple(all_rows[i] for i in scored)
    difference = np.asarray(truth.X, dtype=np.float64) - _layer(truth, keys.CONTROL_TRAIN)
    se2 = _layer(truth, keys.SE2)
    same_context = np.array([[other[1] == row[1] for other in all_rows] for row in rows]) & is_training
    contexts = [str(context) for context in record["contexts"]]
    control_mean = np.asarray(truth.varm[keys.CONTROL_MEAN], dtype=np.float64)
    return Yardstick(
        names=tuple(map(str, all_names[scored])),
        rows=rows,
        genes=tuple(genes_of(condition, control=setup.control) for condition, _ in rows),
        var_names=tuple(map(str, truth.var_names)),
        regimes=tuple(regimes_of(rows, training, control=setup.control)),
        statuses=tuple(truth.obs[keys.STATUS].astype(str).iloc[scored]),
        n_cells=truth.obs[keys.N_CELLS].to_numpy(dtype=np.int64)[scored],
        n_controls=truth.obs[keys.N_CONTROLS].to_numpy(dtype=np.int64)[scored],
        mean=np.asarray(truth.X, dtype=np.float64)[scored],
        difference=difference[scored],
        change=_layer(truth, keys.DELTA)[scored],
        se2=se2[scored],
        se2_control=_layer(truth, keys.SE2_CONTROL)[scored],
        detection=_layer(truth, keys.DETECTION)[scored],
        center=_means(difference, same_context),
        se2_pooled=np.nan_to_num(_means(se2, np.where(same_context.any(1, keepdims=True), same_context, is_test))),
        control_mean=control_mean.T[[contexts.index(context or "") for _, context in rows]],
        protocol=str(record["protocol"]),
        measured=truth,
    )


def _layer(truth: AnnData, key: str) -> Array:
    return np.asarray(truth.layers[key], dtype=np.float64)


def _parts(truth: AnnData, names: Sequence[str] | None) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which rows are scored and which were trained on; without a split every row is both."""
    if keys.SPLIT in truth.obs:
        is_test = truth.obs[keys.SPLIT].astype(str).to_numpy() == keys.TEST
        return is_test, ~is_test
    asked = np.ones(truth.n_obs, dtype=bool) if names is None else truth.obs_names.isin(list(names))
    return asked, np.ones(truth.n_obs, dtype=bool)


def _why_none(truth: AnnData, names: Sequence[str] | None) -> str:
    if keys.SPLIT in truth.obs:
        return "truth has no row in the test part (obs['split'])"
    if not names:
        return "there is no row"
    measured = name_some(truth.obs_names)
    return f"none of the {len(names)} predicted rows ({name_some(names)}) is among the measured ones ({measured})"


def _means(values: Array, chosen: NDArray[np.bool_]) -> Array:
    """(P, G) mean of the chosen rows of ``values`` for each of P rows of ``chosen``; equal choices once."""
    means = np.full((len(chosen), values.shape[1]), np.nan)
    patterns, which = np.unique(chosen, axis=0, return_inverse=True)
    for i, pattern in enumerate(patterns):
        if pattern.any():
            part = values[pattern]
            known = ~np.isnan(part).any(axis=1)
            if known.any():
                means[which.ravel() == i] = part[known].mean(axis=0)
    return means
