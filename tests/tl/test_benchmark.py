from __future__ import annotations

import functools
import hashlib
import pickle

import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules._errors import DataError, LeakError
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.metrics import PRIMARY
from scperturb_modules.tl._folds import FoldPlan, make_fold

FAST = {"n_boot": 300, "n_folds": 2, "seed": 0}
FEW = [spm.baselines.NoChange, spm.baselines.MeanShift, spm.baselines.Additive]
SIMPLE = {"metrics": [PRIMARY, "pearson_delta"], **FAST}


@pytest.fixture(scope="module")
def screen(planted):
    return planted(interaction=0.15, n_pairs=24)


@pytest.fixture(scope="module")
def prior(planted):
    return pd.DataFrame(np.random.default_rng(0).normal(size=(40, 5)), index=[f"G{i:02d}" for i in range(40)])


def fingerprint(adata) -> str:
    parts = (adata.X, adata.obs, adata.var, dict(adata.uns), dict(adata.layers), dict(adata.obsm))
    return hashlib.sha256(pickle.dumps(parts)).hexdigest()


def oracle(model_class, changes, noise):
    class Oracle(model_class):
        def delta(self, name):
            rng = np.random.default_rng([self.seed, *name.encode()])
            return changes.loc[name].to_numpy() + noise * rng.normal(size=self.adata.n_vars)

    return Oracle


# ---------------------------------------------------------------- verdicts


def test_a_better_model_beats_and_a_noisy_copy_does_not(planted, model_class):
    """E13, end to end: only the predictor that knows the interactions wins."""
    adata = planted(interaction=0.15, n_pairs=24)
    better = oracle(model_class, adata.uns["planted"], 0.0)

    class NoisyCopy(model_class):
        def predict(self, conditions=None):
            spm.baselines.AdditiveShrunk.setup_anndata(self.adata)
            shrunk = spm.baselines.AdditiveShrunk(self.adata)
            shrunk.train()
            prediction = shrunk.predict(conditions)
            rng = np.random.default_rng(self.seed)
            prediction.layers["delta"] += 0.05 * rng.normal(size=prediction.shape)
            return prediction

    models = {"Better": better, "NoisyCopy": NoisyCopy}
    ours = {cls.__name__: cls for cls in spm.baselines.ALL}
    board = spm.tl.benchmark(adata, {**models, **ours}, scheme="combination", **FAST)
    primary = board.summary().query("metric == 'l2_top1000'").set_index("model")
    assert primary.loc["Better", "verdict"] == "beats"
    assert primary.loc["Better", "gain_low"] > 0 and primary.index[0] == "Better"
    assert primary.loc["NoisyCopy", "verdict"] in ("no better", "worse")
    text = board.verdict()
    assert "Better beats the baselines on pair_2of2" in text
    assert text.startswith("The bar on pair_2of2 is Additive")
    assert not board.errors.size and "NoisyCopy is " in text
    # only the models are judged where there are models
    assert "Linear is" not in text and "MatchingMean" not in text


def test_only_baselines_judge_those_that_are_not_mandatory(screen):
    board = spm.tl.benchmark(screen, scheme="combination", **SIMPLE)
    text = board.verdict()
    assert text.endswith("\nOther baselines: MatchingMean, Linear worse.") and "MeanShift" not in text


# ---------------------------------------------------------------- what reaches a predictor


def test_poison(screen, prior):
    """Replace all test cells by noise; every prediction stays the same to the last bit."""
    adata = screen.copy()
    spm.pp.split(adata, "combination", seed=0)
    poisoned = adata.copy()
    test = (poisoned.obs["split"] == "test").to_numpy()
    poisoned.X[test] = np.random.default_rng(1).uniform(0, 9, (test.sum(), adata.n_vars))
    boards = [spm.tl.benchmark(one, priors=prior, **SIMPLE) for one in (adata, poisoned)]
    assert set(boards[0].predictions) == set(boards[1].predictions)
    assert {name for name, _ in boards[0].predictions} == {cls.__name__ for cls in spm.baselines.ALL} - {"Transfer"}
    for key, prediction in boards[0].predictions.items():
        other = boards[1].predictions[key]
        for layer in ("delta", "control"):
            assert np.array_equal(prediction.layers[layer], other.layers[layer]), (key, layer)
    values = [board.frame["value"].to_numpy() for board in boards]
    assert not np.array_equal(*values, equal_nan=True)


