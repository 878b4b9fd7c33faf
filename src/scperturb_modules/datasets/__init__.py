"""Data to work with: published screens, and simulated ones with planted effects and known truth."""

from __future__ import annotations

from ._screens import adamson_2016, nadig_2025, norman_2019, papalexi_2021, replogle_2022_k562, replogle_2022_rpe1
from ._simulate import simulate
from ._simulate_mediators import simulate_mediators
from ._simulate_settings import PRESETS, SimulationSettings
from ._simulate_truth import simulated_prior, simulated_truth

__all__ = [
    "PRESETS",
    "SimulationSettings",
    "adamson_2016",
    "nadig_2025",
    "norman_2019",
    "papalexi_2021",
    "replogle_2022_k562",
    "replogle_2022_rpe1",
    "simulate",
    "simulate_mediators",
    "simulated_prior",
    "simulated_truth",
]
