"""A screen whose truth is known."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import sparse

from scperturb_modules import _keys
from scperturb_modules._conditions import CONTROL, row_name

from ._simulate_cells import CellBlock, ExpectedExpression, RateModel, draw_cells, draw_rate_model, log1p_cp10k
from ._simulate_effects import Effects, draw_effects
from ._simulate_graph import GeneGraph, decoy_table, draw_graph, partial_table
from ._simulate_programs import draw_programs
from ._simulate_settings import SimulationSettings, settings_of

if TYPE_CHECKING:
    from anndata import AnnData

logger = logging.getLogger(__name__)

# one independent stream per part, so that a change of one setting leaves the draws of the other parts as they were
_STREAMS = ("graph", "copies", "effects", "pairs", "rates", "cells", "programs", "activity")


@dataclass(frozen=True)
class _Row:
    """A condition in a cell type with its log-rate effect (G,) and the correlation (K, K) of its modules."""

    condition: str
    cell_type: int
    name: str
    effect: np.ndarray
    correlation: np.ndarray


def simulate(preset: str = "default", *, seed: int = 0, **settings: Any) -> AnnData:
    """Simulate a perturbation screen with planted effects and known truth.

    Genes form modules of a graph. A single perturbation acts on its own gene, on three mediators next to it, on what
    lies behind them, and through a response that all regulators of its module share; all perturbed cells have a
    systematic effect in common. A double is made of its singles by a class of interaction that depends on the modules
    of its two genes.

    Parameters
    ----------
    preset
        ``"default"`` (600 genes, 40 singles, 60 doubles, 10,600 cells), ``"null"`` (no effect),
        ``"additive_only"`` (doubles are exact sums), ``"sys_only"`` (one common effect), ``"unpredictable"`` (effects
        unrelated to graph and modules), ``"two_cell_types"``, ``"programs"`` (modules vary between cells, and
        perturbations change which of them go together; 16,500 cells), ``"tiny"`` (80 genes, 12 conditions).
    seed
        Same seed and settings, same cells. Graph, effects, pairs, cells and the activity of modules have streams of
        their own.
    **settings
        Fields of :class:`SimulationSettings`; they win over the preset.

    Returns
    -------
    AnnData
        ``X`` log1p of counts per 10,000 (float32 CSR); ``layers["counts"]`` (int32 CSR); ``obs``: ``perturbation``
        (canonical label, ``"control"``), ``batch``, ``cell_type`` (if several), ``guide_efficacy`` (one factor per cell
        on its whole effect; 0 in controls and in cells whose guides failed), ``cell_state`` (first programme),
        ``n_counts``; ``var``: ``module``, ``perturbable``, ``module_loading`` (with ``module_sd > 0``).
        ``uns["scperturb_modules"]["simulation"]`` holds the truth:

        - ``log_rate`` and ``delta_true``, (rows, genes) float64: planted change of the log rate, and the change of mean
          log1p CP10k that infinitely many cells would show; ``rows`` and ``genes`` name both (see
          :func:`simulated_truth`); ``rows`` are sorted as in a pseudobulk.
        - ``pairs``: table of ``first``, ``second``, ``gi_class``, ``c1``, ``c2`` per double;
          ``mediators``: table of three genes per perturbed gene.
        - ``program_correlation`` (rows, K, K) and ``program_correlation_control`` (K, K), float64, with
          ``module_sd > 0``: planted correlation of the activities of the K modules, in the order of their numbers, in
          cells whose guide works and in all others.
        - ``graph``, ``graph_partial`` (30 % of genes absent), ``graph_decoy`` (labels permuted): tables of ``source``,
          ``target``, ``weight``, each undirected edge once.
        - ``settings``, ``preset``, ``seed``; ``noise_floor`` and ``effect_size``: mean over rows of the L2 norm of the
          sampling error of a mean, and of ``delta_true``. Without room between the two no comparison can succeed.

    Raises
    ------
    DataError
        Unknown preset, or settings that contradict each other.
    TypeError
        A setting that does not exist.

    Notes
    -----
    **Interactions.** On the log-rate scale ``e_AB = c1 e_A + c2 e_B + nu`` for the specific effects; knock-downs of the
    two genes add, and the systematic effect enters once (``sys_doubles="once"``). Classes, shares and coefficients:
    additive 50 % (1, 1), synergy 12 % (1.5, 1.5), suppression 12 % (.5, .5), epistasis 10 % (1, .1), redundancy 8 %
    (.55, .55; the most similar pairs of one module), neomorphic 8 % (.4, .4 and the response of a third module, twice
    as large as the sum). Logarithm and guide efficacy compress the measured effect, so that the coefficients hold for
    ``log_rate`` only.

    The classes are told apart by the six scores of Norman et al. (2019) on noise-free ``log_rate``, with the usual
    thresholds but one. Synergy is called above a magnitude ``sqrt(c1**2 + c2**2)`` of 1.15 on measured screens, because
    the noise of the singles shrinks the coefficients; without noise an additive pair has the magnitude sqrt(2), so use
    1.5 there. The systematic effect, which a double has once and the sum of its singles twice, shrinks them a little.

    **Programs.** With ``module_sd > 0`` the log rate of a gene gets ``loading * u``: u is the activity of its module in
    the cell, normal with variance 1. With ``rewiring > 0`` a few disjoint pairs of modules correlate at 0.5 in
    controls; the perturbation of a gene uncouples one of these pairs and couples two others, positively or negatively.
    Its module decides which pairs, the gene itself how strongly (0.5 times 0.6-1.4 times ``rewiring``). A double has
    the sum of both changes; the result is made a valid correlation matrix (negative eigenvalues become 0, then the
    diagonal 1). The change is all or nothing: full in cells whose guide works, whatever its efficacy, and none in the
    others.

    Measured correlations are lower than planted ones, by about 1 / (K - 1) if modules have equal size, since the
    activities of all modules share the total of a cell; failed guides and noise shrink their changes. ``delta_true``
    takes the total as lognormal over activities, which adds an error of about 0.001 per gene at ``module_sd=0.5`` and
    of 0.01-0.02 at 1.2.

    The scale is chosen such that the plain baselines order themselves as on the screen of Norman et al.: adding the
    two singles beats the mean double clearly, and the mean double beats no change.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.simulate("tiny", seed=0)
    >>> adata.shape, adata.obs["perturbation"].nunique()
    ((920, 80), 13)
    """
    chosen = settings_of(preset, settings)
    streams = dict(zip(_STREAMS, np.random.SeedSequence(seed).spawn(len(_STREAMS)), strict=True))
    rng = {name: np.random.default_rng(stream) for name, stream in streams.items()}
    graph = draw_graph(chosen, rng["graph"])
    effects = draw_effects(chosen, graph, rng["effects"], rng["pairs"])
    rates = draw_rate_model(chosen, graph.targets, draw_programs(chosen, graph, rng["programs"]), rng["rates"])
    rows = _rows(chosen, graph, effects, rates)
    adata = _draw_screen(chosen, graph, rates, rows, rng)
    truth: dict[str, Any] = {"preset": preset, "seed": seed, "settings": asdict(chosen)}
    truth |= _graph_record(graph, rng["copies"]) | {"pairs": effects.pair_table}
    truth |= _row_record(graph, rows, ExpectedExpression(chosen, rates))
    if chosen.module_sd > 0:
        truth |= {"program_correlation": np.array([row.correlation for row in rows])}
        truth |= {"program_correlation_control": rates.programs.control}
    noise_floor = _noise_floor(adata, chosen.n_cells, len(rows))
    effect_size = float(np.linalg.norm(truth["delta_true"], axis=1).mean())
    truth |= {"noise_floor": noise_floor, "effect_size": effect_size}
    logger.info("Simulated %d cells; effects of L2 norm %.2f, noise %.2f.", adata.n_obs, effect_size, noise_floor)
    adata.uns[_keys.ROOT] = {_keys.SIMULATION: truth}
    return adata


def _rows(settings: SimulationSettings, graph: GeneGraph, effects: Effects, rates: RateModel) -> list[_Row]:
    """Every perturbed condition in every cell type, sorted by row name."""
    targets = graph.names[graph.targets].tolist()
    parts = [[gene] for gene in targets] + effects.pair_table[["first", "second"]].to_numpy().tolist()
    correlation = [rates.programs.correlation([targets.index(gene) for gene in genes]) for genes in parts]
    names = [*targets, *effects.pair_table.index]
    effect = np.concatenate([effects.singles, effects.pairs])
    types = _cell_type_names(settings)
    rows = [
        _Row(
            name,
            code,
            row_name(name, types[code] if len(types) > 1 else None),
            effect[number] * rates.gain[code],
            correlation[number],
        )
        for number, name in enumerate(names)
        for code in range(len(types))
    ]
    return sorted(rows, key=lambda row: row.name)


def _cell_type_names(settings: SimulationSettings) -> list[str]:
    return [f"type{number}" for number in range(1, settings.n_cell_types + 1)]


def _draw_screen(
    settings: SimulationSettings,
    graph: GeneGraph,
    rates: RateModel,
    rows: list[_Row],
    streams: Mapping[str, np.random.Generator],
) -> AnnData:
    """Draw all cells: controls first, then the rows in their order."""
    from anndata import AnnData

    plan: list[tuple[str, int, np.ndarray | None, np.ndarray, int]]
    plan = [(CONTROL, code, None, rates.programs.control, settings.n_controls) for code in range(settings.n_cell_types)]
    plan += [(row.condition, row.cell_type, row.effect, row.correlation, settings.n_cells) for row in rows]
    counts_of_rows, obs_of_rows = [], []
    for condition, code, effect, correlation, n_cells in plan:
        block = draw_cells(settings, rates, code, effect, correlation, n_cells, streams)
        counts_of_rows.append(block.counts)
        obs_of_rows.append(_obs_of(settings, condition, code, block))
    obs = pd.concat(obs_of_rows, ignore_index=True)
    obs.index = [f"cell{number}" for number in range(len(obs))]
    var = pd.DataFrame({"module": graph.module_of_gene, "perturbable": False}, index=graph.names.astype(object))
    var.loc[var.index[graph.targets], "perturbable"] = True
    if settings.module_sd > 0:
        var["module_loading"] = rates.programs.loading
    counts = sparse.vstack(counts_of_rows, format="csr")
    counts_of_rows.clear()  # half of the memory in use
    obs["n_counts"] = np.asarray(counts.sum(axis=1)).ravel()
    return AnnData(log1p_cp10k(counts), obs=obs, var=var, layers={_keys.COUNTS: counts})


def _obs_of(settings: SimulationSettings, condition: str, cell_type: int, block: CellBlock) -> pd.DataFrame:
    obs = pd.DataFrame(
        {
            _keys.PERTURBATION: condition,
            "batch": [f"batch{code + 1}" for code in block.batch],
            "guide_efficacy": block.efficacy,
            "cell_state": block.state,
        }
    )
    if settings.n_cell_types > 1:
        obs[_keys.CELL_TYPE] = _cell_type_names(settings)[cell_type]
    return obs


def _graph_record(graph: GeneGraph, rng: np.random.Generator) -> dict[str, Any]:
    mediators = pd.DataFrame(
        graph.names[graph.mediators],
        index=graph.names[graph.targets],
        columns=[f"mediator{number + 1}" for number in range(graph.mediators.shape[1])],
    )
    return {
        "mediators": mediators,
        "graph": graph.table(),
        "graph_partial": partial_table(graph, rng),
        "graph_decoy": decoy_table(graph, rng),
    }


def _row_record(graph: GeneGraph, rows: list[_Row], expected: ExpectedExpression) -> dict[str, Any]:
    return {
        "rows": np.array([row.name for row in rows]),
        "genes": graph.names,
        "log_rate": np.array([row.effect for row in rows]),
        "delta_true": np.array([expected.change(row.cell_type, row.effect, row.correlation) for row in rows]),
    }


def _noise_floor(adata: AnnData, n_cells: int, n_rows: int) -> float:
    """Expected L2 distance over all genes between the mean of a row's cells and that of infinitely many."""
    errors = []
    for start in range(adata.n_obs - n_rows * n_cells, adata.n_obs, n_cells):
        expression = adata.X[start : start + n_cells]
        variance = expression.power(2).mean(axis=0) - np.square(expression.mean(axis=0))
        errors.append(np.sqrt(variance.sum() / max(n_cells - 1, 1)))
    return float(np.mean(errors))
