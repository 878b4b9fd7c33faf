"""Retrospective budget curves: nothing leaks, all rankings start alike, the truth is right."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.tl.design import _backtest
from scperturb_modules.tl.design._backtest import backtest
from scperturb_modules.tl.design._rank_next import rank_next
from scperturb_modules.tl.design._summary import backtest_summary
from scperturb_modules.tl.design._truth import measured_interactions

PLAN = {"n_start": 10, "n_test": 8, "batch": 7, "rounds": 4, "seeds": 2, "n_strong": 6}


@pytest.fixture(scope="module")
def screen():
    return spm.datasets.simulate(seed=101, n_genes=80, n_perturbable=16, n_pairs=60, n_cells=20, n_controls=100)


@pytest.fixture(scope="module")
def frame(screen):
    return backtest(screen, spm.baselines.AdditiveShrunk, "interaction", **PLAN)


class Spy(spm.baselines.Additive):
    """Notes what it was trained on."""

    seen: list[set[str]] = []

    def train(self):
        Spy.seen.append({name for name in self.training.obs_names if "+" in name})
        super().train()


class Cells:
    """A model of one's own, built on cells."""

    seen: list[set[str]] = []

    def __init__(self, adata, priors=None, seed=0):
        assert "split" not in adata.obs
        Cells.seen.append(set(adata.obs["perturbation"]))
        self.inner = spm.baselines.Additive(adata)
        self.training = self.inner.training

    @classmethod
    def setup_anndata(cls, adata, **screen):
        spm.baselines.Additive.setup_anndata(adata, **screen)

    def train(self):
        self.inner.train()

    def predict(self, conditions=None):
        return self.inner.predict(conditions)


def test_the_table(frame):
    assert frame.columns.tolist() == ["method", "seed", "n_tested", "share_found", "n_found", "n_true", "test_l2"]
    assert list(dict.fromkeys(frame["method"])) == ["interaction", "effect", "random"]
    assert sorted(set(frame["n_tested"])) == [0, 7, 14, 21, 28]
    assert (frame.loc[frame["n_tested"] == 0, "n_found"] == 0).all()
    assert (frame.groupby(["method", "seed"])["n_found"].diff().dropna() >= 0).all()
    assert (frame["n_found"] <= 6).all() and np.allclose(frame["share_found"], frame["n_found"] / 6)
    assert frame.attrs == {"n_start": 10, "n_test": 8, "n_candidates": 42}
    start = frame[frame["n_tested"] == 0].groupby("seed")["test_l2"].nunique()
    assert (start == 1).all() and frame["test_l2"].notna().all()


def test_same_seed_same_numbers(screen, frame):
    again = backtest(screen, spm.baselines.AdditiveShrunk, "interaction", **(PLAN | {"seeds": [1]}))
    pd.testing.assert_frame_equal(again, frame[frame["seed"] == 1].reset_index(drop=True))


def test_a_predictor_sees_what_was_tested_and_nothing_else(screen, monkeypatch):
    Spy.seen.clear()
    offered = []

    def noting(model, candidates, **options):
        table = rank_next(model, candidates, **options)
        offered.append((options["objective"], set(candidates), set(table["condition"])))
        return table

    monkeypatch.setattr(_backtest, "rank_next", noting)
    backtest(screen, Spy, "effect", **(PLAN | {"seeds": [0], "n_test": 8}))
    effect = [(left, chosen) for objective, left, chosen in offered if objective == "effect"]
    start = Spy.seen[0]
    assert len(start) == 10 and len(effect) == 4
    tested = set(start)
    for number, (left, chosen) in enumerate(effect):
        assert Spy.seen[number] == tested
        assert not left & tested and len(chosen) == 7
        tested |= chosen
    pairs = {name for name in spm.pp.pseudobulk(screen).obs_names if "+" in name}
    never = pairs - start - effect[0][0]
    assert len(never) == 8 and not any(never & seen for seen in Spy.seen)


def test_a_model_gets_cells_of_tested_conditions_and_all_controls(screen):
    Cells.seen.clear()
    split = screen.copy()
    spm.pp.split(split, "combination", seed=0)
    frame = backtest(split, Cells, "interaction", **(PLAN | {"seeds": [0], "rounds": 2}))
    baseline = backtest(screen, spm.baselines.Additive, "interaction", **(PLAN | {"seeds": [0], "rounds": 2}))
    assert all("control" in seen for seen in Cells.seen)
    assert sum("+" in name for name in Cells.seen[0]) == 10
    assert sorted({sum("+" in name for name in seen) for seen in Cells.seen}) == [10, 17, 24]
    pd.testing.assert_frame_equal(frame, baseline)
    assert "split" in split.obs


def test_one_fit_when_asked(screen):
    Spy.seen.clear()
    once = backtest(screen, Spy, "interaction", refit="once", **(PLAN | {"seeds": [0]}))
    assert len(Spy.seen) == 1
    assert once.groupby("method")["test_l2"].nunique().eq(1).all()


