"""Theil-Sen slopes against scikit-learn, against what defines the median, and against slopes that are known."""

from __future__ import annotations

import numpy as np
import pytest

from scperturb_modules.metrics import _theil_sen
from scperturb_modules.metrics._theil_sen import theil_sen

SLOPES = [(0.4, 0.4), (1.0, 1.0), (1.3, 0.9), (1.2, 0.1)]


def changes(n_rows: int, n_genes: int, seed: int, noise: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two related singles and a double with some noise."""
    rng = np.random.default_rng(seed)
    first, own, error = rng.normal(size=(3, n_rows, n_genes))
    second = 0.3 * first + own
    return first, second, 0.8 * first + 0.6 * second + noise * error


@pytest.mark.parametrize("n_genes", [2, 3, 7, 20, 60])
def test_as_scikit_learn_on_all_pairs(n_genes: int) -> None:
    from sklearn.linear_model import TheilSenRegressor

    first, second, double = changes(3, n_genes, seed=n_genes)
    model = TheilSenRegressor(
        fit_intercept=False, tol=1e-12, max_iter=20_000, n_subsamples=2, max_subpopulation=10_000, random_state=0
    )
    wanted = [model.fit(np.column_stack([a, b]), y).coef_ for a, b, y in zip(first, second, double, strict=True)]
    np.testing.assert_allclose(theil_sen(first, second, double), wanted, atol=1e-8, rtol=0)


@pytest.mark.parametrize("n_genes", [2, 30, 1_500])
@pytest.mark.parametrize("slopes", SLOPES)
def test_exact_without_noise(slopes: tuple[float, float], n_genes: int) -> None:
    first, second, _ = changes(2, n_genes, seed=1)
    found = theil_sen(first, second, slopes[0] * first + slopes[1] * second)
    np.testing.assert_allclose(found, [slopes, slopes], atol=1e-9, rtol=0)


@pytest.mark.parametrize("slopes", SLOPES)
def test_a_quarter_of_strange_genes_changes_nothing(slopes: tuple[float, float]) -> None:
    first, second, strange = changes(1, 40, seed=2)
    double = slopes[0] * first + slopes[1] * second
    double[:, :10] = 100 * strange[:, :10]  # (30 / 40)**2 of the pairs lie on one point, and hold the median there
    np.testing.assert_allclose(theil_sen(first, second, double), [slopes], atol=1e-9, rtol=0)


def median_and_points(first: np.ndarray, second: np.ndarray, double: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is found for one row, and the slopes of all pairs of genes by solving them one by one."""
    equations = np.column_stack([first, second])
    points = []
    for i in range(len(first)):
        for j in range(i):
            two, by_size = equations[[i, j]], np.abs(first[i] * second[j]) + np.abs(first[j] * second[i])
            if abs(first[i] * second[j] - first[j] * second[i]) > 1e-14 * by_size:
                points.append(np.linalg.solve(two, double[[i, j]]))
    return theil_sen(first[None], second[None], double[None])[0], np.array(points).reshape(-1, 2)


def hard_rows(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Few genes, ties, zeros, far outliers, many points on one place or on one line."""
    rng = np.random.default_rng(seed)
    n_genes = int(rng.choice([2, 3, 4, 5, 6, 8, 12]))
    first, second, error = rng.normal(size=(3, n_genes))
    kind = seed % 4
    if kind == 0:
        return first, second, error
    if kind == 1:
        return first, second, first + 0.5 * second + 0.1 * rng.standard_cauchy(n_genes)
    if kind == 2:
        return np.round(2 * first), np.round(2 * second), np.round(2 * error)
    first = first * (rng.random(n_genes) < 0.4)
    return first, second, 1.2 * first + 0.1 * second + error * (rng.random(n_genes) < 0.3)


def test_no_place_is_nearer_to_all_points() -> None:
    for seed in range(300):
        median, points = median_and_points(*hard_rows(seed))
        if not len(points):
            assert np.isnan(median).all()
            continue
        apart = points - median
        distance = np.hypot(*apart.T)
        here = distance <= 1e-9 * np.abs(points).max()
        # the unit vectors to all other points balance, or those that lie here hold against them
        pull = (apart[~here] / distance[~here, None]).sum(axis=0)
        assert np.hypot(*pull) <= here.sum() + 1e-6, seed


def test_the_median_is_found_from_a_point_and_on_a_point() -> None:
    square = np.array([[0.0, 4.0, 0.0, 4.0, 1.0], [0.0, 0.0, 4.0, 4.0, 1.0]])  # the fifth is inside: held by four
    for start in (*square.T, np.array([2.0, 2.0]), np.array([1e6, -1e3])):
        np.testing.assert_allclose(_theil_sen._spatial_median(square, start), [1.0, 1.0], atol=1e-12)
    triangle = np.array([[-1.0, 1.0, 0.0], [0.0, 0.0, np.sqrt(3)]])  # the median sees all corners 120 degrees apart
    for start in triangle.T:
        np.testing.assert_allclose(_theil_sen._spatial_median(triangle, start), [0.0, 1 / np.sqrt(3)], atol=1e-10)


def test_points_on_one_line() -> None:
    along = np.array([0.0, 1.0, 3.0, 7.0, 100.0])
    line = np.array([1 + 2 * along, -3 * along])
    for start in (np.zeros(2), line[:, 4], np.array([1e3, 5.0])):
        np.testing.assert_allclose(_theil_sen._spatial_median(line, start), [7.0, -9.0], atol=1e-9)


@pytest.mark.parametrize("factor", [1e-13, -3.0, 1e13])
def test_slopes_scale_with_the_double(factor: float) -> None:
    first, second, double = changes(3, 50, seed=3)
    found = theil_sen(first, second, factor * double)
    np.testing.assert_allclose(found, factor * theil_sen(first, second, double), rtol=1e-9)


@pytest.mark.parametrize("n_genes", [25, 200])
def test_swapping_the_singles_swaps_the_slopes_and_nothing_else(n_genes: int) -> None:
    first, second, double = changes(40, n_genes, seed=4)
    np.testing.assert_array_equal(theil_sen(second, first, double), theil_sen(first, second, double)[:, ::-1])


def test_rows_do_not_depend_on_each_other() -> None:
    first, second, double = changes(5, 40, seed=5)
    together = theil_sen(first, second, double)
    for row in range(5):
        alone = theil_sen(first[[row]], second[[row]], double[[row]])
        np.testing.assert_array_equal(alone, together[[row]])


def test_rows_that_have_no_slopes_are_nan() -> None:
    first, second, double = changes(6, 30, seed=6)
    expected = theil_sen(first, second, double)
    first[0] = 0
    second[1] = 0
    second[2] = -0.7 * first[2]
    double[3, 7] = np.nan
    first[4, 0] = np.inf
    expected[:5] = np.nan
    np.testing.assert_array_equal(theil_sen(first, second, double), expected)


def test_a_double_without_change_has_slopes_zero() -> None:
    first, second, double = changes(2, 30, seed=7)
    np.testing.assert_array_equal(theil_sen(first, second, 0 * double), np.zeros((2, 2)))


def test_genes_without_change_do_not_count() -> None:
    changed = changes(2, 30, seed=8)
    padded = [np.concatenate([values, np.zeros((2, 9))], axis=1) for values in changed]
    np.testing.assert_allclose(theil_sen(*padded), theil_sen(*changed), atol=1e-10)


@pytest.mark.parametrize(("n_rows", "n_genes"), [(0, 0), (0, 5), (2, 0), (2, 1)])
def test_nothing_to_solve(n_rows: int, n_genes: int) -> None:
    found = theil_sen(*changes(n_rows, n_genes, seed=0))
    assert found.shape == (n_rows, 2)
    assert found.dtype == np.float64
    assert np.isnan(found).all()


@pytest.mark.parametrize("n_genes", [2, 3, 6, 7, 200])
def test_every_pair_of_genes_once(n_genes: int) -> None:
    i, j = _theil_sen._gene_pairs(n_genes, None, seed=0)
    pairs = {(min(pair), max(pair)) for pair in zip(i.tolist(), j.tolist(), strict=True)}
    assert len(pairs) == len(i) == n_genes * (n_genes - 1) // 2
    assert all(0 <= low < high < n_genes for low, high in pairs)


def test_fewer_pairs_are_drawn_where_so_many_are_asked_for() -> None:
    assert len(_theil_sen._gene_pairs(200, 10, seed=0)[0]) == 10
    assert len(_theil_sen._gene_pairs(1_001, None, seed=0)[0]) == _theil_sen.MAX_PAIRS


def test_drawn_pairs_are_different_and_depend_on_the_seed() -> None:
    i, j = _theil_sen._gene_pairs(1_001, 20_000, seed=0)
    pairs = {(min(pair), max(pair)) for pair in zip(i.tolist(), j.tolist(), strict=True)}
    assert len(pairs) == len(i) == 20_000
    assert all(0 <= low < high < 1_001 for low, high in pairs)
    counts = np.bincount(np.concatenate([i, j]), minlength=1_001)
    assert abs(counts - counts.mean()).max() < 6 * np.sqrt(counts.mean())
    first, second, double = changes(2, 1_001, seed=9)
    found = theil_sen(first, second, double, max_pairs=20_000, seed=0)
    np.testing.assert_array_equal(theil_sen(first, second, double, max_pairs=20_000, seed=0), found)
    other = theil_sen(first, second, double, max_pairs=20_000, seed=1)
    assert (other != found).all()
    np.testing.assert_allclose(other, found, atol=0.02)
    np.testing.assert_allclose(theil_sen(first, second, double, max_pairs=10**6), found, atol=0.02)


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shapes \(2, 5\), \(2, 5\) and \(2, 4\)"):
        theil_sen(np.zeros((2, 5)), np.zeros((2, 5)), np.zeros((2, 4)))
    with pytest.raises(ValueError, match="shapes"):
        theil_sen(np.zeros(5), np.zeros(5), np.zeros(5))
    with pytest.raises(ValueError, match="max_pairs is 0"):
        theil_sen(np.zeros((1, 5)), np.zeros((1, 5)), np.zeros((1, 5)), max_pairs=0)
