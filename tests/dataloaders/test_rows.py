from __future__ import annotations

import pickle

import anndata
import numpy as np
import pytest
from scipy import sparse

from scperturb_modules._errors import DataError
from scperturb_modules.dataloaders._rows import RowReader

INDEX = np.array([[7, 2, 2], [0, 9, 7]])
FORMS = {
    "dense": lambda matrix: matrix.toarray(),
    "float64": lambda matrix: matrix.astype(np.float64).toarray(),
    "csr_matrix": sparse.csr_matrix,
    "csr_array": sparse.csr_array,
    "csc_matrix": sparse.csc_matrix,
    "csc_array": sparse.csc_array,
}


@pytest.fixture
def matrix(contexts_screen):
    return contexts_screen.X


@pytest.mark.parametrize("form", FORMS)
def test_rows_come_in_the_order_asked_for_whatever_the_format(form, matrix):
    rows = RowReader(FORMS[form](matrix)).read(INDEX)
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, matrix.toarray()[INDEX])


@pytest.mark.parametrize("form", ["dense", "csr_matrix", "csc_matrix"])
def test_backed_files_give_the_same_rows_here_and_in_another_process(form, matrix, contexts_screen, tmp_path):
    contexts_screen.X = FORMS[form](matrix)
    contexts_screen.write_h5ad(tmp_path / "a.h5ad")
    backed = anndata.read_h5ad(tmp_path / "a.h5ad", backed="r")
    reader = RowReader(backed.X)
    expected = matrix.toarray()[INDEX]
    np.testing.assert_array_equal(reader.read(INDEX), expected)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(reader)).read(INDEX), expected)
    backed.file.close()


def test_a_file_is_read_once_per_batch_in_the_order_of_its_rows(matrix):
    class Recorded:
        shape = matrix.shape
        asked = []

        def __getitem__(self, rows):
            self.asked.append(rows)
            return matrix[rows]

    RowReader(Recorded()).read(INDEX)
    (rows,) = Recorded.asked
    np.testing.assert_array_equal(rows, [0, 2, 7, 9])


def test_a_matrix_by_columns_is_converted_once_with_a_line_in_the_log(matrix, caplog):
    caplog.set_level("INFO")
    reader = RowReader(matrix.tocsc())
    reader.read(INDEX)
    reader.read(INDEX)
    assert [record.message for record in caplog.records if "CSC" in record.message] == [
        "The matrix is stored by columns (CSC); a copy by rows (CSR) is made in memory."
    ]


def test_no_matrix_is_an_error():
    with pytest.raises(DataError, match="pass the layer"):
        RowReader(None)