def test_a_model_gets_training_cells_only(screen, model_class):
    seen = []

    class Curious(model_class):
        def __init__(self, adata, **kwargs):
            super().__init__(adata, **kwargs)
            seen.append(adata)

    adata = screen.copy()
    adata.uns["scperturb_modules"] = {"simulation": {"truth": 1}, "labels": {"kept": 1}}
    adata.obsm["X_pca"] = np.ones((adata.n_obs, 2))
    adata.layers["other"] = adata.X.copy()
    spm.pp.split(adata, "combination", seed=0)
    board = spm.tl.benchmark(adata, [Curious, *FEW], **SIMPLE)
    (given,) = seen
    inside = adata[adata.obs["split"] != "test"]
    assert given.obs_names.tolist() == inside.obs_names.tolist()
    np.testing.assert_array_equal(given.X, inside.X)
    np.testing.assert_array_equal(given.layers["other"], inside.layers["other"])
    assert not given.obsm and set(given.uns["scperturb_modules"]) == {"labels"} and "planted" not in given.uns
    assert set(adata.uns["scperturb_modules"]) == {"simulation", "labels", "split"}
    tested = set(adata.obs.loc[adata.obs["split"] == "test", "perturbation"]) - {"control"}
    assert set(board.predictions["Curious", "combination_fold0"].obs_names) == tested
    given.X[:] = 0
    assert adata.X.any()


def test_the_users_object_is_untouched(screen):
    adata = screen.copy()
    before = fingerprint(adata)
    spm.tl.benchmark(adata, FEW, scheme="combination", **SIMPLE)
    assert fingerprint(adata) == before
    spm.pp.split(adata, "combination")
    before = fingerprint(adata)
    spm.tl.benchmark(adata, FEW, protocol="published", **SIMPLE)
    assert fingerprint(adata) == before


def test_a_leak_stops_it_or_is_written_into_every_row(screen):
    adata = screen.copy()
    spm.pp.split(adata, "combination")
    test, train = (
        np.flatnonzero((adata.obs["split"] == part) & (adata.obs["perturbation"] != "control"))
        for part in ("test", "train")
    )
    adata.X[test[0]] = adata.X[train[0]]
    with pytest.raises(LeakError, match="same counts"):
        spm.tl.benchmark(adata, FEW, **SIMPLE)
    board = spm.tl.benchmark(adata, FEW, allow_leak=True, **SIMPLE)
    assert set(board.frame["leak_status"]) == {"leak"}
    clean = spm.tl.benchmark(screen, FEW, scheme="combination", **SIMPLE)
    assert set(clean.frame["leak_status"]) == {"clean"}


# ---------------------------------------------------------------- failing predictors (E22)


def failing(model_class, stage):
    class Failing(model_class):
        @classmethod
        def setup_anndata(cls, adata, **kwargs):
            if stage == "setup":
                raise RuntimeError("broke in setup")
            super().setup_anndata(adata, **kwargs)

        def __init__(self, adata, **kwargs):
            if stage == "init":
                raise MemoryError("broke in init")
            super().__init__(adata, **kwargs)

        def train(self):
            super().train()
            if stage == "train":
                raise KeyError("broke in train")

        def predict(self, conditions=None):
            prediction = super().predict(conditions)
            if stage == "predict":
                raise ValueError("broke in predict")
            if stage == "genes":
                return prediction[:, 1:].copy()
            if stage == "nan":
                prediction.layers["delta"][0, 0] = np.nan
            if stage == "kind":
                return prediction.to_df()
            return prediction

    return Failing


