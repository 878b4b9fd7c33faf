"""The page of metrics names every metric, and what is known about tricks holds (E6)."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pandas as pd
import pytest

from scperturb_modules.metrics import CELL_METRICS, INTERACTION_METRICS, METRICS

ROOT = Path(__file__).resolve().parents[2]
ALL = {**METRICS, **CELL_METRICS, **INTERACTION_METRICS}
CORRELATIONS = ["pearson_delta", "spearman_delta", "cosine_delta", "pds_cos", "auprc_de", "sign_de20", "effect_size"]


@pytest.fixture(scope="module")
def gaming():
    spec = importlib.util.spec_from_file_location("gaming", ROOT / "benchmarks" / "trust" / "gaming.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_has_every_metric_with_its_direction():
    text = (ROOT / "docs" / "metrics.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \|.*?(?<!\\)\| (lower|higher|one) \|", text, flags=re.M)
    assert rows == [(name, metric.better) for name, metric in ALL.items()]


def test_the_table_of_tricks_has_every_metric(gaming):
    table = pd.read_csv(ROOT / "docs" / "benchmarks" / "gaming.csv", index_col=0)
    assert set(table.index) == set(ALL)
    known_facts(gaming, table)


def test_known_facts_are_reproduced(gaming):
    known_facts(gaming, gaming.measure(gaming.screen(seed=1), cells=False))


def known_facts(gaming, table):
    better = gaming.improves(table)
    for trick in gaming.TRICKS:
        assert better.loc["l2_top1000", trick] == -1, trick
    assert (better.loc[CORRELATIONS, ["x10", "x0.1"]] == 0).all().all()
    assert (better.loc[["pds_l1", "pds_l2", "top1"], "x10"] == 1).all()
    assert (
        (better.loc[["gene_r", "effect_size", "pds_cos", "auprc_de"], ["training_mean", "control"]] == -1).all().all()
    )
    said = gaming.warnings_of(table)["x10"]
    assert any("pds_l1" in text and "its slope is" in text for text in said) and len(said) == 2
