"""Distance correlation against the definition and against the package dcor."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules.metrics import _distance_correlation
from scperturb_modules.metrics._distance_correlation import distance_correlation


def samples(n_rows: int, m: int, columns: int, seed: int) -> np.ndarray:
    """Numbers with ties and zeros, as log changes have them; (n_rows, m) for one column."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_rows, m, columns)) * (rng.random((n_rows, m, columns)) < 0.7)
    values[0] = values[0].round(1)
    return values[:, :, 0] if columns == 1 else values


def by_definition(u: np.ndarray, v: np.ndarray) -> float:
    """Correlation of the centred distance matrices, with a few more digits."""
    centred = []
    for values in (u, v):
        values = values.reshape(len(values), -1).astype(np.longdouble)
        apart = np.sqrt(((values[:, None] - values[None]) ** 2).sum(axis=2))
        centred.append(apart - apart.mean(axis=0) - apart.mean(axis=1)[:, None] + apart.mean())
    (uu, uv), (_, vv) = ([(one * other).mean() for other in centred] for one in centred)
    return float(np.sqrt(uv / np.sqrt(uu * vv)))


COLUMNS = [(1, 1), (2, 1), (1, 2), (2, 3)]


def dependent(m: int, p: int, q: int) -> tuple[np.ndarray, np.ndarray]:
    """Three samples of m observations, the second of which contains the first."""
    u, v = samples(3, m, p, seed=m), samples(3, m, q, seed=m + 1)
    return u, v + u.reshape(3, m, p).sum(axis=2).reshape(3, m, *[1] * (v.ndim - 2))


@pytest.mark.parametrize("m", [3, 4, 5, 8, 9, 64, 65, 300])
@pytest.mark.parametrize(("p", "q"), COLUMNS)
def test_by_the_definition(m: int, p: int, q: int) -> None:
    u, v = dependent(m, p, q)
    wanted = [by_definition(one, other) for one, other in zip(u, v, strict=True)]
    np.testing.assert_allclose(distance_correlation(u, v), wanted, atol=1e-12, rtol=0)


@pytest.mark.full  # the package takes seconds to import
@pytest.mark.parametrize(("p", "q"), COLUMNS)
def test_as_the_package_dcor(p: int, q: int) -> None:
    import dcor

    u, v = dependent(200, p, q)
    wanted = [dcor.distance_correlation(one, other) for one, other in zip(u, v, strict=True)]
    np.testing.assert_allclose(distance_correlation(u, v), wanted, atol=1e-12, rtol=0)


@pytest.mark.parametrize("p", [1, 2])
def test_where_values_lie_far_from_zero(p: int) -> None:
    u, v = samples(2, 120, p, seed=0) * 1e-3, samples(2, 120, 1, seed=1) + 1e3
    wanted = [by_definition(one, other) for one, other in zip(u, v, strict=True)]
    np.testing.assert_allclose(distance_correlation(u, v), wanted, atol=1e-12, rtol=0)


def test_one_column_is_as_no_column() -> None:
    u, v = samples(3, 70, 1, seed=0), samples(3, 70, 1, seed=1)
    wanted = distance_correlation(u, v)
    np.testing.assert_array_equal(distance_correlation(u[:, :, None], v[:, :, None]), wanted)
    beside_zero = np.stack([u, np.zeros_like(u)], axis=2)  # takes the way of several columns
    np.testing.assert_allclose(distance_correlation(beside_zero, v), wanted, atol=1e-13)


def test_blocks_and_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    u, v, w = samples(5, 50, 1, seed=0), samples(5, 50, 1, seed=1), samples(5, 50, 2, seed=2)
    wanted, wanted_of_two = distance_correlation(u, v), distance_correlation(w, v)
    for numbers in (1, 120, 350):
        monkeypatch.setattr(_distance_correlation, "_AT_ONCE", numbers)
        np.testing.assert_array_equal(distance_correlation(u, v), wanted)
        np.testing.assert_allclose(distance_correlation(w, v), wanted_of_two, atol=1e-13)


def test_symmetric_and_blind_to_shift_and_scale() -> None:
    u, v = samples(4, 90, 2, seed=0), samples(4, 90, 1, seed=1)
    wanted = distance_correlation(u, v)
    np.testing.assert_allclose(distance_correlation(v, u), wanted, atol=1e-13)
    np.testing.assert_allclose(distance_correlation(3e5 * u - 1, 2 - 1e-5 * v), wanted, atol=1e-9)


def test_straight_lines_are_one_and_constants_zero() -> None:
    x = samples(2, 43, 1, seed=0)
    np.testing.assert_allclose(distance_correlation(x, -0.3 * x + 2), 1, atol=1e-12)
    assert (distance_correlation(x, 5 * x) <= 1).all()
    for constant in (0.0, 0.1, 0.7, 1 / 3, 1e9 + 0.1):  # the mean of many 0.1 is not 0.1
        same = np.full_like(x, constant)
        np.testing.assert_array_equal(distance_correlation(x, same), [0, 0])
        np.testing.assert_array_equal(distance_correlation(np.stack([same, same], axis=2), x), [0, 0])
        np.testing.assert_array_equal(distance_correlation(same, same), [0, 0])


def test_rows_without_numbers_are_nan() -> None:
    u, v = samples(4, 20, 2, seed=0), samples(4, 20, 1, seed=1)
    expected = distance_correlation(u, v)
    u[1, 3, 1] = np.nan
    v[2, 0] = np.inf
    expected[1:3] = np.nan
    np.testing.assert_array_equal(distance_correlation(u, v), expected)


def test_nothing_or_little_to_compare() -> None:
    assert distance_correlation(np.zeros((0, 5)), np.zeros((0, 5))).shape == (0,)
    assert np.isnan(distance_correlation(np.zeros((2, 0)), np.zeros((2, 0)))).all()
    np.testing.assert_array_equal(distance_correlation([[1.0]], [[2.0]]), [0])
    np.testing.assert_allclose(distance_correlation([[1.0, 2.0]], [[5.0, -4.0]]), [1])


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2, 5\) and \(2, 4\)"):
        distance_correlation(np.zeros((2, 5)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match=r"shapes \(2, 5\) and \(3, 5, 2\)"):
        distance_correlation(np.zeros((2, 5)), np.zeros((3, 5, 2)))
    with pytest.raises(ValueError, match=r"shape \(5,\)"):
        distance_correlation(np.zeros(5), np.zeros(5))
