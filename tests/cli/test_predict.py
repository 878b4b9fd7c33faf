import anndata
import numpy as np
import pandas as pd
import pytest

KEY = ["--perturbation-key", "perturbation"]


@pytest.fixture(scope="module")
def saved(split_screen, network_path, tmp_path_factory):
    """A folder with a trained model, and what was trained."""
    from scperturb_modules.models.app import APP

    adata = split_screen.copy()
    APP.setup_anndata(adata)
    model = APP(adata, priors={"ppi": pd.read_csv(network_path)}, n_members=2, n_folds=2)
    model.train(2, accelerator="cpu")
    folder = tmp_path_factory.mktemp("saved") / "model"
    model.save(folder)
    return folder, model


@pytest.fixture
def pairs(split_screen):
    return sorted({str(name) for name in split_screen.obs["perturbation"] if "+" in name})


def test_a_prediction_is_written_and_told(spm, saved, pairs, split_screen, tmp_path):
    folder, model = saved
    first, second = pairs[:2]
    names = tmp_path / "names.txt"
    half_known = f"{split_screen.var_names[0]}+KLF99"
    names.write_text(f"\ufeff{second}\n\n  {half_known}  \n", encoding="utf-8")
    swapped = "+".join(first.split("+")[::-1])
    out = tmp_path / "new" / "prediction.h5ad"
    result = spm("predict", folder, "--condition", swapped, "--conditions-file", names, "--out", out)
    assert result.exit_code == 0, result.output
    expected = model.predict([first, second, half_known])
    written = anndata.read_h5ad(out)
    assert list(written.obs_names) == [first, second, half_known]
    np.testing.assert_array_equal(written.layers["delta"], expected.layers["delta"])
    np.testing.assert_array_equal(written.obsm["attention"], expected.obsm["attention"])
    change = expected.to_df(layer="delta").loc[first]
    lines = " ".join(result.stdout.split())
    assert f"+ {' '.join(change.nlargest(5).index)}" in lines and f"- {' '.join(change.nsmallest(5).index)}" in lines
    for text in (*expected.obs.loc[first, ["seen", "status"]], f"{expected.obs.loc[first, 'gate']:.2f}"):
        assert str(text).replace(";", "; ") in lines
    assert "3 conditions x 80 genes" in result.stdout and str(out) in result.stdout.replace("\n", "")
    assert result.stderr.startswith("spm: note: known neither from the screen nor from a prior")
    assert result.stderr.endswith(": 'KLF99'\n")


def test_a_long_table(spm, saved, pairs, tmp_path):
    folder, model = saved
    out = tmp_path / "prediction.csv"
    result = spm("predict", folder, *[part for pair in pairs[:2] for part in ("--condition", pair)], "--out", out)
    assert result.exit_code == 0 and result.stderr == "", result.output
    table, expected = pd.read_csv(out), model.predict(pairs[:2])
    assert list(table.columns) == ["condition", "gene", "delta", "mean"] and len(table) == 2 * 80
    for column, values in (("delta", expected.layers["delta"]), ("mean", expected.X)):
        wide = table.pivot(index="condition", columns="gene", values=column).loc[pairs[:2], expected.var_names]
        np.testing.assert_allclose(wide, values, rtol=1e-12)


def test_cells_are_moved_controls_of_the_screen(spm, saved, pairs, split_screen, simulated_path, tmp_path):
    from scperturb_modules import load

    folder, _ = saved
    out = tmp_path / "cells.h5ad"
    args = ["--condition", pairs[0], "--cells", 7, "--screen", simulated_path, *KEY, "--seed", 2, "--out", out]
    result = spm("predict", folder, *args)
    assert result.exit_code == 0, result.output
    assert "7 cells x 80 genes" in result.stdout
    written = anndata.read_h5ad(out)
    expected = load(folder, split_screen.copy()).predict_cells([pairs[0]], n_cells=7, seed=2)
    np.testing.assert_array_equal(written.X, expected.X)
    assert set(split_screen.obs.loc[written.obs["control_cell"], "split"]) == {"train"}


def test_only_the_first_of_many_are_printed_and_it_is_said(spm, saved, split_screen, tmp_path):
    genes = list(split_screen.var_names[:23])
    names = tmp_path / "names.txt"
    names.write_text("\n".join(genes))
    result = spm("predict", saved[0], "--conditions-file", names, "--out", tmp_path / "p.csv")
    assert result.exit_code == 0, result.output
    assert "... and 3 more in the file" in result.stdout
    assert pd.read_csv(tmp_path / "p.csv")["condition"].nunique() == 23


def test_a_saved_baseline_predicts_too(spm, split_screen, pairs, tmp_path):
    from scperturb_modules import baselines

    adata = split_screen.copy()
    baselines.Additive.setup_anndata(adata)
    model = baselines.Additive(adata)
    model.train()
    model.save(tmp_path / "additive")
    result = spm("predict", tmp_path / "additive", "--condition", pairs[0], "--condition", "KLF99", "--out",
                 tmp_path / "p.csv")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "'KLF99'" in result.stderr


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["--out", "p.csv"], "--condition A+B, or --conditions-file"),
        (["--condition", "A", "--out", "p.txt"], "must end with .h5ad or .csv"),
        (["--condition", "A", "--cells", "5", "--out", "p.csv"], "must end with .h5ad"),
        (["--condition", "A", "--cells", "5", "--out", "p.h5ad"], "--cells needs --screen and --perturbation-key"),
        (
            ["--condition", "A", "--screen", "s.h5ad", "--out", "p.h5ad"],
            "--screen would have no effect without --cells",
        ),
        (["--condition", "A", "--out", "mine.csv"], "exists; choose another --out, or pass --overwrite"),
        (["--condition", "A", "--out", "mine.csv/p.csv"], "mine.csv is a file, not a folder"),
        (["--conditions-file", "absent.txt", "--out", "p.csv"], "absent.txt does not exist"),
        (["--condition", "control", "--out", "p.csv"], "name no perturbed gene"),
        (["--condition", "A|K562", "--out", "p.csv"], "K562"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(spm, one_line, saved, tmp_path, monkeypatch, args, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.csv").write_text("keep me")
    assert text in one_line(spm("predict", saved[0], *args))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.csv"]
    assert (tmp_path / "mine.csv").read_text() == "keep me"


def test_what_is_no_model_or_a_damaged_one_is_named(spm, one_line, saved, tmp_path):
    import shutil

    args = ["--condition", "A", "--out", tmp_path / "p.csv"]
    assert "holds no saved model; spm fit writes one" in one_line(spm("predict", tmp_path, *args))
    damaged = tmp_path / "damaged"
    shutil.copytree(saved[0], damaged)
    weights = damaged / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-7])
    assert "weights.safetensors" in one_line(spm("predict", damaged, *args))
