"""What SCBIG says of programs and cells, against plain computations on cells and predictions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, NotTrainedError

ASKED = ["G12", "G02+G10", "G12+G49", "G02", "X01"]


def cells_of(screen, name, *, part=None):
    chosen = (screen.obs["perturbation"] == name).to_numpy()
    if part is not None:
        chosen &= (screen.obs["split"] == part).to_numpy()
    return screen[chosen].X.toarray().astype(np.float64)


@pytest.fixture(scope="module")
def genes(big):
    """Genes of each program."""
    labels = big.programs.labels
    return {name: np.flatnonzero(labels == name) for name in ("P1", "P2", "P3", "P4")}


@pytest.fixture(scope="module")
def controls(big_screen):
    return cells_of(big_screen, "control", part="train")


@pytest.fixture(scope="module")
def plain_activity(controls, genes):
    """Cells (n, G) to (n, K), program by program and gene by gene."""
    mean, sd = controls.mean(axis=0), np.maximum(controls.std(axis=0), 0.1)

    def activity(cells, centre=True):
        scaled = (cells - (mean if centre else 0)) / sd
        return np.stack([np.mean([scaled[:, gene] for gene in own], axis=0) for own in genes.values()], axis=1)

    return activity


# -- programs --------------------------------------------------------------------------------------------------------


def test_genes_of_programs(big, big_screen):
    table = big.gene_programs()
    assert table.columns.tolist() == ["program", "gene", "loading", "margin"]
    assert sorted(table["gene"]) == sorted(big_screen.var_names)
    sizes = table["program"].value_counts()
    assert sizes[["P1", "P2", "P3", "P4"]].is_monotonic_decreasing
    for _, own in table.groupby("program"):
        assert own["loading"].is_monotonic_decreasing
    assert table["program"].is_monotonic_increasing
    top = big.gene_programs(3, store=False)
    assert top.groupby("program").size().tolist() == [3] * 4
    assert top["gene"].tolist()[:3] == table["gene"].tolist()[:3]


def test_what_is_stored_of_programs(big, big_screen):
    table = big.gene_programs()
    own = table.set_index("gene").loc[big_screen.var_names]
    assert big_screen.var[keys.PROGRAM].tolist() == own["program"].tolist()
    np.testing.assert_array_equal(big_screen.var[keys.PROGRAM_MARGIN], own["margin"])
    stored = big_screen.uns[keys.ROOT][keys.SCBIG]
    assert stored[keys.PROGRAMS]["n_genes"].tolist() == table["program"].value_counts().sort_index().tolist()
    assert stored[keys.PROGRAMS].index.tolist() == ["P1", "P2", "P3", "P4"]
    assert stored[keys.PROGRAMS]["top_genes"].iloc[0].split(";") == table["gene"].tolist()[:20][: sizes_of(table)[0]]
    np.testing.assert_array_equal(stored[keys.PROGRAM_RELATIONS], big.programs.relations)


def sizes_of(table):
    return table["program"].value_counts().sort_index().tolist()


def test_genes_in_another_order_keep_their_program(big, big_screen, tmp_path):
    big.save(tmp_path / "model")
    turned = big_screen[:, ::-1].copy()
    loaded = spm.load(tmp_path / "model", turned)
    loaded.gene_programs()
    assert turned.var[keys.PROGRAM].to_dict() == dict(zip(big.programs.genes, big.programs.labels, strict=True))
    np.testing.assert_array_equal(loaded.get_program_activity(store=False), big.get_program_activity(store=False))
    found, wanted = (one.program_changes(ASKED, store=False) for one in (loaded, big))
    pd.testing.assert_frame_equal(found.drop(columns="observed"), wanted.drop(columns="observed"))
    np.testing.assert_allclose(found["observed"], wanted["observed"], atol=1e-6)


def test_activity_of_cells(big, big_screen, plain_activity):
    found = big.get_program_activity()
    assert found.columns.tolist() == ["P1", "P2", "P3", "P4"] and found.index.equals(big_screen.obs_names)
    assert (found.dtypes == np.float32).all()
    np.testing.assert_allclose(found, plain_activity(big_screen.X.toarray().astype(np.float64)), atol=1e-5)
    pd.testing.assert_frame_equal(big_screen.obsm[keys.PROGRAM_ACTIVITY], found)


def test_activity_and_latent_of_other_cells(big, big_screen):
    other = big_screen[::7, ::-1].copy()
    activity, latent = big.get_program_activity(other), big.get_latent_representation(other)
    np.testing.assert_allclose(activity, big.get_program_activity(store=False).iloc[::7], atol=1e-6)
    np.testing.assert_allclose(latent, big.get_latent_representation(store=False)[::7], atol=1e-4)
    assert latent.shape == (other.n_obs, 4) and latent.dtype == np.float32
    np.testing.assert_array_equal(other.obsm[keys.X_SCBIG], latent)
    assert keys.PROGRAM_ACTIVITY in other.obsm
    with pytest.raises(DataError, match="The genes are not those that SCBIG was trained on: 1 are missing"):
        big.get_program_activity(big_screen[:, 1:].copy())


# -- changes of programs ---------------------------------------------------------------------------------------------


def test_changes_are_those_of_the_prediction(big, controls, genes):
    table = big.program_changes(ASKED, store=False)
    prediction = big.predict(ASKED, store=False)
    assert table.columns.tolist() == ["condition", "program", "change", "lower", "upper", "observed"]
    assert len(table) == len(ASKED) * 4
    sd = np.maximum(controls.std(axis=0), 0.1)
    for _, row in table.iterrows():
        delta = prediction[row["condition"]].layers[keys.DELTA][0]
        own = genes[row["program"]]
        assert row["change"] == pytest.approx(sum(delta[g] / sd[g] for g in own) / len(own), abs=1e-5)


def test_observed_changes_are_those_of_the_pseudobulk(big, big_screen, plain_activity):
    table = big.program_changes(ASKED, store=False)
    truth = spm.pp.pseudobulk(big_screen)
    for name, own in table.groupby("condition"):
        if name == "X01":
            assert own["observed"].isna().all()
        else:
            delta = np.asarray(truth[name].layers[keys.DELTA], dtype=np.float64)
            np.testing.assert_allclose(own["observed"], plain_activity(delta, centre=False)[0], atol=1e-5)


def test_intervals_of_changes(big, controls, genes):
    """Of left-out conditions; for a measured one of the standard error of its mean; none for unknown genes."""
    table = big.program_changes([*ASKED, "TP53"], store=False).set_index("condition")
    regimes = big.predict([*ASKED, "TP53"], store=False).obs["seen"]
    assert {"single_unseen", "pair_2of2"} <= set(big.program_intervals.regimes)
    for name in ("G12", "X01", "G02+G10"):
        width = table.loc[name, "upper"] - table.loc[name, "change"]
        if (name, None) in big.data.index:
            continue
        change = table.loc[name, "change"].to_numpy()
        np.testing.assert_allclose(width, big.program_intervals.half_width(regimes[name], change))
        np.testing.assert_allclose(table.loc[name, "change"] - table.loc[name, "lower"], width)
        assert (width > 0).all()
    se2 = big.data.se2[big.data.index["G02", None]]
    sd = np.maximum(controls.std(axis=0), 0.1)
    expected = [1.645 * np.sqrt(sum(se2[g] / sd[g] ** 2 for g in own)) / len(own) for own in genes.values()]
    np.testing.assert_allclose(table.loc["G02", "upper"] - table.loc["G02", "change"], expected, rtol=1e-4)
    assert table.loc["TP53", ["lower", "upper"]].isna().all(axis=None)
    few = [regime for regime in ("pair_0of2", "pair_1of2") if regime not in big.program_intervals.regimes]
    assert few, "a regime with fewer than ten left-out conditions"
    name = {"pair_0of2": "G12+G49", "pair_1of2": "G12+G70"}[few[0]]
    assert big.program_changes([name], store=False)[["lower", "upper"]].isna().all(axis=None)


def test_intervals_are_of_the_left_out_errors(big):
    from scperturb_modules.models._left_out import left_out_rows

    rows = [one for one in left_out_rows(big.module, big._arrays, big.data, big._members) if one.regime == "pair_2of2"]
    gate = big.gates["pair_2of2"].factor if "pair_2of2" in big.gates else 0.0
    error = np.array([big.programs.project(one.difference - gate * one.residual) for one in rows])
    change = np.array([big.programs.project(big.data.delta[one.row]) for one in rows]) - error
    width = np.array([big.program_intervals.half_width("pair_2of2", one) for one in change])
    assert (np.abs(error) <= width).mean() > 0.88 > (np.abs(error) <= 0.3 * width).mean()


def test_without_folds_there_are_no_intervals(big_screen, fit):
    model = fit(big_screen, max_epochs=1, n_folds=0, gate=False, generate=False)
    table = model.program_changes(["G12", "G02"], store=False).set_index("condition")
    assert table.loc["G12", "lower"].isna().all() and table.loc["G02", "lower"].notna().all()
    assert np.isfinite(table["change"]).all()


# -- correlations between programs -----------------------------------------------------------------------------------


def test_correlations_are_those_of_generated_and_of_real_cells(big, big_screen, plain_activity):
    found = big.module_correlation(ASKED, store=False)
    assert found["conditions"].tolist() == ASKED and found["programs"].tolist() == ["P1", "P2", "P3", "P4"]
    reference = big.module.generator.reference[0].numpy().astype(np.float64)
    np.testing.assert_allclose(found["control"][1], np.corrcoef(plain_activity(reference).T), atol=1e-4)
    deltas = big.predict(ASKED, store=False).layers[keys.DELTA]
    for i, name in enumerate(ASKED):
        cells = big._generated((name, None), deltas[i])
        assert len(cells) == 512
        expected = np.corrcoef(plain_activity(cells.astype(np.float64)).T)
        np.testing.assert_allclose(found["predicted"][i], expected, atol=1e-4)
        if name == "X01":
            assert np.isnan(found["observed"][i]).all()
        else:
            expected = np.corrcoef(plain_activity(cells_of(big_screen, name)).T)
            np.testing.assert_allclose(found["observed"][i], expected, atol=1e-4)


def test_few_cells_show_no_correlation(make_screen, fit):
    adata = make_screen(n_cells=19)
    model = fit(adata, max_epochs=1)
    found = model.module_correlation(["G12"], store=False)
    assert np.isnan(found["observed"]).all() and np.isfinite(found["predicted"]).all()


# -- ways of the flow ------------------------------------------------------------------------------------------------


def test_paths_of_the_flow(big, big_screen):
    found = big.flow_paths("G10+G02", n_cells=7, store=False)
    assert found["condition"] == "G02+G10"
    np.testing.assert_allclose(found["time"], np.linspace(0, 1, 4))
    assert found["position"].shape == (7, 4, 2) and found["control"].shape == (512, 2)
    assert found["observed"].shape == ((big_screen.obs["perturbation"] == "G02+G10").sum(), 2)
    generator = big.module.generator
    rows, change = big._seen(("G02+G10", None), big.predict(["G02+G10"], store=False).layers[keys.DELTA][0])
    with torch.no_grad():
        controls = generator.autoencoder.encode(generator.reference)
        start = controls + generator.shift(change, rows.context)[:, None]
        end = generator.transport(start, generator.condition(rows))
    both = torch.cat([controls[0], end[0]]).numpy().astype(np.float64)
    size = np.linalg.svd(both - both.mean(axis=0), compute_uv=False)
    plane = np.concatenate([found["control"], big.flow_paths("G02+G10", n_cells=512, store=False)["position"][:, -1]])
    np.testing.assert_allclose(plane.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(np.square(plane).sum(axis=0), size[:2] ** 2, rtol=1e-3)
    lengths = np.linalg.norm(found["position"][:, 0] - found["control"][:7], axis=1)
    assert np.ptp(lengths) < 1e-3 < lengths.min(), "all start shifted alike"


def test_paths_of_a_condition_without_cells_and_of_regression(big, big_screen, fit):
    found = big.flow_paths("X01", n_cells=3, store=False)
    assert found["observed"].shape == (0, 2) and np.isfinite(found["position"]).all()
    model = fit(big_screen, max_epochs=1, use_flow=False)
    found = model.flow_paths("G12", n_cells=3, store=False)
    assert found["position"].shape == (3, 2, 2) and found["time"].tolist() == [0, 1]


def test_an_unknown_gene_has_no_flow_to_be_drawn(big):
    with pytest.raises(DataError, match=r"'G02\+TP53' has a gene that is known nowhere, and so no flow. Name another"):
        big.flow_paths("G02+TP53", store=False)
    found = big.module_correlation(["G02+TP53"], store=False)
    assert np.isfinite(found["predicted"]).all()


def test_more_cells_than_are_drawn(big, monkeypatch):
    monkeypatch.setattr("scperturb_modules.models.scbig._explaining.N_DRAWN", 9)
    found = big.flow_paths("G02+G10", n_cells=3, store=False)
    assert found["observed"].shape == (9, 2)


def test_training_comes_first(big_screen, build):
    model = build(big_screen)
    assert len(model.gene_programs(store=False)) == big_screen.n_vars
    for ask in (model.program_changes, model.module_correlation, model.flow_paths):
        with pytest.raises(NotTrainedError, match=r"needs a trained SCBIG; call train\(\) first"):
            ask("G12" if ask == model.flow_paths else ["G12"])


# -- are the same programs found again -------------------------------------------------------------------------------


def test_stability_is_judged_by_cells(big, tmp_path):
    found = big.program_stability(n_seeds=2)
    assert list(found) == ["seeds", "halves", "strong_halves"] and all(-0.5 <= one <= 1 for one in found.values())
    assert big.program_stability(n_seeds=2) == found, "the same seed, the same numbers"
    big.save(tmp_path / "model")
    with pytest.raises(DataError, match="Stability is judged by cells"):
        spm.load(tmp_path / "model").program_stability()
