"""Whether the same programs are found again, with other seeds and from other cells."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from scperturb_modules._errors import DataError
from scperturb_modules.models.scbig.programs._program_sources import ProgramSources


def stability(
    sources: ProgramSources, n_programs: int, *, balance: str = "soft", seed: int = 0, n_seeds: int = 3
) -> dict[str, float]:
    """Adjusted Rand indices of programs that are found again; 1 where they are the same, 0 where by chance alone.

    Parameters
    ----------
    sources
        With cells.
    n_programs, balance
        As the programs were found.
    seed
        The first of ``n_seeds`` seeds, and that of the halves.

    Returns
    -------
    dict
        ``"seeds"``, mean over pairs of seeds; ``"halves"``, between programs of two halves of the cells;
        ``"strong_halves"``, the same over the tenth of the genes with the strongest co-expression. Genes that are
        hardly counted go where chance puts them: ``"halves"`` tells of the depth of a screen, too.
    """
    from sklearn.metrics import adjusted_rand_score

    if sources.cells is None or not sources.use_cells:
        raise DataError('Stability is judged by cells; find programs from a screen, with "coexpression" in relations=.')
    n_cells = sources.cells.cells.shape[0]

    def labels(seed: int, rows: NDArray[np.intp] | None = None) -> NDArray[np.int64]:
        return sources.taken(seed=seed, rows=rows).cluster(n_programs, balance=balance, seed=seed).labels

    found = [labels(seed + i) for i in range(n_seeds)]
    order = np.random.default_rng(seed).permutation(n_cells)
    halves = [labels(seed, np.sort(rows)) for rows in np.array_split(order, 2)]
    strength = sources.taken(seed=seed).relations[0].strength
    strong = strength >= np.quantile(strength, 0.9)
    return {
        "seeds": float(np.mean([adjusted_rand_score(a, b) for a, b in combinations(found, 2)])),
        "halves": float(adjusted_rand_score(*halves)),
        "strong_halves": float(adjusted_rand_score(*[half[strong] for half in halves])),
    }
