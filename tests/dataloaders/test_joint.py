from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import sparse

from scperturb_modules._errors import DataError
from scperturb_modules._keys import ScreenKeys
from scperturb_modules.dataloaders import CellGroups, ConditionDataModule, PseudobulkDataset, StepPlan
from scperturb_modules.dataloaders._joint import JointDataset
from scperturb_modules.pp import pseudobulk

OF_CELLS = {"X", "control_X", "cell_index", "control_index"}


@pytest.fixture
def bulk(contexts_screen):
    return pseudobulk(contexts_screen, cell_type_key="cell_type", batch_key="batch", cells="training")


def joint(adata, bulk, keys, *, n_cells=5, seed=0, matrix=None):
    return JointDataset(
        PseudobulkDataset({"delta": bulk.layers["delta"]}),
        adata.X if matrix is None else matrix,
        CellGroups.of(adata, keys),
        rows=bulk.obs_names,
        n_cells=n_cells,
        seed=seed,
    )


def batches_of(data, epoch=1):
    plan = StepPlan(len(data), batch_size=3)
    return [data[step] for step in (*plan.training_steps(epoch), *plan.validation_steps())]


def drawn_by_name(data, adata, epoch=1):
    """What each row draws in a training epoch, by names."""
    names = adata.obs_names.to_numpy()
    return {
        data.rows[group]: (list(names[cells]), list(names[controls]))
        for step in StepPlan(len(data), len(data)).training_steps(epoch)
        for batch in [data[step]]
        for group, cells, controls in zip(
            batch["group"], batch["cell_index"].numpy(), batch["control_index"].numpy(), strict=True
        )
    }


def test_a_batch_is_the_pseudobulk_and_cells_of_the_same_rows(contexts_screen, bulk, keys):
    data, obs = joint(contexts_screen, bulk, keys), contexts_screen.obs
    dense = contexts_screen.X.toarray()
    for batch in batches_of(data):
        assert set(batch) == OF_CELLS | {"delta", "group", "weight"}
        assert batch["X"].shape == batch["control_X"].shape == (len(batch["group"]), 5, 12)
        np.testing.assert_array_equal(batch["X"], dense[batch["cell_index"]])
        np.testing.assert_array_equal(batch["control_X"], dense[batch["control_index"]])
        np.testing.assert_array_equal(batch["delta"], bulk.layers["delta"][batch["group"]])
        assert (batch["X"].dtype, batch["cell_index"].dtype) == (torch.float32, torch.int64)
        for group, cells, controls in zip(batch["group"], batch["cell_index"], batch["control_index"], strict=True):
            own, matched, row = obs.iloc[cells], obs.iloc[controls], bulk.obs.iloc[int(group)]
            assert set(own["perturbation"]) == {row["perturbation"]}
            assert set(own["cell_type"]) == {row["cell_type"]}
            assert set(matched["perturbation"]) == {"control"}
            assert set(own["split"]) | set(matched["split"]) == {"train"}
            for column in ("cell_type", "batch"):
                np.testing.assert_array_equal(own[column], matched[column])


def test_all_batches_of_a_row_are_drawn_from_by_their_share(contexts_screen, bulk, keys):
    few = (contexts_screen.obs["batch"] == "b2").to_numpy() & (contexts_screen.obs["perturbation"] == "G00").to_numpy()
    kept = np.ones(contexts_screen.n_obs, bool)
    kept[np.flatnonzero(few & (contexts_screen.obs["cell_type"] == "k562").to_numpy())[:8]] = False
    adata = contexts_screen[kept].copy()  # G00|k562: twelve cells of b1, four of b2
    data = joint(adata, bulk, keys, n_cells=4)
    in_b2 = [
        (adata.obs.loc[drawn_by_name(data, adata, epoch)["G00|k562"][0], "batch"] == "b2").mean()
        for epoch in range(200)
    ]
    assert np.mean(in_b2) == pytest.approx(0.25, abs=0.04)
    everything = joint(adata, bulk, keys, n_cells=16)
    cells, _ = drawn_by_name(everything, adata)["G00|k562"]
    assert len(set(cells)) == 16


def test_rows_in_another_order_are_found_by_name(contexts_screen, bulk, keys):
    data = joint(contexts_screen, bulk, keys)
    turned = joint(contexts_screen, bulk[::-1].copy(), keys)
    assert turned.rows == data.rows[::-1]
    assert drawn_by_name(turned, contexts_screen) == drawn_by_name(data, contexts_screen)
    for batch in batches_of(turned):
        np.testing.assert_array_equal(batch["delta"], bulk.layers["delta"][::-1][batch["group"]])


def test_rows_may_be_a_part_of_the_screen(contexts_screen, bulk, keys):
    some = joint(contexts_screen, bulk[[5, 2]].copy(), keys)
    whole = drawn_by_name(joint(contexts_screen, bulk, keys), contexts_screen)
    assert drawn_by_name(some, contexts_screen) == {name: whole[name] for name in bulk.obs_names[[5, 2]]}
    used = contexts_screen.obs.iloc[some.indices]
    perturbed = used[used["perturbation"] != "control"]
    assert set(perturbed["perturbation"] + "|" + perturbed["cell_type"]) == set(bulk.obs_names[[5, 2]])
    assert (len(perturbed), len(used)) == (48, 48 + 24)


