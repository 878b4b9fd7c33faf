from __future__ import annotations

import anndata
import numpy as np
import pytest
import torch
from scipy import sparse

from scperturb_modules._errors import DataError
from scperturb_modules.dataloaders import CellDataset, CellGroups, PseudobulkDataset, StepPlan

KEYS_OF_CELLS = {
    "X",
    "control_X",
    "perturbation",
    "context",
    "cell_index",
    "control_index",
    "group",
    "weight",
}


def batches_of(dataset, epoch=1):
    plan = StepPlan(len(dataset), batch_size=5)
    return [dataset[step] for step in (*plan.training_steps(epoch), *plan.validation_steps())]


def assert_equal(batches, others):
    assert len(batches) == len(others)
    for batch, other in zip(batches, others, strict=True):
        assert batch.keys() == other.keys()
        assert all(torch.equal(batch[key], other[key]) for key in batch)


@pytest.fixture
def groups(contexts_screen, keys):
    return CellGroups.of(contexts_screen, keys)


def test_a_batch_of_pseudobulks_holds_the_rows_of_its_groups():
    delta = np.arange(14, dtype=np.float32).reshape(7, 2)
    data = PseudobulkDataset({"delta": delta, "context": np.arange(7)[::-1].copy()})
    for step in (*StepPlan(7, 3).training_steps(4), *StepPlan(7, 3).validation_steps()):
        batch = data[step]
        np.testing.assert_array_equal(batch["delta"], delta[step.groups])
        np.testing.assert_array_equal(batch["context"], 6 - step.groups)
        np.testing.assert_array_equal(batch["group"], step.groups)
        np.testing.assert_array_equal(batch["weight"], step.weight)
        assert (batch["delta"].dtype, batch["group"].dtype) == (torch.float32, torch.int64)
        assert batch["weight"].dtype == torch.float32


def test_a_batch_does_not_share_memory_with_the_data():
    delta = np.zeros((3, 2), np.float32)
    data = PseudobulkDataset({"delta": delta})
    for batch in batches_of(data):
        batch["delta"] += 1
    assert (delta == 0).all()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "no array was given"),
        ({"a": np.zeros(3), "b": np.zeros(4)}, "'a: 3', 'b: 4'"),
        ({"weight": np.zeros(3)}, "'weight' are written by the dataset itself"),
        ({"label": np.array(["A", "B"])}, "'label' cannot be put in batches"),
        ({"scalar": np.float32(1)}, "'scalar' cannot be put in batches"),
    ],
)
def test_arrays_that_make_no_batches_are_refused(arrays, message):
    with pytest.raises(DataError, match=message):
        PseudobulkDataset(arrays)


def test_the_fingerprint_of_pseudobulks_follows_the_content_to_six_decimals():
    delta = np.random.default_rng(0).normal(size=(5, 3))
    first = PseudobulkDataset({"delta": delta}).fingerprint
    assert PseudobulkDataset({"delta": delta * (1 + 1e-15)}).fingerprint == first
    assert PseudobulkDataset({"delta": delta[::-1]}).fingerprint != first
    assert PseudobulkDataset({"other": delta}).fingerprint != first
    assert PseudobulkDataset({"delta": delta}, fingerprint="f").fingerprint == "f"


def test_a_batch_of_cells_is_what_the_rows_say(contexts_screen, groups):
    dense = contexts_screen.X.toarray()
    data = CellDataset(contexts_screen.X, groups, n_cells=4, seed=2)
    for batch in batches_of(data):
        n = len(batch["group"])
        assert set(batch) == KEYS_OF_CELLS
        assert batch["X"].shape == batch["control_X"].shape == (n, 4, 12)
        np.testing.assert_array_equal(batch["X"], dense[batch["cell_index"]])
        np.testing.assert_array_equal(batch["control_X"], dense[batch["control_index"]])
        np.testing.assert_array_equal(batch["perturbation"], groups.condition[batch["group"]])
        np.testing.assert_array_equal(batch["context"], groups.context[batch["group"]])
        assert {batch[key].dtype for key in ("X", "control_X", "weight")} == {torch.float32}
        assert {batch[key].dtype for key in KEYS_OF_CELLS - {"X", "control_X", "weight"}} == {torch.int64}


