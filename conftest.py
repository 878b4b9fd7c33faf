"""What holds for tests and for the examples in docstrings alike."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def figures_closed() -> Iterator[None]:
    """Close what was drawn: matplotlib warns of more than 20 open figures, and warnings are errors."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
