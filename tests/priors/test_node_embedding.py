"""DeepWalk in closed form, against the formula written out by loops, and on networks whose modules are known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.priors import GeneGraph, _node_embedding
from scperturb_modules.priors._node_embedding import node_embedding


def draw(n_genes=40, density=0.1, seed=0, name="G"):
    """A random weighted network; a path keeps it connected."""
    rng = np.random.default_rng(seed)
    names = [f"{name}{i:03d}" for i in range(n_genes)]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 2 :] if rng.random() < density]
    rows = [(*pair, rng.uniform(0.1, 1)) for pair in [*zip(names, names[1:], strict=False), *pairs]]
    return pd.DataFrame(rows, columns=["source", "target", "weight"])


def modules(n_genes=120, n_modules=4, seed=0):
    """A stochastic block model, and the module of each gene."""
    rng = np.random.default_rng(seed)
    module = {f"G{i:03d}": i % n_modules for i in rng.permutation(n_genes)}
    names = sorted(module)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    table = pd.DataFrame(pairs, columns=["source", "target"])
    chance = np.where(table["source"].map(module) == table["target"].map(module), 0.25, 0.02)
    return table[rng.random(len(table)) < chance], pd.Series(module)


def slow_matrix(table, window):
    """The formula, entry by entry, from walks that are counted step by step."""
    genes = sorted(set(table["source"]) | set(table["target"]))
    n = len(genes)
    weight = [[0.0] * n for _ in range(n)]
    for row in table.itertuples():
        i, j = genes.index(row.source), genes.index(row.target)
        weight[i][j] = weight[j][i] = abs(row.weight)
    degree = [sum(row) for row in weight]
    total = np.zeros((n, n))
    chance = np.eye(n)
    for _ in range(window):
        chance = np.array(
            [[sum(chance[i][k] * weight[k][j] / degree[k] for k in range(n)) for j in range(n)] for i in range(n)]
        )
        total += chance
    ratio = [[sum(degree) * total[i][j] / window / degree[j] for j in range(n)] for i in range(n)]
    return pd.DataFrame([[max(0.0, np.log(max(value, 1e-300))) for value in row] for row in ratio], genes, genes)


def from_matrix(matrix, n_features):
    """``U sqrt(S)`` with the largest entry of a column positive."""
    left, size, _ = np.linalg.svd(matrix.to_numpy())
    values = left[:, :n_features] * np.sqrt(size[:n_features])
    return values * np.sign(values[np.abs(values).argmax(axis=0), np.arange(n_features)])


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("window", [1, 2, 5])
def test_equals_the_formula(seed, window):
    table = draw(25, seed=seed)
    matrix = slow_matrix(table, window)
    embedding = node_embedding(table, n_features=8, window=window)
    assert list(embedding.index) == list(matrix.index)
    np.testing.assert_allclose(embedding, from_matrix(matrix, 8), atol=1e-9)


def test_the_way_of_large_networks_gives_the_same(monkeypatch):
    table = draw(200, density=0.03)
    expected = node_embedding(table, n_features=6)
    monkeypatch.setattr(_node_embedding, "_MOST_DENSE", 40)
    found = node_embedding(table, n_features=6)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert not np.array_equal(found, expected), "the sparse way was not taken"
    pd.testing.assert_frame_equal(node_embedding(table, n_features=6), found)


def purity(embedding, module):
    """Share of genes whose nearest neighbour by cosine is of the same module."""
    values = embedding.to_numpy() / np.linalg.norm(embedding.to_numpy(), axis=1, keepdims=True)
    similarity = values @ values.T - 2 * np.eye(len(values))
    own = module[embedding.index].to_numpy()
    return (own[similarity.argmax(axis=1)] == own).mean()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_modules_are_recovered_and_under_wrong_names_they_are_not(seed):
    table, module = modules(seed=seed)
    assert purity(node_embedding(table, n_features=8), module) > 0.9
    shuffled = pd.Series(np.random.default_rng(seed).permutation(module), index=module.index)
    assert purity(node_embedding(table, n_features=8), shuffled) < 0.4, "a quarter is chance"


def test_order_of_rows_direction_sign_and_names_change_nothing():
    table = draw(60)
    expected = node_embedding(table, n_features=6)
    shuffled = table.sample(frac=1, random_state=0).rename(columns={"source": "target", "target": "source"})
    pd.testing.assert_frame_equal(node_embedding(shuffled, n_features=6), expected)
    signed = table.assign(weight=table["weight"] * np.where(np.arange(len(table)) % 3, 1, -1))
    graph = GeneGraph.from_table(signed, signed=True, directed=True)
    pd.testing.assert_frame_equal(node_embedding(graph, n_features=6), expected, check_names=False)

    genes = sorted(set(table["source"]) | set(table["target"]))
    other = dict(zip(genes, np.random.default_rng(1).permutation(genes), strict=True))
    renamed = table.replace({"source": other, "target": other})
    found = node_embedding(renamed, n_features=6).loc[[other[gene] for gene in genes]]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_weights_count():
    table = draw(30)
    plain = node_embedding(table.assign(weight=1.0), n_features=4)
    assert np.abs(node_embedding(table, n_features=4) - plain).to_numpy().max() > 0.05
    np.testing.assert_allclose(node_embedding(table.assign(weight=2.0), n_features=4), plain, atol=1e-9)
    pair = plain.index[[0, 1]]
    strong = table.assign(weight=np.where((table["source"] == pair[0]) & (table["target"] == pair[1]), 20.0, 1.0))

    def cosine(embedding):
        first, second = embedding.loc[pair].to_numpy()
        return first @ second / np.linalg.norm(first) / np.linalg.norm(second)

    assert cosine(node_embedding(strong, n_features=4)) > cosine(plain)


def test_components_are_those_of_the_whole_matrix():
    table = pd.concat([draw(30, name="A"), draw(20, name="B", seed=1), draw(3, name="C"), draw(2, name="D")])
    embedding = node_embedding(table, n_features=12, window=3)
    matrix = slow_matrix(table, 3).drop(index=["C000", "C001", "C002", "D000", "D001"])
    expected = from_matrix(matrix[matrix.index], 12)
    assert list(embedding.index) == list(matrix.index), "three and two genes have no place"
    np.testing.assert_allclose(embedding, expected, atol=1e-9)
    of_first, of_second = ((embedding.filter(like=name, axis=0) != 0).any(axis=0) for name in "AB")
    assert (of_first ^ of_second).all() and of_first.any() and of_second.any()


def test_genes_without_a_place_are_left_out_and_counted(caplog):
    table = draw(20)
    table.attrs = {"isolated": ["alone"], "name": "PPI", "derived_from": "annotation"}
    with caplog.at_level("INFO"):
        embedding = node_embedding(table, n_features=4)
    assert "alone" not in embedding.index and len(embedding) == 20 and not caplog.text
    assert embedding.attrs == {"name": "PPI", "derived_from": "annotation"}
    with caplog.at_level("INFO"):
        assert node_embedding(draw(3), clip=True).empty
    assert "3 of 3 connected genes get no node embedding" in caplog.text


def test_arguments_out_of_range():
    table = draw(6)
    with pytest.raises(DataError, match="n_features=5, but the graph of 6 genes has 1 to 4"):
        node_embedding(table, n_features=5)
    with pytest.raises(DataError, match="window=0, but walks have at least 1 step"):
        node_embedding(table, n_features=2, window=0)
    assert node_embedding(table, clip=True).shape == (6, 4)


def test_real_complexes_are_found_again(shared_priors):
    """A fifth of the pairs of complexes is hidden: they are nearer than the same genes paired at random."""
    pairs = pd.read_csv(shared_priors / "corum_pairs.tsv.gz", sep="\t").set_axis(["source", "target"], axis=1)
    hidden = pairs.sample(frac=0.2, random_state=0)
    embedding = node_embedding(pairs.drop(index=hidden.index), n_features=16)
    values = embedding / np.linalg.norm(embedding, axis=1, keepdims=True).clip(1e-12)
    known = hidden[hidden["source"].isin(values.index) & hidden["target"].isin(values.index)]

    def similarity(target):
        return (values.loc[known["source"]].to_numpy() * values.loc[target].to_numpy()).sum(axis=1)

    mixed = known["target"].sample(frac=1, random_state=0)
    assert len(known) > 5000
    assert (similarity(known["target"]) > similarity(mixed)).mean() > 0.8
