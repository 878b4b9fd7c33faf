"""Every guard: a screen that it must name and one that it must let pass."""

from __future__ import annotations

import warnings

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scperturb_modules._errors import DataError
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.pp import check_screen, format_checks, raise_on_errors, standardize_perturbations, validate
from scperturb_modules.pp._facts import Facts

N_GENES = 60
GENES = [f"G{i:02d}" for i in range(N_GENES)]


def clean_screen(*, n_conditions=12, n_cells=40, n_controls=200, seed=0):
    """Counts of equal totals without any problem; each perturbation lowers its own gene to a fifth and nothing else."""
    rng = np.random.default_rng(seed)
    labels = ["control"] * n_controls + [gene for gene in GENES[:n_conditions] for _ in range(n_cells)]
    rate = np.tile(rng.uniform(0.5, 2.0, N_GENES), (len(labels), 1))
    for i, label in enumerate(labels):
        if label != "control":
            rate[i, GENES.index(label)] *= 0.2
    share = rate / rate.sum(1, keepdims=True)
    counts = np.stack([rng.multinomial(600, row) for row in share])
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(len(labels))])
    obs["cell_type"] = np.resize(["T", "B"], len(obs))
    obs["parts"] = np.resize(["train", "train", "test"], len(obs))
    adata = anndata.AnnData(sparse.csr_matrix(np.log1p(counts / 600 * 1e4), dtype=np.float32), obs=obs)
    adata.var_names = GENES
    adata.layers["counts"] = sparse.csr_matrix(counts, dtype=np.int32)
    return adata


@pytest.fixture(scope="module")
def _clean():
    return clean_screen()


@pytest.fixture
def screen(_clean):
    return _clean.copy()


def found(adata, check, **keys):
    options = {name: keys.pop(name) for name in ("check_log", "control_fallback") if name in keys}
    table = check_screen(adata, ScreenKeys(**keys), **options).set_index("check")
    return table.loc[check] if check in table.index else None


def change(adata, function):
    """Replace X by what ``function`` makes of the dense values."""
    adata.X = sparse.csr_matrix(function(adata.X.toarray()))
    return adata


def relabel(adata, mapping):
    adata.obs["perturbation"] = adata.obs["perturbation"].astype(str).replace(mapping)
    return adata


def test_clean_screen_passes_every_check(screen, fingerprint):
    before = fingerprint(screen)
    checks = validate(screen, cell_type_key="cell_type")
    assert fingerprint(screen, without=["checks"]) == before
    assert screen.uns["scperturb_modules"]["checks"] is checks
    assert list(checks.columns) == ["check", "level", "n", "message", "mend"]
    spoken = checks[checks["level"] != "ok"].set_index("check")
    # 100 controls per cell type and 20 cells per condition and cell type
    assert set(spoken.index) == {"few_cells", "target_change"}
    assert spoken.loc["target_change", ["level", "message"]].tolist() == [
        "note",
        "Of 12 conditions whose target is measured, 12 lower it and 0 raise it.",
    ]


def nan_at(values):
    values[3, 7] = np.nan
    values[5, 7] = np.inf
    return values


def ensembl(adata):
    adata.var_names = [f"ENSG{i:011d}" for i in range(N_GENES)]
    adata.var["gene_symbol"] = GENES
    return adata


def doubled_genes(adata):
    adata.var_names = ["G01", *GENES[1:]]
    return adata


def doubled_cells(adata):
    adata.obs_names = ["c1", *adata.obs_names[1:]]
    return adata


def missing(adata, value, column="perturbation", n=3):
    labels = adata.obs[column].astype(object)
    labels.iloc[-n:] = value
    adata.obs[column] = labels
    return adata


def one_cell_each(adata):
    return adata[adata.obs["perturbation"].eq("control") | ~adata.obs["perturbation"].duplicated()].copy()


def pairs(adata):
    return relabel(adata, {"G03": "G01_G02"})


def strange_part(adata):
    adata.obs["split"] = np.resize(["train", "testing"], adata.n_obs)
    return adata


def no_controls_in_b(adata):
    return adata[~((adata.obs["cell_type"] == "B") & (adata.obs["perturbation"] == "control"))].copy()


def raw(adata):
    adata.X = adata.layers["counts"].astype(np.float32)
    return adata


