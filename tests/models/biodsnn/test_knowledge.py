"""Co-expression, pathways and the mask that BioDSNN learns before training."""

from __future__ import annotations

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scperturb_modules as spm
from scperturb_modules._errors import DataError
from scperturb_modules.models.biodsnn._knowledge import Knowledge, _together, normalised
from scperturb_modules.models.biodsnn._settings import settings_of
from scperturb_modules.priors import coexpression

SETTINGS = settings_of("tool", {"coexpression_threshold": 0.2, "top": 3})


def sets_of(members, name="sets"):
    return spm.priors.gene_sets(members, name=name)


def same_sets(one, other):
    return (one.name, one.genes, one.sets, one.descriptions) == (
        other.name,
        other.genes,
        other.sets,
        other.descriptions,
    ) and np.array_equal(one.membership.toarray(), other.membership.toarray())


# -- one step of graph convolution -----------------------------------------------------------------------------------


@pytest.mark.parametrize("symmetric", [True, False])
def test_normalised_is_the_dense_formula(symmetric):
    rng = np.random.default_rng(0)
    dense = rng.uniform(0.1, 2, (9, 9)) * (rng.random((9, 9)) < 0.4)
    dense = np.maximum(dense, dense.T) if symmetric else dense
    np.fill_diagonal(dense, 0)
    dense[4], dense[:, 4] = 0, 0
    own = dense + np.eye(9)
    root = np.diag(own.sum(axis=1) ** -0.5)
    found = normalised(sparse.csr_array(dense))
    np.testing.assert_allclose(found.toarray(), root @ own @ root, rtol=1e-14)
    assert found.toarray()[4].tolist() == np.eye(9)[4].tolist(), "a node without an edge hears itself only"
    assert symmetric == np.allclose(found.toarray(), found.toarray().T)


def test_normalised_without_any_edge_is_the_node_itself():
    np.testing.assert_array_equal(normalised(sparse.csr_array((3, 3))).toarray(), np.eye(3))


# -- what is learned of the screen -----------------------------------------------------------------------------------


def test_co_expression_is_that_of_the_training_cells(bio_screen, priors_of):
    found = Knowledge.learn(bio_screen, priors_of(bio_screen), SETTINGS, seed=0).coexpression
    direct = coexpression(bio_screen[bio_screen.obs["split"] != "test"].copy(), threshold=0.2, top=3, cells="all")
    assert len(found.source) > 20
    pd.testing.assert_frame_equal(found.to_table(), direct.to_table(), check_exact=True)
    stronger = settings_of("tool", {"coexpression_threshold": 0.3, "top": 1})
    assert len(Knowledge.learn(bio_screen, None, stronger, seed=0).coexpression.source) < len(found.source)


def test_without_a_split_all_cells_are_training_cells(make_screen):
    adata = make_screen()
    everything = coexpression(adata, threshold=0.2, top=3, cells="all")
    del adata.obs["split"]
    found = Knowledge.learn(adata, None, SETTINGS, seed=0).coexpression
    pd.testing.assert_frame_equal(found.to_table(), everything.to_table(), check_exact=True)


def test_what_is_switched_off_is_not_learned(bio_screen, priors_of):
    priors = priors_of(bio_screen)
    without = Knowledge.learn(None, priors, settings_of("tool", {"use_coexpression": False}), seed=0)
    assert without.coexpression is None and same_sets(without.pathways, priors[1])
    assert Knowledge.learn(None, priors, settings_of("tool", {"use_knowledge": False}), seed=0) == Knowledge(None, None)


def test_co_expression_needs_cells():
    with pytest.raises(DataError, match=r"co-expression from cells, and a pseudobulk has none.*use_coexpression=False"):
        Knowledge.learn(None, None, SETTINGS, seed=0)


# -- pathways --------------------------------------------------------------------------------------------------------


def hierarchy():
    """Two levels, of which the upper one joins G00 and G02."""
    members = {"low0": ["G00", "G01"], "low1": ["G02", "G03"], "top": ["G00", "G01", "G02", "G03"]}
    relations = pd.DataFrame({"parent": ["top", "top"], "child": ["low0", "low1"]})
    return spm.priors.reactome(None, members, relations)


@pytest.mark.parametrize(("level", "pairs"), [(1, 2), (2, 6), ("all", 6)])
def test_the_mask_is_of_the_level_that_was_asked_for(level, pairs):
    settings = settings_of("tool", {"use_coexpression": False, "pathway_level": level})
    other = sets_of({"wide": ["G00", "G01", "G02", "G03", "G04"]})
    knowledge = Knowledge.learn(None, [hierarchy(), other], settings, seed=0)
    mask = knowledge.mask([f"G{i:02d}" for i in range(6)], settings)
    assert mask.n_pairs == pairs, "gene sets do not stand in where there are pathways"
    assert mask.status.tolist() == ["pathway"] * 4 + ["alone"] * 2


