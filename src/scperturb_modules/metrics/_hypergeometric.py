"""The hypergeometric test for many sizes at once: how likely two groups of genes share so many by chance."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln

Array: TypeAlias = NDArray[np.float64]
Index: TypeAlias = NDArray[np.intp]


def log_upper_tail(n: int, n_drawn: Index, n_marked: Index) -> Array:
    """Log of the chance that x or more of the genes drawn are marked, for all sizes at once.

    Parameters
    ----------
    n
        All genes.
    n_drawn, n_marked
        (A,) and (B,) sizes of programs and of sets.

    Returns
    -------
    ndarray
        (A, B, 1 + largest x) float64; ``-inf`` where it cannot happen.

    Examples
    --------
    >>> import numpy as np
    >>> np.exp(log_upper_tail(4, np.array([2]), np.array([2]))).round(3).tolist()
    [[[1.0, 0.833, 0.167]]]
    """
    most = int(min(n_drawn.max(), n_marked.max()))
    drawn, marked, x = n_drawn[:, None, None], n_marked[None, :, None], np.arange(most + 1)
    possible = (x <= drawn) & (x <= marked) & (drawn - x <= n - marked)

    def log_choose(whole: NDArray[np.intp] | int, part: Index) -> Array:
        part = np.clip(part, 0, whole)
        return np.asarray(gammaln(whole + 1.0) - gammaln(part + 1.0) - gammaln(whole - part + 1.0))

    log_mass = log_choose(marked, x) + log_choose(n - marked, drawn - x) - log_choose(n, drawn)
    log_mass = np.where(possible, log_mass, -np.inf)
    tail = np.logaddexp.accumulate(log_mass[..., ::-1], axis=-1)[..., ::-1]
    return np.minimum(tail, 0.0)
