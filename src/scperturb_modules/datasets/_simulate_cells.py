"""Cells of a simulated screen: from log rates to counts, and the exact expectation of what will be measured.

The rate model of a cell c with label p in batch b and cell type s is

    log rate = baseline[s] + batch[b] + z_c . programme + loading u_c + efficacy_c (1 + state_effect z_c1) effect[p, s]

with the activity u_c of the gene's module, where modules have any (:class:`Programs`). Its expected counts are
``library size * softmax(log rate)``, and its counts are negative binomial.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy import sparse, special, stats
from scipy.interpolate import CubicSpline

from ._simulate_programs import Programs
from ._simulate_settings import SimulationSettings

BASELINE_MEAN, BASELINE_SD = -1.5, 1.2
CELL_TYPE_BASELINE_SD = 0.5
N_PROGRAMMES = 2
# in cells whose guide works: Beta(8, 2), mean 0.8
EFFICACY_SHAPE = (8.0, 2.0)
TARGET_SUM = 1e4

_TAIL = 1e-12  # part of the count distribution that is left out of an expectation
_SHARE_RANGE = (1e-8, 0.999)
_N_SHARES = 60
_N_NODES = 5  # of the log library size, and of what modules add to the log share


@dataclass(frozen=True)
class RateModel:
    """All but the effects of perturbations.

    baseline (S, G) of each cell type; batch (B, G); programme (2, G); gain (S, G) of effects in each cell type;
    programs: activity of the modules.
    """

    baseline: np.ndarray
    batch: np.ndarray
    programme: np.ndarray
    gain: np.ndarray
    programs: Programs

    def shares(self, cell_type: int, batch: np.ndarray, state: np.ndarray, effect: np.ndarray) -> np.ndarray:
        """(N, G) expected share of each gene in the counts of N cells.

        batch (N,) codes; state (N, 2); effect (N, G), already scaled by efficacy and state, and what modules add.
        """
        log_rate = self.baseline[cell_type] + self.batch[batch] + state @ self.programme + effect
        return special.softmax(log_rate, axis=1)


@dataclass(frozen=True)
class CellBlock:
    """Cells of one row. batch (N,) codes; efficacy (N,); state (N,); counts (N, G) int32."""

    batch: np.ndarray
    efficacy: np.ndarray
    state: np.ndarray
    counts: sparse.csr_matrix


def draw_rate_model(
    settings: SimulationSettings, targets: np.ndarray, programs: Programs, rng: np.random.Generator
) -> RateModel:
    """Baseline, batches, programmes and, from the second cell type on, other baselines and other effect sizes."""
    n_genes, n_more = settings.n_genes, settings.n_cell_types - 1
    baseline = rng.normal(BASELINE_MEAN, BASELINE_SD, n_genes)
    batch = rng.normal(0.0, settings.batch_sd, (settings.n_batches, n_genes))
    programme = rng.normal(0.0, settings.programme_sd, (N_PROGRAMMES, n_genes))
    shift = np.vstack([np.zeros((1, n_genes)), rng.normal(0.0, CELL_TYPE_BASELINE_SD, (n_more, n_genes))])
    gain = np.vstack([np.ones((1, n_genes)), rng.normal(1.0, settings.cell_type_sd, (n_more, n_genes))])
    gain[:, targets] = 1.0  # a guide works alike in every cell type
    return RateModel(baseline + shift, batch, programme, gain, programs)


def draw_cells(
    settings: SimulationSettings,
    rates: RateModel,
    cell_type: int,
    effect: np.ndarray | None,
    correlation: np.ndarray,
    n_cells: int,
    streams: Mapping[str, np.random.Generator],
) -> CellBlock:
    """Cells with the log-rate ``effect`` (G,), or controls where it is None.

    ``correlation`` (K, K) is that of the modules where the guide works; ``streams`` are ``"cells"`` and ``"activity"``.
    """
    rng = streams["cells"]
    batch = np.arange(n_cells) % settings.n_batches
    state = rng.normal(size=(n_cells, N_PROGRAMMES))
    efficacy = np.zeros(n_cells)
    shift = np.zeros((1, settings.n_genes))
    if effect is not None:
        works = rng.random(n_cells) < settings.guide_efficacy
        efficacy = np.where(works, rng.beta(*EFFICACY_SHAPE, n_cells), 0.0)
        shift = (efficacy * (1.0 + settings.state_effect * state[:, 0]))[:, None] * effect
    if settings.module_sd > 0:
        normal = streams["activity"].normal(size=(n_cells, settings.n_modules))
        shift = shift + rates.programs.shift(correlation, efficacy > 0, normal)
    shares = rates.shares(cell_type, batch, state, shift)
    library = rng.lognormal(settings.library_log_mean, settings.library_log_sd, n_cells)
    counts = _draw_counts(settings, library[:, None] * shares, rng)
    if settings.dropout > 0:
        counts[rng.random(counts.shape) < _dropout_probability(settings, shares)] = 0
    return CellBlock(batch, efficacy, state[:, 0], sparse.csr_matrix(counts))


def log1p_cp10k(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """log1p of counts per 10,000, float32; a cell without counts stays zero."""
    total = np.maximum(np.asarray(counts.sum(axis=1)).ravel(), 1)
    per_count = (TARGET_SUM / total).astype(np.float32)
    expression = counts.astype(np.float32)
    expression.data *= np.repeat(per_count, np.diff(counts.indptr))
    np.log1p(expression.data, out=expression.data)
    return expression


def _draw_counts(settings: SimulationSettings, mean: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Negative binomial as a Poisson of a gamma; int32."""
    shape = 1.0 / settings.dispersion
    noise = rng.standard_gamma(shape, mean.shape, dtype=np.float32) * np.float32(settings.dispersion)
    return rng.poisson(mean * noise).astype(np.int32)


