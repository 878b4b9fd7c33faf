from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import DataError, LeakError
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.dataloaders import CellGroups, draw_cells


def by_name(groups, adata, **arguments):
    """What each group draws, by the names of group and cells."""
    drawn = {}
    for group, label in enumerate(groups.labels):
        cells, controls = draw_cells(groups, group, **arguments)
        key = (label, groups.batches[groups.context[group]])
        drawn[key] = (list(adata.obs_names[cells]), list(adata.obs_names[controls]))
    return drawn


def test_groups_are_the_training_cells_of_condition_cell_type_and_batch(contexts_screen, keys):
    groups = CellGroups.of(contexts_screen, keys)
    obs = contexts_screen.obs[(contexts_screen.obs["split"] == "train")]
    expected = obs[obs["perturbation"] != "control"].groupby(["perturbation", "cell_type", "batch"], observed=True)
    assert len(groups) == expected.ngroups == 16
    for group, ((condition, cell_type, batch), cells) in enumerate(expected):
        assert groups.labels[group] == f"{condition}|{cell_type}"
        assert groups.conditions[groups.condition[group]] == condition
        assert groups.batches[groups.context[group]] == batch
        assert set(contexts_screen.obs_names[groups.cells[group]]) == set(cells.index)
        assert groups.cells[group].dtype == groups.condition.dtype == groups.context.dtype == np.int64


def test_controls_are_training_controls_of_the_same_context(contexts_screen, keys):
    groups = CellGroups.of(contexts_screen, keys)
    for group in range(len(groups)):
        cells, controls = draw_cells(groups, group, n_cells=5, epoch=1, seed=0)
        of_cells, of_controls = contexts_screen.obs.iloc[cells], contexts_screen.obs.iloc[controls]
        assert set(of_cells["perturbation"]) == {groups.conditions[groups.condition[group]]}
        assert set(of_controls["perturbation"]) == {"control"}
        assert set(of_cells["split"]) | set(of_controls["split"]) == {"train"}
        for column in ("cell_type", "batch"):
            assert set(of_cells[column]) == set(of_controls[column])
            assert of_cells[column].nunique() == 1


def test_a_screen_of_one_context_needs_neither_column(contexts_screen):
    groups = CellGroups.of(contexts_screen, ScreenKeys())
    assert list(groups.labels) == ["G00", "G00+G01", "G01", "G01+G02"]
    assert list(groups.cell_types) == [""]
    assert len(groups.controls[0]) == 24


def test_permuted_cells_and_categories_give_the_same_cells_by_name(contexts_screen, keys):
    permuted = contexts_screen[np.random.default_rng(1).permutation(contexts_screen.n_obs)].copy()
    for column in ("perturbation", "cell_type", "batch"):
        categories = [*sorted(permuted.obs[column].unique(), reverse=True), "unused"]
        permuted.obs[column] = pd.Categorical(permuted.obs[column], categories=categories)
    groups, again = CellGroups.of(contexts_screen, keys), CellGroups.of(permuted, keys)
    arguments = {"n_cells": 5, "epoch": 3, "seed": 7}
    assert by_name(groups, contexts_screen, **arguments) == by_name(again, permuted, **arguments)
    assert groups.fingerprint == again.fingerprint
    np.testing.assert_array_equal(groups.condition, again.condition)
    np.testing.assert_array_equal(groups.context, again.context)


def test_draws_of_a_group_do_not_depend_on_the_other_groups(contexts_screen, keys):
    arguments = {"n_cells": 5, "epoch": 3, "seed": 7}
    whole = by_name(CellGroups.of(contexts_screen, keys), contexts_screen, **arguments)
    part = contexts_screen[contexts_screen.obs["perturbation"] != "G00"].copy()
    assert by_name(CellGroups.of(part, keys), part, **arguments).items() <= whole.items()


def test_epochs_seeds_and_groups_draw_otherwise(contexts_screen, keys):
    groups = CellGroups.of(contexts_screen, keys)

    def places(group, **arguments):  # positions within the group: comparable between groups
        cells, _ = draw_cells(groups, group, n_cells=8, **arguments)
        return [int(np.flatnonzero(groups.cells[group] == cell)[0]) for cell in cells]

    first = places(0, epoch=0, seed=0)
    assert first == places(0, epoch=0, seed=0)
    assert first != places(0, epoch=1, seed=0)
    assert first != places(0, epoch=0, seed=1)
    assert first != places(1, epoch=0, seed=0)


def test_cells_repeat_only_where_there_are_too_few(contexts_screen, keys):
    groups = CellGroups.of(contexts_screen, keys)
    cells, controls = draw_cells(groups, 0, n_cells=9, epoch=0, seed=0)
    assert len(set(cells)) == 9  # of twelve
    assert len(controls) == 9
    assert len(set(controls)) <= 6  # of six


def test_rows_choose_the_groups_and_keep_codes_and_controls(contexts_screen, keys):
    whole = CellGroups.of(contexts_screen, keys)
    mask = (contexts_screen.obs["perturbation"] == "G01").to_numpy()
    some = CellGroups.of(contexts_screen, keys, rows=mask)
    numbered = CellGroups.of(contexts_screen, keys, rows=np.flatnonzero(mask))
    assert set(some.labels) == {"G01|k562", "G01|rpe1"}
    assert some.fingerprint == numbered.fingerprint != whole.fingerprint
    kept = np.isin(whole.labels, some.labels)
    np.testing.assert_array_equal(some.condition, whole.condition[kept])
    np.testing.assert_array_equal(some.context, whole.context[kept])
    for own, of_whole in zip(some.controls, whole.controls, strict=True):
        np.testing.assert_array_equal(own, of_whole)


def test_test_cells_among_the_rows_are_a_leak(contexts_screen, keys):
    with pytest.raises(LeakError, match="56 of the cells asked for are in the test part"):
        CellGroups.of(contexts_screen, keys, rows=np.arange(contexts_screen.n_obs))


def test_a_screen_without_perturbed_training_cells_is_an_error(contexts_screen, keys):
    contexts_screen.obs.loc[contexts_screen.obs["perturbation"] != "control", "split"] = "test"
    with pytest.raises(DataError, match="no perturbed training cell"):
        CellGroups.of(contexts_screen, keys)


def test_the_fingerprint_knows_the_split(contexts_screen, keys):
    before = CellGroups.of(contexts_screen, keys).fingerprint
    training_control = (contexts_screen.obs["perturbation"] == "control") & (contexts_screen.obs["split"] == "train")
    contexts_screen.obs.loc[contexts_screen.obs_names[training_control][0], "split"] = "test"
    assert CellGroups.of(contexts_screen, keys).fingerprint != before
