from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.tl._frame import COLUMNS, as_results, join_results, write_table

# the schema that users' scripts rely on; a change here is a change of the format
SCHEMA = [
    *("dataset", "organism", "modality", "protocol", "split_kind", "split_version", "split_seed", "fold", "regime"),
    *("stratum", "condition", "genes", "n_genes_perturbed", "model", "model_version", "preset", "model_seed"),
    *("is_baseline", "uses_perturbation_prior", "metric", "gene_set", "n_genes", "reference", "provider", "value"),
    *("better", "perfect", "status", "n_cells_test", "n_cells_control", "effect_norm", "snr", "replicate_value"),
    *("floor", "leak_status", "package_version"),
]


@pytest.fixture
def awkward():
    """Names that CSV readers take for missing, names with separators, numbers at the edges of float64."""
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(size=5), [0.1 + 0.2, 5e-324, 1.7976931348623157e308, np.nan, -0.0]])
    names = ["NA", "nan", "", "None", "A,B", 'quo"te', "A+B", "é", "1.0", "True"]
    table = pd.DataFrame({"condition": names, "value": values, "is_baseline": [True, False] * 5, "fold": range(10)})
    return as_results(table, metric="l2_top1000", model="m", floor=1 / 3)


def test_schema_and_types(awkward):
    assert list(awkward.columns) == SCHEMA == list(COLUMNS)
    for name, kind in COLUMNS.items():
        assert str(awkward[name].dtype) == kind, name
    assert set(awkward["organism"]) == {""} and set(awkward["n_genes"]) == {-1} and awkward["snr"].isna().all()


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_round_trip_is_lossless(awkward, tmp_path, suffix):
    path = tmp_path / f"results.{suffix}"
    write_table(awkward, path)
    back = spm.tl.read_results(path)
    pd.testing.assert_frame_equal(back, awkward, check_exact=True, check_categorical=True)
    assert np.array_equal(np.signbit(back["value"]), np.signbit(awkward["value"]))


def test_rows_do_not_depend_on_their_order(awkward):
    shuffled = awkward.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(as_results(shuffled), awkward)
    halves = [awkward.iloc[5:], awkward.iloc[:5]]
    pd.testing.assert_frame_equal(join_results(halves), awkward)


def test_unknown_column_is_refused():
    with pytest.raises(MissingKeyError, match="'surprise'"):
        as_results(pd.DataFrame({"surprise": [1]}))


def test_another_table_is_refused(tmp_path):
    pd.DataFrame({"a": [1]}).to_csv(tmp_path / "a.csv")
    with pytest.raises(DataError, match="is no result table"):
        spm.tl.read_results(tmp_path / "a.csv")
