"""Attention of pathways against a double loop over genes, in plain Python."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules.models.biodsnn._pathways import COLUMNS, pathway_attention
from scperturb_modules.priors import gene_sets

GENES = [f"G{i}" for i in range(8)]
SETS = {
    "two": ["G1", "G5"],
    "with others": ["G0", "G2", "G3", "X1", "X2"],
    "one measured": ["G4", "X1"],
    "none measured": ["X1", "X2"],
    "large": ["G0", "G1", "G2", "G3", "G6"],
}


def drawn(seed, n_conditions=3):
    """Attention of conditions and of the unperturbed cell, whose rows sum to 1; the pairs in any order."""
    rng = np.random.default_rng(seed)
    mask = (rng.random((8, 8)) < 0.7) | np.eye(8, dtype=bool)
    edges = rng.permutation(np.argwhere(mask))
    weights = rng.random((n_conditions + 1, len(edges)))
    for of_row in weights:
        for i in range(8):
            of_row[edges[:, 0] == i] /= of_row[edges[:, 0] == i].sum()
    return weights, edges


def slow_attention(of_row, edges, members):
    """Mean over the pathway's measured genes of what they pay to its other genes."""
    inside = [GENES.index(gene) for gene in members if gene in GENES]
    paid = 0.0
    for a in inside:
        for b in inside:
            for e, (i, j) in enumerate(edges):
                if a != b and i == a and j == b:
                    paid += of_row[e]
    return paid / len(inside)


@pytest.mark.parametrize("seed", range(3))
def test_attention_of_pathways_is_the_loop(seed):
    weights, edges = drawn(seed)
    names = ["A", "B", "A+B"]
    table = pathway_attention(weights, edges, gene_sets(SETS), GENES, names)
    assert list(table.columns) == list(COLUMNS) and len(table) == 9
    assert table["condition"].tolist() == np.repeat(names, 3).tolist()
    for k, name in enumerate(names):
        part = table[table["condition"] == name].set_index("name")
        assert set(part.index) == {"two", "with others", "large"}
        assert part["n_genes"].to_dict() == {"two": 2, "with others": 3, "large": 5}
        for pathway, row in part.iterrows():
            expected, still = (slow_attention(of_row, edges, SETS[pathway]) for of_row in (weights[k], weights[-1]))
            assert row["attention"] == pytest.approx(expected, abs=1e-12) and 0 <= expected <= 1
            assert row["change"] == pytest.approx(expected - still, abs=1e-12)
        sizes = part["change"].abs().to_numpy()
        assert (sizes[:-1] >= sizes[1:]).all(), "the largest changes come first"


def test_the_unperturbed_cell_beside_itself_does_not_change():
    weights, edges = drawn(0, 1)
    table = pathway_attention(np.stack([weights[1], weights[1]]), edges, gene_sets(SETS), GENES, ["A"])
    assert (table["change"] == 0).all() and (table["attention"] > 0).all()


def test_pathways_have_an_id_where_the_source_gives_one():
    table = gene_sets(SETS)
    given = type(table)(table.name, table.genes, table.sets, table.membership, ("R-1", "", "R-3", "R-4", "R-5"), {})
    weights, edges = drawn(0, 1)
    found = pathway_attention(weights, edges, given, GENES, ["A"]).set_index("name")["pathway"].to_dict()
    described = dict(zip(given.sets, given.descriptions, strict=True))
    assert found == {name: described[name] or name for name in found} and "with others" in found.values()


def test_without_conditions_the_table_is_empty():
    weights, edges = drawn(0, 0)
    table = pathway_attention(weights, edges, gene_sets(SETS), GENES, [])
    assert len(table) == 0 and list(table.columns) == list(COLUMNS)
