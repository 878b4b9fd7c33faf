from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from scperturb_modules._errors import DataError
from scperturb_modules.baselines import Anchor, TrainingData
from scperturb_modules.models._features import MOST_PRIOR_FEATURES, scaled_patterns
from scperturb_modules.models._folds import deal_members
from scperturb_modules.models._nodes import Nodes
from scperturb_modules.models._rows import PartTable, row_arrays
from scperturb_modules.models.app._inputs import make_shape
from scperturb_modules.models.app._settings import settings_of
from scperturb_modules.priors import GeneGraph, as_sources

SINGLES = [f"G{i:02d}" for i in range(8)]
PAIRS = ["G00+G01", "G00+G02", "G01+X1", "G02+G03"]


def network(edges, *, name="net", isolated=(), **options):
    table = pd.DataFrame(edges, columns=["source", "target", "weight"])
    table.attrs["isolated"] = list(isolated)
    return GeneGraph.from_table(table, name=name, **options)


class Screen:
    """A training pseudobulk with what the network is built from; ``shape`` makes it."""

    def __init__(self, make_training, *, contexts=("",), networks=(), tables=None, seed=0, validation=(), skip=()):
        rng = np.random.default_rng(seed)
        names = [f"{name}|{context}" if context else name for name in (*SINGLES, *PAIRS) for context in contexts]
        changes = {name: rng.normal(size=40) for name in names if name not in skip}
        self.training = make_training(changes, se2=0.1, contexts=contexts)
        self.training.layers["se2_control"] = np.tile(np.linspace(0.1, 0.2, 40), (len(changes), 1))
        self.training.varm["control_mean"] = np.abs(rng.normal(size=(40, len(contexts))))
        self.data = TrainingData.from_pseudobulk(self.training)
        self.networks = {one.name: one for one in networks}
        self.tables = tables or {}
        self.nodes = Nodes.of(self.data, self.networks, self.tables)
        self.members = deal_members(
            [name for name, _ in self.data.rows],
            self.data.genes,
            np.array([name in validation for name, _ in self.data.rows]),
            n_members=2,
            n_folds=3,
            seed=0,
        )
        parts = PartTable(Anchor(self.data), "auto")
        self.arrays = row_arrays(self.data.rows, parts, self.nodes.number, order=2, control="control", training=True)
        self.arrays["target"] = self.data.delta.astype(np.float32)
        self.arrays["row_weight"] = np.linspace(0.5, 1, len(self.data.rows)).astype(np.float32)

    def shape(self, preset="tool", **settings):
        chosen = settings_of(preset, {"rank": 4, **settings})
        return make_shape(
            self.training,
            self.data,
            self.nodes,
            self.networks,
            as_sources(self.tables),
            self.arrays,
            self.members,
            chosen,
        )


@pytest.fixture
def screen(make_training):
    def made(**arguments):
        return Screen(make_training, **arguments)

    return made


EDGES = [("G00", "G01", 1.0), ("G01", "N1", 0.5), ("X1", "G00", 2.0)]


def test_nodes_are_all_genes_that_anything_is_known_of(screen):
    table = pd.DataFrame({"a": [1.0, 2.0, np.nan]}, index=["G05", "T1", "T2"])
    one = screen(networks=[network(EDGES, isolated=["G07"])], tables={"t": table})
    nodes = one.nodes
    assert list(nodes.names) == sorted(nodes.names)
    assert set(nodes.names) == {*one.data.var_names, "X1", "N1", "T1"}
    assert "T2" not in nodes.names  # its only row is incomplete
    of = {name: i for i, name in enumerate(nodes.names)}
    assert nodes.number == of
    groups = {
        "measured": set(one.data.var_names),
        "connected": {"G00", "G01", "N1", "X1"},
        "described": {"G05", "T1"},
    }
    for name, group in groups.items():
        assert {gene for gene in nodes.names if getattr(nodes, name)[of[gene]]} == group, name


def test_isolated_genes_and_the_pool(screen):
    one = screen(
        networks=[network(EDGES, isolated=["G07"])], tables={"t": pd.DataFrame({"a": [1.0, 2.0]}, ["T1", "G01"])}
    )
    number = one.nodes.number
    shape = one.shape()
    assert {gene for gene, i in number.items() if not shape.isolated[i]} == {"G00", "G01", "N1", "X1"}
    pools = {"measured": set(one.data.var_names), "connected": {"G00", "G01", "N1", "X1"}}
    pools["all"] = pools["measured"] | pools["connected"]
    for pool, wanted in pools.items():
        outside = one.shape(pool=pool).outside
        assert {gene for gene, i in number.items() if not outside[i]} == wanted, pool


def test_without_any_connected_gene_attention_looks_at_measured_ones(screen):
    one = screen()
    outside = one.shape(pool="connected").outside
    assert {gene for gene, i in one.nodes.number.items() if not outside[i]} == set(one.data.var_names)
    assert one.shape().adjacencies == ()