STAGES = {
    "setup": "RuntimeError: broke in setup",
    "init": "MemoryError: broke in init",
    "train": "KeyError: 'broke in train'",
    "predict": "ValueError: broke in predict",
    "genes": "DataError: The prediction lacks 1 of 60 genes: 'G00'",
    "nan": "DataError: The prediction has NaN or infinite values in 1 rows",
    "kind": "AttributeError: ",
}


def test_failing_models_do_not_stop_the_others(screen, model_class):
    models = {f"Fails_{stage}": failing(model_class, stage) for stage in STAGES}
    ours = {cls.__name__: cls for cls in FEW}
    board = spm.tl.benchmark(screen, {**models, "Fine": model_class, **ours}, scheme="combination", **SIMPLE)
    assert len(board.errors) == len(STAGES) * 2
    for stage, message in STAGES.items():
        rows = board.errors[board.errors["predictor"] == f"Fails_{stage}"]
        assert rows["message"].str.startswith(message).all(), (stage, rows["message"].tolist())
        assert rows["traceback"].str.startswith("Traceback").all()
    frame = board.frame
    failed = frame[frame["model"].astype(str).str.startswith("Fails_")]
    assert set(failed["status"]) == {"error"} and failed["value"].notna().all()
    no_change = frame[frame["model"] == "NoChange"]["value"].to_numpy()
    for model in models:
        np.testing.assert_array_equal(frame[frame["model"] == model]["value"].to_numpy(), no_change)
    assert "error" not in set(frame.loc[frame["model"].isin(["Fine", *ours]), "status"])
    assert "Failed and scored as no change: 'Fails_genes', 'Fails_init'" in board.verdict()
    assert not any(name.startswith("Fails_") for name, _ in board.predictions)


def test_baselines_that_do_not_apply_are_skipped_with_the_reason(screen):
    board = spm.tl.benchmark(screen, scheme="combination", **SIMPLE)
    reasons = board.skipped.drop_duplicates("predictor").set_index("predictor")["reason"].to_dict()
    assert reasons["Transfer"] == "one context only" and reasons["KernelRidge"] == "no prior given"
    assert not set(reasons) & set(board.frame["model"])
    with pytest.raises(DataError, match=r"No predictor applies to combination_fold0: 'Transfer \(one context only\)'"):
        spm.tl.benchmark(screen, [spm.baselines.Transfer], scheme="combination", **SIMPLE)


# ---------------------------------------------------------------- equal runs (E23)


def same(first, second):
    pd.testing.assert_frame_equal(first.frame, second.frame, check_exact=True)
    pd.testing.assert_frame_equal(first.summary(), second.summary(), check_exact=True)
    pd.testing.assert_frame_equal(first.replicates, second.replicates, check_exact=True)
    assert first.verdict() == second.verdict()
    assert list(first.predictions) == list(second.predictions)


def test_equal_for_one_and_four_jobs_and_from_run_to_run(screen, prior):
    settings = {"predictors": [*FEW, spm.baselines.NearestPrior], "priors": {"p": prior}, "scheme": "unseen_single"}
    first = spm.tl.benchmark(screen, **settings, **SIMPLE)
    same(first, spm.tl.benchmark(screen, n_jobs=4, **settings, **SIMPLE))
    same(first, spm.tl.benchmark(screen, **settings, **SIMPLE))


def test_another_seed_is_another_split(screen):
    boards = [spm.tl.benchmark(screen, FEW, scheme="combination", n_boot=300, n_folds=1, seed=seed) for seed in (0, 1)]
    tested = [set(board.frame["condition"]) for board in boards]
    assert tested[0] != tested[1] and set(boards[1].frame["split_seed"]) == {1}


def test_order_of_cells_does_not_matter(screen):
    shuffled = screen[np.random.default_rng(3).permutation(screen.n_obs)].copy()
    boards = [spm.tl.benchmark(one, FEW, scheme="combination", **SIMPLE) for one in (screen, shuffled)]
    left, right = (board.frame.drop(columns=["replicate_value", "floor"]) for board in boards)
    pd.testing.assert_frame_equal(left, right, check_exact=False, rtol=1e-9)


# ---------------------------------------------------------------- arguments


