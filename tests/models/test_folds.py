from __future__ import annotations

import itertools

import numpy as np
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.models._folds import MIN_COMBINATIONS, deal_members

GENES = [f"G{i}" for i in range(12)]
PAIRS = ["+".join(pair) for pair in itertools.combinations(GENES[:6], 2)]
NAMES = [*GENES, *PAIRS, "G0+G1+G2"]


def deal(names=NAMES, validation=(), *, n_members=2, n_folds=4, seed=0):
    is_validation = np.array([i in validation for i in range(len(names))], dtype=bool)
    genes = [tuple(name.split("+")) for name in names]
    return deal_members(names, genes, is_validation, n_members=n_members, n_folds=n_folds, seed=seed)


def test_members_see_everything_and_each_fold_leaves_something_out():
    members = deal()
    assert members.held_out.shape == (len(NAMES), 2 + 4 + 4) and len(members.hidden_genes) == 10
    assert not members.held_out[:, :2].any()
    assert members.held_out[:, 2:].any(axis=0).all()
    np.testing.assert_array_equal(members.trains, ~members.held_out)
    assert [bool(genes) for genes in members.hidden_genes] == [False] * 2 + [True] * 4 + [False] * 4


def test_a_fold_of_genes_sees_no_perturbation_of_them():
    members = deal()
    for member in range(2, 6):
        hidden = members.hidden_genes[member]
        for row, name in enumerate(NAMES):
            assert members.held_out[row, member] == (not hidden.isdisjoint(name.split("+")))
    folds = members.hidden_genes[2:6]
    assert sorted(gene for fold in folds for gene in fold) == sorted(GENES)
    assert {len(fold) for fold in folds} == {3}


def test_folds_of_combinations_leave_out_each_combination_once_and_no_single():
    members = deal()
    left = members.held_out[:, 6:]
    is_combination = np.array(["+" in name for name in NAMES])
    np.testing.assert_array_equal(left.sum(axis=1), is_combination)
    assert left.sum(axis=0).max() - left.sum(axis=0).min() <= 1


def test_a_condition_of_two_contexts_is_in_one_fold():
    members = deal([*NAMES, *NAMES])
    np.testing.assert_array_equal(members.held_out[: len(NAMES)], members.held_out[len(NAMES) :])


def test_folds_hang_on_names_and_not_on_the_order_of_rows():
    order = np.random.default_rng(0).permutation(len(NAMES))
    one, other = deal(), deal([NAMES[i] for i in order])
    np.testing.assert_array_equal(one.held_out[order], other.held_out)
    assert one.hidden_genes == other.hidden_genes


def test_the_seed_decides():
    assert deal(seed=1).hidden_genes == deal(seed=1).hidden_genes
    assert deal(seed=1).hidden_genes != deal(seed=2).hidden_genes


def test_rows_of_the_validation_part_are_left_out_by_all():
    validation = {0, 14, 20}
    members = deal(validation=validation)
    assert members.held_out[sorted(validation)].all()
    others = [row for row in range(len(NAMES)) if row not in validation]
    assert not members.held_out[others, :2].any()


def test_folds_are_dealt_among_what_is_trained_on():
    """A gene or a combination of the validation part only needs no fold."""
    names = [*GENES, *PAIRS[:MIN_COMBINATIONS]]
    members = deal(names, validation={GENES.index("G11"), len(GENES)})
    assert "G11" not in frozenset().union(*members.hidden_genes)
    # with nine combinations to train on there are no folds of them
    assert len(members.hidden_genes) == 2 + 4
    assert len(deal(names).hidden_genes) == 2 + 4 + 4


@pytest.mark.parametrize("n_genes", [1, 2, 3])
def test_few_genes_have_as_many_folds_as_genes(n_genes):
    members = deal(GENES[:n_genes], n_folds=5)
    assert members.held_out.shape[1] == 2 + (n_genes if n_genes > 1 else 0)
    assert members.trains.any(axis=0).all()


def test_a_fold_that_leaves_nothing_to_learn_from_is_left_out():
    members = deal(["G0+G1"])
    assert members.held_out.shape == (1, 2) and members.hidden_genes == (frozenset(),) * 2
    assert not members.held_out.any()


def test_without_folds_there_are_members_only():
    members = deal(n_folds=0)
    assert members.held_out.shape[1] == 2 and not members.held_out.any()


def test_a_screen_with_validation_rows_only_is_refused():
    with pytest.raises(DataError, match=r"all 3 training conditions.*obs\['split'\] = 'train'"):
        deal(GENES[:3], validation={0, 1, 2})
