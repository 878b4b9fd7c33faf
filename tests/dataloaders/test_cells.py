from __future__ import annotations

import logging

import numpy as np
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.dataloaders import CellGroups
from scperturb_modules.dataloaders._cells import fingerprint_of, identity_hash


def without_controls(adata, cell_type, batch):
    obs = adata.obs
    is_control = (obs["perturbation"] == "control") & (obs["cell_type"] == cell_type)
    gone = is_control if batch is None else is_control & (obs["batch"] == batch)
    obs.loc[gone, "split"] = "test"
    return adata


def controls_of(groups, adata, cell_type, batch):
    (context,) = np.flatnonzero((groups.cell_types == cell_type) & (groups.batches == batch))
    return adata.obs.iloc[groups.controls[context]]


def test_a_context_without_controls_is_named_with_its_cells(contexts_screen, keys):
    adata = without_controls(contexts_screen, "rpe1", "b2")
    message = r"1 contexts have no .* 'cell type rpe1, batch b2 \(48 perturbed cells\)'.*control_fallback=\"pooled\""
    with pytest.raises(DataError, match=message):
        CellGroups.of(adata, keys)


def test_pooled_takes_the_same_cell_type_in_other_batches_first(contexts_screen, keys, caplog):
    adata = without_controls(contexts_screen, "rpe1", "b2")
    with caplog.at_level(logging.INFO):
        groups = CellGroups.of(adata, keys, control_fallback="pooled")
    assert "cell type rpe1, batch b2" in caplog.text
    pooled = controls_of(groups, adata, "rpe1", "b2")
    assert (set(pooled["cell_type"]), set(pooled["batch"])) == ({"rpe1"}, {"b1"})
    untouched = controls_of(groups, adata, "k562", "b2")
    assert (set(untouched["cell_type"]), set(untouched["batch"])) == ({"k562"}, {"b2"})


def test_pooled_takes_all_controls_of_the_training_part_last(contexts_screen, keys):
    adata = without_controls(contexts_screen, "rpe1", None)
    groups = CellGroups.of(adata, keys, control_fallback="pooled")
    pooled = controls_of(groups, adata, "rpe1", "b1")
    assert len(pooled) == 12
    assert set(pooled["perturbation"]) == {"control"}
    assert set(pooled["split"]) == {"train"}


def test_without_any_control_nothing_can_be_pooled(contexts_screen, keys):
    adata = without_controls(without_controls(contexts_screen, "rpe1", None), "k562", None)
    with pytest.raises(DataError, match="4 contexts have no training control cells"):
        CellGroups.of(adata, keys, control_fallback="pooled")


def test_an_unknown_fallback_is_refused(contexts_screen, keys):
    with pytest.raises(ValueError, match="'nearest' is unknown"):
        CellGroups.of(contexts_screen, keys, control_fallback="nearest")


def test_hashes_of_names_are_fixed_for_ever():
    assert identity_hash(["A+B", "k562", ""]) == 2086254141366737747
    assert identity_hash(["A", "B"]) != identity_hash(["A,B"])


def test_the_fingerprint_tells_cells_of_one_group_from_those_of_the_next():
    names, none = np.array(["a", "b", "c"]), (np.array([], int),)
    one = fingerprint_of([("A",), ("B",)], (np.array([0, 1]), np.array([2])), none, names)
    other = fingerprint_of([("A",), ("B",)], (np.array([0]), np.array([1, 2])), none, names)
    assert one != other