def test_a_network_of_other_names_is_an_error(screen):
    with pytest.raises(DataError, match=r"0 of 41 genes found in the network 'ensembl'.*'ENSG1'"):
        screen(networks=[network([("ENSG1", "ENSG2", 1.0)], name="ensembl")])


def dense(shape):
    return [one.toarray() for one in shape.adjacencies]


def filled(one, edges):
    number, matrix = one.nodes.number, np.zeros((len(one.nodes.names),) * 2)
    for source, target, weight in edges:
        matrix[number[source], number[target]] = weight
    return matrix


def test_an_undirected_network_is_one_relation(screen):
    one = screen(networks=[network(EDGES)])
    forward = filled(one, EDGES)
    (found,) = dense(one.shape())
    np.testing.assert_array_equal(found, forward + forward.T)


def test_a_directed_network_is_heard_with_and_against_the_arrow(screen):
    one = screen(networks=[network(EDGES, directed=True)])
    found = dense(one.shape())
    forward = filled(one, EDGES)
    assert len(found) == 2
    np.testing.assert_array_equal(found[0], found[1].T)
    assert any(np.array_equal(matrix, forward) for matrix in found)


def test_signs_are_relations_of_their_own(screen):
    edges = [("G00", "G01", 1.0), ("G01", "N1", -0.5), ("X1", "G00", 2.0)]
    found = dense((one := screen(networks=[network(edges, signed=True)])).shape())
    positive, negative = filled(one, [edges[0], edges[2]]), filled(one, [("G01", "N1", 0.5)])
    np.testing.assert_array_equal(found, [positive + positive.T, negative + negative.T])
    both = screen(networks=[network(edges, signed=True, directed=True, name="grn"), network(EDGES)])
    assert len(both.shape().adjacencies) == 5
    assert all((matrix >= 0).all() for matrix in dense(both.shape()))


def test_a_basis_is_the_leading_patterns_with_their_size():
    rng = np.random.default_rng(0)
    changes = rng.normal(size=(6, 3)) @ rng.normal(size=(3, 20))
    for weight in (None, rng.uniform(0.2, 1, 6)):
        found = scaled_patterns(changes, weight, 5)
        assert found.shape == (20, 5) and not found[:, 3:].any()
        scaled = changes if weight is None else changes * np.sqrt(weight)[:, None]
        # patterns times their size squared make up the second moments
        np.testing.assert_allclose(found @ found.T, scaled.T @ scaled / 6, atol=1e-10)
        np.testing.assert_array_equal(found, scaled_patterns(changes, weight, 5))
        assert (found[np.abs(found[:, :3]).argmax(axis=0), range(3)] > 0).all()
    assert scaled_patterns(changes, None, 2).shape == (20, 2)
    for nothing in (np.zeros((4, 20)), np.zeros((0, 20))):
        np.testing.assert_array_equal(scaled_patterns(nothing, None, 3), np.zeros((20, 3)))


def test_the_basis_of_a_member_does_not_depend_on_rows_that_it_leaves_out(screen):
    one = screen(validation=("G06",))
    clean = one.shape()
    assert one.members.held_out.any(axis=0).all()
    for member, held_out in enumerate(one.members.held_out.T):
        kept = {name: values.copy() for name, values in one.arrays.items()}
        for name in ("target", "measured_part", "expected_part", "offset"):
            one.arrays[name][held_out] = 1e3 * np.random.default_rng(1).normal(size=one.arrays[name][held_out].shape)
        poisoned = one.shape()
        one.arrays = kept
        assert torch.equal(clean.basis[member], poisoned.basis[member])
        others = [m for m in range(len(clean.basis)) if not torch.equal(clean.basis[m], poisoned.basis[m])]
        assert others or held_out.sum() == 1


def test_the_basis_is_made_of_what_the_anchor_leaves(screen):
    one = screen()
    # the pairs are too few for an offset of their own
    one.arrays["offset"] = np.random.default_rng(1).normal(size=one.arrays["offset"].shape).astype(np.float32)
    for member, rows in enumerate(one.members.trains.T):
        left, weight = [], []
        for i in np.flatnonzero(rows):
            name, context = one.data.rows[i]
            anchor = Anchor(one.data).leave_one_out(tuple(name.split("+")), context)
            left.append(one.data.delta[i] - anchor.delta - one.arrays["offset"][i])
            weight.append(one.arrays["row_weight"][i])
        expected = scaled_patterns(np.array(left), np.array(weight), 4)
        np.testing.assert_allclose(one.shape().basis[member], expected, atol=1e-4)


