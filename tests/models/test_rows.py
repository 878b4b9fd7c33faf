from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from scperturb_modules.baselines import Anchor, TrainingData
from scperturb_modules.models._rows import PartTable, row_arrays
from scperturb_modules.priors import as_sources

GENES = [f"G{i:02d}" for i in range(16)]
PAIRS = list(itertools.combinations(GENES[:8], 2))[:14]
TRIPLE = "G00+G01+G02"
NODE_OF = {gene: number for number, gene in enumerate(reversed([*GENES, "G30", "G31"]))}
PARTS = ("measured_part", "expected_part", "offset")


def changes_of(rng):
    shared = rng.normal(size=40)  # what singles have in common, so that each of them is in the anchor of the others
    singles = {gene: shared + rng.normal(size=40) for gene in GENES}
    pairs = {f"{a}+{b}": singles[a] + singles[b] - 0.4 + 0.3 * rng.normal(size=40) for a, b in PAIRS}
    return singles | pairs | {TRIPLE: rng.normal(size=40)}


@pytest.fixture
def changes():
    return changes_of(np.random.default_rng(0))


@pytest.fixture
def prior():
    return pd.DataFrame(np.random.default_rng(5).normal(size=(16, 3)), index=[*GENES[:14], "G30", "X"])


@pytest.fixture
def parts_of(make_training, prior):
    def made(changes, kind="auto", *, with_prior=True, contexts=("",)):
        data = TrainingData.from_pseudobulk(make_training(changes, se2=0.1, contexts=contexts))
        return PartTable(Anchor(data, as_sources({"p": prior}) if with_prior else None), kind)

    return made


def arrays_of(rows, parts, *, training=False, order=3):
    return row_arrays(rows, parts, NODE_OF, order=order, control="control", training=training)


def total(arrays, row, masked=()):
    """Anchor of a row, from its parts."""
    seen = arrays["measured"][row] * ~np.isin(np.arange(len(arrays["measured"][row])), list(masked))
    chosen = np.where(seen[:, None] > 0, arrays["measured_part"][row], arrays["expected_part"][row])
    return (chosen * arrays["present"][row][:, None]).sum(axis=0) + arrays["offset"][row]


@pytest.mark.parametrize("with_prior", [True, False])
def test_parts_add_up_to_the_anchor_whatever_is_hidden(with_prior, changes, parts_of):
    parts = parts_of(changes, with_prior=with_prior)
    rows = [(name, None) for name in sorted(changes)]
    arrays = arrays_of(rows, parts, training=True)
    for number, (name, context) in enumerate(rows):
        genes = tuple(name.split("+"))
        for n in range(len(genes) + 1):
            for hidden in itertools.combinations(range(len(genes)), n):
                masked = {genes[k] for k in hidden}
                expected = parts.anchor.leave_one_out(genes, context, masked=masked).delta
                np.testing.assert_allclose(total(arrays, number, hidden), expected, rtol=1e-5, atol=1e-5)


