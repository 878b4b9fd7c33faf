"""Gene programs against planted ones, and on real data against sets of genes that are known to work together.

``PYTHONPATH=benchmarks python benchmarks/scbig/programs.py`` writes ``docs/benchmarks/scbig_recovery.csv`` and
``scbig_programs_real.csv``. Simulated: 600 genes, ``module_sd=0.5`` (genes of a module vary together between cells),
programs found with default settings and from cells alone, no priors. Real: Kang 2018 (PBMC under interferon beta) and
Datlinger 2021 (stimulated Jurkat cells, knock-outs); enrichment against 200 random partitions of the same sizes.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from sklearn.metrics import adjusted_rand_score

import scperturb_modules as spm
from scperturb_modules._files import whole_file

ROOT = Path(__file__).parents[2]
DOCS, SHARED = ROOT / "docs" / "benchmarks", ROOT.parent / "shared"
COLLECTIONS = {
    "Reactome": "reactome_pathways.gmt.gz", "GO": "enrichr_go_bp_2021.gmt.gz", "Hallmark": "msigdb_hallmark_v7.0.gmt.gz"
}  # fmt: skip
INTERFERON = ("ISG15", "ISG20", "IFI6", "IFIT1", "IFIT2", "IFIT3", "MX1", "OAS1", "LY6E", "IFI44L", "IRF7", "CXCL10")


def programs_of(adata: ad.AnnData, seed: int = 0, **settings: Any) -> tuple[spm.SCBIG, float]:
    """A model that has found programs and learned nothing else, and the seconds that it took."""
    spm.SCBIG.setup_anndata(adata)
    start = time.perf_counter()
    model = spm.SCBIG(adata, seed=seed, generate=False, gate=False, n_folds=0, n_members=1, **settings)
    return model, time.perf_counter() - start


def recovery(seeds: list[int]) -> pd.DataFrame:
    rows = []
    for seed in seeds:
        for sizes in ("equal", "unequal"):
            adata = spm.datasets.simulate("default", seed=seed, module_sd=0.5, module_sizes=sizes)
            spm.pp.split(adata, "combination", seed=seed)
            for balance in ("soft", "equal"):
                model, seconds = programs_of(adata, balance=balance)
                found = adjusted_rand_score(adata.var["module"], model.programs.labels)
                planted = adata.var["module"].nunique()
                rows.append({
                    "sizes": sizes, "balance": balance, "seed": seed, "planted": planted,
                    "found": len(model.programs.names), "ARI": found, "seconds": seconds,
                })  # fmt: skip
    return pd.DataFrame(rows)


def kang() -> ad.AnnData:
    """PBMC with and without interferon beta; the stimulus stands where a perturbed gene would."""
    adata = ad.read_h5ad(SHARED / "data" / "kang2018" / "kang_pbmc_ifnb.h5ad")
    adata.obs["perturbation"] = np.where(adata.obs["condition"] == "ctrl", "control", "IFNB1")
    adata.obs["split"] = "train"
    spm.pp.normalize(adata)
    return adata


def datlinger() -> ad.AnnData:
    adata = ad.read_h5ad(SHARED / "data" / "datlinger2021" / "datlinger_2000genes.h5ad")
    control = str(adata.obs.loc[adata.obs["is_control"], "perturbation"].iloc[0])
    spm.pp.standardize_perturbations(adata, "perturbation", control=control, overwrite=True)
    adata.obs["split"] = "train"
    spm.pp.normalize(adata)
    return adata


def real() -> pd.DataFrame:
    rows = []
    for name, read in (("kang2018", kang), ("datlinger2021", datlinger)):
        adata = read()
        model, seconds = programs_of(adata)
        labels = model.programs.labels
        seeds = [adjusted_rand_score(labels, programs_of(adata, seed)[0].programs.labels) for seed in (1, 2, 3)]
        order = np.random.default_rng(0).permutation(adata.n_obs)
        parts = [programs_of(adata[np.sort(half)].copy())[0].programs.labels for half in np.array_split(order, 2)]
        model.gene_programs()
        table = model.programs.table()
        row = {
            "data": name, "genes": adata.n_vars, "cells": adata.n_obs, "programs": len(table),
            "smallest": table["n_genes"].min(), "largest": table["n_genes"].max(), "seconds": seconds,
            "ARI of seeds": np.mean(seeds), "ARI of halves": adjusted_rand_score(*parts),
            "median z within": table["z"].median(),
        }  # fmt: skip
        for collection, file in COLLECTIONS.items():
            found = spm.tl.program_enrichment(adata, SHARED / "priors" / file, n_permutations=200, store=False)
            row |= {f"{collection}, named": found.attrs["n_named"], f"{collection}, p": found.attrs["permutation_p"]}
        own = pd.Series(labels, index=adata.var_names).reindex(INTERFERON).dropna()
        row["interferon genes in one program"] = f"{own.value_counts().iloc[0]} of {len(own)}" if len(own) else ""
        rows.append(row)
        print(pd.Series(row).to_string(), flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    chosen = parser.parse_args()
    found = {"scbig_recovery.csv": recovery(chosen.seeds)}
    print(found["scbig_recovery.csv"].groupby(["sizes", "balance"])["ARI"].agg(["mean", "min"]), flush=True)
    found["scbig_programs_real.csv"] = real()
    for name, table in found.items():
        with whole_file(DOCS / name) as path:
            table.to_csv(path, index=False, float_format="%.4f")


if __name__ == "__main__":
    main()
