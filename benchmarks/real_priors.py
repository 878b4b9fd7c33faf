"""What is known of the genes of a real screen: three public sources in ``../shared/priors``, cut to its genes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad

import scperturb_modules as spm

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "priors"
MIN_PERTURBED = 3
"""Perturbed genes that a source needs: what covers fewer tells nothing of one from another."""


def priors_of(adata: ad.AnnData) -> dict[str, Any]:
    """Networks and gene sets among the genes of the screen, those that cover at least 3 perturbed genes."""
    genes = [*adata.var_names, *sorted(perturbed_genes(adata).difference(adata.var_names))]
    priors = {
        "STRING": spm.priors.interactions(
            FOLDER / "string_v12_scored_no_textmining.tsv.gz", genes, version="12.0", names=_names()
        ),
        "TRRUST": spm.priors.regulons(FOLDER / "trrust_human.tsv.gz", genes, version="2", names=_names()),
        "GO": spm.priors.go_sets(
            genes, FOLDER / "go_gene2term.tsv.gz", FOLDER / "go_terms.tsv.gz", version="2022-07-01", names=_names()
        ),
    }
    covered = spm.priors.coverage(adata, priors).sources["perturbed_covered"]
    return {name: prior for name, prior in priors.items() if covered[name] >= MIN_PERTURBED}


def perturbed_genes(adata: ad.AnnData) -> set[str]:
    labels = adata.obs["perturbation"].cat.categories
    return {gene for label in labels if label != "control" for gene in label.split("+")}


def in_words(priors: Mapping[str, Any], adata: ad.AnnData) -> str:
    """One sentence: which priors, and how many genes they cover."""
    if not priors:
        return f"Priors: none, no source covers {MIN_PERTURBED} of the {len(perturbed_genes(adata))} perturbed genes."
    covered = spm.priors.coverage(adata, priors).sources
    said = []
    for name, prior in priors.items():
        size = f"{len(prior.sets)} terms" if isinstance(prior, spm.priors.GeneSets) else f"{prior.n_edges} edges"
        row = covered.loc[name]
        said.append(
            f"{name} {prior.attrs['version']} ({size}; {row['perturbed_covered']} of {len(perturbed_genes(adata))} "
            f"perturbed and {row['measured_covered']} of {adata.n_vars} measured genes)"
        )
    return f"Priors: {', '.join(said)}."


@cache
def _names() -> spm.priors.GeneNames:
    return spm.priors.GeneNames.from_tables(FOLDER / "gene_ids.tsv.gz", FOLDER / "gene_alias.tsv.gz")
