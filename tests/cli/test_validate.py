import hashlib

import numpy as np
import pytest


def test_a_good_screen_passes_and_the_file_stays_as_it_is(spm, screen_file):
    before = hashlib.sha256(screen_file.read_bytes()).hexdigest()
    result = spm("validate", screen_file, "--perturbation-key", "guide", "--sep", "_", "--batch-key", "batch")
    assert result.exit_code == 0, result.output
    assert "checks passed" in result.stdout
    assert "can be used: 600 cells, 30 genes, 10 perturbed conditions" in result.stdout.replace("\n", " ")
    assert hashlib.sha256(screen_file.read_bytes()).hexdigest() == before


def test_warnings_of_the_data_are_shown(spm, screen, tmp_path):
    path = tmp_path / "few.h5ad"
    keep = np.ones(screen.n_obs, dtype=bool)
    keep[np.flatnonzero(screen.obs["perturbation"] == "G01")[10:]] = False  # ten cells are left
    screen[keep].copy().write_h5ad(path)
    result = spm("validate", path, "--perturbation-key", "perturbation")
    assert result.exit_code == 0, result.output
    assert "WARNING  few_cells" in result.stdout and "G01" in result.stdout


def test_raw_counts_are_normalised_and_it_is_said(spm, screen, tmp_path):
    path = tmp_path / "counts.h5ad"
    screen.X = screen.layers.pop("counts")
    screen.write_h5ad(path)
    result = spm("validate", path, "--perturbation-key", "perturbation")
    assert result.exit_code == 0, result.output
    assert "X holds raw counts: normalised to log1p of counts per 10,000." in result.stdout


def test_a_layer_of_counts_is_normalised_too(spm, screen, tmp_path):
    path = tmp_path / "layer.h5ad"
    screen.layers["raw"] = screen.layers.pop("counts")
    screen.X = -screen.X  # what is in X does not matter
    screen.write_h5ad(path)
    result = spm("validate", path, "--perturbation-key", "perturbation", "--layer", "raw")
    assert result.exit_code == 0, result.output
    assert "Layer 'raw' holds raw counts" in result.stdout


def test_wrong_names_are_one_line(spm, one_line, screen_file, tmp_path):
    def validate(*args):
        return one_line(spm("validate", screen_file, *args))

    assert "guide" in validate("--perturbation-key", "guides")  # says what is there
    assert "'CTRL' is not in" in validate("--perturbation-key", "guide", "--sep", "_", "--control", "CTRL")
    assert "sep='_'" in validate("--perturbation-key", "guide")
    assert "lane" in validate("--perturbation-key", "guide", "--sep", "_", "--batch-key", "lane")
    assert "lognorm" in validate("--perturbation-key", "guide", "--sep", "_", "--layer", "lognorm")
    assert "guides.csv does not exist" in validate(
        "--perturbation-key", "guide", "--guide-table", tmp_path / "guides.csv"
    )


def test_a_guide_without_target_is_one_line(spm, one_line, screen_file, tmp_path):
    guides = tmp_path / "guides.csv"
    guides.write_text("guide,target\nG01,KLF1\n")
    line = one_line(spm("validate", screen_file, "--perturbation-key", "guide", "--sep", "_", "--guide-table", guides))
    assert "have no target" in line


def test_bad_values_are_told_with_all_problems(spm, screen, tmp_path):
    screen.X = screen.X.toarray()
    screen.X[0, 0] = np.nan
    screen.X[1, 1] = -1.0
    path = tmp_path / "bad.h5ad"
    screen.write_h5ad(path)
    result = spm("validate", path, "--perturbation-key", "perturbation")
    assert result.exit_code == 2
    assert "2 problems" in result.stderr and "non-finite" in result.stderr and "negative" in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("drop", ["obs", "X"])
def test_an_empty_screen_is_refused(spm, drop, tmp_path):
    import anndata
    import pandas as pd

    n = 0 if drop == "obs" else 3
    obs = pd.DataFrame({"guide": ["NT"] * n}, index=[str(i) for i in range(n)])
    path = tmp_path / "empty.h5ad"
    anndata.AnnData(np.zeros((n, 0 if drop == "X" else 4), dtype=np.float32), obs=obs).write_h5ad(path)
    result = spm("validate", path, "--perturbation-key", "guide")
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