def test_measured_interactions_against_a_loop(screen):
    measured = spm.pp.pseudobulk(screen)
    found = measured_interactions(measured)
    x = pd.DataFrame(screen.X.toarray(), columns=screen.var_names)
    label = screen.obs["perturbation"].to_numpy()
    mean, error = {}, {}
    for name in set(label):
        cells = x[label == name]
        mean[name], error[name] = cells.mean(), cells.var(ddof=1) / len(cells)
    for pair in found.index[::11]:
        a, b = pair.split("+")
        change = mean[pair] - mean[a] - mean[b] + mean["control"]
        noise = error[pair] + error[a] + error[b] + error["control"]
        assert found[pair] == pytest.approx(np.sqrt(max(0, (change**2).sum() - noise.sum())), rel=1e-4)
    assert len(found) == 60


def test_the_noise_is_taken_out_of_measured_interactions():
    """Without interactions half of the sizes are 0, and the others are what chance leaves."""
    screen = spm.datasets.simulate("null", seed=0, n_genes=80, n_perturbable=16, n_pairs=60, n_cells=20, n_controls=100)
    measured = spm.pp.pseudobulk(screen)
    change = measured.to_df("delta")
    raw = [np.linalg.norm(change.loc[n] - change.loc[n.split("+")].sum()) for n in change.index if "+" in n]
    found = measured_interactions(measured)
    assert 0.35 < np.mean(found == 0) < 0.75
    assert np.mean(found**2) < 0.25 * np.mean(np.square(raw))


def test_a_given_truth_decides_what_is_to_be_found(screen):
    pairs = sorted(
        set(screen.obs["perturbation"].astype(str)[screen.obs["perturbation"].str.contains("+", regex=False)])
    )
    effect = spm.pp.pseudobulk(screen).to_df("delta").pow(2).sum(axis=1)
    truth = {name: effect[name.split("+")].sum() for name in pairs}
    frame = backtest(screen, spm.baselines.Additive, "effect", truth=truth, **(PLAN | {"seeds": 3}))
    last = frame[frame["n_tested"] == 14].groupby("method")["n_found"].mean()
    assert last["effect"] > last["random"] + 1
    with pytest.raises(DataError, match="no interaction for 1 pairs"):
        backtest(screen, spm.baselines.Additive, "effect", truth=dict(list(truth.items())[1:]), **PLAN)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"rounds": 9}, "42 pairs are left as candidates, but 7 x 9"), ({"batch": 0}, "batch, rounds and n_strong are 1")],
)
def test_plans_that_ask_for_too_much(screen, change, message):
    with pytest.raises(DataError, match=message):
        backtest(screen, spm.baselines.Additive, "effect", **(PLAN | change))


def test_unknown_words(screen):
    with pytest.raises(ValueError, match="objectives 'best' are unknown"):
        backtest(screen, spm.baselines.Additive, ["best"], **PLAN)
    with pytest.raises(ValueError, match="refit='never'"):
        backtest(screen, spm.baselines.Additive, "effect", refit="never", **PLAN)


def curves(**found):
    """Three points per method; 12 seeds that differ a little."""
    rows = [
        (method, seed, n_tested, share + (0.5 * (seed % 3) if n_tested else 0), 10)
        for method, shares in found.items()
        for seed in range(12)
        for n_tested, share in zip((0, 10, 20), shares, strict=True)
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "n_tested", "n_found", "n_true"]).assign(test_l2=1.0)


def test_summary_against_random_and_effect():
    table = backtest_summary(curves(interaction=(0, 7, 9), effect=(0, 5, 8), random=(0, 2, 4)))
    assert table[["method", "against"]].to_numpy().tolist() == [
        ["interaction", "random"],
        ["interaction", "effect"],
        ["effect", "random"],
    ]
    first = table.iloc[0]
    assert first["half_budget"] == 10 and first["found"] == 7.5 and first["found_against"] == 2.5
    assert first["ratio"] == pytest.approx(3.0) and first["word"] == "beats"
    # random finds 4.5 with 20 experiments; a line from 0 to 7.5 over 10 is there after 6
    assert first["saved"] == pytest.approx(1 - 6 / 20)
    assert first["text"].startswith("interaction finds 3.00 times as many strong interactions as random")
    assert "Provisional" in first["text"]
    assert table.iloc[1]["text"].startswith(
        "interaction finds 1.36 times as many strong interactions as ranking by eff"
    )


def test_equal_curves_are_no_better():
    table = backtest_summary(curves(interaction=(0, 3, 4), effect=(0, 3, 4), random=(0, 3, 4)))
    assert (table["word"] == "no better").all()
    assert not table["text"].str.contains("saves").any()


def test_summary_needs_random_and_the_same_seeds():
    full = curves(effect=(0, 3, 4), random=(0, 2, 4))
    with pytest.raises(DataError, match="no random choice"):
        backtest_summary(full[full["method"] == "effect"])
    with pytest.raises(DataError, match="'effect' and 'random' were not run on the same"):
        backtest_summary(full[(full["method"] == "random") | (full["seed"] > 0)])
    with pytest.raises(DataError, match="stands there twice with one seed"):
        backtest_summary(pd.concat([full, full]))
    with pytest.raises(MissingKeyError, match="n_found"):
        backtest_summary(full.drop(columns="n_found"))
