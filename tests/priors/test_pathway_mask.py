"""The mask of genes that share a pathway, against a loop over all pairs."""

from __future__ import annotations

import time

import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.priors._graph import GeneGraph
from scperturb_modules.priors._pathways import reactome


def draw(seed, *, n_genes=40, n_absent=8):
    """A hierarchy, all genes in some order, and correlations with constant genes (NaN)."""
    rng = np.random.default_rng(seed)
    genes = np.array([f"G{i:02d}" for i in range(n_genes)])
    in_sets = rng.permutation(genes[genes != "G03"])[n_absent:]
    low = {f"low{i}": rng.choice(in_sets, rng.integers(2, 7), replace=False).tolist() for i in range(12)}
    top = {f"top{i}": sorted(set(low[f"low{2 * i}"] + low[f"low{2 * i + 1}"])) for i in range(6)}
    relations = [(f"top{i}", f"low{2 * i + k}") for i in range(6) for k in (0, 1)]
    hierarchy = reactome(None, low | top, pd.DataFrame(relations, columns=["parent", "child"]))
    values = rng.uniform(-1, 1, (n_genes, n_genes)) * (rng.random((n_genes, n_genes)) < 0.3)
    values = np.triu(values, 1) + np.triu(values, 1).T + np.eye(n_genes)
    values[3] = values[:, 3] = np.nan
    return hierarchy, rng.permutation(genes).tolist(), pd.DataFrame(values, index=genes, columns=genes)


def slow_mask(hierarchy, genes, level, max_size, correlation, threshold):
    """Shared pathways by sets; correlation only where one of both genes is in no pathway at all."""
    table = hierarchy.pathways(level=level)
    table = table[table["gene"].isin(genes)]
    if max_size is not None:
        table = table[table.groupby("id")["gene"].transform("size") <= max_size]
    of = {gene: set(part["id"]) for gene, part in table.groupby("gene")}
    absent = set(genes) - set(hierarchy.genes)
    strength = np.zeros((len(genes),) * 2) if correlation is None else abs(correlation.loc[genes, genes].to_numpy())
    mask = np.eye(len(genes), dtype=bool)
    for i, a in enumerate(genes):
        for j, b in enumerate(genes):
            shared = of.get(a, set()) & of.get(b, set())
            mask[i, j] |= bool(shared) or (bool({a, b} & absent) and strength[i, j] > threshold)
    return mask


@pytest.mark.parametrize("level", [1, 2, "all"])
@pytest.mark.parametrize("max_size", [None, 4])
@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_those_of_a_loop(seed, max_size, level):
    hierarchy, genes, correlation = draw(seed)
    for fallback in (None, correlation):
        got = hierarchy.same_pathway_mask(genes, level, max_size=max_size, fallback=fallback, threshold=0.3)
        expected = slow_mask(hierarchy, genes, level, max_size, fallback, 0.3)
        np.testing.assert_array_equal(got.matrix.toarray(), expected)
        assert got.matrix.dtype == bool and got.genes == tuple(genes) and got.matrix.has_sorted_indices
        np.testing.assert_array_equal(got.degree, expected.sum(1) - 1)
        assert got.n_pairs == np.triu(expected, 1).sum()


def test_all_forms_of_correlations_are_one():
    hierarchy, genes, table = draw(5)
    known = table.drop(index="G03", columns="G03")  # the gene that does not vary
    place = {gene: i for i, gene in enumerate(known.index)}
    pairs = [(a, b, known.loc[a, b]) for a in known.index for b in known.index if place[a] < place[b]]
    edges = pd.DataFrame([pair for pair in pairs if abs(pair[2]) > 0.2], columns=["source", "target", "weight"])
    signed = GeneGraph.from_table(edges, signed=True)
    strengths = GeneGraph.from_table(edges.assign(weight=edges["weight"].abs()))
    listed = GeneGraph.from_table(edges.assign(weight=edges["weight"].abs()), directed=True)
    array = table.loc[genes, genes].to_numpy()
    expected = hierarchy.same_pathway_mask(genes, fallback=table, threshold=0.3)
    assert {"fallback", "alone", "pathway"} == set(expected.status)
    for fallback in (signed, strengths, listed, array, known):
        got = hierarchy.same_pathway_mask(genes, fallback=fallback, threshold=0.3)
        assert (got.matrix != expected.matrix).nnz == 0
        np.testing.assert_array_equal(got.status, expected.status)


