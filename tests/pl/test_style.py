from scperturb_modules._conditions import REGIMES
from scperturb_modules.metrics import CORE
from scperturb_modules.pl import _style


def test_every_core_metric_and_regime_has_words():
    assert set(_style.METRIC_LABELS) >= set(CORE)
    assert set(_style.REGIME_LABELS) == set(REGIMES)
    short = [_style.metric_name(metric) for metric in CORE]
    assert len(set(short)) == len(short)
