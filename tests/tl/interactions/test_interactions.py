"""Scores and classes of genetic interactions: exact on planted slopes, right on simulated classes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

import scperturb_modules as spm
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.tl.interactions._classes import NORMAN, SETS, classify, is_firm, resolve_thresholds
from scperturb_modules.tl.interactions._interactions import genetic_interactions
from scperturb_modules.tl.interactions._scores import SCORES

FLAGS = ["is_neomorphic", "is_epistatic", "is_redundant", "is_synergistic", "is_suppressive"]
SLOPES = {"A+B": (0.4, 0.4), "A+C": (1.0, 1.0), "B+C": (1.3, 0.9), "C+D": (1.2, 0.1)}


def table_of(rows: dict[str, np.ndarray], *, names: list[str] | None = None) -> AnnData:
    """Changes as ``X`` of a conditions x features AnnData."""
    changes = AnnData(np.array(list(rows.values())), obs=pd.DataFrame(index=list(rows)))
    changes.var_names = names or [f"g{i}" for i in range(changes.n_vars)]
    return changes


def linear(
    slopes: dict[str, tuple[float, float]] = SLOPES, *, n_genes: int = 60, seed: int = 0
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    singles = {gene: rng.normal(size=n_genes) for gene in "ABCD"}
    pairs = {name: c1 * singles[name[0]] + c2 * singles[name[2]] for name, (c1, c2) in slopes.items()}
    return singles | pairs


def slow_dcor(u: np.ndarray, v: np.ndarray) -> float:
    def centred(values: np.ndarray) -> np.ndarray:
        values = values.reshape(len(values), -1)
        distance = np.sqrt(((values[:, None] - values[None]) ** 2).sum(axis=-1))
        return distance - distance.mean(axis=0) - distance.mean(axis=1)[:, None] + distance.mean()

    first, second = centred(u), centred(v)
    return float(np.sqrt((first * second).mean() / np.sqrt((first**2).mean() * (second**2).mean())))


def test_slopes_are_exact_on_linear_changes():
    rows = linear()
    table = genetic_interactions(table_of(rows), layer=None)
    assert table.index.tolist() == list(SLOPES)
    np.testing.assert_allclose(table[["c1", "c2"]], list(SLOPES.values()), atol=1e-9)
    np.testing.assert_allclose(table["magnitude"], [np.hypot(*slopes) for slopes in SLOPES.values()], atol=1e-9)
    np.testing.assert_allclose(table["model_fit"], 1, atol=1e-9)
    assert (table["status"] == "ok").all() and (table["n_genes"] == 60).all()
    assert table.loc["A+C", "residual"] == pytest.approx(0, abs=1e-9)


def test_every_score_against_its_formula():
    rng = np.random.default_rng(1)
    a, b, noise = rng.normal(size=(3, 40))
    y = 0.7 * a - 0.2 * b + noise
    row = genetic_interactions(table_of({"A": a, "B": b, "A+B": y}), layer=None).loc["A+B"]
    c1, c2 = row["c1"], row["c2"]
    of_a, of_b = slow_dcor(a, y), slow_dcor(b, y)
    expected = {
        "magnitude": np.sqrt(c1**2 + c2**2),
        "model_fit": slow_dcor(c1 * a + c2 * b, y),
        "similarity": slow_dcor(np.column_stack([a, b]), y),
        "singles_similarity": slow_dcor(a, b),
        "equality": min(of_a, of_b) / max(of_a, of_b),
        "dominance": abs(np.log10(abs(c1) / abs(c2))),
        "residual": np.sqrt(np.sum((y - a - b) ** 2)),
    }
    assert row[list(expected)].to_dict() == pytest.approx(expected, abs=1e-9)
    gears = genetic_interactions(table_of({"A": a, "B": b, "A+B": y}), layer=None, thresholds="gears").loc["A+B"]
    assert gears["model_fit"] == pytest.approx(np.corrcoef(c1 * a + c2 * b, y)[0, 1], abs=1e-9)


def test_swapping_both_genes_swaps_the_slopes_and_nothing_else():
    rng = np.random.default_rng(2)
    a, b, noise = rng.normal(size=(3, 50))
    y = 1.2 * a + 0.3 * b + noise
    one, other = (
        genetic_interactions(table_of({"A": first, "B": second, "A+B": y}), layer=None)
        for first, second in ((a, b), (b, a))
    )
    swapped = other.rename(columns={"c1": "c2", "c2": "c1"})[one.columns]
    pd.testing.assert_frame_equal(one, swapped, rtol=0, atol=1e-9)
    assert one.loc["A+B", "c1"] != pytest.approx(one.loc["A+B", "c2"], abs=0.3)


def test_columns_types_and_attributes():
    table = genetic_interactions(table_of(linear()), layer=None, seed=3, ci=0.8)
    first = ["perturbation", "gene_a", "gene_b", *SCORES, *FLAGS, "label", "n_genes", "status"]
    assert table.columns.tolist() == first
    assert set(table[FLAGS].dtypes) == {np.dtype(bool)} and table["n_genes"].dtype == np.int64
    genes = [f"g{i}" for i in range(60)]
    expected = {"thresholds": NORMAN, "genes": genes, "level": 0.8, "n_boot": 0, "noise": "none", "seed": 3}
    assert table.attrs == expected | {"n_higher_order": 0}


@pytest.mark.parametrize(
    ("seed", "truth"),
    [
        (0, "log_rate"),
        (1, "delta_true"),
        *(pytest.param(seed, "log_rate", marks=pytest.mark.full) for seed in (1, 2, 3)),
        *(pytest.param(seed, "delta_true", marks=pytest.mark.full) for seed in (0, 2, 3)),
    ],
)
def test_noise_free_classes_are_found(seed, truth):
    """Synergy above 1.5: without noise most additive pairs have a magnitude beyond the 1.15 of real screens."""
    adata = spm.datasets.simulate(seed=seed, n_pairs=120, n_cells=2, n_controls=2)
    planted = adata.uns["scperturb_modules"]["simulation"]["pairs"]["gi_class"]
    changes = AnnData(spm.datasets.simulated_truth(adata, truth))
    table = genetic_interactions(changes, layer=None, thresholds={"synergy": 1.5})
    assert table["n_genes"].iloc[0] == 560
    found = table["label"].reindex(planted.index)
    recall = (found == planted).groupby(planted).mean()
    assert (recall >= 0.9).all(), recall
    additive = table.loc[planted.index[planted == "additive"], "magnitude"]
    assert additive.median() > 1.25 and additive.max() < 1.45


def scores_of(**values: float) -> pd.DataFrame:
    """A pair that is additive but for what is said."""
    plain = {"c1": 0.7, "c2": 0.7, "magnitude": 1.0, "model_fit": 0.9, "similarity": 0.7, "singles_similarity": 0.2}
    plain |= {"equality": 0.9, "dominance": 0.0, "residual": 1.0}
    return pd.DataFrame([plain | values], index=["A+B"])


ALIKE = {"similarity": 0.85, "singles_similarity": 0.7}
NEW = {"model_fit": 0.72}


@pytest.mark.parametrize(
    ("values", "label", "flags"),
    [
        ({}, "additive", []),
        ({"magnitude": 1.16}, "synergy", ["is_synergistic"]),
        ({"magnitude": 0.89}, "suppression", ["is_suppressive"]),
        (ALIKE | {"magnitude": 0.5}, "redundancy", ["is_redundant", "is_suppressive"]),
        (ALIKE | {"singles_similarity": 0.6}, "additive", []),
        (ALIKE | {"equality": 0.33}, "epistasis", ["is_epistatic", "is_redundant"]),
        (NEW | {"equality": 0.1, "magnitude": 1.29}, "neomorphic", ["is_neomorphic", "is_epistatic", "is_synergistic"]),
        (NEW | {"magnitude": 1.31}, "synergy", ["is_synergistic"]),
    ],
)
def test_rules_and_their_order(values, label, flags):
    found = classify(scores_of(**values), np.array([True]), resolve_thresholds("norman")).loc["A+B"]
    assert found["label"] == label and [name for name in FLAGS if found[name]] == flags
    untold = classify(scores_of(**values), np.array([False]), resolve_thresholds("norman")).loc["A+B"]
    assert untold["label"] == "" and not untold[FLAGS].any()


def test_gears_thresholds():
    def label(**values: float) -> str:
        return classify(scores_of(**values), np.array([True]), resolve_thresholds("gears")).loc["A+B", "label"]

    assert label(magnitude=0.99) == "suppression" and label(magnitude=1.01) == "additive"
    assert label(model_fit=0.87, magnitude=3) == "neomorphic" and label(equality=0.3) == "additive"
    assert label(similarity=0.86, singles_similarity=0) == "redundancy"


@pytest.mark.parametrize(
    ("label", "score", "inside", "across"),
    [
        ("synergy", "magnitude", (1.2, 1.5), (1.1, 1.5)),
        ("suppression", "magnitude", (0.2, 0.8), (0.2, 1.0)),
        ("additive", "magnitude", (0.95, 1.1), (0.85, 1.1)),
        ("epistasis", "equality", (0.1, 0.3), (0.1, 0.4)),
        ("redundancy", "singles_similarity", (0.7, 0.8), (0.6, 0.8)),
        ("neomorphic", "model_fit", (0.4, 0.6), (0.4, 0.8)),
        ("", "magnitude", (1.2, 1.5), (1.2, 1.5)),
    ],
)
def test_firm_is_an_interval_beyond_the_threshold(label, score, inside, across):
    def firm(ends: tuple[float, float]) -> bool:
        table = scores_of(similarity=0.9, singles_similarity=0.75).assign(label=label)
        for name in SCORES:
            table[f"{name}_lower"], table[f"{name}_upper"] = table[name], table[name]
        table[f"{score}_lower"], table[f"{score}_upper"] = ends
        return bool(is_firm(table, SCORES, NORMAN)[0])

    assert firm(inside) == (label != "") and not firm(across)


def test_a_mapping_replaces_some_thresholds():
    assert resolve_thresholds({"synergy": 1.5}) == NORMAN | {"synergy": 1.5}
    assert resolve_thresholds("gears") == SETS["gears"]
    with pytest.raises(DataError, match="2 thresholds do not exist: 'magnitude', 'x'"):
        resolve_thresholds({"x": 1, "magnitude": 2})
    with pytest.raises(DataError, match="'norman', 'gears'"):
        resolve_thresholds("gear")


def test_additive_prediction_has_the_magnitude_of_two_ones(planted):
    adata = planted(n_genes=80)
    spm.pp.split(adata, "combination", seed=0)
    truth = spm.pp.pseudobulk(adata)
    model = spm.baselines.Additive(spm.pp.pseudobulk(adata, cells="training"))
    model.train()
    prediction = model.predict([name for name in truth.obs_names if "+" in name])
    table = genetic_interactions(prediction, singles=truth[truth.obs["n_perturbed"] == 1].copy())
    np.testing.assert_allclose(table["magnitude"], np.sqrt(2), atol=1e-9)
    assert (table["status"] == "ok").all() and (table["label"] == "synergy").all()
    measured = genetic_interactions(truth, genes=table.attrs["genes"])
    assert measured.index.tolist() == table.index.tolist() and measured.attrs["genes"] == table.attrs["genes"]


def test_a_model_that_shrinks_gives_pairs_and_singles(planted):
    adata = planted(n_genes=80)
    spm.pp.split(adata, "combination", seed=0)
    model = spm.baselines.AdditiveShrunk(spm.pp.pseudobulk(adata, cells="training"))
    model.train()
    names = [name for name in adata.obs["perturbation"].unique() if name != "control"]
    table = genetic_interactions(model.predict(names))
    assert len(table) == 12 and (table["status"] == "ok").all()
    assert np.isfinite(table[list(SCORES)].to_numpy()).all()


def test_singles_are_matched_within_the_context():
    rows = linear({"A+B": (0.4, 0.4)})
    other = linear({"A+B": (1.3, 0.9)}, seed=5)
    both = {f"{name}|T1": values for name, values in rows.items()} | {
        f"{name}|T2": other[name] for name in ("B", "A+B")
    }
    table = genetic_interactions(table_of(both), layer=None)
    assert table.index.tolist() == ["A+B|T1", "A+B|T2"] and table["cell_type"].tolist() == ["T1", "T2"]
    assert table["status"].tolist() == ["ok", "missing: A|T2"]
    np.testing.assert_allclose(table.loc["A+B|T1", ["c1", "c2"]].astype(float), 0.4, atol=1e-9)
    singles = table_of({"A|T2": other["A"], "B|T2": rows["B"], "A": rows["A"]})
    table = genetic_interactions(table_of(both), layer=None, singles=singles)
    # B|T2 is in data, and that is the one used
    np.testing.assert_allclose(table.loc["A+B|T2", ["c1", "c2"]].astype(float), [1.3, 0.9], atol=1e-9)


def test_nothing_is_dropped_silently():
    rows = linear() | {"A+E": np.ones(60), "A+B+C": np.ones(60), "E+F": np.ones(60)}
    table = genetic_interactions(table_of(rows), layer=None)
    assert table.index.tolist() == [*SLOPES, "A+E", "E+F"]
    assert table.loc[["A+E", "E+F"], "status"].tolist() == ["missing: E", "missing: E, F"]
    assert table.loc[["A+E", "E+F"], list(SCORES)].isna().all(axis=None)
    assert (table.loc[["A+E", "E+F"], "label"] == "").all() and not table.loc["A+E", FLAGS].any()
    assert table.attrs["n_higher_order"] == 1


def test_changes_that_have_no_scores():
    zero = np.zeros(60)
    rows = linear({"A+B": (1, 1)}) | {"A+C": zero, "E": zero, "A+E": zero + 1, "F": np.full(60, np.nan), "A+F": zero}
    table = genetic_interactions(table_of(rows), layer=None)
    assert table.loc["A+C", "status"] == "undefined: equality, dominance"
    assert table.loc["A+E", "status"].startswith("undefined: c1, c2, magnitude, model_fit")
    assert table.loc["A+F", "status"] == "not_finite"
    assert (table["label"] == "").tolist() == [False, True, True, True]


def test_named_pairs():
    rows = {f"{name}|{context}": values for context in ("T1", "T2") for name, values in linear().items()}
    data = table_of(rows)

    def names(pairs: list[str]) -> list[str]:
        return genetic_interactions(data, layer=None, pairs=pairs).index.tolist()

    assert names(["B+A"]) == ["A+B|T1", "A+B|T2"]
    assert names(["D+C|T2", "A+B|T1", "C+D|T2"]) == ["C+D|T2", "A+B|T1"]
    absent = genetic_interactions(data, layer=None, pairs=["A+D|T1", "A+Z"])
    assert absent["status"].tolist() == ["missing: A+D|T1", "missing: A, Z, A+Z"]
    with pytest.raises(DataError, match="2 of pairs do not name two genes: 'A_B', 'A'"):
        names(["A_B", "A", "A+B"])
    with pytest.raises(DataError, match="one text"):
        genetic_interactions(data, layer=None, pairs="A+B")


def test_unsorted_names_and_sparse_values_are_the_same():
    rows = linear()
    plain = genetic_interactions(table_of(rows), layer=None)
    turned = table_of({"+".join(reversed(name.split("+"))): values for name, values in rows.items()})
    turned.layers["change"] = sparse.csr_matrix(turned.X)
    turned.X = None
    pd.testing.assert_frame_equal(genetic_interactions(turned, layer="change"), plain)
    with pytest.raises(DataError, match="X is empty"):
        genetic_interactions(turned, layer=None)
    with pytest.raises(MissingKeyError, match="layer=None"):
        genetic_interactions(turned)


def test_unusable_tables_are_refused():
    rows = linear()
    with pytest.raises(DataError, match="No row of data is a pair"):
        genetic_interactions(table_of({name: rows[name] for name in "AB"}), layer=None)
    with pytest.raises(DataError, match="1 rows name a condition that is there already: 'B\\+A'"):
        genetic_interactions(table_of(rows | {"B+A": rows["A"]}), layer=None)
    with pytest.raises(DataError, match="4 genes are left"):
        genetic_interactions(table_of({name: values[:4] for name, values in rows.items()}), layer=None)
    with pytest.raises(ValueError, match="ci=1"):
        genetic_interactions(table_of(rows), layer=None, ci=1)


def test_genes_asked_for():
    data = table_of(linear())
    genes = [f"g{i}" for i in (7, 3, 5, 11, 30, 31, 32)]
    table = genetic_interactions(data, layer=None, genes=genes)
    assert table.attrs["genes"] == genes and (table["n_genes"] == 7).all()
    with pytest.raises(DataError, match="1 of 2 genes are not in data: 'x'"):
        genetic_interactions(data, layer=None, genes=["g0", "x"])
    with pytest.raises(DataError, match="1 of 60 genes are not in singles: 'g0'"):
        genetic_interactions(data, layer=None, genes=data.var_names, singles=data[:, 1:].copy())
    with pytest.raises(DataError, match="twice: 'g1'"):
        genetic_interactions(data, layer=None, genes=["g1", "g1"])


def test_default_genes_are_well_expressed_and_perturbed_nowhere(planted):
    adata = planted(n_genes=60)
    truth = spm.pp.pseudobulk(adata)
    unperturbed = [f"G{i:02d}" for i in range(12, 60)]
    assert genetic_interactions(truth).attrs["genes"] == unperturbed
    # genes of any row count as perturbed, also of singles that are in no pair
    other = truth[truth.obs_names == "G00"].copy()
    other.obs_names = ["G20"]
    assert genetic_interactions(truth, singles=other).attrs["genes"] == [name for name in unperturbed if name != "G20"]
    some = genetic_interactions(truth, singles=truth[:, 10:40].copy(), cells=adata[:, 20:].copy(), n_boot=2)
    assert some.attrs["genes"] == [f"G{i:02d}" for i in range(20, 40)]
    wide = AnnData(np.random.default_rng(0).normal(size=(3, 1200)), obs=pd.DataFrame(index=["g5", "g7", "g5+g7"]))
    wide.var_names = [f"g{i}" for i in range(1200)]
    wide.var["control_mean"] = np.arange(1200.0)
    assert genetic_interactions(wide, layer=None).attrs["genes"] == [f"g{i}" for i in range(200, 1200)]


def test_a_pair_that_changes_few_genes_gets_no_class(planted):
    truth = spm.pp.pseudobulk(planted(effect=0.0, n_genes=80))
    table = genetic_interactions(truth)
    assert table["status"].str.match(r"few_changed_genes: \d+$").all() and (table["label"] == "").all()
    assert np.isfinite(table[list(SCORES)].to_numpy()).all() and not table[FLAGS].any(axis=None)
    strong = genetic_interactions(spm.pp.pseudobulk(planted(effect=0.5, n_genes=80)))
    assert (strong["status"] == "ok").all()
    del truth.layers["se2_control"]  # z in place of Welch's t
    assert genetic_interactions(truth)["status"].str.startswith("few_changed_genes").all()
    bare = AnnData(truth.layers["delta"], obs=truth.obs[[]], var=truth.var)
    assert (genetic_interactions(bare, layer=None)["status"] == "ok").all()


def test_round_trip_through_csv(tmp_path):
    rows = {f"{name}|NA": values for name, values in linear().items()} | {"A+E|NA": np.zeros(60)}
    table = genetic_interactions(table_of(rows), layer=None)
    table.to_csv(tmp_path / "gi.csv")
    text = ("perturbation", "cell_type", "gene_a", "gene_b", "label", "status")
    read = pd.read_csv(
        tmp_path / "gi.csv", index_col=0, converters=dict.fromkeys(text, str), float_precision="round_trip"
    )
    pd.testing.assert_frame_equal(read, table.astype(dict.fromkeys(text, read["label"].dtype)))


def test_same_numbers_again_and_data_unchanged(planted):
    truth = spm.pp.pseudobulk(planted())
    before = truth.copy()
    pd.testing.assert_frame_equal(genetic_interactions(truth), genetic_interactions(truth))
    assert (truth.layers["delta"] == before.layers["delta"]).all() and truth.var.equals(before.var)
