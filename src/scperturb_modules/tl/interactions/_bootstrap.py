"""How far the scores of a genetic interaction would move with other cells."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError
from scperturb_modules.pp._contrast import Contrast, contrast
from scperturb_modules.tl.interactions._pairs import Pairs, setup_of
from scperturb_modules.tl.interactions._scores import BOUNDS

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]
Score = Callable[..., Array]
"""From (D, 3, m) changes to (D, S) scores; takes ``max_gene_pairs=`` too."""

REPEAT_PAIRS = 20_000
"""Pairs of genes that the slopes of a repeat come from: ends of intervals move by less than 0.01 (100 cells)."""

_SAME = 1e-4
"""Changes of one screen, averaged in float32 and in float64, differ by no more."""


def score_intervals(
    cells: Contrast, pairs: Pairs, score: Score, *, n_boot: int, ci: float, rng: np.random.Generator
) -> Array:
    """(2, D, S) lower and upper ends of the intervals of all scores, from cells drawn anew within every condition.

    Notes
    -----
    Noise of the singles shrinks the slopes, and cells drawn from the cells are noisier than these: the mean of the
    repeats lies about as far from the observed score as that from a score without noise. The interval wanted is one
    for the score to be expected *from so many cells*. The observed score estimates this without bias; so the quantiles
    of the repeats are moved by the observed score minus the mean of the repeats, and cut to the range of the score.
    """
    complete = pairs.is_complete
    observed = score(pairs.of_pairs(cells.changes())[complete])
    resampled = (pairs.of_pairs(cells.resample(rng))[complete] for _ in range(n_boot))
    repeats = np.stack([score(changes, max_gene_pairs=REPEAT_PAIRS) for changes in resampled])
    tail = (1 - ci) / 2
    ends = np.quantile(repeats, [tail, 1 - tail], axis=0) + observed - repeats.mean(axis=0)
    intervals = np.full((2, len(complete), ends.shape[2]), np.nan)
    intervals[:, complete] = np.clip(ends, *BOUNDS[:, None])
    return intervals


def cells_of(data: AnnData, layer: str | None, cells: AnnData, pairs: Pairs, genes: list[str]) -> Contrast:
    """The cells behind the changes of ``data``; a DataError where they are not.

    Parameters
    ----------
    data
        A pseudobulk.
    layer
        With its changes.
    cells
        The screen that it was made of.
    pairs, genes
        What is scored.
    """
    if keys.PSEUDOBULK not in data.uns.get(keys.ROOT, {}):
        raise DataError("cells are for a measured pseudobulk, and data is none; leave cells= out.")
    found = contrast(cells, setup_of(data), pairs.rows, genes)
    if not np.allclose(found.changes(), pairs.values(layer, genes), atol=_SAME):
        raise DataError(
            "The changes of data are not those of cells: pass the screen that data was made of by "
            "spm.pp.pseudobulk(cells), with the layer delta."
        )
    return found
