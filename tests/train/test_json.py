from __future__ import annotations

import json

import numpy as np
import pytest

from scperturb_modules.train import from_json, to_json


def through_text(value):
    return from_json(json.loads(json.dumps(to_json(value), sort_keys=True, allow_nan=False)))


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, True, None, "x"], "b": {"c": (1, (2,), [])}, "": 0.1 + 0.2},
        [float("inf"), float("-inf")],
        {"big": 2**70, "small": 5e-324},
    ],
)
def test_plain_values_come_back_equal(value):
    assert through_text(value) == value


@pytest.mark.parametrize(
    "array",
    [
        np.array(["B", None, 3, (1, 2), [1, 2]], dtype=object),
        np.array([["a", "bb"], ["c", ""]]),
        np.array([[1.5, np.nan], [np.inf, -0.0]], dtype=np.float32),
        np.array([0.1, 1 / 3]),
        np.array([2**64 - 1], dtype=np.uint64),
        np.array([1, 2], dtype=">i4"),
        np.zeros((0, 3), dtype=np.int8),
        np.array(True),
        np.array(["G1", "G2"], dtype=object).reshape(2, 1),
    ],
)
def test_arrays_come_back_with_dtype_shape_and_values(array):
    back = through_text({"x": array})["x"]
    assert back.dtype == array.dtype.newbyteorder("=") and back.shape == array.shape
    np.testing.assert_array_equal(back, array)


def test_an_object_array_of_lists_keeps_its_shape():
    array = np.empty(2, dtype=object)
    array[:] = [[1, 2], [3, 4]]
    back = through_text(array)
    assert back.shape == (2,) and back[0] == [1, 2]


def test_numpy_scalars_become_python_numbers():
    back = through_text([np.float32(0.5), np.int64(3), np.bool_(True), np.str_("a"), np.float64("nan")])
    assert back[:4] == [0.5, 3, True, "a"] and [type(entry) for entry in back[:4]] == [float, int, bool, str]
    assert np.isnan(back[4])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": [0, {"b": {1, 2}}]}, r"record\['a'\]\[1\]\['b'\] is a set"),
        ({"a": {1: 2}}, r"record\['a'\] has the key 1"),
        ({"__array__": []}, "marks arrays"),
        ({"x": np.array([1j])}, r"record\['x'\] is an array of complex128"),
        ({"x": np.array(["2020"], dtype="M8[D]")}, "array of datetime64"),
        ({"x": np.array([object()], dtype=object)}, r"record\['x'\]\[0\] is a object"),
        ({"x": b"raw"}, "is a bytes"),
    ],
)
def test_other_values_are_refused_with_their_path(value, message):
    with pytest.raises(TypeError, match=message):
        to_json(value)


def test_the_registry_of_scvi_comes_back(screen):
    from scvi.data import AnnDataManager
    from scvi.data.fields import CategoricalObsField, LayerField

    manager = AnnDataManager([LayerField("X", "counts"), CategoricalObsField("perturbation", "perturbation")])
    manager.register_fields(screen)
    registry = dict(manager.registry)
    back = through_text(registry)
    mapping = "perturbation", "state_registry", "categorical_mapping"
    found, expected = back["field_registries"], registry["field_registries"]
    for key in mapping:
        found, expected = found[key], expected[key]
    assert found.dtype == expected.dtype == object
    np.testing.assert_array_equal(found, expected)
    assert back.keys() == registry.keys()
