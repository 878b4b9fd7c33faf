"""Verdicts as a table, corrected for several models, and their error rates on planted truth (E13)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules.metrics import PRIMARY, compare, holm
from scperturb_modules.tl._board import Benchmark
from scperturb_modules.tl._frame import as_results

N, N_SIMULATIONS, SCATTER = 40, 200, 0.12
BASELINES = {"NoChange": 1.4, "MeanShift": 1.0, "MeanFitted": 1.3}


def board_of(models: dict[str, float], seeds: Sequence[int], *, n: int = N, n_boot: int = 500) -> Benchmark:
    """A board of losses: level of the condition x size of the predictor x scatter of its own; a split per seed."""
    sizes = BASELINES | models
    tables = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        level = rng.lognormal(0, 0.3, n)
        value = np.concatenate([size * level * rng.lognormal(0, SCATTER, n) for size in sizes.values()])
        rows = {"split_kind": f"s{seed:03d}", "model": np.repeat(list(sizes), n), "value": value}
        tables.append(pd.DataFrame(rows).assign(condition=np.tile([f"C{i:02d}" for i in range(n)], len(sizes))))
    frame = pd.concat(tables, ignore_index=True)
    facts = {"metric": PRIMARY, "regime": "measured", "split_seed": 0, "fold": 0, "model_seed": 0, "floor": 0.1}
    frame = frame.assign(is_baseline=frame["model"].isin(list(BASELINES)))
    return Benchmark(as_results(frame, protocol="strict", **facts), settings={"n_boot": n_boot, "seed": 0})


def claims(models: dict[str, float], n_simulations: int = N_SIMULATIONS, **options: int) -> pd.DataFrame:
    """A row per simulation and model: whether the judge says that it beats, and would without correction."""
    judged = board_of(models, range(n_simulations), **options)._verdicts
    lines = [(split, one.verdict.word == "beats", one.p < 0.05) for (split, _, m), one in judged.items() if m in models]
    return pd.DataFrame(lines, columns=["simulation", "beats", "naive"])


def test_a_model_equal_to_the_baseline_is_rarely_said_to_beat_it():
    found = claims({"M": 1.0})
    assert len(found) == N_SIMULATIONS and found["beats"].mean() <= 0.05
    assert found["beats"].equals(found["naive"])


def test_a_truly_better_model_is_found():
    assert claims({"M": 0.8})["beats"].mean() >= 0.80


def test_among_several_equal_models_hardly_ever_one_is_said_to_beat():
    found = claims({f"M{i}": 1.0 for i in range(4)}, 100, n_boot=2000).groupby("simulation").any()
    allowed = 0.025 + 3 * np.sqrt(0.025 * 0.975 / len(found))
    assert len(found) == 100 and found["beats"].mean() <= allowed < found["naive"].mean()  # one by one, they would


def test_the_table_stands_beside_the_sentences():
    board = board_of({"A": 0.97, "B": 0.8, "C": 1.0}, [3])
    table = board.verdicts()
    assert list(table.columns) == [
        "split_kind", "regime", "model", "is_baseline", "word", "gain_vs", "gain", "gain_low", "gain_high", "p",
        "p_adjusted", "n", "text",
    ]  # fmt: skip
    assert table["model"].tolist() == board.summary()["model"].tolist()
    assert table["word"].tolist() == board.summary()["verdict"].tolist()
    models = table[~table["is_baseline"]]
    for text in models["text"]:
        assert text in board.verdict().splitlines()
    wide = board.frame.pivot(index="condition", columns="model", values="value")
    p = [max(compare(wide[m], wide[b], n_boot=500, seed=0).p_gain for b in BASELINES) for m in models["model"]]
    np.testing.assert_allclose(models["p"], p)
    np.testing.assert_allclose(models["p_adjusted"], holm(p))
    baselines = table[table["is_baseline"]]
    assert baselines["p"].equals(baselines["p_adjusted"])


def test_the_correction_changes_the_word_and_says_so():
    """A model that beats on its own does not among four."""
    alone = board_of({"M": 0.94}, range(30))
    p = alone.verdicts().query("model == 'M' and 0.03 < p < 0.049")
    chosen = alone.frame[alone.frame["split_kind"] == p["split_kind"].iloc[0]]
    one = Benchmark(as_results(chosen), settings=alone.settings)
    others = [chosen[chosen["model"] == "NoChange"].assign(model=name, is_baseline=False) for name in "XYZ"]
    many = Benchmark(as_results(pd.concat([chosen, *others])), settings=alone.settings)
    row, before = (board.verdicts().set_index("model").loc["M"] for board in (many, one))
    assert before["word"] == "beats" and before["p"] == row["p"] == before["p_adjusted"]
    assert row["p_adjusted"] == pytest.approx(4 * row["p"])
    assert row["word"] == "no better" and row["gain_low"] > 0
    assert "M is not shown to beat MeanShift on measured" in many.verdict() and "4 models" in row["text"]


def test_too_few_conditions_make_no_claim():
    table = board_of({"M": 0.5}, [0], n=8).verdicts()
    assert set(table["word"]) == {"cannot tell"} and table["p"].isna().all() and table["p_adjusted"].isna().all()


# ---------------------------------------------------------------- end to end


@pytest.mark.parametrize(("size", "most", "least"), [(1.0, 1, 0), (0.8, 20, 16)])
def test_planted_predictors_of_twenty_screens(planted, model_class, size, most, least):
    """The truth plus noise: as far from it as no change is (the best baseline here), or 20 % nearer."""

    def beats(seed: int) -> bool:
        adata = planted(n_singles=16, n_pairs=0, n_genes=40, n_cells=40, seed=seed)
        parts = {name: "test" if i > 3 else "train" for i, name in enumerate(sorted(adata.uns["planted"].index[1:]))}
        spm.pp.split(adata, "custom", assignment=parts, seed=seed)

        class Planted(model_class):
            def delta(self, name):
                true = adata.uns["planted"].loc[name].to_numpy()
                noise = np.random.default_rng([seed, *name.encode()]).normal(size=len(true))
                return true + size * noise * np.linalg.norm(true) / np.linalg.norm(noise)

        predictors = [Planted, spm.baselines.NoChange, spm.baselines.MeanShift, spm.baselines.MeanFitted]
        board = spm.tl.benchmark(adata, predictors, scheme=None, metrics=[PRIMARY], n_boot=300)
        return board.verdicts().set_index("model").loc["Planted", "word"] == "beats"

    assert least <= sum(beats(seed) for seed in range(20)) <= most