ERRORS = {
    "no cells": (lambda a: a[:0].copy(), {}, "empty", "The object is empty: 0 cells x 60 genes."),
    "no genes": (lambda a: a[:, :0].copy(), {}, "empty", "The object is empty: 680 cells x 0 genes."),
    "wrong key": (
        lambda a: a,
        {"perturbation_key": "cond"},
        "keys",
        "perturbation_key='cond': obs has 'perturbation', 'cell_type', 'parts'",
    ),
    "wrong batch": (lambda a: a, {"batch_key": "lane"}, "keys", "batch_key='lane': obs has"),
    "wrong layer": (lambda a: a, {"layer": "logged"}, "keys", "layer='logged': layers has 'counts'"),
    "wrong split": (lambda a: a, {"split_key": "fold"}, "keys", "split_key='fold': obs has"),
    "duplicated cells": (doubled_cells, {}, "cell_names", "1 duplicated cell names (first: 'c1')."),
    "duplicated genes": (doubled_genes, {}, "gene_names", "1 duplicated gene names (first: 'G01')"),
    "Ensembl ids": (ensembl, {}, "identifiers", "60 of 60 genes are Ensembl ids (first: 'ENSG00000000000')"),
    "no cell type": (
        lambda a: missing(a, None, "cell_type"),
        {"cell_type_key": "cell_type"},
        "missing_keys",
        "Values are missing: obs['cell_type'] in 3 cells.",
    ),
    "strange part": (strange_part, {}, "split", "obs['split'] has 340 cells outside train, val, test: 'testing'."),
    "unlabelled": (
        lambda a: missing(a, None),
        {},
        "missing_labels",
        "3 of 680 cells have no perturbation label in obs['perturbation'].",
    ),
    "unlabelled as text": (
        lambda a: missing(a, "nan"),
        {},
        "missing_labels",
        "3 of 680 cells have no perturbation label",
    ),
    "no control": (
        lambda a: a[a.obs["perturbation"] != "control"].copy(),
        {},
        "control_label",
        "Control label 'control' is not in obs['perturbation'].",
    ),
    "other control": (
        lambda a: relabel(a, {"control": "NT"}),
        {},
        "control_label",
        "Control label 'control' is not in obs['perturbation']. Did you mean 'NT' (200 cells)?",
    ),
    "separator": (
        pairs,
        {},
        "separator",
        "Found '_' between names that are targets themselves in 1 labels ('G01_G02'): pass sep='_'",
    ),
    "unsorted": (
        lambda a: relabel(a, {"G03": "G02+G01"}),
        {},
        "canonical_labels",
        "1 labels of obs['perturbation'] are not canonical: 'G02+G01'; 'G02+G01' is written 'G01+G02'.",
    ),
    "bar": (lambda a: relabel(a, {"G03": "x|y"}), {}, "canonical_labels", "are not canonical: 'x|y'"),
    "all controls": (
        lambda a: a[a.obs["perturbation"] == "control"].copy(),
        {},
        "perturbed_cells",
        "obs['perturbation'] has no perturbed cells.",
    ),
    "one cell per condition": (
        one_cell_each,
        {},
        "single_cells",
        "Each of the 12 conditions of obs['perturbation'] has one cell: 'G00', 'G01', 'G02' and 9 more.",
    ),
    "context without controls": (
        no_controls_in_b,
        {"cell_type_key": "cell_type"},
        "context_controls",
        "1 values of obs['cell_type'] have no control cells for training: 'B (240 perturbed cells)'.",
    ),
    "NaN": (
        lambda a: change(a, nan_at),
        {},
        "not_finite",
        "2 non-finite values in X, in 1 genes (first: 'G07').",
    ),
    "negative": (lambda a: change(a, lambda x: x - x.mean(0)), {}, "negative", "negative values (smallest -"),
    "raw": (raw, {}, "raw_counts", "X looks like raw counts (max "),
    "raw layer": (lambda a: a, {"layer": "counts"}, "raw_counts", "layers['counts'] looks like raw counts (max "),
    "not logged": (
        lambda a: change(a, np.expm1),
        {},
        "not_logged",
        "row sums ~ 10000): log1p is missing.",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_are_named_and_change_nothing(case, screen, fingerprint):
    make, keys, check, text = ERRORS[case]
    assert found(screen, check, **(keys if case.startswith("context") else {})).level == "ok"
    bad = make(screen)
    row = found(bad, check, **keys)
    assert (row.level, text in row.message) == ("error", True), row.message
    assert row.n > 0
    assert row.mend
    before = fingerprint(bad)
    with pytest.raises(DataError) as caught:
        validate(bad, **keys)
    assert text in str(caught.value)
    assert row.mend in str(caught.value)
    assert fingerprint(bad) == before


def test_all_errors_at_once(screen):
    bad = change(doubled_genes(missing(relabel(screen, {"control": "NT"}), None)), lambda x: x - x.mean(0))
    with pytest.raises(DataError) as caught:
        validate(bad)
    text = str(caught.value)
    assert text.startswith("4 problems:\n1. 1 duplicated gene names")
    for part in ("no perturbation label", "Did you mean 'NT'", "looks scaled"):
        assert part in text


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_non_finite_value_is_found_in_any_cell(value, screen):
    large = anndata.concat([screen] * 4, index_unique="-")
    large.X.data[-1] = value
    row = found(large, "not_finite")
    assert (row.level, row.n) == ("error", 1)


def test_corrected_counts_are_not_logged(screen):
    row = found(change(screen, lambda x: np.expm1(x) * np.linspace(0.1, 1, screen.n_obs)[:, None]), "not_logged")
    assert "row sums differ, median 55" in row.message


def counts_of_two(a):
    a.X = sparse.csr_matrix(np.minimum(a.layers["counts"].toarray(), 2), dtype=np.float32)
    return a


@pytest.mark.parametrize("column", ["number", "truth"])
def test_columns_that_are_no_labels(screen, column):
    screen.obs["number"] = np.linspace(0, 1, screen.n_obs)
    screen.obs["truth"] = np.resize([True, False], screen.n_obs)
    kind = {"number": "float64", "truth": "bool"}[column]
    assert f"the column holds {kind}, not labels" in found(screen, "keys", perturbation_key=column).message


def test_shallow_counts_are_counts_and_logged_values_are_not(screen):
    assert found(counts_of_two(screen), "raw_counts").level == "error"
    screen.X = (screen.X > 0).astype(np.float32)
    assert found(screen, "raw_counts").level == "ok"


def test_mends_are_calls_that_work(screen):
    bad = relabel(missing(screen, "nan"), {"control": "NT", "G03": "G02_G01"})
    names = {"adata": bad}
    exec(found(bad, "missing_labels").mend.removeprefix("Drop them: "), names)
    standardize_perturbations(names["adata"], "perturbation", sep="_")
    validate(names["adata"])
    ids = ensembl(clean_screen(n_conditions=3))
    ids.var[0] = "a column whose name is a number"
    mend = found(ids, "identifiers").mend
    assert mend.startswith("Set adata.var_names = adata.var['gene_symbol'].astype(str)")


def test_target_names_with_underscores_pass(screen):
    tap = relabel(screen, {"G01": "MYC_enh", "G02": "GATA1_enh", "G03": "G04_TSS", "G05": "HLA-A"})
    assert found(tap, "separator").level == "ok"
    assert found(tap, "canonical_labels").level == "ok"


def test_pooled_controls_make_a_note(screen):
    bad = no_controls_in_b(screen)
    row = found(bad, "context_controls", cell_type_key="cell_type", control_fallback="pooled")
    assert row.level == "note"
    assert 'control_fallback="pooled"' in row.mend


def test_held_out_controls_are_not_for_training(screen):
    screen.obs["split"] = np.where(
        screen.obs["cell_type"].eq("B") & screen.obs["perturbation"].eq("control"), "test", "train"
    )
    assert found(screen, "context_controls", cell_type_key="cell_type").level == "error"


def test_one_condition_of_one_cell_is_no_error(screen):
    few = screen[~(screen.obs["perturbation"].eq("G01") & screen.obs["perturbation"].duplicated())].copy()
    assert found(few, "single_cells").level == "ok"
    row = found(few, "few_cells")
    assert (row.level, row.message) == ("warning", "1 conditions have fewer than 30 cells and are not scored: 'G01'.")


def test_few_cells_per_context(screen):
    assert found(screen, "few_cells").level == "ok"
    row = found(screen, "few_cells", cell_type_key="cell_type")
    assert row.n == 24
    assert "'G00|B', 'G00|T'" in row.message


def test_few_controls(screen):
    assert found(screen, "few_controls", cell_type_key="cell_type").level == "ok"
    row = found(screen[110:].copy(), "few_controls")
    assert (row.level, row.message.split(".")[0]) == ("warning", "Fewer than 100 control cells: 90 in the screen")
    row = found(screen[2:].copy(), "few_controls", cell_type_key="cell_type")
    assert "99 in B, 99 in T" in row.message


def test_few_conditions(screen):
    assert found(screen, "few_conditions").level == "ok"
    row = found(screen[: 200 + 9 * 40].copy(), "few_conditions")
    assert (row.level, row.n) == ("warning", 9)
    assert row.message.startswith("Only 9 conditions: expect no model to beat the mean")
    screen.obs["split"] = np.where(screen.obs["perturbation"].isin(GENES[:3]), "test", "train")
    row = found(screen, "few_conditions")
    assert row.message.startswith("Only 9 training conditions and 3 test conditions")


def test_unused_batch_columns_are_noted_unless_confounded(screen):
    assert found(screen, "replicates").level == "ok"
    screen.obs["sample"] = np.where(screen.obs["perturbation"] == "control", "s1", "s2")
    assert found(screen, "replicates").level == "ok"
    screen.obs["Replicate"] = np.resize(["r1", "r2", "r3"], screen.n_obs)
    row = found(screen, "replicates")
    assert (row.level, row.mend) == ("note", "Pass batch_key='Replicate' for matched controls.")
    assert found(screen, "replicates", batch_key="Replicate").level == "ok"
    assert found(screen, "batch_controls", batch_key="Replicate").level == "ok"
    row = found(screen, "batch_controls", batch_key="sample")
    assert (row.level, row.message) == ("warning", "2 of 2 batches of obs['sample'] lack control or perturbed cells.")


def test_unmeasured_targets(screen):
    assert found(screen, "unmeasured").level == "ok"
    row = found(relabel(screen, {"G03": "G02+X9", "G04": "X9"}), "unmeasured")
    assert (row.level, row.n) == ("note", 1)
    assert row.message.startswith("1 of 11 perturbed genes are not in var_names") and row.message.endswith("'X9'.")


def test_targets_that_do_not_move(screen):
    rng = np.random.default_rng(1)
    perturbed = screen.obs["perturbation"] != "control"
    labels = screen.obs["perturbation"].to_numpy(dtype=object)
    labels[perturbed] = rng.permutation(labels[perturbed])  # wrong labels
    # half of the targets go up instead
    values = screen.X.toarray()
    for i, gene in enumerate(GENES[:12]):
        values[labels == gene, i] += 3 * (i % 2) - 1.5 * (i % 2 == 0)
    screen.obs["perturbation"], screen.X = labels, sparse.csr_matrix(np.maximum(values, 0))
    row = found(screen, "target_change")
    assert (row.level, row.n) == ("warning", 6)
    assert row.message == "Of 12 conditions whose target is measured, 6 lower it and 6 raise it."


def shifted(adata, size):
    values = adata.X.toarray()
    values[(adata.obs["perturbation"] != "control").to_numpy(), 20:50] += size
    adata.X = sparse.csr_matrix(values)
    return adata


def test_common_shift(screen):
    assert found(screen, "common_shift").level == "ok"
    row = found(shifted(screen, 1.0), "common_shift")
    assert row.level == "note"
    cosine = float(row.message.split("cosine ")[1].split(" ")[0])
    # own target: a change of about 1.6 in one gene; shift: 1 in 30 genes
    assert 0.85 < cosine <= 1.0


def test_noise_of_shared_controls_is_no_common_shift():
    """Few controls and no effect: their noise is common to all changes, and is taken off."""
    plain, said = [], 0
    for seed in range(10):
        screen = clean_screen(n_conditions=0, n_controls=495, seed=seed)
        labels = np.array(["control"] * 15 + [f"N{i:02d}" for i in range(12) for _ in range(40)])
        screen.obs["perturbation"] = labels
        means = np.stack([screen.X[labels == label].mean(0).A1 for label in np.unique(labels)])
        unit = means[:-1] - means[-1]
        unit /= np.linalg.norm(unit, axis=1, keepdims=True)
        plain.append((np.linalg.norm(unit.sum(0)) ** 2 - 12) / (12 * 11))
        said += found(screen, "common_shift").level == "note"
    assert min(plain) > 0.5
    assert said <= 1


def test_logged_twice(screen, fingerprint):
    assert found(screen, "logged_twice").level == "ok"
    twice = change(screen, np.log1p)
    row = found(twice, "logged_twice")
    assert (row.level, row.message.startswith("X looks logged twice (max 1.")) == ("warning", True)
    before = fingerprint(twice)
    validate(twice)
    assert fingerprint(twice, without=["checks"]) == before
    assert found(twice, "logged_twice", check_log=False) is None
    assert found(raw(clean_screen(n_conditions=3)), "raw_counts", check_log=False).level == "error"


def test_unequal_totals(screen):
    assert found(screen, "library_size").level == "ok"
    size = np.random.default_rng(0).lognormal(0, 0.5, (screen.n_obs, 1))
    row = found(change(screen, lambda x: np.log1p(np.expm1(x) * size)), "library_size")
    assert (row.level, row.message.startswith("Totals per cell of expm1(X) vary by ")) == ("warning", True)


def test_constant_genes(screen):
    assert found(screen, "constant_genes").level == "ok"

    def flat(values):
        values[:, 30], values[:, 40] = 0, 1.5
        return values

    row = found(change(screen, flat), "constant_genes")
    assert (row.level, row.message) == ("note", "2 genes are constant in the 680 cells looked at: 'G30', 'G40'.")


def test_memory():
    n = 34_000
    obs = pd.DataFrame({"perturbation": np.resize(["control", "A"], n)}, index=np.arange(n).astype(str))
    large = anndata.AnnData(sparse.csr_matrix((n, 30_000), dtype=np.float32), obs=obs)
    row = found(large, "memory")
    assert (row.level, row.message) == ("note", "X would need 4.1 GB dense; it is read in blocks.")
    assert found(large[:100].copy(), "memory").level == "ok"


FORMATS = {
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "csc_array": sparse.csc_array,
    "dense": lambda x: x.toarray(),
    "float64": lambda x: x.astype(np.float64),
}


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("bad", [False, True])
def test_every_format_gives_the_same_table(form, bad, screen):
    if bad:
        change(screen, nan_at)
    expected = check_screen(screen)
    screen.X = FORMATS[form](screen.X)
    pd.testing.assert_frame_equal(check_screen(screen), expected)


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_backed_screens(form, screen, tmp_path):
    screen = anndata.concat([screen] * 4, index_unique="-")  # more cells than the sample
    expected = check_screen(screen)
    screen.X = {"csr": lambda x: x, "csc": sparse.csc_matrix, "dense": lambda x: x.toarray()}[form](screen.X)
    screen.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    pd.testing.assert_frame_equal(check_screen(backed), expected)
    backed.file.close()


def test_sample_is_always_the_same_and_holds_enough_of_rare_conditions():
    labels = ["control"] * 600 + [gene for gene in GENES[:20] for _ in range(40)] + ["G59"] * 20_000
    obs = pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(len(labels))])
    large = anndata.AnnData(sparse.csr_matrix((len(labels), N_GENES), dtype=np.float32), obs=obs)
    large.var_names = GENES
    rows = Facts(large, ScreenKeys()).sampled_rows
    assert np.array_equal(rows, Facts(large.copy(), ScreenKeys()).sampled_rows)
    assert (len(rows), (np.diff(rows) > 0).all()) == (2000, True)
    counts = large.obs["perturbation"].iloc[rows].value_counts()
    assert counts["control"] >= 500
    assert len(counts) == 22
    assert counts.min() >= 30


