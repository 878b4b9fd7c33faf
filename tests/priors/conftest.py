"""Random edge tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scperturb_modules.priors import GeneGraph


def draw_table(n_genes=60, n_edges=300, seed=0):
    """Rows as real tables have them: repeated edges, both directions, self-loops."""
    rng = np.random.default_rng(seed)
    names = np.array([f"G{i:03d}" for i in range(n_genes)])
    ends = names[rng.integers(n_genes, size=(2, n_edges))]
    return pd.DataFrame({"source": ends[0], "target": ends[1], "weight": rng.uniform(0.1, 1, n_edges)})


@pytest.fixture
def table():
    return draw_table()


@pytest.fixture(params=[False, True], ids=["undirected", "directed"])
def network(request):
    return GeneGraph.from_table(draw_table(), name="drawn", directed=request.param)