def test_seeds_are_for_predictors_that_use_them(screen, model_class):
    class Dice(model_class):
        def delta(self, name):
            return np.full(self.adata.n_vars, 0.1 * self.seed)

    board = spm.tl.benchmark(screen, [Dice, *FEW], scheme="combination", n_seeds=3, **{**SIMPLE, "seed": 5})
    seeds = board.frame.groupby("model", observed=True)["model_seed"].agg(lambda column: sorted(set(column)))
    assert seeds["Dice"] == [5, 6, 7] and seeds["Additive"] == [5]
    assert board.predictions["Dice", "combination_fold0"].layers["delta"].max() == 0.5
    row = board.summary().query("model == 'Dice' and metric == 'l2_top1000'").iloc[0]
    assert row["seed_sd"] > 0 and row["split_sd"] > 0
    assert board.summary().query("model == 'Additive' and metric == 'l2_top1000'")["seed_sd"].isna().all()


def test_predictors_may_be_partials_names_or_one_class(screen, model_class):
    shift = functools.partial(spm.baselines.NearestPrior)
    board = spm.tl.benchmark(screen, {"mine": functools.partial(model_class), "ours": shift, "no": FEW[0]},
                             scheme="combination", priors=None, **SIMPLE)  # fmt: skip
    assert {"mine", "no"} <= set(board.frame["model"])
    facts = board.frame.groupby("model", observed=True)["is_baseline"].first()
    assert not facts["mine"] and facts["no"]
    assert set(spm.tl.benchmark(screen, FEW[0], scheme="combination", **SIMPLE).frame["model"]) == {"NoChange"}
    with pytest.raises(TypeError, match="pass classes"):
        spm.tl.benchmark(screen, [object()], **SIMPLE)
    with pytest.raises(ValueError, match="'NoChange' stands for several"):
        spm.tl.benchmark(screen, [FEW[0], FEW[0]], **SIMPLE)
    with pytest.raises(ValueError, match="there is no predictor"):
        spm.tl.benchmark(screen, [], **SIMPLE)


def test_the_split_in_the_screen_is_used(screen):
    adata = screen.copy()
    tested = [name for name in sorted(set(adata.obs["perturbation"])) if "+" in name][:11]
    adata.obs["split"] = np.where(adata.obs["perturbation"].isin(tested), "test", "train")
    for scheme in ("auto", None):
        board = spm.tl.benchmark(adata, FEW, scheme=scheme, **SIMPLE)
        assert set(board.frame["condition"]) == set(tested)
        # no control is held out: the literature's protocol, and the verdict says so
        assert set(board.frame["protocol"]) == {"published"} and set(board.frame["split_kind"]) == {"given"}
    assert "comparable to the literature only" in spm.tl.benchmark(adata, scheme=None, **SIMPLE).verdict()
    named = spm.tl.benchmark(adata, FEW, scheme="unseen_single", **SIMPLE)
    assert set(named.frame["split_kind"]) == {"unseen_single"} and set(named.frame["protocol"]) == {"strict"}
    with pytest.raises(DataError, match="scheme=None uses obs"):
        spm.tl.benchmark(screen, FEW, scheme=None, **SIMPLE)


def test_auto_takes_the_schemes_that_suit_the_screen(screen):
    board = spm.tl.benchmark(screen, FEW, **SIMPLE)
    assert set(board.frame["split_kind"]) == {"combination", "unseen_single"}
    assert set(board.frame["fold"]) == {0, 1}
    # every gene is held out once
    singles = board.frame.query("split_kind == 'unseen_single' and regime == 'single_unseen'")
    assert singles["condition"].nunique() == 12


def test_published_shares_controls(screen):
    adata = screen.copy()
    spm.pp.split(adata, "combination")
    assert set(spm.tl.benchmark(adata, FEW, **SIMPLE).frame["protocol"]) == {"strict"}
    board = spm.tl.benchmark(adata, FEW, protocol="published", **SIMPLE)
    assert set(board.frame["protocol"]) == {"published"} and set(board.frame["n_cells_control"]) == {160}
    with pytest.raises(ValueError, match="use 'strict' or 'published'"):
        spm.tl.benchmark(adata, FEW, protocol="loose", **SIMPLE)


