"""Log-rate effects of single and double perturbations.

Rows of an effect table are conditions, columns genes, values changes of the log rate (natural log).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from scperturb_modules._conditions import canonical_condition

from ._simulate_graph import GeneGraph
from ._simulate_pairs import INTERACTION_CLASSES, Pair, draw_pairs
from ._simulate_settings import SimulationSettings

# all per gene and in natural-log units of the rate
UNIT_EFFECT = 0.20  # standard deviation, at effect_scale = 1, of a specific effect
UNIT_SYSTEMATIC = 0.30  # standard deviation, at sys = 1, of the systematic effect

# share of the squared specific effect that runs along the graph; the rest is the shared response of the module
SHARE_ALONG_GRAPH = 0.20
DECAY_PER_STEP = 0.6
N_STEPS = 3
# a module's response on genes of other modules, relative to its own genes: responses are broad, as in real screens
BREADTH = 0.5


@dataclass(frozen=True)
class Effects:
    """What was planted.

    singles (T, G), pairs (D, G): log-rate effects; pair_table: index canonical name, with the columns ``first``,
    ``second``, ``gi_class``, ``c1``, ``c2``.
    """

    singles: np.ndarray
    pairs: np.ndarray
    pair_table: pd.DataFrame


def draw_effects(
    settings: SimulationSettings, graph: GeneGraph, rng: np.random.Generator, pair_rng: np.random.Generator
) -> Effects:
    """Single effects from graph and modules, then doubles from the singles by their interaction class."""
    module_response = _module_responses(settings, graph, rng)
    specific = _specific_effects(settings, graph, module_response, rng)
    strength = rng.lognormal(0.0, settings.effect_spread, len(graph.targets))[:, None]
    specific = specific * strength * settings.effect_scale * UNIT_EFFECT * np.sqrt(settings.n_genes)
    own = np.zeros_like(specific)
    own[np.arange(len(own)), graph.targets] = settings.own_effect * strength[:, 0]
    systematic = rng.normal(0.0, UNIT_SYSTEMATIC, settings.n_genes) * settings.sys

    pairs = draw_pairs(settings, graph.module_of_gene[graph.targets], specific, pair_rng)
    n_systematic = 1 if settings.sys_doubles == "once" else 2
    doubles = np.zeros((len(pairs), settings.n_genes))
    for row, pair in enumerate(pairs):
        doubles[row] = _combine(specific, module_response, pair) + own[pair.first] + own[pair.second]
        doubles[row] += n_systematic * systematic
    return Effects(specific + own + systematic, doubles, _pair_table(graph, pairs))


def _module_responses(settings: SimulationSettings, graph: GeneGraph, rng: np.random.Generator) -> np.ndarray:
    """(M, G) rows of unit norm; strongest on the module's own genes."""
    is_own = graph.module_of_gene == np.arange(settings.n_modules)[:, None]
    return _unit_rows(rng.normal(size=is_own.shape) * np.where(is_own, 1.0, BREADTH))


def _specific_effects(
    settings: SimulationSettings, graph: GeneGraph, module_response: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """(T, G) rows of about unit norm: a predictable and an idiosyncratic part, mixed by ``prior_strength``."""
    along_graph = _unit_rows(_along_graph(graph) * rng.choice([-1.0, 1.0], settings.n_genes))
    shared = module_response[graph.module_of_gene[graph.targets]]
    predictable = np.sqrt(SHARE_ALONG_GRAPH) * along_graph + np.sqrt(1 - SHARE_ALONG_GRAPH) * shared
    idiosyncratic = _unit_rows(rng.normal(size=predictable.shape))
    strength = settings.prior_strength
    return np.sqrt(strength) * predictable + np.sqrt(1 - strength) * idiosyncratic


def _along_graph(graph: GeneGraph) -> np.ndarray:
    """(T, G) signal that leaves a target through its mediators and fades by 0.6 per step."""
    transition = graph.transition()
    signal = np.zeros((len(graph.targets), len(graph.names)))
    np.put_along_axis(signal, graph.mediators, DECAY_PER_STEP, axis=1)
    total = signal.copy()
    for _ in range(N_STEPS - 1):
        signal = DECAY_PER_STEP * (transition.T @ signal.T).T
        total += signal
    return total


def _unit_rows(table: np.ndarray) -> np.ndarray:
    return table / np.linalg.norm(table, axis=1, keepdims=True)


def _combine(specific: np.ndarray, module_response: np.ndarray, pair: Pair) -> np.ndarray:
    """(G,) specific effect of a double."""
    sum_of_singles = pair.c1 * specific[pair.first] + pair.c2 * specific[pair.second]
    novelty = INTERACTION_CLASSES[pair.gi_class].novelty * np.linalg.norm(sum_of_singles)
    return sum_of_singles + novelty * module_response[pair.third_module]


def _pair_table(graph: GeneGraph, pairs: list[Pair]) -> pd.DataFrame:
    genes = graph.names[graph.targets]
    return pd.DataFrame(
        {
            "first": [genes[pair.first] for pair in pairs],
            "second": [genes[pair.second] for pair in pairs],
            "gi_class": [pair.gi_class for pair in pairs],
            "c1": [pair.c1 for pair in pairs],
            "c2": [pair.c2 for pair in pairs],
        },
        index=[canonical_condition([genes[pair.first], genes[pair.second]]) for pair in pairs],
    )