def test_known_genes_are_those_perturbed_in_what_a_member_sees(screen):
    one = screen(validation=("G06",))
    known = one.shape().known
    for member in range(known.shape[0]):
        rows = [genes for genes, left in zip(one.data.genes, one.members.held_out[:, member], strict=True) if not left]
        seen = {gene for genes in rows for gene in genes}
        assert {gene for gene, i in one.nodes.number.items() if known[member, i]} == seen
        assert seen.isdisjoint(one.members.hidden_genes[member]) and "G06" not in seen


def test_contexts_as_numbers(screen):
    one = screen(contexts=("a", "b", "c"), skip=[f"{name}|c" for name in (*SINGLES, *PAIRS)])
    onehot = one.shape(covariate="onehot").covariates
    # nothing was trained in c
    np.testing.assert_array_equal(onehot, np.diag([1.0, 1.0, 0.0]))
    np.testing.assert_array_equal(one.shape(covariate="none").covariates, np.zeros((3, 1)))
    np.testing.assert_array_equal(screen().shape(covariate="onehot").covariates, np.zeros((1, 1)))
    profile = one.shape(covariate="profile").covariates.double().numpy()
    means = one.training.varm["control_mean"].T
    centred = means - means.mean(axis=0)
    assert profile.shape == (3, 2)
    assert np.sqrt(np.mean(profile**2)) == pytest.approx(1, rel=1e-5)
    # distances between contexts are those of their control means, in one unit
    ratio = (profile @ profile.T) / (centred @ centred.T)
    np.testing.assert_allclose(ratio, ratio[0, 0], rtol=1e-4)
    same = one.training.varm["control_mean"]
    one.training.varm["control_mean"] = np.repeat(same[:, :1], 3, axis=1)
    # rounding is not made large
    assert one.shape(covariate="profile").covariates.abs().max() < 0.01


def test_expression_of_controls_as_features(screen):
    one = screen(contexts=("a", "b"))
    values, present = one.shape(features="expression").tables["expression"]
    number, training = one.nodes.number, one.training
    rows = [number[gene] for gene in training.var_names]
    assert present[rows].all() and present.sum() == 40
    mean = training.varm["control_mean"].mean(axis=1)
    spread = np.sqrt(training.layers["se2_control"][0] * 200)
    for column, raw in enumerate((mean, spread)):
        np.testing.assert_allclose(values[rows, column], (raw - raw.mean()) / raw.std(), rtol=1e-4, atol=1e-5)


def test_tables_of_priors_as_features(screen):
    rng = np.random.default_rng(0)
    table = pd.DataFrame(
        rng.normal(5, 3, (30, 3)), index=[*(f"G{i:02d}" for i in range(29)), "T1"], columns=list("abc")
    )
    table["constant"] = 0.1
    table.iloc[4, 1] = np.nan
    wide = pd.DataFrame(
        rng.normal(size=(90, 200)), index=[f"G{i:02d}" for i in range(40)] + [f"W{i}" for i in range(50)]
    )
    one = screen(tables={"t": table, "wide": wide, "nothing": table[["constant"]]})
    tables = one.shape(features="prior").tables
    assert list(tables) == ["t", "wide"]
    values, present = tables["t"]
    assert values.shape[1] == 3
    assert {gene for gene, i in one.nodes.number.items() if present[i]} == set(table.index) - {"G04"}
    assert not values[~present].any()
    np.testing.assert_allclose(values[present].mean(dim=0), 0, atol=1e-5)
    np.testing.assert_allclose(values[present].std(dim=0, correction=0), 1, rtol=1e-5)
    scores, present = tables["wide"]
    assert scores.shape[1] == MOST_PRIOR_FEATURES
    assert float(scores[present].square().mean()) == pytest.approx(1, rel=1e-4)
    variances = scores[present].var(dim=0)
    assert torch.all(variances[:-1] >= variances[1:] * (1 - 1e-4))


def test_features_without_any_value_are_refused(screen):
    with pytest.raises(DataError, match=r"features=\('prior',\), but there is no such feature.*add 'learned'"):
        screen().shape(features="prior")
    assert screen().shape(features=("prior", "learned")).tables == {}
    assert screen().shape(features="prior", embedding="identity").tables == {}


def test_the_unit_of_the_loss_and_of_the_shape(screen, float64):
    one = screen()
    shape = one.shape()
    assert shape.scale == pytest.approx(np.mean(one.data.delta**2), rel=1e-5)
    assert shape.basis.dtype == shape.response_basis.dtype == torch.float64
    one.arrays["target"] = np.zeros_like(one.arrays["target"])
    assert one.shape().scale > 0


def test_responses_are_read_in_patterns_of_measured_parts(screen):
    one = screen()
    basis = one.shape().response_basis.double().numpy()
    assert basis.shape == (40, 4)
    singles = one.data.delta[one.data.order == 1]
    np.testing.assert_allclose(basis, scaled_patterns(singles, None, 4), atol=1e-5)
