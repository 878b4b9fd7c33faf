"""Who is closer in one condition: standard errors against a bootstrap over cells, error rates, the rule of words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules.metrics import PRIMARY
from scperturb_modules.tl._margins import condition_table, margins
from scperturb_modules.tl._yardstick import yardstick

N_GENES = 40


def screen_of(n_conditions: int, n_cells: int, seed: int, *, contexts: tuple[str, ...] = ("",)) -> AnnData:
    """Pure noise, in which genes go together: every cell carries a factor of its own."""
    rng = np.random.default_rng(seed)
    names = [f"P{i:02d}" for i in range(n_conditions)]
    labels = np.repeat(["control", "T00", *names], [60, 40] + [n_cells] * n_conditions)
    blocks, where = [], []
    for context in contexts:
        factor = rng.normal(size=(len(labels), 2)) @ rng.normal(0, 0.5, (2, N_GENES))
        blocks.append(3 + factor + rng.normal(0, 0.3, (len(labels), N_GENES)))
        where += [context] * len(labels)
    obs = pd.DataFrame({"perturbation": np.tile(labels, len(contexts)), "line": where})
    obs["split"] = np.where(obs["perturbation"].isin(names), "test", "train")
    obs.loc[(obs["perturbation"] == "control") & (np.arange(len(obs)) % 3 == 0), "split"] = "test"
    obs.index = [f"cell{i}" for i in range(len(obs))]
    adata = AnnData(np.vstack(blocks), obs=obs)
    adata.var_names = [f"G{i:02d}" for i in range(N_GENES)]
    return adata


def margins_of(adata, said, **options):
    setup = keys.ScreenKeys(**options)
    against = yardstick(spm.pp.pseudobulk(adata, **vars(setup)))
    return margins(adata, setup, against, said(against), min_cells=10), against


def two(seed, size=0.5):
    """Two predictions of independent noise."""

    def said(against):
        rng = np.random.default_rng(seed)
        shape = against.difference.shape
        return {("Linear", 0): size * rng.normal(size=shape), ("M", 0): size * rng.normal(size=shape),
                ("M", 1): size * rng.normal(size=shape)}  # fmt: skip

    return said


def test_standard_error_is_that_of_a_bootstrap_over_cells():
    adata = screen_of(3, 50, 0)
    table, against = margins_of(adata, two(1))
    said = two(1)(against)
    assert len(table) == 6 and set(table["baseline"]) == {"Linear"}
    rng = np.random.default_rng(2)
    independent = []
    for _, row in table.iterrows():
        p = against.names.index(row["condition"])
        cells = adata.X[(adata.obs["perturbation"] == row["condition"]).to_numpy()]
        control = against.mean[p] - against.difference[p]
        drawn = cells[rng.integers(0, 50, (4000, 50))].mean(axis=1) - control
        model, base = said["M", row["model_seed"]][p], said["Linear", 0][p]
        differences = ((drawn - base) ** 2).sum(axis=1) - ((drawn - model) ** 2).sum(axis=1)
        assert row["se"] == pytest.approx(differences.std(), rel=0.1)
        covariance = np.cov(cells.T)
        assert row["se"] == pytest.approx(2 * np.sqrt((model - base) @ covariance @ (model - base) / 50))
        independent.append(2 * np.sqrt((model - base) ** 2 @ np.diag(covariance) / 50) / row["se"])
        assert row["error"] == pytest.approx(np.linalg.norm(against.difference[p] - model))
        assert row["difference"] == pytest.approx(row["baseline_error"] ** 2 - row["error"] ** 2)
    assert np.abs(np.array(independent) - 1).max() > 0.2  # genes are not independent, and that counts


@pytest.mark.parametrize("form", ["sparse", "layer", "contexts", "top genes"])
def test_forms_of_the_screen(form, monkeypatch):
    adata = screen_of(3, 20, 0, contexts=("x", "y") if form == "contexts" else ("",))
    options = {"cell_type_key": "line"} if form == "contexts" else {}
    if form == "top genes":
        from scperturb_modules import metrics

        whole = metrics.top_genes
        monkeypatch.setattr(metrics, "top_genes", lambda mean, names: whole(mean, names)[:15])
    expected, against = margins_of(adata, two(1), **options)
    if form == "sparse":
        adata.X = sparse.csr_matrix(adata.X)
    if form == "layer":
        adata.layers["log"], adata.X = adata.X, np.zeros(adata.shape)
        options["layer"] = "log"
    table, _ = margins_of(adata, two(1), **options)
    pd.testing.assert_frame_equal(table, expected, rtol=1e-6)
    row = table.iloc[-1]
    assert row["stratum"] == ("y" if form == "contexts" else "")
    chosen = (adata.obs["perturbation"] == row["condition"]).to_numpy() & (
        adata.obs["line"] == row["stratum"]
    ).to_numpy()
    values = (adata.layers["log"] if form == "layer" else adata.X)[chosen]
    values = values.toarray() if form == "sparse" else values
    p, said = len(against.names) - 1, two(1)(against)
    top = against.top[p]
    assert len(top) == (15 if form == "top genes" else N_GENES)
    projected = values[:, top] @ (said["M", 1][p] - said["Linear", 0][p])[top]
    assert row["se"] == pytest.approx(2 * projected.std(ddof=1) / np.sqrt(20), rel=1e-6)


def test_predictors_of_equal_error_beat_in_few_conditions():
    """Two predictions equally far from the true mean, in other directions: what differs is noise of the cells."""
    z: list[float] = []
    n_claims = 0
    for seed in range(20):
        adata = screen_of(20, 30, seed)

        def said(against, seed=seed):
            rng = np.random.default_rng([seed, 1])
            noise = rng.normal(size=(2, *against.difference.shape))
            noise *= 1.0 / np.linalg.norm(noise, axis=2, keepdims=True)
            true = 3 - (against.mean - against.difference)  # the planted mean minus training controls
            return {("Linear", 0): true + noise[0], ("M", 0): true + noise[1]}

        table, _ = margins_of(adata, said)
        z += (table["difference"] / table["se"]).tolist()
        n_claims += (condition_table(table.assign(split_kind="s"))["word"] != "ties").sum()
    assert len(z) == 400 and np.std(z) == pytest.approx(1, abs=0.1)  # there is noise to be fooled by
    assert n_claims / len(z) <= 0.05


def rows_of(*lines) -> pd.DataFrame:
    columns = ["condition", "baseline", "error", "baseline_error", "se"]
    table = pd.DataFrame(lines, columns=columns).assign(
        split_kind="s", regime="measured", stratum="", model="M", n_cells=200
    )
    return table.assign(difference=table["baseline_error"] ** 2 - table["error"] ** 2)


def words(table):
    return condition_table(table).set_index("condition")["word"].to_dict()


def test_the_rule_of_words():
    """Against the baseline that is best on average; the other one decides nothing."""
    table = rows_of(
        ("clear", "MeanShift", 1.0, 2.0, 0.1), ("clear", "NoChange", 1.0, 3.0, 0.1),
        ("even", "MeanShift", 1.0, 1.001, 0.1), ("even", "NoChange", 1.0, 3.0, 0.1),
        ("lost", "MeanShift", 2.0, 1.0, 0.1), ("lost", "NoChange", 2.0, 5.0, 0.1),
        ("nearer to the other", "MeanShift", 1.0, 2.0, 0.1), ("nearer to the other", "NoChange", 1.0, 0.5, 0.1),
        ("same", "MeanShift", 1.0, 1.0, 0.0), ("same", "NoChange", 1.0, 2.0, 0.1),
        ("one cell", "MeanShift", 1.0, 9.0, np.nan), ("one cell", "NoChange", 1.0, 9.0, 0.1),
    )  # fmt: skip
    assert words(table) == {
        "clear": "beats",
        "even": "ties",
        "lost": "loses",
        "nearer to the other": "beats",
        "same": "ties",
        "one cell": "ties",
    }
    found = condition_table(table).set_index("condition")
    assert set(found["baseline"]) == {"MeanShift"}
    assert found.loc["lost", ["error", "baseline_error"]].tolist() == [2.0, 1.0]
    row = found.loc["clear"]
    assert row["gain"] == 0.5 and row["gain"] / row["se"] == pytest.approx(3.0 / 0.1)


def test_of_equal_baselines_the_simplest_is_the_best():
    table = rows_of(("A", "MeanShift", 1.0, 2.0, 0.1), ("A", "NoChange", 1.0, 2.0, 0.1))
    assert condition_table(table)["baseline"].tolist() == ["NoChange"]


def test_many_conditions_ask_for_more():
    """p = .02 alone is a claim; among twenty without any it is none."""
    z = 2.35
    alone = rows_of(("A", "NoChange", 1.0, 1.1, (1.21 - 1.0) / z))
    others = rows_of(*((f"B{i:02d}", "NoChange", 1.0, 1.001, 0.1) for i in range(19)))
    assert words(alone) == {"A": "beats"}
    assert set(words(pd.concat([alone, others])).values()) == {"ties"}


def test_seeds_and_splits_are_averaged():
    one = rows_of(("A", "NoChange", 1.0, 2.0, 0.1))
    found = condition_table(pd.concat([one, one.assign(error=2.0, difference=0.0, se=0.3)])).iloc[0]
    assert (found["error"], found["gain"]) == (1.5, 0.25) and found["se"] == pytest.approx(0.2 / (2 * 3.5))


def test_nothing_to_judge():
    assert condition_table(pd.DataFrame()).empty
    assert list(condition_table(pd.DataFrame()).columns) == list(
        condition_table(rows_of(("A", "NoChange", 1.0, 2.0, 0.1))).columns
    )


def test_of_a_board(planted, model_class):
    adata = planted(n_singles=12, n_pairs=0)

    class Right(model_class):
        def delta(self, name):
            return adata.uns["planted"].loc[name].to_numpy()

    ours = [spm.baselines.NoChange, spm.baselines.MeanShift, spm.baselines.Linear]
    board = spm.tl.benchmark(adata, [Right, *ours], scheme="unseen_single", n_folds=2, metrics=[PRIMARY], n_boot=100)
    table = board.conditions()
    assert list(table.columns) == [
        "split_kind", "regime", "stratum", "condition", "model", "baseline", "error", "baseline_error", "gain", "se",
        "word", "n_cells",
    ]  # fmt: skip
    assert set(table["model"]) == {"Right"} and set(table["baseline"]) <= {"NoChange", "MeanShift", "Linear"}
    right = table[table["model"] == "Right"].set_index("condition")
    assert set(right["word"]) == {"beats"} and set(right["n_cells"]) == {40}
    frame = board.frame.astype({"model": str, "condition": str}).set_index(["model", "condition"])["value"]
    np.testing.assert_allclose(right["error"], frame["Right"][right.index])
    for condition, row in right.iterrows():
        assert row["baseline_error"] == pytest.approx(frame[row["baseline"], condition])


def test_ceilings_of_conditions(planted):
    ours = [spm.baselines.NoChange, spm.baselines.MeanShift]
    call = {"scheme": "unseen_single", "n_folds": 2, "n_boot": 100}
    adata = planted(n_pairs=0, n_genes=60, n_cells=50, effect=0.1)
    board = spm.tl.benchmark(adata, ours, metrics=[PRIMARY, "pearson_delta"], **call)
    table = board.ceilings()
    facts = ["n_cells", "replicate_r", "reliability", "best_r", "floor"]
    assert list(table.columns) == ["split_kind", "regime", "stratum", "condition", *facts]
    assert len(table) == 12 and set(table["n_cells"]) == {50}
    np.testing.assert_allclose(table["floor"], np.sqrt(60 * 0.16 / 50), rtol=0.25)
    positive = table[table["replicate_r"] > 0]
    r = positive["replicate_r"]
    np.testing.assert_allclose(positive["reliability"], 2 * r / (1 + r))
    np.testing.assert_allclose(positive["best_r"] ** 2, positive["reliability"])
    assert table.loc[table["replicate_r"] <= 0, ["reliability", "best_r"]].isna().all(axis=None)
    # the truth itself correlates with the data as promised
    truth = board.truths["unseen_single_fold0"]
    tested = [name for name in truth.obs_names if truth.obs.loc[name, "split"] == "test"]
    reached = [np.corrcoef(truth[name].layers["delta"][0], adata.uns["planted"].loc[name])[0, 1] for name in tested]
    promised = table.set_index("condition").loc[tested, "best_r"]
    assert np.mean(reached) == pytest.approx(promised.mean(), abs=0.1)
    without = spm.tl.benchmark(adata, ours, metrics=[PRIMARY], **call).ceilings()
    assert without[["replicate_r", "reliability", "best_r"]].isna().all(axis=None) and without["floor"].notna().all()
    few = spm.tl.benchmark(planted(n_pairs=0, n_cells=15), ours, metrics=[PRIMARY, "pearson_delta"], **call).ceilings()
    assert few[["replicate_r", "best_r", "floor"]].isna().all(axis=None)
