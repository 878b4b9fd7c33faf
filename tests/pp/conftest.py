"""Fixtures of the preprocessing tests."""

from __future__ import annotations

import hashlib

import numpy as np
import pandas as pd
import pytest
from scipy import sparse


def _texts(value, prefix="uns"):
    if isinstance(value, dict):
        return [text for key in sorted(value) for text in _texts(value[key], f"{prefix}/{key}")]
    content = value.to_csv() if isinstance(value, pd.DataFrame) else repr(value)
    return [f"{prefix}={content}"]


@pytest.fixture
def fingerprint():
    """A function: hash of all content of an AnnData, except the given sub-keys of uns["scperturb_modules"]."""

    def digest(adata, *, without=()):
        hashed = hashlib.sha256()
        for matrix in (adata.X, *(adata.layers[name] for name in sorted(filter(None, adata.layers)))):
            arrays = (matrix.data, matrix.indices, matrix.indptr) if sparse.issparse(matrix) else (np.asarray(matrix),)
            for array in arrays:
                hashed.update(f"{array.dtype}{array.shape}".encode() + np.ascontiguousarray(array).tobytes())
        for frame in (adata.obs, adata.var):
            hashed.update((frame.to_csv() + str(frame.dtypes)).encode())
        uns = {key: dict(value) if isinstance(value, dict) else value for key, value in adata.uns.items()}
        root = uns.pop("scperturb_modules", {})
        root = {key: value for key, value in root.items() if key not in without}
        hashed.update("\n".join(_texts({**uns, **({"root": root} if root else {})})).encode())
        return hashed.hexdigest()

    return digest
