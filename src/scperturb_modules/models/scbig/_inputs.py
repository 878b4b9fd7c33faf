"""What the networks of SCBIG are built from, of one training screen and what is known before."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from scperturb_modules.baselines import TrainingData
from scperturb_modules.models._features import (
    as_float,
    feature_tables,
    genes_trained,
    prior_features,
    residual_basis,
    responses_of_genes,
    scaled_patterns,
)
from scperturb_modules.models._folds import Members
from scperturb_modules.models._nodes import Nodes
from scperturb_modules.models._rows import Arrays
from scperturb_modules.models._training_cells import TrainingCells, moments, some_of
from scperturb_modules.models.scbig._generator import N_REFERENCE, GeneratorShape
from scperturb_modules.models.scbig._module import ScbigShape
from scperturb_modules.models.scbig._settings import ScbigSettings
from scperturb_modules.models.scbig.programs import GenePrograms
from scperturb_modules.priors import PriorSource

MOST_CELLS = 5_000
"""Principal components are taken of so many training cells at most."""


def make_shape(
    data: TrainingData,
    nodes: Nodes,
    sources: Mapping[str, PriorSource],
    programs: GenePrograms,
    arrays: Arrays,
    members: Members,
    cells: TrainingCells | None,
    settings: ScbigSettings,
    *,
    seed: int,
) -> ScbigShape:
    """Collect everything that the module is built from.

    Parameters
    ----------
    data, nodes, sources
        Training pseudobulk as plain arrays; genes known to the network; priors.
    programs
        Gene programs.
    arrays
        Rows of the training conditions with ``target`` (P, G).
    members
        Who is trained on what.
    cells
        Training cells; None: the generator is built with zeros, for saved weights to be put in.
    settings, seed
        All settings; of the draws of cells.
    """
    number = {gene: i for i, gene in enumerate(data.var_names)}
    tables = feature_tables(prior_features(sources), nodes)
    known = torch.tensor(genes_trained(data, nodes, members))
    generator = None
    if settings.generate:
        generator = _generator_shape(data, programs, tables, known.any(dim=0), cells, settings, seed=seed)
    return ScbigShape(
        program=torch.tensor(programs.code),
        tables=tables,
        known=known,
        gene_of=torch.tensor([number.get(name, -1) for name in nodes.names]),
        response_basis=program_basis(responses_of_genes(data, arrays), programs.code, settings.rank),
        residual_basis=residual_basis(arrays, members, settings.rank),
        control=as_float(programs.mean),
        scale=max(float(np.mean(arrays["target"].astype(np.float64) ** 2)), 1e-12),
        generator=generator,
    )


def program_basis(responses: NDArray, program: NDArray[np.int64], rank: int) -> torch.Tensor:
    """(G, K r) leading patterns of responses (P, G) within each program, 0 outside of it; K r is about the rank."""
    n_programs = int(program.max()) + 1
    n_patterns = max(1, -(-rank // n_programs))
    basis = np.zeros((len(program), n_programs, n_patterns))
    for k in range(n_programs):
        own = program == k
        basis[own, k] = scaled_patterns(responses[:, own], None, n_patterns)
    return as_float(basis.reshape(len(program), -1))


def _generator_shape(
    data: TrainingData,
    programs: GenePrograms,
    tables: Mapping[str, tuple[torch.Tensor, torch.Tensor]],
    known: torch.Tensor,
    cells: TrainingCells | None,
    settings: ScbigSettings,
    *,
    seed: int,
) -> GeneratorShape:
    n_genes = len(data.var_names)
    mean, sd, components = np.zeros(n_genes), np.ones(n_genes), np.zeros((n_genes, settings.n_latent))
    reference = np.zeros((len(data.contexts), N_REFERENCE, n_genes), dtype=np.float32)
    if cells is not None:
        mean, sd = moments(cells.blocks(cells.rows()))
        chosen = np.concatenate(list(cells.blocks(some_of(cells.rows(), MOST_CELLS, seed=seed))))
        components = _components((chosen - mean) / np.maximum(sd, 0.1), settings.n_latent)
        for code, context in enumerate(data.contexts):
            reference[code] = _reference(cells, context, seed=seed)
    return GeneratorShape(
        program=torch.tensor(programs.code),
        mean=as_float(mean),
        sd=as_float(sd),
        components=as_float(components),
        projection=as_float(programs.projection),
        reference=torch.tensor(reference),
        tables=tables,
        known=known,
    )


def _reference(cells: TrainingCells, context: str | None, *, seed: int) -> NDArray[np.float32]:
    """(N_REFERENCE, G) training controls of a context, each as often as any other or once more."""
    rows = cells.control_rows(context)
    drawn = np.random.default_rng(seed).permutation(np.resize(rows, max(len(rows), N_REFERENCE)))[:N_REFERENCE]
    return np.concatenate(list(cells.blocks(np.sort(drawn))))


def _components(scaled: NDArray, n_latent: int) -> NDArray[np.float64]:
    """(G, q) principal components of scaled cells (n, G), such that scores have unit variance; missing ones are 0."""
    components = np.zeros((scaled.shape[1], n_latent))
    _, size, vectors = np.linalg.svd(scaled, full_matrices=False)
    n = min(n_latent, int(np.count_nonzero(size > 1e-6 * max(size[0], 1e-30))))
    components[:, :n] = vectors[:n].T / size[:n] * np.sqrt(len(scaled))
    return components