def test_the_order_of_cells_does_not_matter(contexts_screen, bulk, keys):
    permuted = contexts_screen[np.random.default_rng(1).permutation(contexts_screen.n_obs)].copy()
    for column in ("perturbation", "cell_type", "batch"):
        categories = [*sorted(permuted.obs[column].unique(), reverse=True), "unused"]
        permuted.obs[column] = pd.Categorical(permuted.obs[column], categories=categories)
    first, again = joint(contexts_screen, bulk, keys), joint(permuted, bulk, keys)
    assert drawn_by_name(first, contexts_screen) == drawn_by_name(again, permuted)
    assert first.fingerprint == again.fingerprint


def test_draws_follow_from_seed_and_epoch(contexts_screen, bulk, keys):
    data = joint(contexts_screen, bulk, keys)
    first = drawn_by_name(data, contexts_screen, epoch=1)
    assert first == drawn_by_name(joint(contexts_screen, bulk, keys), contexts_screen, epoch=1)
    for other in (
        drawn_by_name(data, contexts_screen, 2),
        drawn_by_name(joint(contexts_screen, bulk, keys, seed=1), contexts_screen),
    ):
        assert all(first[row] != other[row] for row in first)
    validation = [data[step]["cell_index"] for step in StepPlan(len(data), 3).validation_steps()]
    again = [data[step]["cell_index"] for step in StepPlan(len(data), 3).validation_steps()]
    assert all(torch.equal(a, b) for a, b in zip(validation, again, strict=True))


def test_batches_are_bit_equal_for_any_format_and_in_another_process(contexts_screen, bulk, keys):
    data = joint(contexts_screen, bulk, keys)
    dense = joint(contexts_screen, bulk, keys, matrix=contexts_screen.X.toarray())
    columns = joint(contexts_screen, bulk, keys, matrix=sparse.csc_array(contexts_screen.X))
    for other in (dense, columns, pickle.loads(pickle.dumps(data))):
        for batch, expected in zip(batches_of(other), batches_of(data), strict=True):
            assert all(torch.equal(batch[name], expected[name]) for name in expected)


def test_small_rows_repeat_cells_and_this_is_said(contexts_screen, bulk, keys, caplog):
    caplog.set_level("INFO")
    joint(contexts_screen, bulk, keys, n_cells=24)
    assert "replacement" not in caplog.text
    data = joint(contexts_screen, bulk, keys, n_cells=25)
    assert "8 conditions have fewer than 25 cells and are drawn from with replacement: 'G00+G01|k562'" in caplog.text
    cells, controls = drawn_by_name(data, contexts_screen)["G00|rpe1"]
    assert len(cells) == len(controls) == 25


def test_rows_without_training_cells_are_named(contexts_screen, bulk, keys):
    without = contexts_screen[contexts_screen.obs["perturbation"] != "G01"].copy()
    with pytest.raises(DataError, match=r"2 rows of the pseudobulk have no training cell: 'G01\|k562', 'G01\|rpe1'"):
        joint(without, bulk, keys)
    with pytest.raises(
        DataError, match=r"8 rows .* Make the pseudobulk and the groups from the same cells and columns"
    ):
        joint(contexts_screen, bulk, ScreenKeys())


def test_names_have_to_fit_the_pseudobulk(contexts_screen, bulk, keys):
    groups = CellGroups.of(contexts_screen, keys)
    data = PseudobulkDataset({"delta": bulk.layers["delta"]})
    with pytest.raises(DataError, match="7 names were given for 8 rows"):
        JointDataset(data, contexts_screen.X, groups, rows=bulk.obs_names[1:], n_cells=2)
    taken = PseudobulkDataset({"X": bulk.X})
    with pytest.raises(DataError, match="'X' are those of cells in a batch"):
        JointDataset(taken, contexts_screen.X, groups, rows=bulk.obs_names, n_cells=2)
    with pytest.raises(ValueError, match="n_cells=0"):
        joint(contexts_screen, bulk, keys, n_cells=0)


def test_the_fingerprint_knows_pseudobulk_rows_and_cells(contexts_screen, bulk, keys):
    first = joint(contexts_screen, bulk, keys).fingerprint
    other = bulk.copy()
    other.layers["delta"][0, 0] += 1
    renamed = bulk.copy()
    renamed.obs_names = [*bulk.obs_names[1::-1], *bulk.obs_names[2:]]
    fewer = contexts_screen[np.arange(contexts_screen.n_obs) != 2].copy()  # a training control
    changed = [joint(contexts_screen, other, keys), joint(contexts_screen, renamed, keys), joint(fewer, bulk, keys)]
    assert len({first, *(data.fingerprint for data in changed)}) == 4


def test_the_data_module_takes_it(contexts_screen, bulk, keys):
    data = joint(contexts_screen, bulk, keys)
    module = ConditionDataModule(data, data, batch_size=3)
    assert module.n_train == 8
    np.testing.assert_array_equal(module.train_idx, data.indices)
    groups = torch.cat([batch["group"] for batch in module.train_dataloader()])
    assert len(set(groups.tolist())) == len(groups)
