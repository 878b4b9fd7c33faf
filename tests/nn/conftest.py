"""The slow layer that the fast one is compared with; the same random numbers in every test."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def slow(load_file):
    return load_file(Path(__file__).with_name("slow.py"))


@pytest.fixture(autouse=True)
def always_seeded(seeded):
    """Weights are drawn in nearly every test."""
