"""The training cells of a screen: which they are, in blocks, and their moments."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules import _keys as keys
from scperturb_modules.dataloaders import ConditionDataModule, PseudobulkDataset
from scperturb_modules.models import _training_cells
from scperturb_modules.models._training_cells import TrainingCells, moments, setup_of, some_of


@pytest.fixture
def two_types(toy_class, make_screen):
    """Cells of two cell types; another layer is the expression."""
    adata = make_screen(contexts=("b", "a"))
    adata.layers["logged"] = adata.X * 2
    toy_class.setup_anndata(adata, cell_type_key="cell_type", layer="logged")
    return adata


def test_rows_are_those_of_the_training_side(two_types):
    cells, obs = TrainingCells.of(two_types), two_types.obs
    training = (obs["split"] != "test").to_numpy()
    controls = training & (obs["perturbation"] == "control").to_numpy()
    np.testing.assert_array_equal(cells.rows(), np.flatnonzero(training))
    np.testing.assert_array_equal(cells.control_rows(), np.flatnonzero(controls))
    for context in ("a", "b"):
        own = controls & (obs["cell_type"] == context).to_numpy()
        np.testing.assert_array_equal(cells.control_rows(context), np.flatnonzero(own))
        assert own.sum() == 20


def test_blocks_are_the_cells_in_their_order(two_types, monkeypatch):
    cells, rows = TrainingCells.of(two_types), np.array([5, 3, 90, 12, 40])
    whole = np.concatenate(list(cells.blocks(rows)))
    np.testing.assert_array_equal(whole, two_types.layers["logged"][rows].toarray())
    monkeypatch.setattr(_training_cells, "BLOCK", 2)
    found = list(cells.blocks(rows))
    assert [len(one) for one in found] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(found), whole)
    assert list(cells.blocks(rows[:0])) == []


def test_controls(two_types):
    cells = TrainingCells.of(two_types)
    expected = two_types.layers["logged"][cells.control_rows()].toarray()
    np.testing.assert_array_equal(np.concatenate(list(cells.controls())), expected)
    some = np.concatenate(list(cells.controls(7, seed=3)))
    assert some.shape == (7, two_types.n_vars) and {tuple(one) for one in some} <= {tuple(one) for one in expected}
    np.testing.assert_array_equal(some, np.concatenate(list(cells.controls(7, seed=3))))
    assert not np.array_equal(some, np.concatenate(list(cells.controls(7, seed=4))))


def test_some_rows_in_their_order():
    rows = np.array([3, 5, 8, 13, 21, 34])
    assert some_of(rows, None, seed=0) is rows and some_of(rows, 6, seed=0) is rows
    found = some_of(rows, 4, seed=0)
    assert len(set(found)) == 4 and set(found) <= set(rows) and np.all(np.diff(found) > 0)


def test_moments_are_of_all_blocks():
    rng = np.random.default_rng(0)
    blocks = [(1000 + rng.normal(size=(n, 3))).astype(np.float32) for n in (5, 1, 40)]
    mean, sd = moments(iter(blocks))
    together = np.concatenate(blocks).astype(np.float64)
    np.testing.assert_allclose(mean, together.mean(axis=0))
    np.testing.assert_allclose(sd, together.std(axis=0), rtol=1e-6)
    assert moments(iter([np.full((4, 2), 0.1, np.float32)]))[1].tolist() == pytest.approx([0, 0], abs=1e-8)


def test_joined_rows_come_with_cells_of_theirs(two_types, fit):
    model = fit(two_types)
    cells = TrainingCells.of(two_types)
    names = [f"{condition}|{context}" for condition, context in model.data.rows]
    number = np.arange(two_types.n_obs, dtype=np.float32)[:, None]
    arrays = {"row": np.arange(len(names), dtype=np.float32)}
    joined = cells.joined(PseudobulkDataset(arrays), names, n_cells=6, seed=0, matrix=number)
    assert len(joined) == len(names)
    loader = ConditionDataModule(joined, batch_size=6, seed=0)
    loader.setup("fit")
    seen = set()
    for batch in loader.train_dataloader():
        for i, row in enumerate(batch["row"].int().tolist()):
            seen.add(row)
            condition, context = model.data.rows[row]
            for part, label in (("X", condition), ("control_X", "control")):
                obs = two_types.obs.iloc[batch[part][i, :, 0].int().numpy()]
                assert set(obs["perturbation"]) == {label} and set(obs["cell_type"]) == {context}
                assert (obs["split"] == "train").all()
    assert seen == set(range(len(names)))


def test_the_setup_is_the_recorded_one(two_types):
    found = setup_of(two_types)
    assert isinstance(found, keys.ScreenKeys) and (found.layer, found.cell_type_key) == ("logged", "cell_type")
