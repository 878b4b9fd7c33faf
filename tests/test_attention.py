import time

import anndata
import numpy as np
import pandas as pd
import pytest

from scperturb_modules import _keys as keys
from scperturb_modules._attention import stored_attention
from scperturb_modules._errors import DataError, MissingKeyError


@pytest.fixture
def prediction():
    """Three conditions, 6,000 nodes; each weight says where it stands."""
    rows, n_nodes = ["A", "B", "A+B"], 6000
    made = anndata.AnnData(np.zeros((3, 2)), obs=pd.DataFrame(index=rows))
    made.obsm[keys.ATTENTION] = np.arange(3 * n_nodes, dtype=np.float32).reshape(3, n_nodes)
    made.obsm[keys.ATTENTION_SD] = -made.obsm[keys.ATTENTION]
    nodes = np.array([f"G{i}/NA" for i in range(n_nodes)])
    made.uns[keys.ROOT] = {keys.ATTENTION_NODES: nodes, keys.ATTENTION_TV: 0.3}
    return made


def test_rows_and_nodes_keep_their_names_in_a_subset(prediction):
    table = stored_attention(prediction, "it")
    assert list(table.index) == ["A", "B", "A+B"] and table.loc["B", "G7/NA"] == 6007
    assert table.dtypes.unique().tolist() == [np.float64]
    few = stored_attention(prediction[["A+B", "A"]], "it")
    assert list(few.index) == ["A+B", "A"]
    assert few.loc["A+B", "G7/NA"] == 12007
    assert stored_attention(prediction, "it", key=keys.ATTENTION_SD).loc["B", "G7/NA"] == -6007


def test_a_row_of_nan_is_no_attention_but_one_nan_is_an_error_of_the_data(prediction):
    prediction.obsm[keys.ATTENTION][1] = np.nan
    prediction.obsm[keys.ATTENTION][2, 5] = np.nan
    table = stored_attention(prediction, "it")
    assert (table.loc["B"] == 0).all() and table.isna().sum().sum() == 1
    assert np.isnan(prediction.obsm[keys.ATTENTION][1]).all()  # the prediction stays as it is


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("form", ["h5ad", "zarr"])
def test_thousands_of_nodes_go_through_a_file_in_no_time(prediction, tmp_path, form):
    import zarr  # noqa: F401 - its import is not what is timed

    begin = time.process_time()
    getattr(prediction, f"write_{form}")(tmp_path / "prediction")
    again = getattr(anndata, f"read_{form}")(tmp_path / "prediction")
    assert time.process_time() - begin < 1
    for key in (keys.ATTENTION, keys.ATTENTION_SD):
        pd.testing.assert_frame_equal(
            stored_attention(again, "it", key=key), stored_attention(prediction, "it", key=key)
        )
    assert again.obsm[keys.ATTENTION].dtype == np.float32
    assert float(again.uns[keys.ROOT][keys.ATTENTION_TV]) == 0.3


def test_what_is_absent_or_does_not_fit_is_said(prediction):
    with pytest.raises(MissingKeyError, match="obsm of null\\[1\\]\\['attention'\\] does not exist.*APP"):
        stored_attention(anndata.AnnData(np.zeros((1, 1))), "null[1]")
    with pytest.raises(DataError, match="shape \\(3, 6000\\), but 5999 nodes are named"):
        short = prediction.uns[keys.ROOT][keys.ATTENTION_NODES][:-1]
        prediction.uns[keys.ROOT][keys.ATTENTION_NODES] = short
        stored_attention(prediction, "it")
    del prediction.uns[keys.ROOT][keys.ATTENTION_NODES]
    with pytest.raises(MissingKeyError, match="'attention_nodes'.*has 'attention_tv'"):
        stored_attention(prediction, "it")
