from __future__ import annotations

import logging
import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scperturb_modules import pp
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.priors import _correlation
from scperturb_modules.priors._coexpression import coexpression

FORMS = {
    "csr": sparse.csr_matrix,
    "csc": sparse.csc_matrix,
    "csr_array": sparse.csr_array,
    "dense": np.asarray,
    "fortran": np.asfortranarray,
}


def draw_values(n_cells=60, n_genes=40, seed=0):
    """Log expression with zeros, shared factors, constant genes and copies in other units and with the other sign."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n_cells, 4)) @ rng.normal(size=(4, n_genes))
    values = np.log1p(rng.poisson(np.exp(factors - 0.5))).astype(np.float32)
    values[:, 3], values[:, 4] = 0, 0.1
    values[:, 6:9] = values[:, 5:6] * np.array([1, 3, -7], dtype=np.float32)
    values[:, 9] = np.arange(n_cells) == 7  # seen in a single cell, as the next
    values[:, 10] = 2.5 * (np.arange(n_cells) == 7)
    return values


def make_screen(values, labels=None, parts="train", seed=1):
    """Cells and genes under names that are not in order."""
    from anndata import AnnData

    rng = np.random.default_rng(seed)
    cells, genes = (rng.permutation([f"{letter}{i:04d}" for i in range(max(values.shape))]) for letter in "cG")
    obs = pd.DataFrame({"perturbation": "control" if labels is None else labels}, index=cells[: len(values)])
    if parts is not None:
        obs["split"] = parts
    return AnnData(values, obs=obs, var=pd.DataFrame(index=genes[: values.shape[1]]))


def plain(adata, *, threshold=0.4, top=20, symmetric=True, signed=False):
    """Edges of a double loop over np.corrcoef."""
    values = adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)
    values = np.asarray(values, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        r = np.corrcoef(values.T).round(10)
    varies = np.ptp(values, axis=0) > 0
    names = list(adata.var_names)
    edges = {}
    for i, gene in enumerate(names):
        found = np.flatnonzero((np.abs(r[i]) > threshold) & varies & varies[i])
        others = sorted((-abs(r[i, j]), names[j], r[i, j]) for j in found if j != i)
        for strength, other, correlation in others[:top]:
            edge = tuple(sorted((other, gene))) if symmetric else (other, gene)
            edges[edge] = correlation if signed else -strength
    return edges


def assert_equal(graph, edges):
    table = graph.to_table()
    found = dict(zip(zip(table["source"], table["target"], strict=True), table["weight"], strict=True))
    assert found.keys() == edges.keys()
    np.testing.assert_allclose([found[edge] for edge in edges], list(edges.values()), rtol=0, atol=2e-10)


@pytest.fixture(params=[False, True], ids=["one block", "many blocks"])
def blocks(request, monkeypatch):
    """Small data go through one block unless blocks are small too."""
    if request.param:
        monkeypatch.setattr(_correlation, "_WIDEST", 7)
        monkeypatch.setattr(_correlation, "_READ", 450)
        monkeypatch.setattr(_correlation, "_IN_CACHE", 200)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "settings",
    [{}, {"top": 3}, {"top": 3, "symmetric": False, "threshold": 0.1}, {"threshold": 0.0, "signed": True}, {"top": 1}],
    ids=str,
)
def test_a_double_loop_gives_the_same(seed, settings, blocks):
    adata = make_screen(draw_values(seed=seed), seed=seed)
    graph = coexpression(adata, **settings)
    assert graph.n_edges > 10
    assert graph.genes == tuple(sorted(adata.var_names))
    assert set(adata.var_names[[3, 4]]) <= set(graph.isolated)
    assert graph.directed == (not settings.get("symmetric", True))
    assert_equal(graph, plain(adata, **settings))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_every_form_of_the_matrix_gives_the_same(form, dtype, blocks):
    adata = make_screen(draw_values().astype(dtype))
    expected = coexpression(adata, top=4)
    adata.layers["logged"] = form(adata.X)
    adata.X = form(adata.X)
    assert coexpression(adata, top=4).sha256() == expected.sha256()
    adata.X = None
    assert coexpression(adata, top=4, layer="logged").sha256() == expected.sha256()


@pytest.mark.parametrize("form", ["csr", "csc", "dense"])
def test_a_backed_screen(form, tmp_path, blocks):
    from anndata import read_h5ad

    adata = make_screen(draw_values(), labels=np.resize(["control", "A", "A+B"], 60))
    expected = coexpression(adata, top=4, max_cells=30)
    adata.X = FORMS[form](adata.X)
    adata.write_h5ad(tmp_path / "screen.h5ad")
    backed = read_h5ad(tmp_path / "screen.h5ad", backed="r")
    assert coexpression(backed, top=4, max_cells=30).sha256() == expected.sha256()


def test_the_order_of_cells_and_genes_does_not_matter():
    adata = make_screen(draw_values(n_cells=300), labels=np.resize(["control", "A", "B", "A+B"], 300))
    graph = coexpression(adata, max_cells=150)
    rng = np.random.default_rng(0)
    mixed = adata[rng.permutation(adata.n_obs), rng.permutation(adata.n_vars)].copy()
    again = coexpression(mixed, max_cells=150)
    assert again.sha256() == graph.sha256()
    assert again.attrs == graph.attrs
    assert graph.attrs["cells"]["n_cells"] == 150
    assert coexpression(adata, max_cells=150, seed=1).sha256() != graph.sha256()


def test_correlations_that_single_precision_cannot_tell_apart():
    """Forty near-copies of a gene, of which r differs in the ninth decimal; the strongest are not the first."""
    rng = np.random.default_rng(0)
    base, noise = np.linalg.qr(rng.normal(size=(500, 3)) * [0, 1, 1] + [1, 0, 0])[0][:, 1:].T
    size = rng.permutation(np.linspace(1e-4, 2e-4, 40))
    adata = make_screen(np.column_stack([base, *(base + one * noise for one in size)]))
    assert_equal(coexpression(adata, top=3), plain(adata, top=3))
    threshold = float(np.median(np.corrcoef(adata.X.T)[0, 1:]))
    found = coexpression(adata, threshold=threshold)
    assert 0 < found.n_edges < 40 * 41 / 2
    assert_equal(found, plain(adata, threshold=threshold))


def test_a_constant_whose_mean_is_another_number():
    constant = np.full((60, 30), np.linspace(0.1, 0.9, 30))
    assert (constant.T.copy().mean(axis=1) != constant[0]).any()
    adata = make_screen(np.column_stack([constant, draw_values()[:, 5]]))
    assert coexpression(adata, threshold=0.0).n_edges == 0


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_values_are_read_in_the_order_asked_for(form, blocks):
    values = draw_values()
    rng = np.random.default_rng(0)
    cells, genes = rng.choice(60, 23, replace=False), rng.choice(40, 17, replace=False)
    found = _correlation.gene_rows(form(values), cells, genes)
    found = found.toarray() if sparse.issparse(found) else found
    np.testing.assert_array_equal(found, values[np.ix_(cells, genes)].T, strict=True)


def test_the_threshold_is_strict():
    first, second = np.array([1.0, 1, -1, -1, 0, 0]), np.array([1.0, 0, -1, 0, 1, -1])
    adata = make_screen(np.column_stack([first, second, 7 * first]))
    assert np.corrcoef(adata.X.T)[0, 1] == pytest.approx(0.5)
    assert coexpression(adata, threshold=0.5).n_edges == 1
    assert coexpression(adata, threshold=0.4999).n_edges == 3


def test_large_values_with_a_small_spread():
    values = draw_values().astype(np.float64)
    adata = make_screen(values * 0.01 + 100)
    assert_equal(coexpression(adata, top=5), plain(adata, top=5))


def test_genes_of_the_user(caplog):
    adata = make_screen(draw_values())
    wanted = [*adata.var_names[[20, 5, 6, 7, 3]], "NOWHERE", adata.var_names[5]]
    with caplog.at_level(logging.INFO, logger="scperturb_modules"):
        graph = coexpression(adata, genes=wanted)
    assert graph.genes == tuple(sorted(set(wanted) - {"NOWHERE"}))
    assert graph.attrs["n_genes_not_measured"] == 1
    assert "1 of 6 genes are not measured" in caplog.text
    assert_equal(graph, plain(adata[:, adata.var_names.isin(wanted)]))
    with pytest.raises(DataError, match="0 of 1 genes found"):
        coexpression(adata, genes=["NOWHERE"])


@pytest.fixture
def split_screen():
    """Three hundred cells of controls, singles and pairs, split strictly."""
    labels = np.resize(["control", *"ABCDE", "A+B", "C+D"], 300)
    adata = make_screen(draw_values(n_cells=300), labels=labels, parts=None)
    pp.split(adata, "unseen_single", seed=0)
    return adata


def test_only_training_controls_and_singles_enter(split_screen):
    label = split_screen.obs["perturbation"].astype(str)
    training = (split_screen.obs["split"] != "test").to_numpy()
    single = ~label.str.contains("+", regex=False).to_numpy()
    graph = coexpression(split_screen)
    assert_equal(graph, plain(split_screen[training & single]))
    assert graph.attrs["cells"]["conditions"] == sorted(set(label[training & single]) - {"control"})
    assert graph.attrs["cells"]["n_cells"] == (training & single).sum()
    assert_equal(coexpression(split_screen, pairs=True), plain(split_screen[training]))
    everything = coexpression(split_screen, pairs=True, cells="all")
    assert_equal(everything, plain(split_screen))
    assert everything.attrs["derived_from"] == "same_screen"


def test_values_of_test_cells_are_never_seen(split_screen):
    graph = coexpression(split_screen, max_cells=100)
    test = (split_screen.obs["split"] == "test").to_numpy()
    assert test.any()
    split_screen.X[test] = np.random.default_rng(5).normal(size=(test.sum(), split_screen.n_vars)) * 1e3
    again = coexpression(split_screen, max_cells=100)
    assert again.sha256() == graph.sha256()
    assert again.attrs == graph.attrs
    split_screen.X[test] = np.nan
    assert coexpression(split_screen, max_cells=100).sha256() == graph.sha256()


def test_the_columns_of_a_setup_are_taken(split_screen):
    expected = coexpression(split_screen, cell_type_key=None)
    obs = split_screen.obs
    obs["line"] = "K562"
    split_screen.obs = obs.rename(columns={"perturbation": "guide", "split": "fold"})
    split_screen.obs["guide"] = split_screen.obs["guide"].astype(str).replace("control", "nt")
    split_screen.layers["mine"], split_screen.X = split_screen.X, np.zeros(split_screen.shape)
    setup = ScreenKeys("guide", "nt", "mine", None, "line", "fold").to_uns()
    split_screen.uns["scperturb_modules"]["setup"] = setup
    graph = coexpression(split_screen)
    assert graph.sha256() == expected.sha256()
    assert graph.attrs["cells"]["conditions"] == [f"{one}|K562" for one in expected.attrs["cells"]["conditions"]]
    with pytest.raises(MissingKeyError, match="perturbation"):
        coexpression(split_screen, perturbation_key="perturbation")


def test_nothing_is_changed(split_screen):
    before = split_screen.copy()
    coexpression(split_screen)
    pd.testing.assert_frame_equal(split_screen.obs, before.obs)
    np.testing.assert_array_equal(split_screen.X, before.X)
    assert split_screen.uns.keys() == before.uns.keys()


def test_what_is_refused(split_screen):
    for settings in ({"threshold": 1.0}, {"threshold": -0.1}, {"top": 0}, {"max_cells": 0}, {"cells": "test"}):
        with pytest.raises(ValueError, match=next(iter(settings))):
            coexpression(split_screen, **settings)
    with pytest.raises(DataError, match="2 cells are left"):
        coexpression(split_screen, max_cells=2)
    with pytest.raises(MissingKeyError, match="layers"):
        coexpression(split_screen, layer="logged")


def spoil_values(value):
    def spoil(adata):
        adata.X[:, 2] = value

    return spoil


def spoil_obs(key, value):
    def spoil(adata):
        adata.obs[key] = value

    return spoil


SPOILT = {
    "no split": (lambda adata: adata.obs.pop("split"), MissingKeyError, r'spm\.pp\.split.*cells="all"'),
    "no such part": (spoil_obs("split", "a"), DataError, "values 'a', not train, val, test"),
    "pair": (spoil_obs("perturbation", "B+A"), DataError, "1 labels that are not canonical: 'B.A'"),
    "no label": (spoil_obs("perturbation", None), DataError, "missing in 300 cells"),
    "cells": (lambda adata: setattr(adata, "obs_names", ["x"] * 300), DataError, "obs_names occur more .*: 'x'"),
    "genes": (lambda adata: setattr(adata, "var_names", ["y"] * 40), DataError, "var_names_make_unique"),
    "infinite": (spoil_values(np.inf), DataError, "1 genes have values that are missing or infinite"),
    "missing": (spoil_values(np.nan), DataError, "1 genes have values that are missing or infinite"),
    "no values": (lambda adata: setattr(adata, "X", None), DataError, "X is empty"),
}


@pytest.mark.parametrize(("spoil", "error", "message"), SPOILT.values(), ids=SPOILT)
def test_what_is_wrong_with_a_screen(split_screen, spoil, error, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # anndata's, about names
        spoil(split_screen)
    with pytest.raises(error, match=message):
        coexpression(split_screen)


def test_a_screen_without_a_correlation():
    graph = coexpression(make_screen(np.ones((5, 4))))
    assert (graph.n_edges, len(graph.isolated)) == (0, 4)


@pytest.mark.parametrize(
    ("name", "threshold"), [("papalexi2021/papalexi_299genes", 0.1), ("datlinger2021/datlinger_2000genes", 0.06)]
)
def test_real_screens(shared_data, name, threshold):
    from anndata import read_h5ad

    adata = read_h5ad(shared_data / f"{name}.h5ad")
    pp.standardize_perturbations(adata, "perturbation")
    pp.normalize(adata)
    pp.split(adata, "unseen_single", seed=0)
    graph = coexpression(adata, threshold=threshold)
    training = adata[(adata.obs["split"] != "test").to_numpy()]
    assert graph.attrs["cells"]["n_cells"] == training.n_obs < adata.n_obs
    assert graph.n_edges > 100
    assert_equal(graph, plain(training, threshold=threshold))
    report = pp.check_leakage(adata, priors=graph).set_index("check")
    assert report.loc["priors", "result"] == "pass"


PEAK = """
import resource
import numpy as np, pandas as pd
from anndata import AnnData
from scipy import sparse
from scperturb_modules.priors._coexpression import coexpression

values = sparse.random(300, 8_000, 0.1, format="csr", dtype=np.float32, random_state=0)
obs = pd.DataFrame({"perturbation": "control", "split": "train"}, index=np.arange(300).astype(str))
adata = AnnData(values, obs=obs)
coexpression(adata[:, :50].copy())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
coexpression(adata, threshold=0.0)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10)
"""


def test_the_matrix_of_all_pairs_is_never_held():
    """It would take 244 MiB in single precision."""
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 150
