"""What BioDSNN knows before training: co-expression, pathways, which genes may attend to which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError
from scperturb_modules.models.biodsnn._settings import BioDsnnSettings
from scperturb_modules.priors import GeneGraph, GeneSets, PathwayHierarchy, PathwayMask, coexpression, named_priors
from scperturb_modules.priors._pathway_levels import members_among
from scperturb_modules.priors._pathway_mask import make_mask

if TYPE_CHECKING:
    from anndata import AnnData

COEXPRESSION, PATHWAYS = "coexpression", "pathways"


@dataclass(frozen=True)
class Knowledge:
    """Co-expression of the training cells, and pathways of the mask's level; None where there is none."""

    coexpression: GeneGraph | None
    pathways: GeneSets | None

    @classmethod
    def learn(cls, screen: AnnData | None, priors: Any, settings: BioDsnnSettings, *, seed: int) -> Knowledge:
        """From the cells of a screen, as one AnnData after setup, and from what was given as priors.

        Raises
        ------
        DataError
            There are no cells to learn co-expression from.
        """
        graph = None
        if settings.use_knowledge and settings.use_coexpression:
            if screen is None:
                raise DataError(
                    "BioDSNN learns co-expression from cells, and a pseudobulk has none: build the model from the "
                    "screen, or pass use_coexpression=False."
                )
            graph = _coexpression(screen, settings, seed=seed)
        return cls(graph, _pathways(priors, settings) if settings.use_knowledge else None)

    def to_uns(self) -> dict[str, Any]:
        """For ``uns`` of the training pseudobulk, which is saved with the model."""
        parts = {COEXPRESSION: self.coexpression, PATHWAYS: self.pathways}
        return {name: part.to_uns() for name, part in parts.items() if part is not None}

    @classmethod
    def from_uns(cls, stored: Mapping[str, Any]) -> Knowledge:
        """What :meth:`to_uns` wrote."""
        return cls(
            GeneGraph.from_uns(stored[COEXPRESSION]) if COEXPRESSION in stored else None,
            GeneSets.from_uns(stored[PATHWAYS]) if PATHWAYS in stored else None,
        )

    def mask(self, genes: Iterable[str], settings: BioDsnnSettings) -> PathwayMask:
        """Which of the measured genes may attend to each other: those that share a pathway.

        Genes without a pathway may attend to the others with which they are joined by co-expression, and these to them.
        """
        names = [str(gene) for gene in genes]
        sets = self.pathways
        return make_mask(
            names,
            () if sets is None else sets.genes,
            sparse.csr_array((0, 0), dtype=bool) if sets is None else sets.membership,
            max_size=settings.max_pathway_size,
            fallback=self.coexpression,
            threshold=settings.coexpression_threshold,
        )


def normalised(adjacency: sparse.sparray) -> sparse.csr_array:
    """``D^-1/2 (A + I) D^-1/2`` of weights (n, n), D the row sums: one step of simple graph convolution.

    A node without an edge hears itself only.
    """
    own = sparse.csr_array(adjacency + sparse.eye_array(adjacency.shape[0]))
    size = np.asarray(own.sum(axis=1)).ravel() ** -0.5
    return sparse.csr_array(sparse.diags_array(size) @ own @ sparse.diags_array(size))


def _coexpression(screen: AnnData, settings: BioDsnnSettings, *, seed: int) -> GeneGraph:
    setup = keys.ScreenKeys.from_uns(screen.uns[keys.ROOT][keys.SETUP])
    return coexpression(
        screen,
        threshold=settings.coexpression_threshold,
        top=settings.top,
        seed=seed,
        perturbation_key=setup.perturbation_key,
        control=setup.control,
        layer=setup.layer,
        split_key=setup.split_key,
        # without a split all cells are on the training side
        cells="training" if setup.split_key in screen.obs else "all",
    )


def _pathways(priors: Any, settings: BioDsnnSettings) -> GeneSets | None:
    """Pathways of the mask's level; without a hierarchy, all gene sets as they are."""
    given = named_priors(priors)
    levels = [one.to_sets(settings.pathway_level) for one in given.values() if isinstance(one, PathwayHierarchy)]
    sets = levels or [one for one in given.values() if isinstance(one, GeneSets)]
    return _together(sets) if sets else None


def _together(sets: list[GeneSets]) -> GeneSets:
    """Several collections as one; sets keep their names, after that of their collection where there are several."""
    if len(sets) == 1:
        return sets[0]
    genes = tuple(sorted({gene for one in sets for gene in one.genes}))
    membership = sparse.hstack([members_among(genes, one.genes, one.membership) for one in sets], format="csr")
    return GeneSets(
        " and ".join(one.name for one in sets),
        genes,
        tuple(f"{one.name}: {name}" for one in sets for name in one.sets),
        sparse.csr_array(membership),
        tuple(text for one in sets for text in one.descriptions),
        {},
    )
