"""Data to work with: screens with planted effects and known truth."""

from __future__ import annotations

from ._simulate import simulate
from ._simulate_mediators import simulate_mediators
from ._simulate_settings import PRESETS, SimulationSettings
from ._simulate_truth import simulated_prior, simulated_truth

__all__ = ["PRESETS", "SimulationSettings", "simulate", "simulate_mediators", "simulated_prior", "simulated_truth"]