def test_parts_of_new_conditions_add_up_to_their_anchor(changes, parts_of):
    parts = parts_of(changes)
    names = ["G03", "G30", "G31", "G08+G09", "G00+G30", "G30+G31", "G03+G04+G31"]
    arrays = arrays_of([(name, None) for name in names], parts)
    for number, name in enumerate(names):
        expected = parts.anchor.of(tuple(name.split("+")), None).delta
        np.testing.assert_allclose(total(arrays, number), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("with_prior", [True, False])
@pytest.mark.parametrize("gene", ["G00", "G07", "G15"])
def test_a_training_single_never_meets_its_own_change(gene, with_prior, changes, parts_of):
    rng = np.random.default_rng(1)
    clean, dirty = (
        arrays_of([(gene, None), ("G03", None)], parts_of(one, with_prior=with_prior), training=True)
        for one in (changes, changes | {gene: 1e3 * rng.normal(size=40)})
    )
    for name in clean:
        np.testing.assert_array_equal(clean[name][0], dirty[name][0], err_msg=name)
    # the test can see a leak: others do change
    assert not np.array_equal(clean["expected_part"][1], dirty["expected_part"][1])


@pytest.mark.parametrize("name", ["G00+G01", "G02+G03", TRIPLE])
def test_a_training_combination_never_meets_its_own_change(name, changes, parts_of):
    """Neither in the factor nor in the offset."""
    rows = [(name, None), ("G00+G04", None)]
    poisoned = changes | {name: 1e3 * np.random.default_rng(1).normal(size=40)}
    clean, dirty = (arrays_of(rows, parts_of(one), training=True) for one in (changes, poisoned))
    for key in clean:
        np.testing.assert_array_equal(clean[key][0], dirty[key][0], err_msg=key)
    if name != TRIPLE:
        assert not np.array_equal(clean["measured_part"][1], dirty["measured_part"][1])
        assert not np.array_equal(clean["offset"][1], dirty["offset"][1])


def test_a_pair_is_not_in_the_mean_that_stands_for_its_genes(changes, parts_of):
    """In a screen without any single."""
    pairs = {name: change for name, change in changes.items() if name.count("+") == 1}
    poisoned = pairs | {"G00+G01": np.full(40, 1e3)}
    rows = [("G00+G01", None), ("G00+G02", None)]
    clean, dirty = (arrays_of(rows, parts_of(one, with_prior=False), training=True) for one in (pairs, poisoned))
    np.testing.assert_array_equal(clean["expected_part"][0], dirty["expected_part"][0])
    assert clean["expected_part"][0, :2].any(axis=1).all()
    assert not np.array_equal(clean["expected_part"][1], dirty["expected_part"][1])


def test_the_factor_is_fitted_without_the_pair(changes, parts_of):
    parts = parts_of(changes)
    arrays = arrays_of([("G00+G01", None)], parts, training=True)
    without = parts_of({name: change for name, change in changes.items() if name != "G00+G01"})
    assert without.factor(("G00", "G01"), None) != parts.factor(("G00", "G02"), None)
    expected = without.factor(("G00", "G01"), None) * parts.anchor.part("G00", None).delta
    np.testing.assert_allclose(arrays["measured_part"][0, 0], expected, rtol=1e-5)


def test_what_counts_as_measured_in_each_regime(changes, parts_of):
    parts = parts_of(changes)
    rows = [(name, None) for name in ("G00", "G00+G30", "G08+G09", "G30+G31")]
    new, training = arrays_of(rows, parts), arrays_of([("G00", None), ("G00+G01", None)], parts, training=True)
    np.testing.assert_array_equal(new["measured"], [[1, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]])
    np.testing.assert_array_equal(new["present"], [[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 0]])
    np.testing.assert_array_equal(training["measured"], [[0, 0, 0], [1, 1, 0]])
    # what is not measured has no measured part, and what is has no need of an expected one
    for arrays in (new, training):
        assert not arrays["measured_part"][arrays["measured"] == 0].any()
    assert not new["expected_part"][new["measured"] == 1].any()
    # in training any gene may be hidden
    assert training["expected_part"][1, :2].any(axis=1).all() and training["expected_part"][0, 0].any()


def test_nodes_contexts_and_types_of_the_arrays(changes, parts_of):
    both = {f"{name}|{context}": change for name, change in changes.items() for context in ("a", "b")}
    arrays = arrays_of([("G01+G30", "b"), ("G02", "a")], parts_of(both, contexts=("a", "b")), order=4)
    np.testing.assert_array_equal(arrays["node"], [[NODE_OF["G01"], NODE_OF["G30"], 0, 0], [NODE_OF["G02"], 0, 0, 0]])
    np.testing.assert_array_equal(arrays["context"], [1, 0])
    assert arrays["node"].dtype == arrays["context"].dtype == np.int64
    assert all(arrays[name].dtype == np.float32 for name in (*PARTS, "present", "measured"))
    assert arrays["measured_part"].shape == (2, 4, 40) and arrays["offset"].shape == (2, 40)
    assert arrays_of([], parts_of(both, contexts=("a", "b")))["node"].shape == (0, 3)


def test_a_single_of_another_context_is_not_measured(changes, parts_of):
    both = {f"{name}|{context}": change for name, change in changes.items() for context in ("a", "b")}
    del both["G05|b"]
    arrays = arrays_of([("G05", "a"), ("G05", "b")], parts_of(both, contexts=("a", "b")))
    np.testing.assert_array_equal(arrays["measured"][:, 0], [1, 0])


def test_readings_of_the_anchor(changes, parts_of):
    rows = [("G00+G30", None), ("G00+G01", None)]
    zero, additive, mean = (
        arrays_of(rows, parts_of(changes, kind, with_prior=False)) for kind in ("zero", "additive", "mean")
    )
    assert not any(zero[name].any() for name in (*PARTS, "measured"))
    np.testing.assert_array_equal(additive["measured"], mean["measured"])
    np.testing.assert_array_equal(additive["measured_part"], mean["measured_part"])
    assert not additive["expected_part"].any() and mean["expected_part"][0, 1].any()
    assert additive["offset"].any()