def _dropout_probability(settings: SimulationSettings, shares: np.ndarray) -> np.ndarray:
    return settings.dropout * special.expit(-np.log(TARGET_SUM * shares))


class ExpectedExpression:
    """Expectation of the measured log1p CP10k, exact up to quadrature, for any effect.

    The expectation over counts and library size depends on the share of a gene alone and is tabulated once; that over
    guide efficacy, cell programmes, batches and module activity is a Gauss quadrature. No cell is drawn, so that the
    truth carries no noise of its own. The total of a cell is taken at its expectation given the count of the gene in
    question, and what modules add to the log of a share as normal.
    """

    def __init__(self, settings: SimulationSettings, rates: RateModel) -> None:
        self._settings = settings
        self._rates = rates
        self._measured = _expectation_by_share(settings, rates)
        self._nodes = _cell_nodes(settings)
        nothing = np.zeros(settings.n_genes)
        self._control = [
            self._mean(code, 0.0, nothing, rates.programs.control) for code in range(settings.n_cell_types)
        ]

    def change(self, cell_type: int, effect: np.ndarray, correlation: np.ndarray) -> np.ndarray:
        """(G,) expected expression of cells with this effect and correlation of modules minus that of controls."""
        if not effect.any() and np.array_equal(correlation, self._rates.programs.control):
            return np.zeros_like(effect)
        perturbed = sum(
            share * self._mean(cell_type, efficacy, effect, correlation)
            for efficacy, share in zip(*_efficacy_nodes(), strict=True)
        )
        return self._settings.guide_efficacy * (perturbed - self._control[cell_type])

    def _mean(self, cell_type: int, efficacy: float, effect: np.ndarray, correlation: np.ndarray) -> np.ndarray:
        batch, state, weight = self._nodes
        scale = efficacy * (1.0 + self._settings.state_effect * state[:, 0])
        shares = self._rates.shares(cell_type, batch, state, scale[:, None] * effect)
        if self._settings.module_sd == 0:
            return weight @ self._of_share(np.log(shares))
        mean, sd = self._rates.programs.log_share_moments(shares, correlation)
        return weight @ sum(
            share * self._of_share(np.log(shares) + mean + node * sd)
            for node, share in zip(*_normal_nodes(_N_NODES), strict=True)
        )

    def _of_share(self, log_share: np.ndarray) -> np.ndarray:
        return self._measured(np.clip(log_share, *np.log(_SHARE_RANGE)))


def _efficacy_nodes() -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of the efficacy in cells whose guide works."""
    first, second = EFFICACY_SHAPE
    node, weight = special.roots_jacobi(3, second - 1, first - 1)
    return (node + 1) / 2, weight / weight.sum()


def _normal_nodes(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of a standard normal."""
    node, weight = special.roots_hermitenorm(n)
    return node, weight / weight.sum()


def _cell_nodes(settings: SimulationSettings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodes of batch (K,) and state (K, 2), and their weights, which sum to one."""
    normal, normal_weight = _normal_nodes(3)
    index = np.meshgrid(np.arange(settings.n_batches), np.arange(3), np.arange(3), indexing="ij")
    batch, first, second = (axis.ravel() for axis in index)
    weight = normal_weight[first] * normal_weight[second] / settings.n_batches
    return batch, normal[np.column_stack([first, second])], weight


def _expectation_by_share(settings: SimulationSettings, rates: RateModel) -> Callable[[np.ndarray], np.ndarray]:
    """Expected log1p CP10k of a gene as a smooth function of the log of its share."""
    lowest, highest = np.log(_SHARE_RANGE)
    log_share = np.linspace(lowest, highest, _N_SHARES)
    share = np.exp(log_share)
    kept = 1.0 - _dropout_probability(settings, share)
    baseline = special.softmax(rates.baseline[0])
    kept_overall = float(baseline @ (1.0 - _dropout_probability(settings, baseline)))
    rest = np.maximum(kept_overall - share * kept, 1e-3)
    normal, weight = _normal_nodes(_N_NODES)
    sizes = np.exp(settings.library_log_mean + settings.library_log_sd * normal)
    table = _expected_log(settings.dispersion, np.outer(share, sizes), np.outer(rest, sizes))
    return CubicSpline(log_share, kept * (table @ weight))


def _expected_log(dispersion: float, means: np.ndarray, other_counts: np.ndarray) -> np.ndarray:
    """E log1p(1e4 n / (n + other counts)) for negative binomial n, elementwise."""
    shape = 1.0 / dispersion
    success = shape / (shape + means)
    most = stats.nbinom.isf(_TAIL, shape, success).astype(np.int64) + 2
    counts = np.arange(1, most.max())
    # scipy's own pmf would recompute this for each of the means
    log_ways = special.gammaln(counts + shape) - special.gammaln(counts + 1) - special.gammaln(shape)
    expected = np.empty_like(means)
    for index, last in np.ndenumerate(most):
        n, p = counts[:last], success[index]
        pmf = np.exp(log_ways[:last] + shape * np.log(p) + n * np.log1p(-p))
        expected[index] = pmf @ np.log1p(TARGET_SUM * n / (n + other_counts[index]))
    return expected
