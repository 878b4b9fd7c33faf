"""The tutorial runs from start to end; what it draws is looked at by people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).resolve().parents[2] / "tutorials" / "gene_programs.py"


@pytest.mark.full
def test_the_short_form_runs(tmp_path, shared_data, shared_priors):
    kang = shared_data / "kang2018" / "kang_pbmc_ifnb.h5ad"
    command = [sys.executable, str(TUTORIAL), "--quick", "--out", str(tmp_path), "--kang", str(kang)]
    subprocess.run([*command, "--sets", str(shared_priors / "msigdb_hallmark_v7.0.gmt.gz")], check=True, timeout=1200)
    assert len(list(tmp_path.glob("*.png"))) >= 10
