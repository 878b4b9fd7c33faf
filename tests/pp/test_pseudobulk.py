"""The truth against a plain loop over cells, in every format and protocol."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad, read_zarr
from scipy import sparse

from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules._keys import ROOT
from scperturb_modules.pp import pseudobulk
from scperturb_modules.pp._matrix import group_moments

LAYERS = ("control", "control_train", "delta", "se2", "se2_control", "detection")
KEYS = {"batch_key": "batch", "cell_type_key": "cell_type"}


def random_screen(seed: int, *, split: bool = True, n_cells: int = 600, n_genes: int = 7) -> AnnData:
    """Two cell types, three batches (x has no control in T2), parts by condition, held-out controls."""
    rng = np.random.default_rng(seed)
    label = rng.choice(["control", "control", "A", "B", "A+B", "C"], n_cells)
    obs = pd.DataFrame({"perturbation": label}, index=[f"c{i}" for i in range(n_cells)])
    obs["cell_type"] = rng.choice(["T1", "T2"], n_cells)
    obs["batch"] = rng.choice(["x", "y", "z"], n_cells, p=[0.4, 0.4, 0.2])
    without = (label == "control") & (obs["cell_type"] == "T2") & (obs["batch"] == "x")
    obs.loc[without, "batch"] = "y"
    if split:
        parts = {"A": "train", "B": "val", "A+B": "test", "C": "test"}
        held_out = np.where(rng.random(n_cells) < 0.3, "test", "train")
        obs["split"] = [parts.get(name, side) for name, side in zip(label, held_out, strict=True)]
        obs.loc[(label == "C") & (obs["cell_type"] == "T1"), "split"] = "train"
    X = rng.poisson(0.7, (n_cells, n_genes)) * rng.lognormal(size=(n_cells, n_genes))
    X += (label == "A")[:, None] * np.arange(n_genes) * 0.2
    adata = AnnData(sparse.csr_matrix(np.log1p(X)), obs=obs)
    adata.var_names = [f"g{i}" for i in range(n_genes)]
    return adata


def slow(adata: AnnData, condition: str, context: str | None, *, training: bool = False) -> dict[str, np.ndarray]:
    """One row by the definition, cell by cell."""
    X, obs = adata.X.toarray(), adata.obs
    split = obs["split"] if "split" in obs else pd.Series("", index=obs.index)
    batch = obs["batch"]
    here = np.ones(len(obs), bool) if context is None else (obs["cell_type"] == context).to_numpy()
    cells = here & (obs["perturbation"] == condition).to_numpy()
    controls = here & (obs["perturbation"] == "control").to_numpy()
    test_row = (split[cells] == "test").all() and not training
    held_out = controls & (split == "test").to_numpy()
    train_controls = controls & ~held_out
    truth_controls = held_out if test_row and held_out.any() else train_controls

    def match(pool: np.ndarray) -> tuple:
        counts = batch[cells].value_counts()
        usable = [b for b in counts.index if (pool & (batch == b)).any()]
        total = counts[usable].sum()
        mean, se2, used = 0.0, 0.0, np.zeros(len(obs), bool)
        for b in usable:
            of_batch = pool & (batch == b).to_numpy()
            weight = counts[b] / total
            mean = mean + weight * X[of_batch].mean(0)
            se2 = se2 + weight**2 * X[of_batch].var(0, ddof=1) / of_batch.sum()
            used |= of_batch
        return mean, se2, used, len(usable) == len(counts)

    mean, se2, used, matched = match(truth_controls)
    return {
        "X": X[cells].mean(0),
        "control": mean,
        "control_train": match(train_controls)[0],
        "delta": X[cells].mean(0) - mean,
        "se2": X[cells].var(0, ddof=1) / cells.sum() + se2,
        "se2_control": se2,
        "detection": np.maximum((X[cells] > 0).mean(0), (X[used] > 0).mean(0)),
        "n_cells": cells.sum(),
        "n_controls": used.sum(),
        "status": "ok" if matched else "control_unmatched",
    }


def numbers(result: AnnData) -> dict[str, np.ndarray]:
    return {"X": result.X, **{name: result.layers[name] for name in LAYERS}}


def assert_equal(one: AnnData, other: AnnData, *, rtol: float = 1e-12) -> None:
    pd.testing.assert_frame_equal(one.obs, other.obs)
    pd.testing.assert_frame_equal(one.var, other.var, rtol=rtol)
    np.testing.assert_allclose(one.varm["control_mean"], other.varm["control_mean"], rtol=rtol, atol=1e-14)
    for name, values in numbers(one).items():
        np.testing.assert_allclose(values, numbers(other)[name], rtol=rtol, atol=1e-14, err_msg=name)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("cells", ["all", "training"])
@pytest.mark.parametrize("context", [True, False])
def test_equals_a_plain_loop(seed, split, cells, context):
    adata = random_screen(seed, split=split)
    if not context:  # one part per condition now that cell types are not told apart
        adata = adata[adata.obs["perturbation"] != "C"].copy()
    result = pseudobulk(adata, batch_key="batch", cell_type_key="cell_type" if context else None, cells=cells)
    used = adata.obs["split"] != "test" if split and cells == "training" else np.ones(adata.n_obs, bool)
    used &= adata.obs["perturbation"] != "control"
    expected_rows = {f"{p}|{c}" if context else p for p, c in adata.obs.loc[used, ["perturbation", "cell_type"]].values}
    assert list(result.obs_names) == sorted(expected_rows)
    statuses = set()
    for i, row in enumerate(result.obs.itertuples()):
        expected = slow(adata, row.perturbation, row.cell_type if context else None, training=cells == "training")
        assert (row.n_cells, row.n_controls, row.status) == tuple(
            expected[k] for k in ("n_cells", "n_controls", "status")
        )
        statuses.add(row.status)
        for name, values in numbers(result).items():
            assert values.dtype == np.float64
            np.testing.assert_allclose(values[i], expected[name], rtol=1e-12, atol=1e-14, err_msg=name)
    assert statuses == ({"ok", "control_unmatched"} if context else {"ok"})


def test_control_means_are_of_training_controls():
    adata = random_screen(0)
    result = pseudobulk(adata, **KEYS)
    train = ((adata.obs["perturbation"] == "control") & (adata.obs["split"] != "test")).to_numpy()
    np.testing.assert_allclose(result.var["control_mean"], adata.X.toarray()[train].mean(0), rtol=1e-12)
    assert list(result.uns[ROOT]["pseudobulk"]["contexts"]) == ["T1", "T2"]
    for column, context in enumerate(["T1", "T2"]):
        own = train & (adata.obs["cell_type"] == context).to_numpy()
        np.testing.assert_allclose(result.varm["control_mean"][:, column], adata.X.toarray()[own].mean(0), rtol=1e-12)


def test_what_is_recorded():
    adata = random_screen(0)
    adata.var["symbol"] = "s"
    truth, training = (pseudobulk(adata, **KEYS, cells=cells) for cells in ("all", "training"))
    record = truth.uns[ROOT]["pseudobulk"]
    assert (record["cells"], record["protocol"]) == ("all", "strict")
    assert training.uns[ROOT]["pseudobulk"]["cells"] == "training"
    assert training.uns[ROOT]["pseudobulk"]["fingerprint"] == record["fingerprint"]
    assert pseudobulk(random_screen(1), **KEYS).uns[ROOT]["pseudobulk"]["fingerprint"] != record["fingerprint"]
    assert truth.uns[ROOT]["setup"] == {
        "perturbation_key": "perturbation", "control": "control", "split_key": "split", **KEYS
    }  # fmt: skip
    assert truth.var["symbol"].eq("s").all()
    assert truth.obs.loc["A+B|T1", ["split", "n_perturbed"]].tolist() == ["test", 2]
    published = pseudobulk(random_screen(0, split=False), **KEYS)
    assert published.uns[ROOT]["pseudobulk"]["protocol"] == "published"
    assert "split" not in published.obs
    np.testing.assert_array_equal(published.layers["control"], published.layers["control_train"])


def test_without_keys_there_is_one_context():
    adata = random_screen(0, split=False)
    result = pseudobulk(adata)
    assert list(result.obs_names) == ["A", "A+B", "B", "C"]
    assert "cell_type" not in result.obs
    assert list(result.uns[ROOT]["pseudobulk"]["contexts"]) == [""]
    controls = adata.X.toarray()[(adata.obs["perturbation"] == "control").to_numpy()]
    np.testing.assert_allclose(result.layers["control"], np.tile(controls.mean(0), (4, 1)), rtol=1e-12)


def test_the_labels_may_have_other_names():
    adata = random_screen(0)
    renamed = AnnData(np.zeros_like(adata.X.toarray()), obs=adata.obs.copy(), var=adata.var, layers={"log": adata.X})
    renamed.obs["guide"] = renamed.obs.pop("perturbation").replace("control", "NT").astype("category")
    renamed.obs["part"] = renamed.obs.pop("split").astype("category")
    renamed.obs["batch"] = renamed.obs["batch"].map({"x": 1, "y": 2, "z": 3})
    result = pseudobulk(renamed, perturbation_key="guide", control="NT", layer="log", split_key="part", **KEYS)
    assert_equal(result, pseudobulk(adata, **KEYS))


@pytest.mark.parametrize("kind", [sparse.csc_matrix, sparse.csr_array, sparse.csc_array, lambda x: x.toarray()])
def test_every_matrix_format_gives_the_same(kind):
    adata = random_screen(0)
    expected = pseudobulk(adata, **KEYS)
    adata.X = kind(adata.X)
    assert_equal(pseudobulk(adata, **KEYS), expected)


def test_float32_is_summed_in_float64():
    adata = random_screen(0)
    adata.X = adata.X.astype(np.float32)
    exact = adata.copy()
    exact.X = exact.X.astype(np.float64)
    assert_equal(pseudobulk(adata, **KEYS), pseudobulk(exact, **KEYS), rtol=0)


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csc_matrix, lambda x: x.toarray()])
def test_backed_files_are_read_in_blocks(tmp_path, monkeypatch, kind):
    adata = random_screen(0)
    expected = pseudobulk(adata, **KEYS)
    adata.X = kind(adata.X)
    adata.write_h5ad(tmp_path / "screen.h5ad")
    monkeypatch.setattr("scperturb_modules.pp._matrix._DENSE_BLOCK", 7 * 33)
    monkeypatch.setattr("scperturb_modules.pp._matrix._SPARSE_BLOCK", 7 * 33)
    backed = read_h5ad(tmp_path / "screen.h5ad", backed="r")
    assert_equal(pseudobulk(backed, **KEYS), expected)
    backed.file.close()


def test_unsorted_and_repeated_entries():
    adata = random_screen(0)
    expected = pseudobulk(adata, **KEYS)
    X = adata.X
    halves = (X.data / 2, X.indices, X.indptr)
    indices = np.concatenate([np.r_[piece[::-1], piece] for piece in np.split(X.indices, X.indptr[1:-1])])
    data = np.concatenate([np.r_[piece[::-1], piece] for piece in np.split(halves[0], X.indptr[1:-1])])
    adata.X = sparse.csr_matrix((data, indices, X.indptr * 2), shape=X.shape)
    assert not adata.X.has_canonical_format
    assert_equal(pseudobulk(adata, **KEYS), expected)
    assert len(adata.X.data) == len(data)


def test_the_order_of_cells_and_genes_does_not_matter():
    adata = random_screen(0)
    result = pseudobulk(adata, **KEYS)
    rng = np.random.default_rng(1)
    cells, genes = rng.permutation(adata.n_obs), rng.permutation(adata.n_vars)
    shuffled = pseudobulk(adata[cells][:, genes].copy(), **KEYS)
    assert_equal(shuffled, result[:, genes].copy())
    by_cells = pseudobulk(adata[cells].copy(), **KEYS)
    assert by_cells.uns[ROOT]["pseudobulk"]["fingerprint"] == result.uns[ROOT]["pseudobulk"]["fingerprint"]


def test_test_cells_cannot_reach_the_training_side():
    adata = random_screen(0)
    noisy = adata.copy()
    test = (adata.obs["split"] == "test").to_numpy()
    X = adata.X.toarray()
    X[test] = np.random.default_rng(9).lognormal(2, 2, X[test].shape)
    noisy.X = sparse.csr_matrix(X)
    before, after = (pseudobulk(a, **KEYS, cells="training") for a in (adata, noisy))
    for name, values in numbers(before).items():
        assert values.tobytes() == numbers(after)[name].tobytes()
    assert before.varm["control_mean"].tobytes() == after.varm["control_mean"].tobytes()
    assert before.uns[ROOT]["pseudobulk"]["fingerprint"] == after.uns[ROOT]["pseudobulk"]["fingerprint"]
    truth, noisy_truth = pseudobulk(adata, **KEYS), pseudobulk(noisy, **KEYS)
    assert truth.layers["control_train"].tobytes() == noisy_truth.layers["control_train"].tobytes()
    assert truth.var["control_mean"].equals(noisy_truth.var["control_mean"])
    is_test = (truth.obs["split"] == "test").to_numpy()
    assert not np.allclose(truth.layers["control"][is_test], noisy_truth.layers["control"][is_test])
    assert truth.layers["control"][~is_test].tobytes() == noisy_truth.layers["control"][~is_test].tobytes()


def test_variance_keeps_its_digits():
    rng = np.random.default_rng(0)
    X = 1e4 + rng.normal(0, 1e-2, (300, 3))  # mean^2 / variance = 1e12: a difference of squares keeps 4 digits
    codes = rng.integers(0, 4, 300)
    variance = group_moments(X, codes, 4).variance()
    for group in range(4):
        np.testing.assert_allclose(variance[group], X[codes == group].var(0, ddof=1), rtol=1e-10)
    pooled = group_moments(X, codes, 4).merge(np.zeros(4, int), 1).variance()[0]
    np.testing.assert_allclose(pooled, X.var(0, ddof=1), rtol=1e-10)
    assert (group_moments(np.zeros((300, 3)), codes, 4).m2 == 0).all()


def test_groups_of_one_cell():
    adata = random_screen(0, split=False)[:, :3].copy()
    lone = np.flatnonzero(adata.obs["perturbation"] == "C")[1:]
    adata = adata[np.delete(np.arange(adata.n_obs), lone)].copy()
    result = pseudobulk(adata)
    assert result.obs.loc["C", "n_cells"] == 1
    assert np.isnan(result["C"].layers["se2"]).all()
    assert np.isfinite(result[result.obs_names != "C"].layers["se2"]).all()


def test_a_batch_with_one_control_takes_the_variance_of_the_others():
    X = np.array([[1.0], [2], [4], [8], [3], [5]])
    obs = pd.DataFrame({"perturbation": ["control"] * 4 + ["A"] * 2, "batch": list("xxxyxy")}, index=list("abcdef"))
    result = pseudobulk(AnnData(X, obs=obs), batch_key="batch")
    variance = np.var([1, 2, 4], ddof=1)
    np.testing.assert_allclose(result.layers["se2_control"], 0.25 * variance / 3 + 0.25 * variance / 1)


def test_no_common_batch_compares_with_all_controls():
    adata = random_screen(0, split=False)
    adata.obs.loc[adata.obs["perturbation"] == "A", "batch"] = "alone"
    row = pseudobulk(adata, batch_key="batch")["A"]
    controls = adata.X.toarray()[(adata.obs["perturbation"] == "control").to_numpy()]
    assert row.obs["status"].item() == "control_unmatched"
    np.testing.assert_allclose(row.layers["control"][0], controls.mean(0), rtol=1e-12)
    assert row.obs["n_controls"].item() == len(controls)


def test_pooled_controls_for_a_context_without_any():
    adata = random_screen(0)
    lacks = (adata.obs["perturbation"] == "control") & (adata.obs["cell_type"] == "T2")
    adata = adata[~lacks].copy()
    with pytest.raises(DataError, match=r"1 contexts have no training control.*T2 \(4 perturbed.*control_fallback"):
        pseudobulk(adata, cell_type_key="cell_type")
    result = pseudobulk(adata, cell_type_key="cell_type", control_fallback="pooled")
    X, control = adata.X.toarray(), (adata.obs["perturbation"] == "control").to_numpy()
    held_out = control & (adata.obs["split"] == "test").to_numpy()
    np.testing.assert_allclose(result["A+B|T2"].layers["control"][0], X[held_out].mean(0), rtol=1e-12)
    np.testing.assert_allclose(result["A|T2"].layers["control"][0], X[control & ~held_out].mean(0), rtol=1e-12)
    np.testing.assert_allclose(
        result["A|T2"].layers["se2_control"][0], X[control & ~held_out].var(0, ddof=1) / (control & ~held_out).sum()
    )
    assert (result.obs["status"] == "control_unmatched").equals(result.obs["cell_type"] == "T2")
    np.testing.assert_allclose(result.varm["control_mean"][:, 1], X[control & ~held_out].mean(0), rtol=1e-12)


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_survives_a_file(tmp_path, kind):
    result = pseudobulk(random_screen(0), **KEYS)
    path = tmp_path / f"truth.{kind}"
    getattr(result, f"write_{kind}")(path)
    again = read_h5ad(path) if kind == "h5ad" else read_zarr(path)
    for name, values in numbers(result).items():
        np.testing.assert_array_equal(values, numbers(again)[name])
    np.testing.assert_array_equal(result.varm["control_mean"], again.varm["control_mean"])
    pd.testing.assert_frame_equal(result.obs.astype(str), again.obs.astype(str), check_index_type=False)
    stored, kept = (x.uns[ROOT]["pseudobulk"] for x in (again, result))
    assert list(stored["contexts"]) == list(kept["contexts"])
    assert {k: v for k, v in stored.items() if k != "contexts"} == {k: v for k, v in kept.items() if k != "contexts"}
    assert again.uns[ROOT]["setup"] == result.uns[ROOT]["setup"]


def _change(column, rows, value):
    def change(adata):
        adata.obs[column] = adata.obs[column].astype(object)
        adata.obs.iloc[rows, adata.obs.columns.get_loc(column)] = value

    return change


def _all_test(adata):
    adata.obs["split"] = "test"


def _not_finite(adata):
    adata.X.data[np.flatnonzero(adata.X.indices == 2)[0]] = np.nan


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        (None, {"perturbation_key": "guide"}, MissingKeyError, r"obs\['guide'\].*standardize_perturbations"),
        (None, {"layer": "log"}, MissingKeyError, r"layers\['log'\] does not exist"),
        (None, {"split_key": "part"}, MissingKeyError, r"obs\['part'\].*pp\.split"),
        (None, {"cells": "train"}, ValueError, "'all' or 'training'"),
        (None, {"control_fallback": "all"}, ValueError, "'pooled' or None"),
        (None, {"control": "NT"}, DataError, r"'NT'.*'A', 'A\+B', 'B', 'C', 'control'.*control="),
        (_change("perturbation", [0, 1], None), {}, DataError, r"missing in 2 cells \('c0', 'c1'\).*notna"),
        (_change("perturbation", [0], ""), {}, DataError, "missing in 1 cells"),
        (_change("cell_type", [3], np.nan), KEYS, DataError, r"obs\['cell_type'\] is missing in 1 cells \('c3'\)"),
        (_change("perturbation", [0], "B+A"), {}, DataError, r"1 labels.*'B\+A'.*standardize_perturbations"),
        (_change("perturbation", [0], "A+control"), {}, DataError, "not canonical"),
        (_change("perturbation", [0], "A|B"), {}, DataError, "not canonical"),
        (
            _change("split", [0], "fold1"),
            {},
            DataError,
            r"values 'fold1'.*train, val, test.*overwrite=True.*rename.*split_key=",
        ),
        (None, {}, DataError, r"1 conditions have cells in more than one part.*'C'.*pp\.split"),
        (_all_test, {}, DataError, "No training cell has the control label"),
        (_change("perturbation", slice(None), "control"), {}, DataError, "no perturbed cell"),
        (_not_finite, KEYS, DataError, r"1 genes have values that are not finite: 'g2'.*pp\.validate"),
    ],
)
def test_errors_name_the_rows_and_the_mend(change, arguments, error, message):
    adata = random_screen(0)
    if change:
        change(adata)
    before = adata.copy()
    with pytest.raises(error, match=message):
        pseudobulk(adata, **arguments)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    np.testing.assert_array_equal(adata.X.toarray(), before.X.toarray())
    assert not adata.uns


def test_values_are_needed():
    adata = random_screen(0, split=False)
    adata.X = None
    with pytest.raises(DataError, match=r"adata.X is empty .*layer="):
        pseudobulk(adata)


def test_the_screen_is_not_changed():
    adata = random_screen(0)
    before = adata.copy()
    pseudobulk(adata, **KEYS)
    pd.testing.assert_frame_equal(adata.obs, before.obs)
    assert (adata.X != before.X).nnz == 0
    assert not adata.uns
    assert list(adata.var.columns) == []


def test_moments_of_no_cells_are_left_out():
    one = group_moments(np.arange(6.0).reshape(3, 2), np.array([0, -1, 2]), 3)
    np.testing.assert_array_equal(one.n, [1, 0, 1])
    np.testing.assert_array_equal(one.mean, [[0, 1], [0, 0], [4, 5]])
    none = group_moments(np.ones((3, 2)), np.array([0, -1, -1]), 3)
    np.testing.assert_array_equal(none.n, [1, 0, 0])
    np.testing.assert_array_equal(none.merge(np.array([0, 0, 0]), 1).mean, [[1, 1]])
