"""The spectral embedding, against a dense solution, and of graphs that fall apart."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.priors import GeneGraph, spectral_embedding


def ring(names):
    return pd.DataFrame({"source": names, "target": np.roll(names, -1)})


def modules(sizes, seed=0):
    """Dense random graphs without an edge between them; a path of genes keeps each connected."""
    rng = np.random.default_rng(seed)
    rows = []
    for number, size in enumerate(sizes):
        names = [f"M{number}_{i:03d}" for i in range(size)]
        pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 2 :] if rng.random() < 0.3]
        rows += [(*pair, rng.uniform(0.5, 1)) for pair in [*zip(names, names[1:], strict=False), *pairs]]
    return pd.DataFrame(rows, columns=["source", "target", "weight"])


@pytest.mark.parametrize("size", [30, 70], ids=["dense solver", "sparse solver"])
def test_features_are_the_slowest_directions_of_the_walk(size):
    network = GeneGraph.from_table(modules([size]))
    table = spectral_embedding(network, n_features=5)
    adjacency = network.adjacency(network.genes).toarray()
    walk = adjacency / adjacency.sum(axis=1, keepdims=True)
    expected = np.sort(np.linalg.eigvals(walk).real)[::-1][1:6]
    values = table.to_numpy()
    np.testing.assert_allclose(walk @ values, values * expected, atol=1e-9)
    length = np.sqrt((values**2 * adjacency.sum(axis=1)[:, None]).sum(axis=0))
    np.testing.assert_allclose(length, np.abs(expected) * np.sqrt(size), rtol=1e-9)
    assert (values[np.abs(values).argmax(axis=0), np.arange(5)] > 0).all()


def test_order_of_rows_and_direction_change_nothing():
    table = modules([50])
    shuffled = table.sample(frac=1, random_state=0).rename(columns={"source": "target", "target": "source"})
    expected = spectral_embedding(table)
    pd.testing.assert_frame_equal(spectral_embedding(shuffled), expected)
    pd.testing.assert_frame_equal(spectral_embedding(GeneGraph.from_table(table, directed=True)), expected)
    signed = table.assign(weight=table["weight"] * np.where(np.arange(len(table)) % 3, 1, -1))
    pd.testing.assert_frame_equal(spectral_embedding(GeneGraph.from_table(signed, signed=True)), expected)


def test_the_answer_is_the_callers_own_and_says_what_it_is():
    table = modules([20])
    table.attrs = {"name": "PPI", "derived_from": "annotation", "directed": False}
    first = spectral_embedding(table)
    assert first.attrs == {"name": "PPI", "derived_from": "annotation"}
    expected = first.copy()
    first.iloc[:] = 0.0
    other = table.copy()
    other.attrs = {"name": "other"}
    second = spectral_embedding(other)
    assert second.attrs == {"name": "other"}
    np.testing.assert_array_equal(second, expected)


def test_components_are_solved_one_by_one():
    table = modules([60, 50, 3, 2])
    both = spectral_embedding(table, n_features=16)
    first, second = both.filter(like="M0", axis=0), both.filter(like="M1", axis=0)
    assert len(first) == 60 and len(second) == 50 and len(both) == 110, "three and two genes have no place"
    assert (np.ptp(second, axis=0) < 1e-9).sum() == 1 + (first != 0).any(axis=0).sum(), "one feature is membership"
    assert ((first != 0).any(axis=0) ^ (second != 0).any(axis=0)).all()
    alone = spectral_embedding(modules([60]), n_features=16)
    n_first = int((first != 0).any(axis=0).sum())
    shared = first.loc[:, (first != 0).any(axis=0)].to_numpy() / np.sqrt(110) * np.sqrt(60)
    np.testing.assert_allclose(shared, alone.iloc[:, :n_first], atol=1e-8)


def test_small_components_do_not_crowd_out_the_large_one():
    table = spectral_embedding(modules([100, *[5] * 10]), n_features=8)
    assert (table.filter(like="M0_", axis=0) != 0).any(axis=0).all()
    assert table.index.str.startswith("M0_").all() and len(table) == 100


def test_equal_modules_are_told_apart():
    table = spectral_embedding(modules([30] * 4), n_features=5)
    module = table.index.str[:2].to_numpy()
    constant = [name for name in table if all(np.ptp(table.loc[module == one, name]) < 1e-9 for one in module)]
    assert len(table) == 120 and len(constant) == 3
    places = table[constant].round(6).groupby(module).first()
    assert not places.duplicated().any()


def test_regular_graphs_give_one_answer_on_one_machine():
    from scperturb_modules.priors import _spectral

    edges = pd.concat([ring([f"R{i:03d}" for i in range(100)]), ring([f"S{i:03d}" for i in range(80)])])
    answers = []
    for _ in range(3):
        _spectral._embedded.cache_clear()
        answers.append(spectral_embedding(edges, n_features=6))
    pd.testing.assert_frame_equal(answers[0], answers[1])
    pd.testing.assert_frame_equal(answers[0], answers[2])


def test_a_star_has_no_direction_but_rounding():
    star = pd.DataFrame({"source": "hub", "target": [f"L{i}" for i in range(9)]})
    assert spectral_embedding(star, n_features=3).shape == (0, 3)


def test_isolated_genes_are_left_out():
    table = modules([20])
    table.attrs["isolated"] = ["alone"]
    embedding = spectral_embedding(table, n_features=4)
    assert "alone" in GeneGraph.from_table(table).genes and "alone" not in embedding.index
    np.testing.assert_array_equal(embedding, spectral_embedding(modules([20]), n_features=4))


def test_too_many_features_are_an_error_or_clipped(caplog):
    table = modules([6])
    with pytest.raises(DataError, match="n_features=5, but the graph of 6 genes has 1 to 4"):
        spectral_embedding(table, n_features=5)
    with pytest.raises(DataError, match="n_features=0"):
        spectral_embedding(table, n_features=0, clip=True)
    assert spectral_embedding(table, clip=True).shape == (6, 4)
    with caplog.at_level("INFO"):
        assert spectral_embedding(modules([3, 2]), clip=True).empty
        assert spectral_embedding(table.head(0), clip=True).empty
    assert "5 of 5 connected genes get no spectral features" in caplog.text
    assert "0 of 0 connected genes" in caplog.text
