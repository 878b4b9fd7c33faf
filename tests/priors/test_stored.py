"""Priors in uns: written by anndata and read back they are equal."""

from __future__ import annotations

import datetime

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad, read_zarr
from scipy import sparse

from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.priors import GeneGraph, as_graphs, as_tables
from scperturb_modules.priors._embedding import GeneEmbedding
from scperturb_modules.priors._gene_sets import GeneSets
from scperturb_modules.priors._pathway_hierarchy import PathwayHierarchy
from scperturb_modules.priors._stored import attrs_from_text, attrs_to_text, store, stored

ATTRS = {
    "source": "Gène Ontology", "version": "", "n_rows": 3, "share": 0.1, "none": None, "ok": True,
    "cutoffs": [0.4, 0.7], "left_out": {"no symbol": 2, "": 1}, "a/b": "c/d",
}  # fmt: skip
GENES = ("NA", "None", "TP53", "nan", "É/β 1")


def draw_priors(seed=0):
    """One of each kind, with odd genes, and the same without genes."""
    rng = np.random.default_rng(seed)
    ends = np.array([[0, 0, 1], [1, 2, 3]])
    held = (rng.random((5, 3)) < 0.5).astype(float)
    held[:, 0] = np.maximum(held[:, 0], held[:, 1])  # the first pathway is the parent of the second
    membership = sparse.csr_array(held)
    vectors = np.where(np.arange(5)[:, None] == 2, np.nan, rng.normal(size=(5, 2)))
    nothing, no_genes = np.zeros(0), sparse.csr_array((0, 0))
    return [
        GeneGraph("STRING/β.12", GENES, *ends, rng.normal(size=3), False, 4, 5, ATTRS),
        GeneGraph("regulons", GENES, *ends[::-1, [0, 2, 1]][:, [0, 2, 1]], np.ones(3), True, attrs=ATTRS),
        GeneGraph("empty graph", (), nothing, nothing, nothing),
        GeneEmbedding("ESM2", GENES, vectors, ("x", ""), ATTRS),
        GeneEmbedding("no vectors", (), np.zeros((0, 1)), ("x",)),
        GeneSets("GO", GENES, ("apoptosis", "é", "NA"), membership, ("GO:1", "", "NA"), ATTRS),
        GeneSets("no sets", (), (), no_genes),
        PathwayHierarchy("Reactome", GENES, ("R-1", "R-2", "R-3"), ("a", "é", "NA"), membership, [0], [1], ATTRS),
        PathwayHierarchy("no pathways", (), (), (), no_genes, [], []),
    ]


def draw_screen():
    return AnnData(np.ones((3, 2)), obs=pd.DataFrame(index=list("abc")))


def same(one, other):
    """Every field, whatever the class."""
    assert type(one) is type(other)
    for name in one.__dataclass_fields__:
        left, right = getattr(one, name), getattr(other, name)
        if sparse.issparse(left):
            left, right = left.toarray(), right.toarray()
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype
            np.testing.assert_array_equal(left, right)
        else:
            assert left == right and type(left) is type(right), name


@pytest.mark.parametrize("prior", draw_priors(), ids=lambda prior: prior.name)
def test_the_plain_form_reads_back(prior):
    form = prior.to_uns()
    assert form["kind"] == type(prior).__name__ and isinstance(form["attrs"], str)
    same(type(prior).from_uns(form), prior)


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("write", ["nothing", "copy", "h5ad", "zarr"])
def test_written_and_read_priors_are_equal(tmp_path, write):
    adata, priors = draw_screen(), draw_priors()
    store(adata, priors)
    if write == "copy":
        adata = adata[:2].copy()
    elif write == "h5ad":
        adata.write_h5ad(tmp_path / "screen.h5ad")
        adata = read_h5ad(tmp_path / "screen.h5ad")
    elif write == "zarr":
        adata.write_zarr(tmp_path / "screen.zarr")
        adata = read_zarr(tmp_path / "screen.zarr")
    found = stored(adata)
    assert list(found) == [prior.name for prior in priors]
    for one, other in zip(found.values(), priors, strict=True):
        same(one, other)


def test_many_priors_keep_their_order(tmp_path):
    adata = draw_screen()
    names = [f"p{i}" for i in np.random.default_rng(0).permutation(12)]
    store(adata, [GeneGraph(name, (), *np.zeros((3, 0))) for name in names])
    adata.write_h5ad(tmp_path / "screen.h5ad")
    assert list(stored(read_h5ad(tmp_path / "screen.h5ad"))) == names


