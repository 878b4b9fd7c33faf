"""Which pairs of genes a simulated screen has, and how the two effects of each pair interact."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ._simulate_settings import SimulationSettings

ADDITIVE, SYNERGY, SUPPRESSION = "additive", "synergy", "suppression"
EPISTASIS, REDUNDANCY, NEOMORPHIC = "epistasis", "redundancy", "neomorphic"


@dataclass(frozen=True)
class InteractionClass:
    """``e_AB = c1 e_A + c2 e_B + novelty * |c1 e_A + c2 e_B| * n``; n is the response of a third module."""

    share: float
    c1: float
    c2: float
    novelty: float = 0.0


INTERACTION_CLASSES = {
    ADDITIVE: InteractionClass(0.50, 1.0, 1.0),
    SYNERGY: InteractionClass(0.12, 1.5, 1.5),
    SUPPRESSION: InteractionClass(0.12, 0.5, 0.5),
    EPISTASIS: InteractionClass(0.10, 1.0, 0.1),
    REDUNDANCY: InteractionClass(0.08, 0.55, 0.55),
    NEOMORPHIC: InteractionClass(0.08, 0.4, 0.4, novelty=2.0),
}

# ratio of the sizes of two effects from which on a pair is taken only for want of others
MOST_UNEVEN = 2.2


@dataclass(frozen=True)
class Pair:
    """Two targets (row numbers of the single effects, first < second) and how they combine."""

    first: int
    second: int
    gi_class: str
    c1: float
    c2: float
    third_module: int


@dataclass(frozen=True)
class PairRule:
    """What would happen in every pair of targets, each table (T, T) and read at [first, second].

    gi_class: str; first_wins: bool, whose effect remains under epistasis; third_module: int.
    """

    gi_class: np.ndarray
    first_wins: np.ndarray
    third_module: np.ndarray

    def pair(self, first: int, second: int, *, additive: bool) -> Pair:
        gi_class = ADDITIVE if additive else str(self.gi_class[first, second])
        kind = INTERACTION_CLASSES[gi_class]
        c1, c2 = (kind.c1, kind.c2) if self.first_wins[first, second] else (kind.c2, kind.c1)
        return Pair(first, second, gi_class, c1, c2, int(self.third_module[first, second]))


def draw_pairs(
    settings: SimulationSettings, module: np.ndarray, specific: np.ndarray, rng: np.random.Generator
) -> list[Pair]:
    """Draw ``n_pairs`` pairs so that the classes have their shares.

    Parameters
    ----------
    settings
        ``gi`` decides what the class of a pair depends on.
    module
        (T,) module of each target.
    specific
        (T, G) specific effects; redundant pairs are those with the most similar ones.
    rng
        Of the pairs only, so that effects do not depend on the choice of pairs.
    """
    is_random = settings.gi == "random"
    rule = _random_rule(settings, rng) if is_random else _module_rule(settings, module, rng)
    chosen = _choose_by_class(settings.n_pairs, rule.gi_class, specific, rng, seek_alike=not is_random)
    return [rule.pair(first, second, additive=settings.gi == "none") for first, second in chosen]


def _module_rule(settings: SimulationSettings, module: np.ndarray, rng: np.random.Generator) -> PairRule:
    """Everything depends on the two modules alone, so that it can be learned from other pairs of these modules."""
    n_modules = settings.n_modules
    gi_class = np.full((n_modules, n_modules), REDUNDANCY, dtype="U16")
    first, second = np.triu_indices(n_modules, k=1)
    crossing = [name for name in INTERACTION_CLASSES if name != REDUNDANCY]
    gi_class[first, second] = gi_class[second, first] = rng.permutation(
        np.repeat(crossing, _split(len(first), crossing))
    )
    rank = rng.permutation(n_modules)
    third_module = np.zeros((n_modules, n_modules), dtype=np.int64)
    for one, other in zip(first, second, strict=True):
        third_module[one, other] = third_module[other, one] = rng.choice(np.delete(np.arange(n_modules), [one, other]))
    at = np.ix_(module, module)
    return PairRule(gi_class[at], rank[module][:, None] > rank[module], third_module[at])


def _random_rule(settings: SimulationSettings, rng: np.random.Generator) -> PairRule:
    """Nothing about a pair can be told from its genes."""
    shape = (settings.n_perturbable, settings.n_perturbable)
    shares = [kind.share for kind in INTERACTION_CLASSES.values()]
    return PairRule(
        rng.choice(list(INTERACTION_CLASSES), shape, p=shares),
        rng.random(shape) < 0.5,
        rng.integers(settings.n_modules, size=shape),
    )


def _choose_by_class(
    n_pairs: int, gi_class: np.ndarray, specific: np.ndarray, rng: np.random.Generator, *, seek_alike: bool
) -> list[tuple[int, int]]:
    """Pairs (first < second), sorted; a class short of candidates leaves its places to whatever remains."""
    first, second = np.triu_indices(len(gi_class), k=1)
    shuffled = rng.permutation(len(first))
    first, second = first[shuffled], second[shuffled]
    by_class = {name: np.flatnonzero(gi_class[first, second] == name) for name in INTERACTION_CLASSES}
    unlikeness, unevenness = _compare(specific, first, second)
    chosen: list[int] = []
    for name, n_wanted in zip(INTERACTION_CLASSES, _split(n_pairs, list(INTERACTION_CLASSES)), strict=True):
        # two genes are redundant only if they do the same, so the most alike of a module are taken; and where one
        # effect dwarfs the other, every class looks like epistasis (False sorts before True)
        last = unlikeness if seek_alike and name == REDUNDANCY else unevenness > MOST_UNEVEN
        candidates = by_class[name]
        chosen.extend(candidates[np.argsort(last[candidates], kind="stable")][:n_wanted])
    rest = np.setdiff1d(np.arange(len(first)), chosen)
    chosen.extend(rest[: n_pairs - len(chosen)])
    return sorted(zip(first[chosen].tolist(), second[chosen].tolist(), strict=True))


def _compare(specific: np.ndarray, first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of each pair: how unlike the effects are (minus the inner product), and the ratio of their sizes (>= 1)."""
    size = np.linalg.norm(specific, axis=1)
    size = np.where(size > 0, size, 1.0)  # without effects all pairs are equal
    directions = specific / size[:, None]
    unlikeness = -(directions @ directions.T)[first, second]
    log_size = np.log(size)
    return unlikeness, np.exp(np.abs(log_size[first] - log_size[second]))


def _split(n: int, names: list[str]) -> np.ndarray:
    """Divide ``n`` places over classes by their shares; each class gets one while there are enough."""
    share = np.array([INTERACTION_CLASSES[name].share for name in names])
    quota = n * share / share.sum()
    places = np.floor(quota).astype(np.int64)
    if n >= len(names):
        places = np.maximum(places, 1)
    while places.sum() > n:
        places[np.argmax(places)] -= 1
    while places.sum() < n:
        places[np.argmax(quota - places)] += 1
    return places
