import numpy as np
from scipy.stats import hypergeom

from scperturb_modules.metrics._hypergeometric import log_upper_tail


def test_every_tail_equals_scipy():
    drawn, marked = np.array([1, 7, 40]), np.array([3, 12, 25, 60])
    tail = log_upper_tail(60, drawn, marked)
    assert tail.shape == (3, 4, 41)
    x = np.arange(41)
    expected = np.array([[hypergeom.sf(x - 1, 60, m, k) for m in marked] for k in drawn])
    np.testing.assert_allclose(np.exp(tail), expected, rtol=1e-9, atol=1e-14)
    np.testing.assert_allclose(tail[:, :, 0], 0.0, atol=1e-12)
    assert np.isneginf(tail[0, 0, 2]) and tail.max() <= 0.0


def test_small_tails_of_many_genes_keep_their_digits():
    tail = log_upper_tail(20_000, np.array([300]), np.array([120]))[0, 0]
    np.testing.assert_allclose(tail[40], hypergeom.logsf(39, 20_000, 120, 300), rtol=1e-8)
    assert tail[40] < -70
