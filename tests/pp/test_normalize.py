"""From counts to log values: against scanpy, refusals, and highly variable genes without a leak."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad, read_zarr
from scipy import sparse

from scperturb_modules._errors import DataError, MissingKeyError, ScreenWarning
from scperturb_modules._keys import ROOT
from scperturb_modules.pp import normalize


def counts_screen(seed: int = 0, n_cells: int = 60, n_genes: int = 40) -> AnnData:
    """Counts in X; A is test, B and C are train, some controls are held out."""
    rng = np.random.default_rng(seed)
    label = np.resize(["control", "control", "g5", "B", "B+g7"], n_cells)
    obs = pd.DataFrame({"perturbation": label}, index=[f"c{i}" for i in range(n_cells)])
    obs["split"] = np.where(label == "g5", "test", "train")
    obs.iloc[:5, 1] = ["test", "train", "test", "train", "train"]
    counts = rng.poisson(rng.lognormal(0, 1, n_genes), (n_cells, n_genes))
    obs["library"] = counts.sum(1) + rng.integers(0, 100, n_cells)
    adata = AnnData(sparse.csr_matrix(counts, dtype=np.float32), obs=obs)
    adata.var_names = [f"g{i}" for i in range(n_genes)]
    return adata


def snapshot(adata: AnnData) -> tuple:
    X = adata.X.toarray() if sparse.issparse(adata.X) else np.array(adata.X)
    return X.tobytes(), sorted(adata.layers), adata.obs.to_csv(), adata.var.to_csv(), str(adata.uns)


def test_equals_scanpy():
    import scanpy as sc

    adata, other = counts_screen(), counts_screen()
    normalize(adata)
    sc.pp.normalize_total(other, target_sum=1e4)
    sc.pp.log1p(other)
    np.testing.assert_allclose(adata.X.toarray(), other.X.toarray(), rtol=2e-6)
    assert adata.X.dtype == np.float32
    assert adata.X.format == "csr"
    assert not adata.uns
    assert list(adata.var.columns) == []


@pytest.mark.parametrize(
    "kind", [sparse.csc_matrix, sparse.csr_array, lambda x: x.toarray(), lambda x: x.astype(np.int32)]
)
def test_counts_are_kept_as_given_in_every_format(kind):
    adata, expected = counts_screen(), counts_screen()
    normalize(expected)
    given = kind(adata.X)
    adata.X = given
    normalize(adata)
    kept = adata.layers["counts"]
    assert (type(kept), kept.dtype) == (type(given), given.dtype)
    assert kept is not given
    assert abs(kept - given).sum() == 0
    np.testing.assert_array_equal(adata.X.toarray(), expected.X.toarray())


def test_starts_from_the_counts_layer_so_twice_is_once():
    adata = counts_screen()
    normalize(adata)
    once = adata.X.copy()
    normalize(adata)
    np.testing.assert_array_equal(adata.X.toarray(), once.toarray())
    normalize(adata, target_sum=100)
    np.testing.assert_allclose(np.expm1(adata.X.toarray()).sum(1), 100, rtol=1e-4)


def test_a_named_layer_is_used_and_kept_as_counts():
    adata = counts_screen()
    expected = adata.X.toarray()
    adata.layers["raw"] = adata.X
    adata.X = -adata.X
    normalize(adata, layer="raw")
    np.testing.assert_array_equal(adata.layers["counts"].toarray(), expected)
    np.testing.assert_array_equal(adata.layers["raw"].toarray(), expected)
    assert (adata.X.data > 0).all()


@pytest.mark.parametrize("dtype", [np.int64, np.float32, "string", "category"])
def test_the_library_may_be_given(dtype):
    adata = counts_screen()
    library = adata.obs["library"].to_numpy(float)
    expected = np.log1p(adata.X.toarray() / library[:, None] * 1e4)
    adata.obs["library"] = adata.obs["library"].astype(dtype)
    normalize(adata, library_size_key="library")
    np.testing.assert_allclose(adata.X.toarray(), expected, rtol=1e-6)


def test_repeated_entries_are_one_count():
    adata, expected = counts_screen(), counts_screen()
    normalize(expected)
    X = adata.X
    row = np.repeat(np.arange(X.shape[0]), np.diff(X.indptr))
    order = np.argsort(np.r_[row, row], kind="stable")
    data = np.r_[X.data / 2, X.data / 2][order]
    adata.X = sparse.csr_matrix((data, np.r_[X.indices, X.indices][order], X.indptr * 2), shape=X.shape)
    normalize(adata)
    np.testing.assert_array_equal(adata.X.toarray(), expected.X.toarray())


def test_empty_cells_stay_zero_and_are_named():
    adata = counts_screen()
    adata.X = sparse.csr_matrix(adata.X.toarray() * (np.arange(60) > 1)[:, None])
    with pytest.warns(ScreenWarning, match=r"2 cells have no count and stay 0: 'c0', 'c1'"):
        normalize(adata)
    assert adata.X[:2].nnz == 0
    assert np.isfinite(adata.X.data).all()


def test_highly_variable_genes_come_from_training_cells():
    import scanpy as sc

    adata = counts_screen()
    normalize(adata, n_top_genes=8)
    train = (adata.obs["split"] != "test").to_numpy()
    chosen = AnnData(adata.X[train])
    sc.pp.highly_variable_genes(chosen, n_top_genes=8)
    expected = chosen.var["highly_variable"].to_numpy() | adata.var_names.isin(["g5", "g7"])
    np.testing.assert_array_equal(adata.var["highly_variable"], expected)
    assert not chosen.var["highly_variable"].to_numpy()[[5, 7]].all()  # the perturbed genes were added
    assert adata.n_vars == 40

    noisy = counts_screen()
    X = noisy.X.toarray()
    X[~train] = np.random.default_rng(1).poisson(50, X[~train].shape)
    noisy.X = sparse.csr_matrix(X)
    normalize(noisy, n_top_genes=8)
    assert noisy.var["highly_variable"].equals(adata.var["highly_variable"])
    assert not np.array_equal(noisy.X[~train].toarray(), adata.X[~train].toarray())


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("kind", ["h5ad", "zarr"])
def test_the_cells_used_are_recorded(tmp_path, kind):
    adata = counts_screen()
    adata.obs["cell_type"] = "T"
    adata.uns[ROOT] = {"split": {"seed": 0}}
    normalize(adata, n_top_genes=8, cell_type_key="cell_type")
    assert adata.uns[ROOT]["split"] == {"seed": 0}
    getattr(adata, f"write_{kind}")(tmp_path / f"a.{kind}")
    adata = (read_h5ad if kind == "h5ad" else read_zarr)(tmp_path / f"a.{kind}")
    assert set(adata.uns) == {ROOT}
    record = adata.uns[ROOT]["provenance"]["highly_variable"]
    train = adata.obs_names[adata.obs["split"] != "test"]
    assert list(record["conditions"]) == ["B+g7|T", "B|T"]
    assert record["n_cells"] == len(train)
    assert record["n_evaluation_controls"] == 0
    assert record["cells_sha256"] == hashlib.sha256("\n".join(sorted(train)).encode()).hexdigest()


def test_without_a_split_all_cells_choose_and_the_record_says_so():
    adata = counts_screen()
    del adata.obs["split"]
    with pytest.warns(ScreenWarning, match=r"no split.*pp\.split"):
        normalize(adata, n_top_genes=100)
    assert adata.var["highly_variable"].all()
    assert list(adata.uns[ROOT]["provenance"]["highly_variable"]["conditions"]) == ["B", "B+g7", "g5"]


def _logged(adata):
    adata.X = adata.X.log1p()


def _scaled_sums(adata):
    adata.X = sparse.csr_matrix(adata.X.toarray() / adata.X.sum(1) * 1e4)


def _negative(adata):
    adata.X.data[:3] *= -1


def _nan(adata):
    adata.X.data[0] = np.nan


def _logged_counts_layer(adata):
    adata.layers["counts"] = adata.X.log1p()


def _library(value):
    def change(adata):
        adata.obs["library"] = adata.obs["library"].astype(float)
        adata.obs.loc["c3", "library"] = value

    return change


@pytest.mark.parametrize(
    ("change", "arguments", "error", "message"),
    [
        (_logged, {}, DataError, r"X has \d+ values that are not whole.*log-transformed.*'c0'.*layer="),
        (_scaled_sums, {}, DataError, "not whole numbers: it looks normalised already"),
        (_negative, {}, DataError, r"X has 3 values below zero: it looks scaled \(cells 'c0'\)"),
        (_nan, {}, DataError, "X has 1 values that are not finite"),
        (_logged_counts_layer, {}, DataError, r"layers\['counts'\] has .* not whole"),
        (None, {"layer": "raw"}, MissingKeyError, r"layers\['raw'\] does not exist"),
        (None, {"library_size_key": "total"}, MissingKeyError, r"obs\['total'\] does not exist; obs has .*'library'"),
        (_library(np.nan), {"library_size_key": "library"}, DataError, "missing or not a number in 1 cells: 'c3'"),
        (_library(0), {"library_size_key": "library"}, DataError, "not above zero in 1 cells: 'c3'"),
        (
            _library(2),
            {"library_size_key": "library"},
            DataError,
            "smaller than the counts of the cell in 1 cells: 'c3'",
        ),
        (None, {"target_sum": 0}, ValueError, "target_sum=0"),
        (None, {"n_top_genes": 0}, ValueError, "n_top_genes=0"),
        (None, {"n_top_genes": 5, "split_key": "part"}, MissingKeyError, r"obs\['part'\]"),
        (None, {"n_top_genes": 5, "perturbation_key": "guide"}, MissingKeyError, "standardize_perturbations"),
    ],
)
def test_errors_say_what_mends_and_change_nothing(change, arguments, error, message):
    adata = counts_screen()
    if change:
        change(adata)
    before = snapshot(adata)
    with pytest.raises(error, match=message):
        normalize(adata, **arguments)
    assert snapshot(adata) == before


def test_views_and_files_are_refused(tmp_path):
    adata = counts_screen()
    before = snapshot(adata)
    with pytest.raises(DataError, match=r"view.*adata\.copy\(\)"):
        normalize(adata[:10])
    assert snapshot(adata) == before
    adata.write_h5ad(tmp_path / "a.h5ad")
    backed = read_h5ad(tmp_path / "a.h5ad", backed="r")
    with pytest.raises(DataError, match=r"file.*adata\.to_memory\(\)"):
        normalize(backed)
    backed.file.close()
    with pytest.raises(DataError, match="X is None"):
        normalize(AnnData(obs=adata.obs))


def test_counts_that_are_there_are_not_overwritten(screen):
    adata = screen.copy()
    adata.layers["raw"] = adata.layers["counts"] * 2
    before = adata.X.copy()
    with pytest.raises(DataError, match=r"layers\['counts'\] exists and differs from layers\['raw'\]"):
        normalize(adata, layer="raw")
    assert (before != adata.X).nnz == 0 and (adata.layers["counts"] != screen.layers["counts"]).nnz == 0
    adata.layers["raw"] = adata.layers["counts"].copy()
    normalize(adata, layer="raw")  # the same counts under a second name
    del adata.layers["counts"]
    adata.layers["raw"] = adata.layers["raw"] * 2
    normalize(adata, layer="raw")
    assert (adata.layers["counts"] != adata.layers["raw"]).nnz == 0