def test_the_report_says_where_pairs_come_from():
    sets = {"A": ["a", "b", "c"], "B": ["a", "b"], "C": ["c"]}
    hierarchy = reactome(None, sets, pd.DataFrame({"parent": ["A", "A"], "child": ["B", "C"]}))
    correlation = pd.DataFrame(np.eye(5), index=list("zcbay"), columns=list("zcbay"))
    correlation.loc["z", "a"] = correlation.loc["a", "z"] = -0.41
    correlation.loc["c", "a"] = correlation.loc["a", "c"] = 0.99  # both have pathways
    correlation.loc["z", "b"] = correlation.loc["b", "z"] = 0.4  # not above the threshold
    mask = hierarchy.same_pathway_mask(list("zcbay"), fallback=correlation)
    table = pd.DataFrame(
        {"status": ["fallback", "pathway", "pathway", "pathway", "alone"], "n_partners": [1, 0, 1, 2, 0]},
        index=pd.Index(list("zcbay"), name="gene"),
    )
    pd.testing.assert_frame_equal(mask.table, table, check_dtype=False)
    assert mask.report.to_dict() == {
        "genes_pathway": 3,
        "genes_fallback": 1,
        "genes_alone": 1,
        "genes_with_partner": 3,
        "pathways": 2,
        "pathways_dropped": 0,
        "pairs": 2,
        "median_partners": 1.0,
        "max_partners": 2,
    }
    assert repr(mask) == "PathwayMask(5 genes (3 pathway, 1 fallback, 1 alone), 2 pairs)"
    small = hierarchy.same_pathway_mask(max_size=1).report
    assert (small["pathways"], small["pathways_dropped"], small["pairs"]) == (1, 1, 0)


def test_wrong_arguments_are_one_error():
    hierarchy, genes, table = draw(0)
    with pytest.raises(DataError, match="more than once: 'G01'"):
        hierarchy.same_pathway_mask(["G01", "G02", "G01"])
    with pytest.raises(DataError, match="there are no genes"):
        hierarchy.same_pathway_mask([])
    with pytest.raises(DataError, match="0 of 1 genes found"):
        hierarchy.same_pathway_mask(["nobody"])
    with pytest.raises(DataError, match=r"shape \(40, 40\), but there are 3 genes"):
        hierarchy.same_pathway_mask(genes[:3], fallback=table.to_numpy())
    with pytest.raises(DataError, match="fallback: genes stand more than once: 'G00'"):
        hierarchy.same_pathway_mask(genes, fallback=pd.concat([table, table.iloc[:1]]))
    with pytest.raises(ValueError, match="threshold=-0.1 is negative"):
        hierarchy.same_pathway_mask(genes, threshold=-0.1)
    with pytest.raises(ValueError, match="level=4 is unknown"):
        hierarchy.same_pathway_mask(genes, 4)


@pytest.fixture(scope="module")
def real(shared_priors):
    return reactome(
        None, shared_priors / "reactome_pathways.gmt.gz", shared_priors / "reactome_pathway_relation.tsv.gz"
    )


def test_real_pairs_are_those_of_a_loop(real):
    rng = np.random.default_rng(2)
    genes = [*rng.choice(real.genes, 280, replace=False), *(f"absent{i}" for i in range(20))]
    values = np.corrcoef(rng.normal(size=(300, 12)))
    correlation = pd.DataFrame(values, index=genes, columns=genes)
    got = real.same_pathway_mask(genes, fallback=correlation)
    np.testing.assert_array_equal(got.matrix.toarray(), slow_mask(real, genes, 1, None, correlation, 0.4))
    assert got.report["genes_pathway"] == 280 and got.report["genes_fallback"] == 20


def test_five_thousand_genes_take_less_than_a_second(real):
    genes = np.random.default_rng(3).choice(real.genes, 5000, replace=False)
    start = time.perf_counter()
    mask = real.same_pathway_mask(genes)
    assert time.perf_counter() - start < 1.0
    assert mask.n_pairs > 100_000
