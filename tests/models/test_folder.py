"""A saved model is the same model: in another process, with and without its cells."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from scperturb_modules import _keys as keys
from scperturb_modules import pp
from scperturb_modules._errors import DataError
from scperturb_modules.models._folder import device_of
from scperturb_modules.train import read_folder, write_folder

ASKED = ["G07", "G01+G06", "G00", "TP53"]
FILES = ["model.json", "training.h5ad", "weights.safetensors"]


def delta_of(model):
    return model.predict(ASKED, store=False).layers["delta"]


@pytest.fixture
def folder(trained, tmp_path):
    trained.save(tmp_path / "model")
    return tmp_path / "model"


def test_another_process_predicts_the_same_bits(folder, trained, trained_screen, tmp_path):
    trained_screen.write_h5ad(tmp_path / "screen.h5ad")
    program = (
        "import sys, json, anndata, numpy as np\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from toy import Toy\n"
        f"for adata in (None, anndata.read_h5ad({str(tmp_path / 'screen.h5ad')!r})):\n"
        f"    model = Toy.load({str(folder)!r}, adata)\n"
        f"    pred = model.predict({ASKED!r})\n"
        "    print(repr(model))\n"
        "    np.save(f'delta_{adata is None}.npy', pred.layers['delta'])\n"
        "    assert pred.obsm['attention'].shape == (4, 2)\n"
        "np.save('cells.npy', model.predict_cells(['G07'], n_cells=5).X)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{trained!r}\n" * 2
    for name in ("delta_True.npy", "delta_False.npy"):
        np.testing.assert_array_equal(np.load(tmp_path / name), delta_of(trained))
    np.testing.assert_array_equal(np.load(tmp_path / "cells.npy"), trained.predict_cells(["G07"], n_cells=5).X)


def test_everything_comes_back(folder, trained, toy_class):
    loaded = toy_class.load(folder)
    assert loaded.is_trained and not loaded.module.training
    assert loaded.option_values == trained.option_values and loaded.features == ("a", "b")
    assert loaded.factor == 0.5 and loaded.test_names == trained.test_names
    assert loaded.history.keys() == trained.history.keys()
    for name, frame in trained.history.items():
        pd.testing.assert_frame_equal(loaded.history[name], frame)
    assert loaded.fit_result.best_score == trained.fit_result.best_score
    assert list(loaded.priors) == list(trained.priors) == ["ppi", "go/bp"]
    assert loaded.networks["ppi"].sha256() == trained.networks["ppi"].sha256()
    assert loaded.networks["ppi"].attrs == trained.networks["ppi"].attrs
    pd.testing.assert_frame_equal(loaded.tables["go/bp"], trained.tables["go/bp"])
    assert loaded.tables["go/bp"].attrs == trained.tables["go/bp"].attrs
    for name, source in trained.sources.items():
        np.testing.assert_array_equal(loaded.sources[name].table.to_numpy(), source.table.to_numpy())
    assert loaded.registry["setup_args"] == trained.registry["setup_args"]
    assert loaded.summary_stats.n_perturbation == trained.summary_stats.n_perturbation
    assert loaded.predict().obs_names.tolist() == trained.predict(store=False).obs_names.tolist()


def test_the_embedding_is_the_saved_one(folder, trained, toy_class, monkeypatch):
    """The embedding of a network may differ between machines; a loaded model must not."""

    def other(*args, **kwargs):
        raise AssertionError("computed anew")

    monkeypatch.setattr("scperturb_modules.priors._prior_source.spectral_embedding", other)
    np.testing.assert_array_equal(delta_of(toy_class.load(folder)), delta_of(trained))


def test_saving_twice_gives_the_same_bytes(folder, trained, toy_class, tmp_path):
    trained.predict(store=False)
    trained.save(tmp_path / "again")
    toy_class.load(folder).save(tmp_path / "loaded")

    def sums(path):
        return [hashlib.sha256((path / name).read_bytes()).hexdigest() for name in FILES]

    assert sorted(entry.name for entry in folder.iterdir()) == FILES
    assert sums(tmp_path / "again") == sums(folder)
    assert "_scvi_uuid" in trained.registry and "_scvi_uuid" not in read_folder(folder).record["registry"]
    assert sums(tmp_path / "loaded")[2] == sums(folder)[2]
    np.testing.assert_array_equal(delta_of(toy_class.load(tmp_path / "loaded")), delta_of(trained))


def test_save_takes_the_arguments_of_scvi(trained, tmp_path, toy_class):
    trained.save(tmp_path / "model", save_anndata=False, overwrite=True)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        trained.save(tmp_path / "model")
    with pytest.raises(ValueError, match="prefix= and save_kwargs="):
        trained.save(tmp_path / "other", "run1_")
    trained.save(tmp_path / "model", overwrite=True, save_anndata=True, compression="gzip")
    assert sorted(entry.name for entry in (tmp_path / "model").iterdir()) == ["adata.h5ad", *FILES]
    loaded = toy_class.load(tmp_path / "model")
    np.testing.assert_array_equal(
        loaded.predict_cells(["G07"], n_cells=5).X, trained.predict_cells(["G07"], n_cells=5).X
    )


def test_saving_evaluates_no_property(trained, tmp_path, toy_class, monkeypatch):
    """scvi-tools' own save looks at every attribute, costly ones too."""

    def costly(self):
        raise AssertionError("evaluated")

    monkeypatch.setattr(toy_class, "costly", property(costly), raising=False)
    trained.save(tmp_path / "model")


