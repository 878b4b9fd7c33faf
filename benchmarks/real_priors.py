"""What is known of the genes of a real screen: three public tables in ``../shared/priors``, cut to its genes."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

import anndata as ad
import pandas as pd

FOLDER = Path(__file__).resolve().parents[2] / "shared" / "priors"
MIN_TERM = 5
"""Genes of the screen that a term needs to be a column."""
MIN_PERTURBED = 3
"""Perturbed genes that a table needs: what covers fewer tells nothing of one from another."""


def priors_of(adata: ad.AnnData) -> dict[str, pd.DataFrame]:
    """Networks as edge tables and terms as a gene x feature table, those that cover at least 3 perturbed genes."""
    perturbed = perturbed_genes(adata)
    genes = set(adata.var_names) | perturbed
    tables = {"STRING": string(genes), "TRRUST": trrust(genes), "GO": go_processes(genes)}
    return {name: table for name, table in tables.items() if len(covered(table) & perturbed) >= MIN_PERTURBED}


def perturbed_genes(adata: ad.AnnData) -> set[str]:
    labels = adata.obs["perturbation"].cat.categories
    return {gene for label in labels if label != "control" for gene in label.split("+")}


def covered(table: pd.DataFrame) -> set[str]:
    """Genes with an edge, or with a row."""
    return set(table["source"]) | set(table["target"]) if "source" in table else set(table.index)


def string(genes: set[str]) -> pd.DataFrame:
    """Functional links without text mining, weighted by their score."""
    table = _read("string_v12_scored_no_textmining.tsv.gz")
    table = table.rename(columns={"gene_a": "source", "gene_b": "target"})
    edges = _among(genes, table)[["source", "target"]].assign(weight=table["score"] / 1000)
    edges.attrs = {"name": "STRING", "version": "12.0", "licence": "CC BY 4.0"}
    return edges


def trrust(genes: set[str]) -> pd.DataFrame:
    """Regulators and their targets; not weighted, modes of regulation are not read."""
    table = _read("trrust_human.tsv.gz").rename(columns={"tf": "source"})
    edges = _among(genes, table)[["source", "target"]].drop_duplicates()
    edges.attrs = {"name": "TRRUST", "version": "2", "licence": "CC BY-SA 4.0", "directed": True}
    return edges


def go_processes(genes: set[str]) -> pd.DataFrame:
    """Genes x biological processes they are directly annotated with, 0 or 1; genes without any have no row."""
    table = _read("go_gene2term.tsv.gz")
    table = table[(table["aspect"] == "BP") & table["symbol"].isin(genes)].drop_duplicates(["symbol", "go_id"])
    common = table.groupby("go_id")["symbol"].transform("size") >= MIN_TERM
    terms = pd.crosstab(table.loc[common, "symbol"], table.loc[common, "go_id"]).astype(float)
    terms.attrs = {"name": "GO", "version": "2022-07-01", "licence": "CC BY 4.0"}
    return terms


def in_words(priors: Mapping[str, pd.DataFrame], adata: ad.AnnData) -> str:
    """One sentence: which priors, and how many genes they cover."""
    perturbed, measured = perturbed_genes(adata), set(adata.var_names)
    said = []
    for name, table in priors.items():
        size = f"{len(table)} edges" if "source" in table else f"{table.shape[1]} terms"
        known = covered(table)
        said.append(
            f"{name} {table.attrs['version']} ({size}; {len(known & perturbed)} of {len(perturbed)} perturbed and "
            f"{len(known & measured)} of {len(measured)} measured genes)"
        )
    if not said:
        return f"Priors: none, no table covers {MIN_PERTURBED} of the {len(perturbed)} perturbed genes."
    return f"Priors: {', '.join(said)}."


def _among(genes: set[str], table: pd.DataFrame) -> pd.DataFrame:
    return table[table["source"].isin(genes) & table["target"].isin(genes) & (table["source"] != table["target"])]


@cache
def _read(name: str) -> pd.DataFrame:
    # "NA" is a gene
    return pd.read_csv(FOLDER / name, sep="\t", keep_default_na=False)