def test_gene_sets_stand_in_for_pathways():
    settings = settings_of("tool", {"use_coexpression": False})
    knowledge = Knowledge.learn(None, {"first": sets_of({"a": ["G00", "G04"]})}, settings, seed=0)
    assert knowledge.mask(["G00", "G04", "G05"], settings).n_pairs == 1
    network = pd.DataFrame({"source": ["G00"], "target": ["G01"]})
    network.attrs["name"] = "network"
    assert Knowledge.learn(None, [network], settings, seed=0).pathways is None
    none = Knowledge.learn(None, None, settings, seed=0).mask(["G00", "G01"], settings)
    np.testing.assert_array_equal(none.matrix.toarray(), np.eye(2, dtype=bool))


def test_large_pathways_are_left_out_of_the_mask():
    sets = sets_of({"small": ["G00", "G01"], "large": ["G01", "G02", "G03"]})
    for most, pairs in ((None, 4), (3, 4), (2, 1)):
        settings = settings_of("tool", {"use_coexpression": False, "max_pathway_size": most})
        mask = Knowledge.learn(None, [sets], settings, seed=0).mask(["G00", "G01", "G02", "G03", "G09"], settings)
        assert mask.n_pairs == pairs and mask.n_dropped == (most == 2)


def test_several_collections_become_one():
    first = sets_of({"a": ["G02", "G00"], "b": ["G01"]}, name="first")
    second = sets_of({"a": ["G00", "G07"], "c": ["G02", "G07", "G05"]}, name="second")
    both = _together([first, second])
    assert both.sets == ("first: a", "first: b", "second: a", "second: c")
    assert both.genes == ("G00", "G01", "G02", "G05", "G07") and both.name == "first and second"
    for one in (first, second):
        for name in one.sets:
            column = both.membership.toarray()[:, both.sets.index(f"{one.name}: {name}")]
            members = {gene for gene, here in zip(both.genes, column, strict=True) if here}
            assert members == {gene for gene in one.genes if name in one.sets_of(gene)}
    assert _together([first]) is first


def test_descriptions_go_with_their_sets():
    one = hierarchy().to_sets(1)
    both = _together([sets_of({"z": ["G09"]}, name="plain"), one])
    assert both.descriptions == ("", *one.descriptions)


# -- the mask, with partners in expression ---------------------------------------------------------------------------


def slow_mask(genes, sets, graph, threshold):
    """Shared sets; for genes without any the partners in expression, in both directions."""
    of = {gene: set(sets.sets_of(gene)) if gene in sets.genes else set() for gene in genes}
    weight = {frozenset(pair): abs(w) for *pair, w in graph.to_table()[["source", "target", "weight"]].to_numpy()}
    mask = np.eye(len(genes), dtype=bool)
    for i, a in enumerate(genes):
        for j, b in enumerate(genes):
            partners = weight.get(frozenset((a, b)), 0) > threshold and (a not in sets.genes or b not in sets.genes)
            mask[i, j] |= bool(of[a] & of[b]) or partners
    return mask


def test_the_mask_falls_back_on_co_expression(bio_screen):
    genes = bio_screen.var_names.tolist()
    sets = sets_of({"a": genes[:20], "b": genes[15:40]})
    knowledge = Knowledge(coexpression(bio_screen, threshold=0.1, top=5), sets)
    for threshold in (0.1, 0.25):
        settings = settings_of("tool", {"coexpression_threshold": threshold})
        mask = knowledge.mask(genes, settings)
        np.testing.assert_array_equal(mask.matrix.toarray(), slow_mask(genes, sets, knowledge.coexpression, threshold))
        assert set(mask.status[:40]) == {"pathway"} and "fallback" in set(mask.status[40:])
    order = np.random.default_rng(0).permutation(len(genes))
    turned = knowledge.mask([genes[i] for i in order], settings)
    np.testing.assert_array_equal(turned.matrix.toarray(), mask.matrix.toarray()[order][:, order])


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [(True, True), (True, False), (False, True), (False, False)])
def test_knowledge_survives_a_file(bio_screen, tmp_path, parts):
    graph = coexpression(bio_screen, threshold=0.2, top=2) if parts[0] else None
    sets = hierarchy().to_sets(1) if parts[1] else None
    stored = anndata.AnnData(np.zeros((1, 1)), uns={"knowledge": Knowledge(graph, sets).to_uns()})
    stored.write_h5ad(tmp_path / "stored.h5ad")
    back = Knowledge.from_uns(anndata.read_h5ad(tmp_path / "stored.h5ad").uns.get("knowledge", {}))
    if graph is None:
        assert back.coexpression is None
    else:
        pd.testing.assert_frame_equal(back.coexpression.to_table(), graph.to_table(), check_exact=True)
        assert back.coexpression.genes == graph.genes
    assert back.pathways is None if sets is None else same_sets(back.pathways, sets)