def test_cells_are_set_up_as_the_saved_ones_were(folder, make_screen, toy_class, trained):
    adata = make_screen()
    loaded = toy_class.load(folder, adata)
    assert adata.uns[keys.ROOT]["setup"] == keys.ScreenKeys().to_uns()
    assert loaded.adata is adata
    loaded.predict(ASKED)
    assert {"prediction", "priors"} == set(adata.uns[keys.ROOT]["toy"])
    view = adata[:10]
    with pytest.raises(DataError, match="view of another one"):
        toy_class.load(folder, view)


def test_cells_with_other_conditions_will_do(folder, make_screen, toy_class, trained):
    adata = make_screen()
    adata.obs["perturbation"] = adata.obs["perturbation"].replace({"G03": "G10"})
    loaded = toy_class.load(folder, adata)
    np.testing.assert_array_equal(delta_of(loaded), delta_of(trained))
    mapping = loaded.get_state_registry("perturbation").categorical_mapping
    assert mapping[-1] == "G10" and "G03" in mapping


def test_genes_in_another_order_are_taken_by_name(folder, make_screen, toy_class, trained):
    adata = make_screen()
    permuted = adata[:, ::-1].copy()
    loaded = toy_class.load(folder, permuted)
    np.testing.assert_array_equal(delta_of(loaded), delta_of(trained))
    ours, theirs = (one.predict_cells(["G07"], n_cells=5) for one in (loaded, trained))
    assert ours.var_names.equals(theirs.var_names)
    np.testing.assert_array_equal(ours.X, theirs.X)
    with pytest.raises(DataError, match=r"1 are missing \('G11'\)"):
        toy_class.load(folder, adata[:, :-1].copy())


def test_a_model_of_a_pseudobulk(screen, fit, toy_class, tmp_path, priors, make_screen):
    model = fit(pp.pseudobulk(screen, cells="training"), priors=priors)
    model.predict(ASKED)  # leaves its result in the pseudobulk, which is no part of the folder
    model.save(tmp_path / "model")
    loaded = toy_class.load(tmp_path / "model")
    np.testing.assert_array_equal(delta_of(loaded), delta_of(model))
    assert "toy" not in loaded.training.uns[keys.ROOT]
    with_cells = toy_class.load(tmp_path / "model", make_screen())
    assert with_cells.predict_cells(["G07"], n_cells=2).n_obs == 2


def test_a_model_without_priors(screen, fit, toy_class, tmp_path):
    model = fit(screen)
    model.save(tmp_path / "model")
    loaded = toy_class.load(tmp_path / "model")
    assert loaded.sources == {} and loaded.priors == {}
    np.testing.assert_array_equal(delta_of(loaded), delta_of(model))


def test_mudata(make_screen, toy_class, fit, tmp_path):
    mudata = pytest.importorskip("mudata")
    adata = make_screen()
    mdata = mudata.MuData({"rna": adata})
    toy_class.setup_mudata(mdata)
    model = fit(mdata)
    model.save(tmp_path / "model")
    again = mudata.MuData({"rna": make_screen()})
    for cells in (None, again):
        np.testing.assert_array_equal(delta_of(toy_class.load(tmp_path / "model", cells)), delta_of(model))
    assert "prediction" not in again.uns[keys.ROOT]["toy"]
    with pytest.raises(ValueError, match="save_anndata=True cannot keep a MuData"):
        model.save(tmp_path / "other", save_anndata=True)
    with pytest.raises(TypeError, match="was given AnnData"):
        toy_class.load(tmp_path / "model", make_screen())


def test_folders_that_are_refused(folder, trained, toy_class, tmp_path):
    class Other(toy_class):
        """Another class."""

    with pytest.raises(DataError, match="a model of the class Toy, not Other; call Toy.load or spm.load"):
        Other.load(folder)
    with pytest.raises(FileNotFoundError, match=r"no model\.json"):
        toy_class.load(tmp_path / "nothing")
    for name in FILES[1:]:
        copy = shutil.copytree(folder, tmp_path / f"without_{name}")
        with (copy / name).open("ab") as file:
            file.write(b"x")
        with pytest.raises(DataError, match="cut or altered"):
            toy_class.load(copy)
    copy = shutil.copytree(folder, tmp_path / "altered")
    (copy / "model.json").write_text(json.dumps(json.loads((copy / "model.json").read_text()) | {"checksum": "0"}))
    with pytest.raises(DataError, match="altered"):
        toy_class.load(copy)
    saved = read_folder(folder)
    weights = {name: torch.zeros(5) for name in saved.tensors}
    files = {"training.h5ad": lambda path: shutil.copy(folder / "training.h5ad", path)}
    write_folder(tmp_path / "shapes", saved.record, weights, files=files)
    with pytest.raises(DataError, match="the weights do not fit the Toy of this version"):
        toy_class.load(tmp_path / "shapes")


@pytest.mark.parametrize(
    ("accelerator", "device", "expected"),
    [
        ("cpu", "auto", "cpu"),
        ("cpu", 0, "cpu"),
        ("gpu", 1, "cuda:1"),
        ("cuda", "auto", "cuda"),
        ("auto", "cuda:1", "cuda:1"),
        ("mps", "auto", "mps"),
        ("gpu", "1", "cuda:1"),
    ],
)
def test_devices(accelerator, device, expected):
    assert device_of(accelerator, device) == torch.device(expected)


def test_auto_is_cuda_where_there_is_one(monkeypatch):
    for available, expected in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda available=available: available)
        assert device_of("auto", "auto").type == expected