def test_contexts_are_held_out_one_by_one(planted):
    two = planted(contexts=("x", "y"), n_pairs=0, interaction=0)
    board = spm.tl.benchmark(two, scheme="unseen_context", cell_type_key="line", **{**SIMPLE, "n_folds": 5})
    assert set(board.frame["fold"]) == {0, 1} and set(board.frame["regime"]) == {"context_unseen"}
    row = board.summary().query("model == 'Transfer' and metric == 'l2_top1000'").iloc[0]
    assert row["n"] == 12  # a gene in two contexts is one cluster
    assert row["verdict"] == "beats"


def test_variable_genes_are_chosen_from_training_cells(screen):
    plan = FoldPlan("combination", 0, 2, 0, "strict", 20, False)
    fold = make_fold(screen, ScreenKeys(), plan, None)
    assert 20 <= fold.screen.n_vars < 60
    poisoned = screen.copy()
    test = (fold.screen.obs["split"] == "test").to_numpy()
    poisoned.X[test] = np.random.default_rng(0).uniform(0, 9, (test.sum(), 60))
    again = make_fold(poisoned, ScreenKeys(), plan, None)
    assert again.screen.var_names.tolist() == fold.screen.var_names.tolist()
    board = spm.tl.benchmark(screen, FEW, scheme="combination", n_top_genes=20, **SIMPLE)
    assert set(board.frame.loc[board.frame["metric"] == PRIMARY, "n_genes"]) <= set(range(20, 60))


def test_progress_is_told(screen, capsys):
    calls = []
    spm.tl.benchmark(screen, FEW, scheme="combination", progress=lambda *call: calls.append(call), **SIMPLE)
    assert calls == [(0, 2, ""), (1, 2, "combination_fold0"), (2, 2, "combination_fold1")]
    spm.tl.benchmark(screen, FEW, scheme="combination", progress=True, **SIMPLE)
    assert capsys.readouterr().out == ""


def test_numbers_are_checked(screen):
    for name in ("n_folds", "n_seeds", "n_boot", "min_cells"):
        with pytest.raises(ValueError, match=f"{name}=0 must be at least 1"):
            spm.tl.benchmark(screen, FEW, **{**SIMPLE, name: 0})


def test_prior_from_a_screen_is_marked(screen, prior):
    marked = prior.copy()
    marked.attrs["derived_from"] = "same_line_other_screen"
    predictors = [*FEW, spm.baselines.NearestPrior]
    board = spm.tl.benchmark(screen, predictors, priors=marked, scheme="combination", **SIMPLE)
    uses = board.frame.groupby("model", observed=True)["uses_perturbation_prior"].first()
    assert uses["NearestPrior"] and not uses["Additive"]
    marked.attrs["derived_from"] = "same_screen"
    with pytest.raises(LeakError, match="made from this screen"):
        spm.tl.benchmark(screen, predictors, priors=marked, scheme="combination", **SIMPLE)


@pytest.mark.parametrize("form", ["table", "network"])
def test_a_network_is_a_prior_like_any_other(screen, form):
    ends = np.random.default_rng(0).integers(40, size=(2, 200))
    edges = pd.DataFrame({"source": [f"G{i:02d}" for i in ends[0]], "target": [f"G{i:02d}" for i in ends[1]]})

    def network(origin):
        edges.attrs = {"name": "GRN", "derived_from": origin}
        return edges if form == "table" else spm.priors.GeneGraph.from_table(edges)

    predictors = [*FEW, spm.baselines.NearestPrior]
    board = spm.tl.benchmark(
        screen, predictors, priors=[network("same_line_other_screen")], scheme="combination", **SIMPLE
    )
    uses = board.frame.groupby("model", observed=True)["uses_perturbation_prior"].first()
    assert uses["NearestPrior"] and not uses["Additive"]
    with pytest.raises(LeakError, match="GRN was made from this screen"):
        spm.tl.benchmark(screen, predictors, priors=network("same_screen"), scheme="combination", **SIMPLE)