def test_effects_are_those_of_training_cells_only(screen):
    """Test cells may hold anything: what is said about effects does not change."""
    screen.obs["split"] = np.resize(["train", "train", "test"], screen.n_obs)
    before = found(screen, "target_change").message
    values = screen.X.toarray()
    values[(screen.obs["split"] == "test").to_numpy()] = 1.5
    screen.X = sparse.csr_matrix(values)
    assert found(screen, "target_change").message == before


def test_contexts_are_not_mixed_when_effects_are_looked_at(screen):
    """The controls of one context differ from the perturbed cells of another; that is no shift by perturbation."""
    b = (screen.obs["cell_type"] == "B").to_numpy()
    values = screen.X.toarray()
    values[b, 20:50] += 2
    screen.X = sparse.csr_matrix(values)
    lopsided = screen[~b | (np.arange(screen.n_obs) >= 100)].copy()  # fewer controls of B
    assert found(lopsided, "common_shift", cell_type_key="cell_type").level == "ok"


def test_views_are_refused(screen):
    with pytest.raises(DataError, match=r"Call adata = adata.copy\(\) before validate"):
        validate(screen[:300])


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_written_and_read(form, screen, tmp_path):
    checks = validate(screen)
    path = tmp_path / f"screen.{form}"
    getattr(screen, f"write_{form}")(path)
    read = getattr(anndata, f"read_{form}")(path).uns["scperturb_modules"]["checks"]
    assert read.astype({"n": int}).to_numpy().tolist() == checks.to_numpy().tolist()


def test_tables_as_text(screen):
    checks = check_screen(missing(screen, None))
    text = format_checks(checks, width=60)
    assert text.startswith("ERROR    missing_labels: 3 of 680 cells")
    assert text.endswith(f"\n{(checks['level'] == 'ok').sum()} checks passed.")
    assert max(map(len, text.splitlines())) <= 70
    with pytest.raises(DataError, match="^3 of 680 cells"):
        raise_on_errors(checks)
    raise_on_errors(checks[checks["level"] != "error"])


def test_nothing_is_warned_of(screen):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_screen(change(screen, nan_at))
        check_screen(screen[:0].copy())
