from __future__ import annotations

import warnings
from itertools import combinations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scperturb_modules import pp
from scperturb_modules._conditions import genes_of
from scperturb_modules._errors import DataError, MissingKeyError, ScreenWarning

GENES = [f"G{i:02d}" for i in range(24)]
PAIRS = ["+".join(pair) for pair in combinations(GENES[:12], 2)]
SHAPES = {
    "singles": (GENES, ()),
    "norman_like": (GENES + PAIRS[:40], ()),
    "two_contexts": (GENES[:15] + PAIRS[:10], ("x", "y")),
    "few_genes": (["A", "B", "C", "D", "A+B", "A+C", "C+D"], ()),
    "higher_order": (GENES[:12] + PAIRS + ["+".join(GENES[i : i + 4]) for i in range(6)], ()),
    "triples": (GENES[:8] + PAIRS[:9] + ["+".join(GENES[i : i + 3]) for i in range(8)], ()),
}
# Version 1 of the algorithm never changes: a different hash is a new version.
PINNED = {
    ("singles", "unseen_gene"): ("709a33c4a2ae", "38eef30620f8"),
    ("singles", "unseen_single"): ("23b14dfded5d", "261b4bf0a4fa"),
    ("singles", "unseen_cluster"): ("aebad6bf11e4", "0887079168b6"),
    ("norman_like", "combination"): ("821772465a59", "704774ef3fe9"),
    ("norman_like", "unseen_gene"): ("6a5d0789b1eb", "aa0fd5a87069"),
    ("norman_like", "unseen_single"): ("65b0ad1bf5fe", "34627068b05e"),
    ("norman_like", "unseen_cluster"): ("48758b52fbdf", "fd5d01e04d15"),
    ("two_contexts", "combination"): ("361b30527985", "8fd25a61ac04"),
    ("two_contexts", "unseen_gene"): ("f7d5c3dfe4af", "eea47dff966c"),
    ("two_contexts", "unseen_single"): ("e823f06274e7", "badc770507fb"),
    ("two_contexts", "unseen_cluster"): ("73c06f84be63", "93ef3933dece"),
    ("two_contexts", "unseen_context"): ("f839ce1ad9de", "aa2128f2d6a3"),
    ("two_contexts", "by_covariate"): ("882f422d9146", "6fda1a61f1e5"),
    ("few_genes", "combination"): ("d1e2a92838b2", "a73023f6cd08"),
    ("few_genes", "unseen_gene"): ("a1a3fc1c0009", "bfb4f64ef0d0"),
    ("few_genes", "unseen_single"): ("94bd166e885b", "423d289ebc85"),
    ("higher_order", "combination"): ("98cef11227d5", "785ea428c008"),
    ("higher_order", "unseen_gene"): ("0a6c75cc45f5", "e9b8203dcad7"),
    ("higher_order", "unseen_single"): ("233fa40170e3", "acec5804ee49"),
    ("higher_order", "unseen_cluster"): ("b46f37c74f91", "c0f595fd8277"),
    ("triples", "combination"): ("5251a53ddab8", "db705d792750"),
    ("triples", "unseen_gene"): ("088b06fc2d62", "138ed782aa48"),
    ("triples", "unseen_single"): ("8f99e1ce81e8", "441deb122401"),
    ("triples", "unseen_cluster"): ("207d54d08f51", "196a66067331"),
}
PINNED_CONTROLS = ["cell0005", "cell0006", "cell0007", "cell0008", "cell0010", "cell0015"]
N_FOLDS = 4
GROUPS = {gene: int(gene[1:]) // 3 for gene in GENES} | {"A": "ab", "B": "ab", "C": "c"}


def design(labels, contexts=(), *, n_cells=2, n_controls=40, batches=("b",)):
    """A screen of names only: one gene of ones."""
    cells = [("control", n_controls), *((label, n_cells) for label in labels)]
    rows = [(label, context) for context in contexts or ("",) for label, n in cells for _ in range(n)]
    obs = pd.DataFrame(rows, columns=["perturbation", "cell_type"], index=[f"cell{i:04d}" for i in range(len(rows))])
    obs["batch"] = np.resize(batches, len(obs))
    return ad.AnnData(np.ones((len(obs), 1), np.float32), obs=obs)


def record(adata):
    return adata.uns["scperturb_modules"]["split"]


def drawn(adata, scheme, **kwargs):
    """Parts of the conditions by one scheme."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ScreenWarning)
        pp.split(adata, scheme, overwrite=True, **kwargs)
    return record(adata)["conditions"]


def genes_in(conditions):
    return {gene for name in conditions["perturbation"] for gene in genes_of(name)}


def part(conditions, *parts):
    return conditions[conditions["split"].isin(parts)]


def settings_of(scheme, contexts):
    settings = {"cell_type_key": "cell_type"} if contexts else {}
    return settings | ({"n_folds": 2} if scheme == "unseen_context" else {"n_folds": N_FOLDS})


ALL_SCHEMES = ["combination", "unseen_gene", "unseen_single", "unseen_cluster", "unseen_context", "by_covariate"]
POSSIBLE = [
    (shape, scheme)
    for shape, (labels, contexts) in SHAPES.items()
    for scheme in ALL_SCHEMES
    if (contexts or scheme not in ("unseen_context", "by_covariate"))
    and ("+" in labels[-1] or scheme != "combination")
    and not (shape == "few_genes" and scheme == "unseen_cluster")
]


@pytest.mark.parametrize(("shape", "scheme"), POSSIBLE)
def test_a_version_never_changes(shape, scheme):
    labels, contexts = SHAPES[shape]
    adata = design(labels, contexts)
    hashes = []
    for seed, fold in ((0, 0), (7, 1)):
        drawn(adata, scheme, seed=seed, fold=fold, groups=GROUPS, **settings_of(scheme, contexts))
        hashes.append(record(adata)["sha256"][:12])
    assert record(adata)["version"] == "1"
    assert tuple(hashes) == PINNED[shape, scheme]


@pytest.mark.parametrize("scheme", ALL_SCHEMES)
def test_order_number_and_names_of_cells_do_not_matter(scheme):
    labels, contexts = SHAPES["two_contexts"]
    adata = design(labels, contexts)
    obs = adata.obs.iloc[np.random.default_rng(0).permutation(np.repeat(np.arange(adata.n_obs), 3))]
    other = ad.AnnData(np.ones((len(obs), 1)), obs=obs.set_index(pd.Index([f"another{i}" for i in range(len(obs))])))
    settings = settings_of(scheme, contexts) | {"groups": GROUPS, "seed": 3}
    expected = drawn(adata, scheme, **settings).drop(columns="n_cells")
    pd.testing.assert_frame_equal(drawn(other, scheme, **settings).drop(columns="n_cells"), expected)
    assert not drawn(adata, scheme, **(settings | {"seed": 4, "fold": 1})).drop(columns="n_cells").equals(expected)


def test_evaluation_controls_do_not_depend_on_row_order_or_fold():
    adata = design(GENES)
    other = adata[np.random.default_rng(1).permutation(adata.n_obs)].copy()
    held_out = []
    for screen, fold in ((adata, 0), (other, 0), (adata, 2)):
        drawn(screen, "unseen_single", fold=fold)
        is_held_out = (screen.obs["split"] == "test") & (screen.obs["perturbation"] == "control")
        held_out.append(sorted(screen.obs_names[is_held_out]))
    assert held_out[0] == held_out[1] == held_out[2]
    drawn(adata, "unseen_single", seed=1)
    is_held_out = (adata.obs["split"] == "test") & (adata.obs["perturbation"] == "control")
    assert sorted(adata.obs_names[is_held_out]) != held_out[0]


def test_the_draw_of_controls_never_changes():
    adata = design(GENES, n_controls=20)
    pp.split(adata, "unseen_single", seed=3)
    controls = adata[adata.obs["perturbation"] == "control"]
    assert list(controls.obs_names[controls.obs["split"] == "test"]) == PINNED_CONTROLS


def test_controls_are_held_out_in_each_context_and_batch():
    adata = design(GENES, ("x", "y"), n_controls=41, batches=("b1", "b2"))
    pp.split(adata, "unseen_single", cell_type_key="cell_type", batch_key="batch")
    controls = adata.obs[adata.obs["perturbation"] == "control"]
    by_stratum = controls.groupby(["cell_type", "batch"], observed=True)["split"]
    for _, parts in by_stratum:
        assert (parts == "test").sum() == int(0.3 * len(parts) + 0.5)
        assert set(parts) == {"train", "test"}
    assert by_stratum.ngroups == 4


def test_published_protocol_holds_no_control_out():
    adata = design(GENES)
    pp.split(adata, "unseen_single", holdout_controls=0)
    assert set(adata.obs.loc[adata.obs["perturbation"] == "control", "split"]) == {"train"}


def test_a_batch_with_one_control_keeps_it():
    adata = design(GENES, n_controls=31, batches=("b1",))
    adata.obs.iloc[0, adata.obs.columns.get_loc("batch")] = "b2"
    adata.obs.iloc[1:3, adata.obs.columns.get_loc("batch")] = "b3"
    pp.split(adata, "unseen_single", batch_key="batch", holdout_controls=0.9)
    assert adata.obs["split"].iloc[0] == "train"
    assert set(adata.obs["split"].iloc[1:3]) == {"train", "test"}


def test_few_controls_warn():
    with pytest.warns(ScreenWarning, match=r"1 contexts have fewer than 20 controls.*19 cells"):
        pp.split(design(GENES, n_controls=19), "unseen_single")


def brute_force_regime(name, context, training):
    """Slow and separate: what is known of a condition, by plain lists."""
    if (name, context) in training:
        return "measured"
    if context is not None:
        if [row for row in training if row[1] == context] == []:
            return "context_unseen"
        if [row for row in training if row[0] == name]:
            return "context_unseen"
    genes = name.split("+")
    if len(genes) >= 3:
        return "higher_order"
    if len(genes) == 1:
        return "single_unseen"
    n = [(gene, context) in training for gene in genes].count(True)
    return f"pair_{n}of2"


def test_regimes_against_brute_force():
    rng = np.random.default_rng(5)
    seen = set()
    for _ in range(200):
        genes = list("ABCDEFG")[: rng.integers(3, 8)]
        possible = genes + ["+".join(c) for order in (2, 3) for c in combinations(genes, order)]
        labels = list(rng.choice(possible, size=min(len(possible), rng.integers(4, 14)), replace=False))
        contexts = [(), ("x", "y"), ("x", "y", "z")][rng.integers(3)]
        adata = design(labels, contexts, n_cells=1, n_controls=20)
        names = [f"{label}|{context}" for label in labels for context in contexts] or labels
        assignment = {name: str(rng.choice(["train", "val", "test"])) for name in names} | {names[0]: "train"}
        table = drawn(
            adata, "custom", assignment=assignment, cell_type_key="cell_type" if contexts else None, holdout_controls=0
        )
        rows = [(row.perturbation, row.cell_type if contexts else None) for row in table.itertuples()]
        training = [row for row, where in zip(rows, table["split"], strict=True) if where != "test"]
        assert list(table["regime"]) == [brute_force_regime(*row, training) for row in rows]
        assert dict(table["split"]) == assignment
        seen |= set(table["regime"])
    assert len(seen) == 7


@pytest.mark.parametrize("shape", ["singles", "norman_like", "higher_order", "two_contexts"])
@pytest.mark.parametrize("scheme", ["unseen_single", "unseen_cluster"])
def test_folds_hold_out_each_gene_once(scheme, shape):
    labels, contexts = SHAPES[shape]
    adata = design(labels, contexts)
    held_out = []
    for fold in range(N_FOLDS):
        table = drawn(adata, scheme, fold=fold, groups=GROUPS, **settings_of(scheme, contexts))
        training = genes_in(part(table, "train", "val"))
        unseen = genes_in(table) - training
        assert all(unseen & set(genes_of(name)) for name in part(table, "test")["perturbation"])
        held_out.append(set(part(table, "test")["perturbation"]) & unseen)  # singles move with their gene
    assert sorted(gene for fold in held_out for gene in fold) == sorted(set(labels) & genes_in(table))


def test_a_cluster_is_not_torn():
    adata = design(GENES)
    for fold in range(N_FOLDS):
        table = drawn(adata, "unseen_cluster", groups=pd.Series(GROUPS), fold=fold, n_folds=N_FOLDS)
        n_parts = table.groupby(table["perturbation"].map(GROUPS))["split"].nunique()
        assert (n_parts == 1).all()
    renamed = {gene: f"another {9 - cluster}" for gene, cluster in GROUPS.items() if isinstance(cluster, int)}
    assert drawn(adata, "unseen_cluster", groups=renamed, fold=fold, n_folds=N_FOLDS).equals(table)


def test_combination_tests_half_of_each_kind_of_pair():
    adata = design([*GENES[:16], *PAIRS[:20], *(f"{a}+Z{i}" for i, a in enumerate(GENES[:6])), "Y1+Y2", "Y3+Y4"])
    table = drawn(adata, "combination")
    regimes = part(table, "test")["regime"].value_counts()
    assert regimes.to_dict() == {"pair_2of2": 10, "pair_1of2": 3, "pair_0of2": 1}
    assert set(part(table, "val")["perturbation"].str.contains("+", regex=False)) == {True}
    assert len(part(table, "val")) == 1
    for fold in range(1, 6):
        other = part(drawn(adata, "combination", n_folds=6, fold=fold), "test")
        assert other["regime"].value_counts().equals(regimes)
        assert set(other.index) != set(part(table, "test").index)


def test_unseen_gene_covers_every_regime():
    table = drawn(design(GENES[:12] + PAIRS), "unseen_gene")
    test = part(table, "test")
    singles = {name for name in test["perturbation"] if "+" not in name}
    assert len(singles) == 3
    assert not genes_in(part(table, "train", "val")) & singles
    n_seen = [2 - len(singles & set(genes_of(name))) for name in test["perturbation"] if "+" in name]
    assert np.bincount(n_seen).tolist() == [3, 27, 9]
    assert test["regime"].value_counts().to_dict() == {
        "pair_0of2": 3,
        "pair_1of2": 27,
        "pair_2of2": 9,
        "single_unseen": 3,
    }


def test_unseen_context_is_zero_shot_or_few_shot():
    labels, contexts = SHAPES["two_contexts"]
    adata = design(labels, contexts)
    table = drawn(adata, "unseen_context", cell_type_key="cell_type", fold=1)
    assert set(part(table, "test")["cell_type"]) == {"y"} == set(table.loc[table["split"] == "test", "cell_type"])
    assert set(table.loc[table["cell_type"] == "y", "split"]) == {"test"}
    assert set(part(table, "test")["regime"]) == {"context_unseen"}
    controls = adata.obs[(adata.obs["perturbation"] == "control") & (adata.obs["cell_type"] == "y")]
    assert set(controls["split"]) == {"train", "test"}
    few = drawn(adata, "unseen_context", cell_type_key="cell_type", held_out="x", few_shot=4)
    assert few.loc[few["cell_type"] == "x", "split"].value_counts().to_dict() == {"test": len(labels) - 4, "train": 4}


def test_by_covariate_leaves_each_condition_and_context_elsewhere():
    labels, contexts = SHAPES["two_contexts"]
    table = drawn(design(labels, (*contexts, "z")), "by_covariate", cell_type_key="cell_type")
    training, test = part(table, "train", "val"), part(table, "test")
    assert len(test) == int(0.25 * len(table) + 0.5)
    assert set(training["perturbation"]) == set(labels)
    assert set(training["cell_type"]) == {"x", "y", "z"}


@pytest.mark.parametrize("scheme", ["unseen_gene", "unseen_single", "combination"])
def test_validation_conditions_are_of_the_tested_kind(scheme):
    table = drawn(design(GENES + PAIRS[:40]), scheme, val_fraction=0.2)
    val, train = part(table, "val"), part(table, "train")
    assert 0 < len(val) <= len(train)
    if scheme != "combination":
        assert genes_in(val) - genes_in(train)
    assert part(drawn(design(GENES + PAIRS[:40]), scheme, val_fraction=0), "val").empty


def test_at_least_one_validation_condition_from_ten_training_conditions():
    for n, expected in ((12, 0), (13, 1)):  # of 12 genes in 4 folds, 9 train
        table = drawn(design(GENES[:n]), "unseen_single", val_fraction=0.01, n_folds=4, fold=3)
        assert len(part(table, "val")) == expected


@pytest.mark.parametrize("contexts", [(), ("x", "y")], ids=["one context", "two contexts"])
@pytest.mark.parametrize("labels", [GENES[:12], PAIRS[:9:2], ["A", "B", "C", "A+B", "B+C"]], ids=["s", "d", "five"])
@pytest.mark.parametrize("scheme", [*ALL_SCHEMES, "auto"])
def test_every_scheme_runs_or_says_what_works(scheme, labels, contexts):
    adata = design(labels, contexts)
    settings = {"cell_type_key": "cell_type"} if contexts else {}
    try:
        table = drawn(adata, scheme, groups=GROUPS, **settings)
    except DataError as error:
        assert "split" not in adata.obs
        works = str(error).partition("Schemes that work here: ")[2]
        if scheme == "auto":
            assert "Name a scheme" in str(error)
        for name in ALL_SCHEMES:
            if f"'{name}'" in works:
                drawn(adata, name, groups=GROUPS, **settings)
    else:
        assert {"train", "test"} <= set(table["split"])


def test_impossible_schemes_are_named_with_what_there_is():
    with pytest.raises(DataError, match=r"24 singles, 0 pairs.*work here: 'unseen_gene', 'unseen_single'\."):
        pp.split(design(GENES), "combination")
    with pytest.raises(DataError, match=r"3 perturbed genes.*n_folds=5 folds; pass n_folds= between 2 and 3"):
        pp.split(design(["A", "B", "C"]), "unseen_single")
    with pytest.raises(DataError, match=r"groups= lacks 1 perturbed genes: 'Q'"):
        pp.split(design([*GENES, "Q"]), "unseen_cluster", groups=GROUPS)
    with pytest.raises(DataError, match=r"groups= lacks 1 perturbed genes: 'Q'"):  # NaN is no cluster
        pp.split(design([*GENES, "Q"]), "unseen_cluster", groups=pd.Series(GROUPS | {"Q": np.nan}))
    with pytest.raises(DataError, match=r"held_out= names 'K562'; the contexts are 'x', 'y'"):
        pp.split(design(GENES, ("x", "y")), "unseen_context", cell_type_key="cell_type", held_out="K562")
    with pytest.raises(DataError, match=r"fold=3 does not exist: there are 2 contexts"):
        pp.split(design(GENES, ("x", "y")), "unseen_context", cell_type_key="cell_type", fold=3)
    with pytest.raises(DataError, match=r"scheme='combo' is unknown; there are 'combination'"):
        pp.split(design(GENES), "combo")
    with pytest.raises(DataError, match=r"No cell has the control label 'control'"):
        pp.split(design(GENES, n_controls=0), "unseen_single")
    with pytest.raises(DataError, match=r"There is no perturbed cell"):
        pp.split(design([]), "unseen_single")


@pytest.mark.parametrize(
    "wrong",
    [{"fold": 5}, {"fold": -1}, {"n_folds": 0}, {"seed": -1}, {"holdout_controls": 1.0}, {"val_fraction": -0.1}],
)
def test_numbers_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong)) if "n_folds" not in wrong else "n_folds"):
        pp.split(design(GENES), "unseen_single", **wrong)


def test_an_existing_column_is_not_overwritten_silently():
    adata = design(GENES)
    adata.obs["split"] = "mine"
    with pytest.raises(DataError, match=r"obs\['split'\] exists. Pass overwrite=True"):
        pp.split(adata, "unseen_single")
    assert set(adata.obs["split"]) == {"mine"}
    pp.split(adata, "unseen_single", overwrite=True)
    assert list(adata.obs["split"].cat.categories) == ["train", "val", "test"]
    pp.split(adata, "unseen_single", split_key="second")
    assert record(adata)["split_key"] == "second"


def test_views_and_repeated_names_are_refused():
    adata = design(GENES)
    with pytest.raises(DataError, match=r"adata\.copy\(\)"):
        pp.split(adata[:50], "unseen_single")
    adata.obs.index = ["same"] * 2 + list(adata.obs_names[2:])
    with pytest.raises(DataError, match=r"1 cell names occur more than once: 'same'.*obs_names_make_unique"):
        pp.split(adata, "unseen_single")


def test_custom_takes_names_in_any_order_rows_and_columns():
    adata = design(["A", "B", "A+B"], ("x", "y"))
    settings = {"cell_type_key": "cell_type"}
    table = drawn(adata, "custom", assignment={"B+A": "test", "A+B|y": "val", "B": "train"}, **settings)
    expected = {"A+B|x": "test", "A+B|y": "val", "A|x": "train", "A|y": "train", "B|x": "train", "B|y": "train"}
    assert dict(table["split"]) == expected
    adata.obs["mine"] = adata.obs["split"].where(adata.obs["perturbation"] != "control")
    assert drawn(adata, "custom", assignment="mine", **settings).equals(table)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ({1: "test"}, "names 1 conditions without perturbed cells: '1'"),
        (None, "'custom' needs assignment="),
        ({"A": "testing"}, "has the parts 'testing'"),
        ({"A+B": "test", "B+A": "train"}, r"gives 'A\+B' two parts"),
        ({"Z": "test", "control": "test"}, "names 2 conditions without perturbed cells: 'Z', 'control'"),
        ({"A": "test", "B": "test", "A+B": "val"}, "leaves no training condition"),
        ("by_cell", r"1 conditions have cells in more than one part of obs\['by_cell'\]: 'B'"),
    ],
)
def test_custom_errors(assignment, message):
    adata = design(["A", "B", "A+B"])
    adata.obs["by_cell"] = ["train"] * 43 + ["test"] * 3
    with pytest.raises(DataError, match=message):
        pp.split(adata, "custom", assignment=assignment)


def test_thin_regimes_warn():
    with pytest.warns(ScreenWarning, match=r"1 regimes have fewer than 3 test conditions.*'pair_2of2 \(2\)'"):
        pp.split(design([*GENES, *PAIRS[:4]]), "combination")


def test_read_split_gives_the_regimes_of_any_column():
    adata = design(["A", "B", "A+B", "C"])
    with pytest.raises(MissingKeyError, match=r"obs\['split'\] does not exist.*spm\.pp\.split"):
        pp.read_split(adata)
    adata.obs["mine"] = np.where(adata.obs["perturbation"].isin(["A+B", "B"]), "test", "train")
    table = pp.read_split(adata, split_key="mine")
    assert dict(table["regime"]) == {"A": "measured", "A+B": "pair_1of2", "B": "single_unseen", "C": "measured"}
    assert list(table["n_cells"]) == [2, 2, 2, 2]
    adata.obs.iloc[-1, adata.obs.columns.get_loc("mine")] = "test"
    with pytest.raises(DataError, match=r"1 conditions have cells in more than one part of obs\['mine'\]: 'C'"):
        pp.read_split(adata, split_key="mine")


def test_the_record_agrees_with_the_column():
    labels, contexts = SHAPES["two_contexts"]
    adata = design([label for i, label in enumerate(labels) for _ in range(1 + i % 3)], contexts)
    adata = adata[np.random.default_rng(2).permutation(adata.n_obs)].copy()
    pp.split(adata, "by_covariate", cell_type_key="cell_type")
    table = record(adata)["conditions"]
    pd.testing.assert_frame_equal(table, pp.read_split(adata, cell_type_key="cell_type"))
    assert len(table) == len(labels) * 2
    for row in table.itertuples():
        own = (adata.obs["perturbation"] == row.perturbation) & (adata.obs["cell_type"] == row.cell_type)
        assert set(adata.obs.loc[own, "split"]) == {row.split}
        assert own.sum() == row.n_cells


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_the_record_survives_a_file(form, tmp_path):
    labels, contexts = SHAPES["two_contexts"]
    adata = design(labels, contexts)
    pp.split(adata, "unseen_single", cell_type_key="cell_type")
    path = tmp_path / f"screen.{form}"
    getattr(adata, f"write_{form}")(path)
    back = getattr(ad, f"read_{form}")(path)
    assert list(back.obs["split"]) == list(adata.obs["split"])
    for key, value in record(adata).items():
        if key == "conditions":
            pd.testing.assert_frame_equal(record(back)[key], value, check_dtype=False, check_index_type=False)
        else:
            assert record(back)[key] == value
    pp.split(back, "unseen_single", cell_type_key="cell_type", overwrite=True)
    assert record(back)["sha256"] == record(adata)["sha256"]


def test_suggested_schemes():
    def suggest(labels, contexts=()):
        return pp.suggest_schemes(design(labels, contexts), cell_type_key="cell_type" if contexts else None)

    assert suggest(GENES + PAIRS[:40]) == ["combination", "unseen_single"]
    assert suggest(GENES + PAIRS[:40], ("x", "y")) == ["combination", "unseen_single", "unseen_context"]
    assert suggest(GENES[:9]) == []
    assert suggest(PAIRS[:20]) == ["unseen_single"]
    apart = design(GENES[:20], ("x",))
    apart.obs.loc[apart.obs["perturbation"].isin(GENES[:10]), "cell_type"] = "y"
    assert pp.suggest_schemes(apart, cell_type_key="cell_type") == ["unseen_single"]


def test_auto_takes_the_first_suggestion():
    adata = design(GENES + PAIRS[:40])
    pp.split(adata)
    assert record(adata)["scheme"] == "combination"
    with pytest.raises(DataError, match="No scheme gives 10 test conditions over 5 folds"):
        pp.split(design(GENES[:6]))
