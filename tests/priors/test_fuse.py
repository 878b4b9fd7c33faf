"""fuse: several priors as one similarity, and what each is worth."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules._errors import DataError
from scperturb_modules.priors import FusedPrior, fuse, gene_sets

GENES = [f"G{i:02d}" for i in range(30)]


def planted(seed=0, n_groups=6):
    """Effects of groups of genes; a table that knows the groups, one that knows others, sets of some genes."""
    rng = np.random.default_rng(seed)
    group = np.arange(len(GENES)) % n_groups
    effects = pd.DataFrame(
        rng.normal(size=(n_groups, 25))[group] + 0.3 * rng.normal(size=(len(GENES), 25)), index=GENES
    )
    places = rng.normal(size=(n_groups, 4))
    good = pd.DataFrame(places[group] + 0.1 * rng.normal(size=(len(GENES), 4)), index=GENES)
    bad = good.set_axis(rng.permutation(GENES))
    sets = gene_sets({f"set{i}": [GENES[j] for j in range(20) if group[j] == i] for i in range(n_groups)})
    return effects, {"good": good, "bad": bad, "sets": sets}


def test_the_source_that_knows_is_found():
    for seed in range(4):
        effects, priors = planted(seed)
        table = fuse(priors, effects).sources
        assert table.loc["good", "weight"] > 0.5 > 10 * table.loc["bad", "weight"]
        assert table.loc["good", "error"] < 0.5 and table.loc["bad", "error"] > 0.9
        assert table["weight"].sum() == pytest.approx(1.0) and table.loc["(base)", "error"] == 1.0


def test_weights_are_those_of_nearest_prior():
    adata = spm.datasets.simulate(seed=0, n_genes=200, n_cells=30)
    graphs = adata.uns["scperturb_modules"]["simulation"]
    spm.pp.split(adata, "unseen_single", seed=0)
    spm.baselines.NearestPrior.setup_anndata(adata)
    priors = {"true": graphs["graph"], "decoy": graphs["graph_decoy"]}
    model = spm.baselines.NearestPrior(adata, priors=priors)
    model.train()
    fused = fuse(priors, model.training)
    learned = model.settings["neighbours"]["all"]
    assert learned["base_weight"] == fused.fusion.base_weight
    for name, said in learned["sources"].items():
        assert said == fused.sources.loc[name, list(said)].to_dict()


def test_similarity_is_the_weighted_mean_of_the_sources_that_know_both():
    effects, priors = planted()
    fused = fuse(priors, effects)
    asked = ["G00", "G06", "G25", "nowhere"]
    got = fused.similarity(asked, ["G12", "G25", "G00"])
    assert got.index.tolist() == asked and got.columns.tolist() == ["G12", "G25", "G00"]
    for row in asked:
        for column in got.columns:
            total = weight = 0.0
            for fit in fused.fusion.sources:
                view = fused.priors[fit.source].views[fit.view]
                if row in view.row and column in view.row:
                    one, other = (np.asarray(_dense(view.of([gene])))[0] for gene in (row, column))
                    total += fit.weight * min(max(float(one @ other), 0.0), 1.0) ** fit.power
                    weight += fit.weight
            if weight == 0:
                assert np.isnan(got.loc[row, column])
            else:
                expected = 1.0 if row == column else total / weight
                assert got.loc[row, column] == pytest.approx(expected, abs=1e-9)
    square = fused.similarity(GENES)
    np.testing.assert_allclose(square, square.T, atol=1e-12)


def _dense(rows):
    return rows.toarray() if hasattr(rows, "toarray") else rows


def test_features_have_the_similarities_as_inner_products():
    effects, priors = planted()
    fused = fuse(priors, effects)
    table = fused.to_frame(n_features=30)
    similar = fused.similarity(list(table.index)).to_numpy()
    value, vector = np.linalg.eigh((similar + similar.T) / 2)
    nearest = (vector * np.maximum(value, 0)) @ vector.T  # the nearest that is a table of inner products
    np.testing.assert_allclose(table.to_numpy() @ table.to_numpy().T, nearest, atol=1e-8)
    few = fused.to_frame(["G03", "G01", "nowhere"], n_features=1)
    assert few.index.tolist() == ["G01", "G03"] and few.shape == (2, 1)
    # it can be used wherever a table can
    assert spm.priors.as_tables(fused)["fused"].shape == (30, fused.to_frame().shape[1])


def test_without_effects_all_weigh_the_same():
    _, priors = planted()
    fused = fuse(priors, name="all three")
    assert fused.sources["weight"].tolist() == [pytest.approx(1 / 3)] * 3 and fused.sources["error"].isna().all()
    assert repr(fused).startswith("FusedPrior('all three', 30 genes; weights: good 0.33, bad 0.33, sets 0.33")


def test_what_it_was_made_from_is_told_to_the_leak_check():
    adata = spm.datasets.simulate("tiny", seed=0)
    graph = adata.uns["scperturb_modules"]["simulation"]["graph"]
    spm.pp.split(adata, "unseen_single", seed=0)
    fused = fuse([graph], spm.pp.pseudobulk(adata, cells="training"))

    def level(split):
        report = spm.pp.check_leakage(split, priors=[fused])
        return report.set_index("check")["result"]["priors"]

    assert level(adata) != "fail"
    other = adata.copy()
    spm.pp.split(other, "unseen_single", seed=0, fold=1, overwrite=True)
    assert level(other) == "fail"
    leaked = graph.copy()
    leaked.attrs["derived_from"] = "same_screen"
    assert fuse([leaked]).attrs["derived_from"] == "same_screen"
    coexpressed = spm.priors.coexpression(adata)
    assert fuse([coexpressed, graph]).attrs["cells"]["conditions"] == list(coexpressed.attrs["cells"]["conditions"])


def test_bad_input_is_named():
    effects, priors = planted()
    with pytest.raises(DataError, match="no prior to fuse"):
        fuse([])
    with pytest.raises(DataError, match=r"The priors know 0 of 30 perturbed genes, first: 'X00'.*coverage"):
        fuse(priors, effects.set_axis([f"X{i:02d}" for i in range(30)]))
    holed = effects.copy()
    holed.loc["G02"] = np.nan
    with pytest.raises(DataError, match="effects of 1 genes are not finite: 'G02'"):
        fuse(priors, holed)
    adata = spm.datasets.simulate("tiny", seed=0)
    spm.pp.split(adata, "unseen_single", seed=0)
    with pytest.raises(DataError, match='may hold test cells.*cells="training"'):
        fuse(priors, spm.pp.pseudobulk(adata))
    with pytest.raises(DataError, match="0 known genes, but 1 to 8000"):
        fuse(priors, effects).to_frame(["nowhere"])


def test_many_singles_are_drawn_with_the_seed(monkeypatch):
    monkeypatch.setattr("scperturb_modules.priors._fusion.MOST_LEARNT_FROM", 12)
    effects, priors = planted()
    first, again, other = (fuse(priors, effects, seed=seed) for seed in (0, 0, 1))
    assert isinstance(first, FusedPrior) and first.fusion == again.fusion != other.fusion