def test_tables_become_priors(tmp_path):
    edges = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"], "weight": [0.5, 1.0]})
    edges.attrs = {"name": "PPI", "version": "1"}
    features = pd.DataFrame({"x": [1.0, np.nan]}, index=["B", "A"])
    adata = draw_screen()
    store(adata, [edges, features])
    found = stored(adata)
    same(found["PPI"], GeneGraph.from_table(edges))
    same(found["prior_1"], GeneEmbedding.from_frame(features, name="prior_1"))
    assert list(as_graphs(found)) == ["PPI"] and list(as_tables(found)) == ["PPI", "prior_1"]


def test_one_prior_needs_no_list_and_a_mapping_names():
    adata, priors = draw_screen(), draw_priors()
    store(adata, priors[0])
    store(adata, {"other": priors[0], "vectors": priors[3]})
    found = stored(adata)
    assert list(found) == ["STRING/β.12", "other", "vectors"] == [prior.name for prior in found.values()]
    assert found["other"].sha256() == priors[0].sha256()


def test_a_stored_prior_is_replaced_only_on_demand():
    adata, priors = draw_screen(), draw_priors()
    store(adata, priors[:4])
    changed = GeneGraph("regulons", ("A",), *np.zeros((3, 0)))
    with pytest.raises(DataError, match=r"stored under these names already: 'regulons'. Pass overwrite=True"):
        store(adata, [changed, priors[5]])
    assert list(stored(adata)) == [prior.name for prior in priors[:4]], "nothing was stored"
    store(adata, [changed, priors[5]], overwrite=True)
    found = stored(adata)
    assert list(found) == [prior.name for prior in [*priors[:4], priors[5]]] and found["regulons"].genes == ("A",)
    del adata.uns["scperturb_modules"]["priors"]["prior_1"]
    store(adata, priors[6])
    assert list(stored(adata)) == [priors[i].name for i in (0, 2, 3, 5, 6)]


def test_what_else_is_in_uns_stays():
    adata = draw_screen()
    adata.uns["scperturb_modules"] = {"setup": {"control": "control"}}
    store(adata, draw_priors())
    assert adata.uns["scperturb_modules"]["setup"] == {"control": "control"}


def test_what_cannot_be_stored_is_named():
    adata, priors = draw_screen(), draw_priors()
    with pytest.raises(DataError, match=r"view of another one\. Call adata = adata\.copy\(\)"):
        store(adata[:2], priors)
    for wrong, kind in (([1, 2], "list"), ("GO.gmt", "str"), (AnnData(np.ones((1, 1))), "AnnData")):
        with pytest.raises(TypeError, match=f"prior 'it' is a {kind}; pass a DataFrame, or one of 'GeneGraph'"):
            store(adata, {"fine": priors[0], "it": wrong})
    priors[0].attrs["date"] = datetime.date(2024, 1, 1)
    with pytest.raises(DataError, match=r"attrs hold what cannot be stored, under 'date'"):
        store(adata, priors[::-1])
    assert "scperturb_modules" not in adata.uns


def test_what_cannot_be_read_is_named():
    adata = draw_screen()
    with pytest.raises(MissingKeyError, match=r"no priors are stored.*spm\.priors\.store\(adata, priors\)"):
        stored(adata)
    store(adata, draw_priors()[:2])
    records = adata.uns["scperturb_modules"]["priors"]
    del records["prior_0"]["weight"]
    with pytest.raises(DataError, match=r"stored prior 'prior_0', a GeneGraph, lacks 'weight'.*store it again"):
        stored(adata)
    records["prior_0"]["kind"] = "GeneOracle"
    with pytest.raises(DataError, match=r"of the kind 'GeneOracle'; this version knows 'GeneGraph'"):
        stored(adata)


def test_attrs_are_plain_text():
    given = {
        "n": np.int64(3), "share": np.float32(0.5), "ok": np.bool_(True), "names": np.array(["a", "é"]), "pair": (1, 2)
    }  # fmt: skip
    read = attrs_from_text(attrs_to_text(given))
    assert read == {"n": 3, "share": 0.5, "ok": True, "names": ["a", "é"], "pair": [1, 2]}
    assert attrs_from_text(attrs_to_text({})) == {} and attrs_from_text(attrs_to_text(ATTRS)) == ATTRS
    wrong = {"set": {1}, 5: "number as key", "objects": np.array([object()]), "fine": 1}
    with pytest.raises(DataError, match=r"under 'set', '5', 'objects'\. Use text, numbers"):
        attrs_to_text(wrong)
