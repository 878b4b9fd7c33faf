"""The benchmark under worse copies of a network, against plain loops, and where the network is known to be true."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules._errors import DataError
from scperturb_modules.metrics import PRIMARY, compare
from scperturb_modules.tl import network_quality, network_verdict

FAST = {"n_boot": 200, "min_cells": 10}
"""Conditions of fewer than 20 cells are not halved for the noise floor, which takes most of the time."""


@pytest.fixture(scope="module")
def screen(planted):
    """Twelve singles to learn from and twelve to predict."""
    adata = planted(n_singles=24, n_pairs=0, n_cells=15, n_controls=60)
    spm.pp.split(adata, "unseen_single", n_folds=2, seed=0)
    return adata


@pytest.fixture
def graph():
    """A ring of all genes with chords."""
    genes = [f"G{i:02d}" for i in range(60)]
    edges = [(genes[i], genes[(i + step) % 60]) for step in (1, 2, 5) for i in range(60)]
    return pd.DataFrame(edges, columns=["source", "target"])


@pytest.fixture
def reader(planted, model_class):
    """A class of predictors that know the truth, less what the network given lacks, and a list of what they got."""
    truth = planted(n_singles=24, n_pairs=0, n_cells=1, n_controls=1).uns["planted"]
    genes = [f"G{i:02d}" for i in range(60)]
    right = {frozenset((genes[i], genes[(i + step) % 60])) for step in (1, 2, 5) for i in range(60)}
    got = []

    class Reader(model_class):
        deterministic = True

        def __init__(self, adata, *, priors=None, seed=0):
            super().__init__(adata, seed=seed)
            got.append((priors, sorted(set(adata.obs["perturbation"])), seed))
            edges = priors["ring"].to_table()
            self.share = np.mean(
                [frozenset(edge) in right for edge in zip(edges["source"], edges["target"], strict=True)]
            )
            self.share *= min(1.0, len(edges) / len(right))

        def delta(self, name):
            return self.share * truth.loc[name].to_numpy()

    Reader.got = got
    return Reader


def test_every_copy_reaches_the_predictors_on_the_same_splits(screen, graph, reader):
    other = pd.DataFrame(np.eye(3), index=["G00", "G01", "G02"])
    graph.attrs["name"] = "ring"
    folds = {"scheme": "unseen_single", "n_folds": 2, **FAST}
    network_quality(screen, [reader], graph, remove=[], add=[0.2], n_copies=1, priors=[other], seed=4, **folds)
    degraded = [{"add": 0.2}, {"permute_labels": True}]
    ring = spm.priors.as_graph(graph)
    expected = [ring] + [spm.priors.degrade(ring, **kind, seed=4) for kind in degraded]
    assert len(reader.got) == 2 * len(expected)
    for number, one in enumerate(expected):
        for fold in (0, 1):
            priors, training, seed = reader.got[2 * number + fold]
            assert priors["ring"].sha256() == one.sha256() and priors["prior_0"] is other
            assert training == reader.got[fold][1] and seed == 4


def test_numbers_are_those_of_plain_loops(screen, graph, reader):
    models = {"Reader": reader, "MeanShift": spm.baselines.MeanShift}
    graph.attrs["name"] = "ring"
    frame = network_quality(screen, models, graph, remove=[0.6], add=[], permute_labels=False, n_copies=2, **FAST)
    assert frame.attrs == {"network": "ring"} and set(frame["metric"]) == {PRIMARY}
    assert len(frame) == 2 * 2 and not frame["n_failed"].any()

    def errors(network):
        board = spm.tl.benchmark(screen, models, priors={"ring": network}, metrics=[PRIMARY], **FAST)
        return board.frame.astype({"model": str, "condition": str}).pivot(index="condition", columns="model")["value"]

    ring = spm.priors.as_graph(graph)
    whole, *copies = [errors(one) for one in [ring, *(spm.priors.degrade(ring, remove=0.6, seed=s) for s in (0, 1))]]
    mean = sum(copies) / 2
    rows = frame[frame["change"] == "remove"].set_index("model")
    assert (rows["amount"] == 0.6).all() and (rows["n"] == 12).all() and (rows["n_copies"] == 2).all()
    for model in models:
        np.testing.assert_allclose(rows.loc[model, "mean"], mean[model].mean())
    gain = compare(whole["Reader"], mean["Reader"], n_boot=200)
    assert gain.gain > 0.2
    found = rows.loc["Reader", ["intact_gain", "intact_low", "intact_high", "p"]].to_numpy(dtype=float)
    np.testing.assert_allclose(found, [gain.gain, gain.low, gain.high, gain.p])
    over = [1 - one["Reader"].mean() / one["MeanShift"].mean() for one in copies]
    assert rows.loc["Reader", "gain_vs"] == "MeanShift"
    np.testing.assert_allclose(rows.loc["Reader", "gain"], np.mean(over))
    np.testing.assert_allclose(rows.loc["Reader", "copy_sd"], np.std(over, ddof=1), atol=1e-12)
    none = frame[frame["change"] == "none"]
    assert (none["intact_gain"] == 0).all() and (none["n_copies"] == 1).all() and none["copy_sd"].isna().all()


def test_where_the_network_is_true_wrong_names_cost_accuracy_and_only_where_it_is_read():
    adata = spm.datasets.simulate(
        seed=0, n_genes=120, n_perturbable=30, n_pairs=0, n_cells=19, n_controls=100, n_modules=4, n_batches=1
    )
    spm.pp.split(adata, "unseen_single", n_folds=2, seed=0)
    graph = adata.uns["scperturb_modules"]["simulation"]["graph"]
    models = [spm.baselines.NearestPrior, spm.baselines.MeanShift, spm.baselines.NoChange, spm.baselines.Linear]
    frame = network_quality(adata, models, graph, remove=[], add=[], n_copies=2, **FAST)
    mean = frame.pivot(index="model", columns="change", values="mean")
    assert mean.loc["NearestPrior", "permute"] > 1.1 * mean.loc["NearestPrior", "none"]
    reads_none = ["MeanShift", "NoChange", "Linear"]
    assert (mean.loc[reads_none, "permute"] == mean.loc[reads_none, "none"]).all()
    first, second = network_verdict(frame).splitlines()
    assert first.startswith("The network helps NearestPrior on single_unseen: yes. Error ")
    assert second == "Not affected on single_unseen: Linear, MeanShift, NoChange."


def test_a_run_that_fails_is_counted(screen, graph, model_class):
    class OnlyWhole(model_class):
        def __init__(self, adata, *, priors=None, seed=0):
            super().__init__(adata, seed=seed)
            if "degraded" in priors["network"].attrs:
                raise RuntimeError("no")

    frame = network_quality(screen, [OnlyWhole, spm.baselines.MeanShift], graph, remove=[], add=[], n_copies=2, **FAST)
    failed = frame.set_index(["change", "model"])["n_failed"]
    assert failed.to_dict() == {
        ("none", "OnlyWhole"): 0, ("none", "MeanShift"): 0, ("permute", "OnlyWhole"): 2, ("permute", "MeanShift"): 0,
    }  # fmt: skip


def row(model, gain, low, high, **others):
    base = {"split_kind": "unseen_single", "regime": "single_unseen", "metric": PRIMARY, "change": "permute"}
    return {**base, "model": model, "intact_gain": gain, "intact_low": low, "intact_high": high, "p": 0.5, "n": 20,
            "n_copies": 5, "n_failed": 0, **others}  # fmt: skip


def test_the_verdict_in_words():
    rows = [
        row("A", 0.1, 0.05, 0.15), row("B", 0.1, -0.05, 0.2), row("C", 0.3, np.nan, np.nan, n=8),
        row("D", -0.1, -0.2, -0.05, n_failed=2), row("E", 0.0, 0.0, 0.0), row("F", 1e-16, 1e-16, 1e-16),
    ]  # fmt: skip
    assert network_verdict(pd.DataFrame(rows)).splitlines() == [
        "The network helps A on single_unseen: yes. Error 10.0 % lower than under permuted labels (95 % CI 5.0 to 15.0,"
        " n = 20 conditions, 5 permutations).",
        "The network helps B on single_unseen: not shown. Gain over permuted labels 10.0 % (95 % CI -5.0 to 20.0, "
        "n = 20 conditions, 5 permutations).",
        "The network helps C on single_unseen: cannot tell. 8 conditions are fewer than 10.",
        "The network helps D on single_unseen: not shown. Gain over permuted labels -10.0 % (95 % CI -20.0 to -5.0, "
        "n = 20 conditions, 5 permutations). 2 of its runs failed and count as no change.",
        "Not affected on single_unseen: E, F.",
    ]
    two = pd.DataFrame([row("A", 0.1, 0.05, 0.15), row("A", 0.1, 0.05, 0.15, split_kind="combination")])
    assert "on single_unseen (combination): yes" in network_verdict(two)
    with pytest.raises(DataError, match="no permuted labels"):
        network_verdict(two.assign(change="add"))


def test_wrong_arguments_stop_it_before_any_run(screen, graph, reader):
    with pytest.raises(DataError, match="remove=1.5"):
        network_quality(screen, [reader], graph, remove=[0.1, 1.5], **FAST)
    with pytest.raises(ValueError, match="n_copies=0"):
        network_quality(screen, [reader], graph, n_copies=0, **FAST)
    with pytest.raises(DataError, match="priors already has 'network'"):
        network_quality(screen, [reader], graph, priors={"network": graph}, **FAST)
    assert not reader.got