@pytest.mark.parametrize("form", [sparse.csr_array, sparse.csc_matrix, sparse.csc_array, sparse.csr_matrix.toarray])
def test_batches_are_bit_equal_for_any_format(form, contexts_screen, groups):
    expected = batches_of(CellDataset(contexts_screen.X, groups, n_cells=4))
    assert_equal(batches_of(CellDataset(form(contexts_screen.X), groups, n_cells=4)), expected)


@pytest.mark.parametrize("form", [sparse.csr_matrix, sparse.csc_matrix, sparse.csr_matrix.toarray])
def test_batches_are_bit_equal_from_a_file(form, contexts_screen, keys, groups, tmp_path):
    expected = batches_of(CellDataset(contexts_screen.X, groups, n_cells=4))
    contexts_screen.X = form(contexts_screen.X)
    contexts_screen.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    assert_equal(batches_of(CellDataset(backed.X, CellGroups.of(backed, keys), n_cells=4)), expected)
    backed.file.close()


def test_what_is_stored_beside_the_cells_enters_no_batch(contexts_screen, keys):
    plain = batches_of(CellDataset(contexts_screen.X, CellGroups.of(contexts_screen, keys), n_cells=4))
    contexts_screen.uns["scperturb_modules"] = {"priors": {"network": np.ones((12, 12))}}
    contexts_screen.varp["network"] = np.ones((12, 12))
    contexts_screen.obsm["embedding"] = np.ones((contexts_screen.n_obs, 2))
    assert_equal(batches_of(CellDataset(contexts_screen.X, CellGroups.of(contexts_screen, keys), n_cells=4)), plain)


def test_training_epochs_draw_other_cells_of_a_group_and_validation_the_same(contexts_screen, groups):
    data = CellDataset(contexts_screen.X, groups, n_cells=4)

    def cells(steps):
        batches = [data[step] for step in steps]
        return {
            int(group): row.tolist() for b in batches for group, row in zip(b["group"], b["cell_index"], strict=True)
        }

    plan = StepPlan(len(groups), 16)
    first, later, again = (cells(plan.training_steps(epoch)) for epoch in (1, 2, 1))
    assert first == again
    assert all(first[group] != later[group] for group in first)
    assert cells(plan.validation_steps()) == cells(StepPlan(len(groups), 3).validation_steps())


def test_test_cells_enter_no_batch(contexts_screen, groups):
    data = CellDataset(contexts_screen.X, groups, n_cells=20)
    is_test = (contexts_screen.obs["split"] == "test").to_numpy()
    for epoch in range(3):
        for batch in batches_of(data, epoch):
            assert not is_test[batch["cell_index"]].any()
            assert not is_test[batch["control_index"]].any()
    assert not is_test[data.indices].any()
    assert len(data.indices) == (~is_test).sum()


def test_drawing_with_replacement_is_said_once(contexts_screen, groups, caplog):
    caplog.set_level("INFO")
    data = CellDataset(contexts_screen.X, groups, n_cells=10)
    batches_of(data)
    batches_of(data)
    (line,) = [record.message for record in caplog.records if "replacement" in record.message]
    assert line.startswith("4 contexts of controls have fewer than 10 cells")
    caplog.clear()
    CellDataset(contexts_screen.X, groups, n_cells=13)
    assert "16 groups have fewer than 13 cells" in caplog.text
    assert "'G00|k562 b1'" in caplog.text


def test_no_cell_at_all_cannot_be_drawn(contexts_screen, groups):
    with pytest.raises(ValueError, match="n_cells=0"):
        CellDataset(contexts_screen.X, groups, n_cells=0)
