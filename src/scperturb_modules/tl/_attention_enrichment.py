"""Whether a model attends to the genes it should: attention in gene sets, against models of permuted networks."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from scperturb_modules._errors import ScreenWarning
from scperturb_modules.tl._attention_sets import (
    By,
    GeneSets,
    Matrix,
    aligned,
    attention_table,
    cut,
    perturbed_mask,
    resolve_sets,
)
from scperturb_modules.tl._frame import ALL_CONDITIONS

if TYPE_CHECKING:
    from anndata import AnnData

MIN_NULL = 3
"""From fewer permuted networks no standard deviation is estimated."""

OK, NO_GENES, ALL_GENES, NO_ATTENTION = "ok", "no_genes", "all_genes", "no_attention"
FEW_NULL, CONSTANT_NULL = "few_null", "constant_null"

_NOTHING = 1e-6
"""A condition whose attention outside its own genes is below this has no attention to test (float32 weights)."""
_TIE = 1e-12
"""Rounding must not decide whether a null reaches the observed value."""


def attention_enrichment(
    attention: AnnData | pd.DataFrame,
    null: Sequence[AnnData | pd.DataFrame],
    gene_sets: pd.DataFrame | Mapping[str, Iterable[str]],
    *,
    by: By | None = None,
    n_top: int | None = None,
) -> pd.DataFrame:
    """Compare the attention inside gene sets with that of models fitted on label-permuted networks.

    A model may attend to well-connected genes whatever they are. The null models see the same network with its genes
    relabelled at random, so what they reach is owed to the shape of the network alone; only what the model has beyond
    them speaks for the genes.

    Parameters
    ----------
    attention
        A Prediction with attention, or the conditions x nodes table itself: weights that sum to 1 in each row, or to
        less where only the top nodes are kept and the others are 0.
    null
        The same of models fitted on networks with permuted labels, one per permutation, with the same conditions and
        nodes. With fewer than 3 there is no ``z`` (NaN, status ``few_null``, and a warning).
    gene_sets
        What ``by`` says:

        - ``"neighbours"``: a table of edges with columns ``source`` and ``target`` (directions are ignored); each
          condition is tested with the network neighbours of its genes. A table needs no ``by``.
        - ``"condition"``: a mapping from conditions (``A+B`` or ``A+B|context``) to their genes, for example the
          genes that truly respond.
        - ``"set"``: a mapping from names of sets to genes, for example pathways; every condition is tested with
          every set.
    by
        Which of the three; must be given with a mapping, because names alone do not tell.
    n_top
        Keep only so many nodes of each condition (and ties with the last) and take the others as 0, in the attention
        and in the null; None keeps all. Needed where some of the tables were stored cut and others whole.

    Returns
    -------
    DataFrame
        A row per condition and set, then per set one with condition ``"__all__"``, the mean over its conditions:

        - ``condition``, ``set`` (``"neighbours"`` or ``"condition"`` where each condition has its own)
        - ``n_conditions``: 1; in ``__all__`` how many conditions could be tested
        - ``n_genes``: nodes in the set without the perturbed genes (summed in ``__all__``); ``n_absent``: genes of the
          set that are no node
        - ``mass``: share of attention in the set; ``null_mass_mean``, ``null_mass_sd``, ``z``: the same of the null,
          and how many of its standard deviations (over networks) the mass lies above it
        - ``fold``: ``mass`` over the set's share of the nodes; 1 is even attention
        - ``auroc``, ``null_auroc_mean``: how well attention ranks members above others; 0.5 is chance
        - ``p_value``, ``p_auroc``: one-sided, of mass and AUROC; at least ``1 / (1 + n_null)``, not corrected for the
          number of tests
        - ``status``: ``ok``; ``no_genes``, ``all_genes`` or ``no_attention`` (nothing to test: NaN); ``few_null`` or
          ``constant_null`` (no ``z``)

    Raises
    ------
    MissingKeyError
        A Prediction without attention, or a mapping that names none of the conditions.
    DataError
        Weights that are no attention; nulls of other conditions or nodes; tables cut differently.
    ValueError
        ``by`` is missing or does not fit ``gene_sets``.

    Notes
    -----
    The perturbed genes P themselves are left out of nodes and sets: a model may attend to them whatever the network
    says. With ``a`` the weights, ``S`` the set, ``U`` all nodes but P, and ``r`` the ranks of ``a`` in U (ties
    averaged)::

        mass  = sum(a[S]) / (1 - sum(a[P]))
        fold  = mass / (|S| / |U|)
        auroc = (sum(r[S]) - |S| (|S| + 1) / 2) / (|S| (|U| - |S|))
        z     = (mass - mean(null masses)) / sd(null masses)
        p     = (1 + number of nulls that reach the observed value) / (1 + number of nulls)

    In ``__all__`` the mean over conditions is taken in each network first (``fold``: of the mean mass and the mean
    share), so ``z`` and ``p`` compare networks, not conditions. Where tables are cut, ``mass`` is a lower bound, and
    ties at 0 move ``auroc`` towards 0.5.

    Attention weights are no proof of regulation: a model can attend to a gene without using it, and different weights
    can give equal predictions (Jain and Wallace 2019, "Attention is not Explanation"). Enrichment says that attention
    agrees with the sets better than chance, not that these genes carry the effect.

    Examples
    --------
    >>> import pandas as pd, scperturb_modules as spm
    >>> genes = ["A", "B", "C", "D", "E"]
    >>> attention = pd.DataFrame([[0.2, 0.5, 0.1, 0.1, 0.1]], index=["A"], columns=genes)
    >>> null = [attention[order].set_axis(genes, axis=1) for order in (list("ACBDE"), list("ADCBE"), list("ACDEB"))]
    >>> edges = pd.DataFrame({"source": ["A"], "target": ["B"]})
    >>> table = spm.tl.attention_enrichment(attention, null, edges)
    >>> table[["mass", "fold", "auroc", "p_value"]].iloc[0].round(3).tolist()
    [0.625, 2.5, 1.0, 0.25]
    """
    if isinstance(null, pd.DataFrame) or hasattr(null, "uns"):
        raise ValueError("null is one table; give a list of them, one per permuted network.")
    observed = attention_table(attention, "the attention")
    others = [attention_table(source, f"null[{i}]") for i, source in enumerate(null)]
    values, *null_values = cut([observed, *aligned(others, observed)], n_top)
    if len(others) < MIN_NULL:
        warnings.warn(
            f"{len(others)} permuted networks give no z; fit models on at least {MIN_NULL} networks with permuted "
            "labels, each with another seed.",
            ScreenWarning,
            stacklevel=2,
        )
    sets = resolve_sets(gene_sets, by, observed.index, observed.columns)
    design = _Design.of(~perturbed_mask(observed.index, observed.columns), sets)
    expected = [_scores(table, design) for table in null_values]
    return _table(observed.index, design, _scores(values, design), expected)


@dataclass(frozen=True)
class _Design:
    """What does not depend on attention: nodes that count per condition (P, N), and sizes of the sets in them."""

    sets: GeneSets
    universe: NDArray[np.bool_]
    n_in: Matrix
    """(P, S)"""
    n_all: Matrix
    """(P, 1)"""

    @classmethod
    def of(cls, universe: NDArray[np.bool_], sets: GeneSets) -> _Design:
        return cls(sets, universe, sets.sums(universe.astype(np.float64)), universe.sum(axis=1, keepdims=True) * 1.0)

    @property
    def share(self) -> Matrix:
        return np.divide(self.n_in, self.n_all, out=np.zeros_like(self.n_in), where=self.n_all > 0)


@dataclass(frozen=True)
class _Scores:
    """(P, S) each; NaN where there is nothing to test."""

    mass: Matrix
    auroc: Matrix

    def mean_of(self, tested: NDArray[np.bool_]) -> _Scores:
        """(1, S) mean over the conditions that can be tested; NaN where there is none."""
        n = tested.sum(axis=0)
        unknown = np.full(len(n), np.nan)
        totals = [np.where(tested, values, 0.0).sum(axis=0) for values in (self.mass, self.auroc)]
        mass, auroc = (np.divide(total, n, out=unknown.copy(), where=n > 0)[None, :] for total in totals)
        return _Scores(mass, auroc)


def _scores(values: Matrix, design: _Design) -> _Scores:
    n_in, n_all = design.n_in, design.n_all
    outside = np.where(design.universe, values, 0.0)
    rest = np.broadcast_to(1.0 - (values - outside).sum(axis=1, keepdims=True), n_in.shape)
    attends = (rest > _NOTHING) & values.any(axis=1, keepdims=True)
    testable = (n_in > 0) & (n_in < n_all) & attends
    ranks = np.zeros_like(values)
    for line, row, inside in zip(ranks, values, design.universe, strict=True):
        line[inside] = rankdata(row[inside])
    wins = design.sets.sums(ranks) - n_in * (n_in + 1) / 2
    unknown = np.full(n_in.shape, np.nan)
    mass = np.divide(design.sets.sums(outside), rest, out=unknown.copy(), where=testable)
    return _Scores(mass, np.divide(wins, n_in * (n_all - n_in), out=unknown, where=testable))


def _table(rows: pd.Index, design: _Design, found: _Scores, expected: Sequence[_Scores]) -> pd.DataFrame:
    """A line per condition and set, then the means over conditions."""
    sets, n_in = design.sets, design.n_in
    tested = np.isfinite(found.mass)
    absent = sets.absent[:, None] if sets.own else sets.absent[None, :]
    lines = pd.DataFrame(
        {
            "condition": np.repeat(rows.astype(str).to_numpy(dtype=object), len(sets.names)),
            "set": np.tile(np.array(sets.names, dtype=object), len(rows)),
            "n_conditions": 1,
            "n_genes": n_in.astype(np.int64).ravel(),
            "n_absent": np.broadcast_to(absent, n_in.shape).ravel(),
        }
    )
    totals = pd.DataFrame(
        {
            "condition": ALL_CONDITIONS,
            "set": np.array(sets.names, dtype=object),
            "n_conditions": tested.sum(axis=0),
            "n_genes": np.where(tested, n_in, 0.0).sum(axis=0).astype(np.int64),
            "n_absent": absent.sum(axis=0),
        }
    )
    nothing = np.where(n_in == 0, NO_GENES, np.where(n_in == design.n_all, ALL_GENES, NO_ATTENTION)).astype(object)
    lines = _with_statistics(lines, found, expected, design.share, nothing)
    share = _Scores(design.share, design.share).mean_of(tested).mass
    means = [one.mean_of(tested) for one in expected]
    totals = _with_statistics(totals, found.mean_of(tested), means, share, nothing[:1])
    return pd.concat([lines, totals], ignore_index=True)


def _with_statistics(
    lines: pd.DataFrame, found: _Scores, expected: Sequence[_Scores], share: Matrix, nothing: NDArray[np.object_]
) -> pd.DataFrame:
    mass, auroc = found.mass.ravel(), found.auroc.ravel()
    null_mass = np.array([one.mass.ravel() for one in expected]).reshape(len(expected), len(mass))
    null_auroc = np.array([one.auroc.ravel() for one in expected]).reshape(len(expected), len(mass))
    unknown = np.full(len(mass), np.nan)
    center = null_mass.mean(axis=0) if len(expected) else unknown
    spread = null_mass.std(axis=0, ddof=1) if len(expected) >= MIN_NULL else unknown
    usable = spread > _TIE  # False where it is NaN
    status = np.where(spread <= _TIE, CONSTANT_NULL, OK).astype(object)
    if len(expected) < MIN_NULL:
        status[:] = FEW_NULL
    return lines.assign(
        mass=mass,
        null_mass_mean=center,
        null_mass_sd=spread,
        z=np.divide(mass - center, spread, out=unknown.copy(), where=usable),
        fold=np.divide(mass, share.ravel(), out=unknown.copy(), where=share.ravel() > 0),
        auroc=auroc,
        null_auroc_mean=null_auroc.mean(axis=0) if len(expected) else unknown,
        p_value=_p_value(mass, null_mass),
        p_auroc=_p_value(auroc, null_auroc),
        status=np.where(np.isfinite(mass), status, nothing.ravel()),
    )


def _p_value(observed: Matrix, null: Matrix) -> Matrix:
    """Share of permuted networks that reach the observed value, the observed one counted among them."""
    if not len(null):
        return np.full(len(observed), np.nan)
    reached = (null >= observed - _TIE).sum(axis=0)
    return np.where(np.isfinite(observed) & np.isfinite(null).all(axis=0), (1 + reached) / (1 + len(null)), np.nan)
