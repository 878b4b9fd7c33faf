"""The noise of measured changes, and predictions to which it is added."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scperturb_modules import _keys as keys
from scperturb_modules._conditions import row_name
from scperturb_modules._errors import require_key
from scperturb_modules.tl.interactions._pairs import Pairs, control_of, row_positions, values_of

if TYPE_CHECKING:
    from anndata import AnnData

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Noise:
    """Squared standard errors of R measured changes, taken apart; NaN for rows that are not there.

    Attributes
    ----------
    own
        (R, m) of the mean of the condition's own cells.
    control
        (R, m) of the mean of its controls; 0 where the two are not known apart.
    side
        (R,) rows of one number were measured against the same controls.
    """

    own: Array
    control: Array
    side: NDArray[np.intp]

    def draw(self, rng: np.random.Generator) -> Array:
        """(R, m) errors of a mean difference; those of the controls are common to a side."""
        n_sides = int(self.side.max(initial=0)) + 1
        of_control = rng.standard_normal((n_sides, self.own.shape[1]))[self.side]
        return np.sqrt(self.own) * rng.standard_normal(self.own.shape) - np.sqrt(self.control) * of_control


def noise_of(truth: AnnData, pairs: Pairs, genes: Sequence[str]) -> Noise:
    """The noise with which the rows of ``pairs`` were measured in a pseudobulk.

    Raises
    ------
    MissingKeyError
        It holds no standard errors.
    """
    require_key(keys.SE2, truth.layers, "layers", mend="Pass the result of spm.pp.pseudobulk(adata).")
    positions = row_positions(truth, control_of(truth))
    at = np.array([positions.get(row, -1) for row in pairs.rows], dtype=np.intp)
    total = values_of(truth, keys.SE2, genes)
    control = values_of(truth, keys.SE2_CONTROL, genes) if keys.SE2_CONTROL in truth.layers else np.zeros_like(total)
    own = np.maximum(total - control, 0.0)[at]
    own[at < 0] = np.nan
    contexts = {context: i for i, context in enumerate(dict.fromkeys(context for _, context in pairs.rows))}
    side = [2 * contexts[context] for _, context in pairs.rows] + against_held_out(truth)[at]
    return Noise(own, control[at], side.astype(np.intp))


def against_held_out(truth: AnnData) -> NDArray[np.bool_]:
    """(rows,) whether a row of a pseudobulk was measured against the controls that no model has seen."""
    record = truth.uns.get(keys.ROOT, {}).get(keys.PSEUDOBULK, {})
    if str(record.get("protocol")) != "strict" or keys.SPLIT not in truth.obs:
        return np.zeros(truth.n_obs, dtype=bool)
    return (truth.obs[keys.SPLIT].astype(str) == keys.TEST).to_numpy()


def noisy_scores(
    noise: Noise,
    pairs: Pairs,
    changes: Array,
    score: Callable[[Array], Array],
    *,
    n_repeats: int,
    rng: np.random.Generator,
) -> Array:
    """(D, S) scores of (R, m) changes with measured noise added, averaged over repeats."""
    repeats = [score(pairs.of_pairs(changes + noise.draw(rng))) for _ in range(n_repeats)]
    return np.mean(repeats, axis=0)


def unmeasured(noise: Noise, pairs: Pairs) -> list[list[str]]:
    """Names of the rows of each pair that are there but have no measured noise."""
    known = np.all(np.isfinite(noise.own), axis=1)
    return [[row_name(*pairs.rows[i]) for i in triple if i >= 0 and not known[i]] for triple in pairs.index]
