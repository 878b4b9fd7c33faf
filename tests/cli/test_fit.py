import subprocess
import sys

import numpy as np
import pytest

from scperturb_modules.cli._fit import parsed_devices
from scperturb_modules.cli._output import InputError

QUICK = ["--members", 2, "--max-epochs", 2, "--accelerator", "cpu"]
KEY = ["--perturbation-key", "perturbation"]


def test_the_model_is_the_one_that_python_gives(spm, split_screen, simulated_path, network_path, tmp_path):
    import pandas as pd

    from scperturb_modules import load
    from scperturb_modules.models.app import APP

    before, out = simulated_path.read_bytes(), tmp_path / "model"
    args = [*KEY, "--prior", network_path, "--batch-key", "batch", "--seed", 3, "--out", out, *QUICK]
    result = spm("fit", simulated_path, *args)
    assert result.exit_code == 0, result.output
    assert simulated_path.read_bytes() == before
    model = load(out)
    assert model.summary() in result.stdout and str(out) in result.stdout
    assert (model.seed, model.n_members, model.preset, list(model.networks)) == (3, 2, "tool", ["ppi"])
    adata = split_screen.copy()
    APP.setup_anndata(adata, batch_key="batch")
    same = APP(adata, priors={"ppi": pd.read_csv(network_path)}, seed=3, n_members=2)
    same.train(2, accelerator="cpu")
    names = list(same.test_names)
    assert model.fit_result.n_epochs == 2 and list(model.test_names) == names
    np.testing.assert_array_equal(model.predict(names).X, same.predict(names).X)
    n_test = int((adata.obs["split"] == "test").sum())
    assert f"Trains on {adata.n_obs - n_test} cells; {n_test} are test in 'split'" in result.stdout


def test_counts_without_a_split_and_the_published_preset(spm, split_screen, tmp_path):
    from scperturb_modules import load

    adata = split_screen.copy()
    adata.X = adata.layers.pop("counts")
    del adata.obs["split"]
    path, out = tmp_path / "counts.h5ad", tmp_path / "model"
    adata.write_h5ad(path)
    out.mkdir()  # an empty folder is as good as none
    args = [*KEY, "--model", "APP", "--preset", "paper", "--max-epochs", 1, "--accelerator", "cpu", "--out", out]
    result = spm("fit", path, *args)
    assert result.exit_code == 0, result.output
    assert "normalised to log1p" in result.stdout
    assert f"trains on all {adata.n_obs} cells" in result.stdout.replace("\n", " ")
    assert load(out).preset == "paper"
    older = (out / "model.json").read_bytes()
    assert "not empty" in spm("fit", path, *args).stderr
    again = spm("fit", path, *args, "--seed", 1, "--overwrite")
    assert again.exit_code == 0, again.output
    assert (out / "model.json").read_bytes() != older and load(out).seed == 1


def test_a_folder_that_is_no_model_is_kept_and_refused_at_once(spm, one_line, tmp_path):
    (tmp_path / "mine.txt").write_text("keep me")
    for more in ([], ["--overwrite"]):
        line = one_line(spm("fit", tmp_path / "absent.h5ad", *KEY, "--out", tmp_path, *more))
        assert "not empty" in line or "no saved model" in line
    assert (tmp_path / "mine.txt").read_text() == "keep me"


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (["--model", "magic"], "no model 'magic'; known: APP"),
        (["--accelerator", "magic"], "accelerator='magic'"),
        (["--devices", "many"], "--devices many: give auto"),
        (["--preset", "best"], "--preset"),
        (["--members", "0"], "--members"),
        (["--prior", "nowhere.csv"], "nowhere.csv does not exist"),
        (["--split-key", "parts"], "parts"),
        (["--layer", "lognorm"], "lognorm"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(spm, one_line, simulated_path, tmp_path, more, text):
    out = tmp_path / "model"
    assert text in one_line(spm("fit", simulated_path, *KEY, "--out", out, *more))
    assert not out.exists()


def test_a_network_of_other_names_is_one_line(spm, one_line, simulated_path, tmp_path):
    edges = tmp_path / "ensembl.csv"
    edges.write_text("source,target\nENSG1,ENSG2\n")
    result = spm("fit", simulated_path, *KEY, "--prior", edges, "--out", tmp_path / "model")
    line = one_line(result)
    assert "genes found in the network 'ensembl'" in line and "ENSG1" in line


def test_devices_are_a_number_or_numbers():
    assert [parsed_devices(text) for text in ("auto", "2", "0,1")] == ["auto", 2, [0, 1]]
    for text in ("-1", "", "1,", "gpu"):
        with pytest.raises(InputError, match="--devices"):
            parsed_devices(text)


@pytest.mark.parametrize("command", [["fit", "absent.h5ad", "--perturbation-key", "x", "--out", "model"],
                                     ["predict", "absent", "--condition", "A", "--out", "p.h5ad"]])  # fmt: skip
def test_a_wrong_path_is_answered_without_torch(tmp_path, command):
    code = f"""
import sys
sys.argv = ["spm", *{command!r}]
from scperturb_modules.cli import main
try:
    main()
except SystemExit as end:
    assert end.code == 2
assert not {{"torch", "scvi", "lightning", "anndata"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "absent" in done.stderr
