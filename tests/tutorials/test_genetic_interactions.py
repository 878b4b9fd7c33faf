"""The tutorial runs from start to end; what it draws is looked at by people."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TUTORIAL = Path(__file__).resolve().parents[2] / "tutorials" / "genetic_interactions.py"


@pytest.mark.full
def test_the_short_form_runs(tmp_path, shared_data, shared_priors):
    norman = shared_data / "norman_mcfaline_devel" / "devel_with_counts.h5ad"
    command = [sys.executable, str(TUTORIAL), "--quick", "--out", str(tmp_path), "--norman", str(norman)]
    subprocess.run([*command, "--priors", str(shared_priors)], check=True, timeout=1200)
    assert len(list(tmp_path.glob("*.png"))) >= 20
