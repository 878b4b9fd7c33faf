"""APP saved, loaded elsewhere, interrupted and resumed is the same APP, to the last bit."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback

import scperturb_modules as spm
from scperturb_modules import _keys as keys
from scperturb_modules.train import read_folder

ASKED = ["G12", "G49", "G02+G10", "G12+G70", "X01", "G02", "TP53"]


def answers(model):
    return [model.predict(ASKED, store=False, gate=gate).layers["delta"] for gate in (True, False)]


def same_weights(first, second):
    ours, theirs = first.module.state_dict(), second.module.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture(scope="module")
def folder(app, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model"
    app.save(path)
    return path


def test_another_process_predicts_the_same_bits(app, app_screen, folder, tmp_path):
    app_screen.write_h5ad(tmp_path / "screen.h5ad")
    program = (
        "import anndata, numpy as np, torch, scperturb_modules as spm\n"
        "torch.set_num_threads(1)\n"
        f"for adata in (None, anndata.read_h5ad({str(tmp_path / 'screen.h5ad')!r})):\n"
        f"    model = spm.load({str(folder)!r}, adata)\n"
        "    for gate in (True, False):\n"
        f"        pred = model.predict({ASKED!r}, store=False, gate=gate)\n"
        "        np.save(f'delta_{adata is None}_{gate}.npy', pred.layers['delta'])\n"
        "    np.save(f'attention_{adata is None}.npy', pred.obsm['attention'])\n"
        "print(repr(model))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == repr(app)
    expected = answers(app)
    attention = app.predict(ASKED, store=False).obsm["attention"]
    for without_cells in (True, False):
        for gate, delta in zip((True, False), expected, strict=True):
            np.testing.assert_array_equal(np.load(tmp_path / f"delta_{without_cells}_{gate}.npy"), delta)
        np.testing.assert_array_equal(np.load(tmp_path / f"attention_{without_cells}.npy"), attention)


def test_the_folder_holds_settings_gates_and_what_attention_is_worth(app, folder):
    fitted = read_folder(folder).record["fitted"]
    assert fitted["gates"].keys() == app.gates.keys() != set()
    for regime, gate in app.gates.items():
        assert (fitted["gates"][regime]["factor"], fitted["gates"][regime]["n"]) == (gate.factor, gate.n)
    assert fitted["attention_tv"] == app.attention_tv > 0
    loaded = spm.load(folder)
    assert repr(loaded.gates) == repr(app.gates)
    assert loaded.option_values == app.option_values and loaded.settings == app.settings
    assert same_weights(loaded, app)
    assert loaded.get_gene_embedding().equals(app.get_gene_embedding())


def test_cells_come_from_the_loaded_model_too(app, app_screen, folder):
    loaded = spm.load(folder, app_screen.copy())
    ours, theirs = (model.predict_cells(["G12+G70"], n_cells=6, seed=2) for model in (app, loaded))
    np.testing.assert_array_equal(ours.X, theirs.X)
    assert ours.obs["control_cell"].tolist() == theirs.obs["control_cell"].tolist()


def test_same_seed_same_weights(app, app_screen, fit):
    torch.manual_seed(5)  # the caller's random state does not matter
    again = fit(app_screen)
    assert same_weights(again, app)
    assert repr(again.gates) == repr(app.gates)
    for ours, theirs in zip(answers(again), answers(app), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    other = fit(app_screen, seed=1)
    assert not same_weights(other, app)
    assert not np.array_equal(answers(other)[1], answers(app)[1])


class Interrupted(Callback):
    """The user's Ctrl-C after so many steps."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *args, **kwargs):
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


@pytest.mark.parametrize("stop_at", [4, 7])
def test_a_resume_inside_an_epoch_is_bit_equal(app_screen, fit, tmp_path, stop_at):
    """Three steps per epoch; the point is written after steps 2, 4 and 6: inside the first and the second epoch."""
    point = tmp_path / "resume.ckpt"
    whole = fit(app_screen)
    assert whole.data.delta.shape[0] == 23 and whole.fit_result.n_epochs == 3
    saved = {"save_resume_point": point, "every_n_steps": 2}
    with pytest.raises(KeyboardInterrupt):
        fit(app_screen, train={**saved, "callbacks": [Interrupted(stop_at)]})
    reached = torch.load(point, weights_only=True)["global_step"]
    assert 0 < reached < stop_at + 1 < 9
    resumed = fit(app_screen, train={"resume_from": point})
    assert same_weights(resumed, whole)
    assert repr(resumed.gates) == repr(whole.gates)
    for name, frame in whole.history.items():
        assert frame.equals(resumed.history[name]), name
    for ours, theirs in zip(answers(resumed), answers(whole), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    other = fit(app_screen, max_epochs=2)
    assert not same_weights(other, whole), "later steps change the weights"


def record_of(adata):
    return adata.uns[keys.ROOT]["app"]["priors"].set_index("name")["sha256"]


def test_a_changed_prior_leaves_another_fingerprint(app_screen, priors_of):
    adata = app_screen.copy()
    edges, table = priors_of(adata)
    spm.APP(adata, priors=[edges, table], n_members=1, n_folds=2, d=4)
    first = record_of(adata)
    spm.APP(adata, priors=[edges.iloc[::-1], table.iloc[::-1]], n_members=1, n_folds=2, d=4)
    assert record_of(adata).equals(first), "the order of rows is no change"
    heavier = edges.copy()
    heavier.iloc[0, heavier.columns.get_loc("weight")] *= 2
    heavier.attrs["name"] = "graph"
    spm.APP(adata, priors=[heavier, table], n_members=1, n_folds=2, d=4)
    assert record_of(adata)["graph"] != first["graph"] and record_of(adata)["table"] == first["table"]


def test_settings_stand_in_the_prediction(app):
    settings = json.loads(app.predict(["G12"], store=False).uns[keys.ROOT]["prediction"]["settings"])
    assert settings["preset"] == "tool" and settings["d"] == app.settings.d and settings["gate_off"] is False
    assert settings["features"] == ["learned", "expression", "prior"]
