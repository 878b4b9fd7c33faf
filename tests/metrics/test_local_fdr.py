"""The empirical null finds the bulk, and the local false discovery rate is what it says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from scperturb_modules.metrics._local_fdr import Null, fit_null, local_fdr


@pytest.mark.parametrize(("mean", "sd"), [(0.0, 1.0), (3.0, 0.01), (-100.0, 20.0)])
def test_null_of_normal_statistics(mean, sd):
    z = np.random.default_rng(0).normal(mean, sd, (50, 1000))
    null = fit_null(z)
    assert (null.mean - mean) / sd == pytest.approx(0, abs=0.03) and null.sd / sd == pytest.approx(1, abs=0.03)
    assert null.share > 0.98


def test_effects_do_not_widen_the_null():
    rng = np.random.default_rng(1)
    z = np.concatenate([rng.normal(size=45_000), rng.normal(6, 1, 5000)])
    null = fit_null(z)
    assert null.sd == pytest.approx(1, abs=0.05) and null.share == pytest.approx(0.9, abs=0.02)
    assert np.std(z) > 2


def test_called_statistics_are_false_as_often_as_said():
    rng = np.random.default_rng(2)
    is_null = np.arange(100_000) < 92_000
    z = np.where(is_null, rng.normal(size=100_000), rng.normal(0, 4, 100_000))
    rate = local_fdr(z, fit_null(z))
    called = rate < 0.3
    assert is_null[called].mean() == pytest.approx(rate[called].mean(), abs=0.03)
    exact = 0.92 * stats.norm.pdf(z) / (0.92 * stats.norm.pdf(z) + 0.08 * stats.norm.pdf(z, scale=4))
    assert np.abs(rate - exact)[np.abs(z) < 4.5].mean() < 0.05


def test_rate_never_rises_away_from_the_null():
    rng = np.random.default_rng(3)
    z = np.concatenate([rng.normal(1, 2, 2000), [30.0, -50.0]])
    null = fit_null(z)
    rate = local_fdr(z, null)
    for side in (z > null.mean, z < null.mean):
        order = np.argsort(np.abs(z[side] - null.mean))
        assert (np.diff(rate[side][order]) <= 1e-12).all()
    assert (rate[-2:] < 1e-6).all() and rate.max() <= 1


def test_statistics_without_spread():
    z = np.zeros(100)
    z[:5] = 2.0, -1.0, np.nan, 1e-12, np.inf
    null = fit_null(z)
    assert null.sd == 0 and null.mean == pytest.approx(0, abs=1e-12)
    np.testing.assert_array_equal(local_fdr(z, null)[:6], [0, 0, np.nan, 1, np.nan, 1])
    nothing = fit_null([np.nan])
    assert np.isnan(nothing).all() and np.isnan(local_fdr([np.nan], nothing)).all()
    assert isinstance(null, Null)
