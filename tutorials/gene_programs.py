# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---
# %% [markdown]
# # Gene programs with SCBIG
#
# Genes do not vary one by one. This tutorial finds programs, groups of genes that go together, in a screen, names them
# by gene sets, says what a held-out pair of perturbations does to each of them, and generates cells of that pair: first
# on a simulated screen of which we know the truth, then on blood cells under interferon.
#
# ```
# python tutorials/gene_programs.py [--out DIR] [--kang PATH] [--sets GMT] [--quick]
# ```
#
# Pictures and tables are written to `DIR`. The whole takes about three minutes of one core. `--quick` trains for a few
# steps only: it shows that everything runs, its numbers mean nothing. The second part, of a few seconds, is left out
# where its files are not there.

# %%
import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import scanpy as sc
from matplotlib.axes import Axes
from scipy.spatial.distance import cdist
from sklearn.metrics import adjusted_rand_score

import scperturb_modules as spm

SHARED = Path("../shared")
SMALL = {"n_members": 1, "n_folds": 2, "autoencoder_steps": 200, "flow_steps": 500}
"""Fewer members, folds and steps than usual, to be done sooner."""
FEW = {"autoencoder_steps": 2, "flow_steps": 2}

parser = argparse.ArgumentParser(description="Gene programs with SCBIG, simulated and measured.")
parser.add_argument("--out", type=Path, default=Path("results/gene_programs"), help="for pictures and tables")
parser.add_argument("--kang", type=Path, default=SHARED / "data/kang2018/kang_pbmc_ifnb.h5ad")
parser.add_argument("--sets", type=Path, default=SHARED / "priors/msigdb_hallmark_v7.0.gmt.gz", help="GMT for --kang")
parser.add_argument("--quick", action="store_true", help="a few steps only; the numbers mean nothing")
chosen = parser.parse_known_args()[0]  # a notebook has arguments of its own
chosen.out.mkdir(parents=True, exist_ok=True)


# %% [markdown]
# Helpers: to save a picture, to train a predictor, and to compare cells.


# %%
def save(axes: Axes | dict[str, Axes], name: str) -> None:
    """Write the figure of some axes."""
    figure = (next(iter(axes.values())) if isinstance(axes, dict) else axes).figure
    figure.savefig(chosen.out / f"{name}.png", dpi=130, bbox_inches="tight")
    plt.close(figure)
    print(f"  {chosen.out / name}.png")


def trained(kind: Any, adata: ad.AnnData, priors: Any, **settings: Any) -> Any:
    """A predictor after training."""
    kind.setup_anndata(adata)
    model = kind(adata, priors=priors, **settings)
    model.train(**{"max_epochs": 2} if chosen.quick and not kind.is_baseline else {})
    return model


def energy_distance(x: np.ndarray, y: np.ndarray) -> float:
    """Between two clouds of cells; about 0 where they are the same, as no cell is compared with itself."""
    within = [cdist(one, one).sum() / (len(one) * (len(one) - 1)) for one in (x, y)]
    return float(2 * cdist(x, y).mean() - sum(within))


def off_diagonal(matrices: Iterable[np.ndarray]) -> np.ndarray:
    """Pairs of programs of correlation matrices, each pair once."""
    return np.stack([one[np.triu_indices(len(one), 1)] for one in matrices])


def pearson(x: np.ndarray, y: np.ndarray) -> str:
    """Correlation over all values."""
    return f"Pearson {np.corrcoef(x.ravel(), y.ravel())[0, 1]:.2f} over {x.size} values"


# %% [markdown]
# # 1. A screen whose truth is known
#
# Eight modules of genes, of unequal sizes, vary between cells. Each perturbation changes which of them go together.
# Twenty-four genes are perturbed alone and in pairs; half of the pairs are held out. All guides work: where some do
# not, strong perturbations make two kinds of cells, and modules go together for that reason alone.

# %%
print("1. Simulated screen")
adata = spm.datasets.simulate(
    "programs",
    seed=0,
    n_genes=200,
    n_perturbable=24,
    n_pairs=20 if chosen.quick else 160,
    n_cells=40 if chosen.quick else 60,
    n_controls=300 if chosen.quick else 600,
    n_modules=8,
    module_sizes="unequal",
    effect_scale=2.0,
    guide_efficacy=1.0,
)
spm.pp.split(adata, "combination", seed=0)
truth = spm.pp.pseudobulk(adata)
test_pairs = list(truth.obs_names[truth.obs["split"] == "test"])
network = adata.uns["scperturb_modules"]["simulation"]["graph_partial"]

# %% [markdown]
# ## Find programs and name them
#
# Programs are found when the model is built: from how training cells vary, how genes respond, and the network. The
# number of programs is chosen by the model. Names come from a GMT file; here it holds what was planted, with a fifth of
# the genes of each module missing, as no real set is complete.

# %%
model = trained(spm.SCBIG, adata, {"network": network}, **SMALL | (FEW if chosen.quick else {}))
print(model.summary())
genes = model.gene_programs()
genes.to_csv(chosen.out / "simulated_genes.csv", index=False)
print(f"planted and found groups agree: ARI {adjusted_rand_score(adata.var['module'], adata.var['scbig_program']):.2f}")
print(pd.crosstab(adata.var["module"], adata.var["scbig_program"]).to_string())

known = adata.var[np.random.default_rng(0).random(adata.n_vars) > 0.2]
lines = ["\t".join([f"module {name}", "planted", *own]) for name, own in known.groupby("module").groups.items()]
(chosen.out / "planted.gmt").write_text("\n".join(lines) + "\n")
enriched = spm.tl.program_enrichment(adata, chosen.out / "planted.gmt", n_permutations=99)
print(enriched.drop(columns="genes").groupby("program", sort=False).head(1).to_string(index=False))
print(f"against random programs of the same sizes: p = {enriched.attrs['permutation_p']:.2f}")
save(spm.pl.gene_programs(adata), "simulated_programs")

# %% [markdown]
# ## How well are held-out pairs predicted?
#
# Beside the model stand the sum of measured singles, shrunken by their noise, from which SCBIG starts, and the mean of
# all perturbations. Where the gate of a level is 0 in the summary above, SCBIG is that sum to the last bit.

# %%
predictions = {"SCBIG": model.predict(test_pairs)}
for kind in (spm.baselines.AdditiveShrunk, spm.baselines.MeanShift):
    predictions[kind.__name__] = trained(kind, adata, {"network": network}).predict(test_pairs)
scored = pd.concat(
    [spm.tl.evaluate(one, truth, metrics=["l2_top1000", "pearson_delta"]) for one in predictions.values()]
)
table = scored.astype({"model": str, "metric": str}).pivot_table(index="model", columns="metric", values="value")
table.to_csv(chosen.out / "simulated_scores.csv")
print(table.round(3).to_string())

# %% [markdown]
# ## What does a perturbation do to each program?
#
# Changes are in standard deviations of control cells. A dot marks a predicted change whose 90 % interval excludes 0.
# The share of observed changes that lie inside their intervals is printed.

# %%
changes = model.program_changes(test_pairs)
changes.to_csv(chosen.out / "simulated_changes.csv", index=False)
inside = changes["observed"].between(changes["lower"], changes["upper"])[changes["lower"].notna()]
print(f"observed changes within their 90 % intervals: {inside.mean():.2f} of {len(inside)}")
size = predictions["SCBIG"].to_df(layer="delta").pow(2).sum(axis=1)
strongest = list(size.sort_values(ascending=False).index[:20])  # as predicted: the truth chooses no picture
save(spm.pl.program_activity(adata, strongest), "simulated_changes")

# %% [markdown]
# ## Cells of held-out pairs
#
# Generated cells are control cells, moved. They are compared with the real cells of ten pairs in the activity of
# programs: by energy distance (less is nearer), and by how much they vary. The cells to beat are control cells that
# are all shifted alike, by the sum of the singles or by what SCBIG predicts of the mean: what generated cells are
# nearer than the latter is the work of the flow.

# %%
cells = model.predict_cells(strongest[:10], n_cells=200, seed=0)


def in_programs(expression: np.ndarray) -> np.ndarray:
    """Program activities of cells, of which values below 0 are cut."""
    given = ad.AnnData(expression.clip(min=0), var=adata.var[[]])
    return model.get_program_activity(given, store=False).to_numpy()


rows = []
for name in strongest[:10]:
    real = in_programs(adata[adata.obs["perturbation"] == name].X.toarray())
    made = cells[cells.obs["perturbation"] == name]
    controls = adata[made.obs["control_cell"]].X.toarray()
    compared = {"generated": made.X, "controls": controls}
    for kind in ("SCBIG", "AdditiveShrunk"):
        compared[f"controls shifted by {kind}"] = controls + predictions[kind][name].layers["delta"]
    for kind, expression in compared.items():
        activity = in_programs(expression)
        ratio = (activity.var(axis=0) / real.var(axis=0)).mean()
        rows.append({"cells": kind, "energy distance": energy_distance(activity, real), "variance / real": ratio})
table = pd.DataFrame(rows).groupby("cells", sort=False).mean()
table.to_csv(chosen.out / "simulated_cells.csv")
print(table.round(3).to_string())

# %% [markdown]
# The cells are an AnnData like any other: scanpy embeds those of one pair with the real ones. Neighbours are searched
# among principal components of both; two dimensions hide most genes, so look at the numbers above too.

# %%
pair = strongest[0]
sources = {
    "generated": cells[cells.obs["perturbation"] == pair],
    "real": adata[adata.obs["perturbation"] == pair],
    "control": adata[(adata.obs["perturbation"] == "control") & (adata.obs["split"] == "test")],
}
both = ad.concat(sources, label="source", index_unique="-")
sc.pp.pca(both, n_comps=20)
sc.pp.neighbors(both, n_neighbors=15)
sc.tl.umap(both, random_state=0)
save(sc.pl.umap(both, color="source", show=False), "simulated_umap_scanpy")
is_made = both.obs["source"] == "generated"
save(spm.pl.generated_cells(both[is_made], both[~is_made], basis="X_umap"), "simulated_umap")
save(spm.pl.generated_cells(cells, adata), "simulated_pca")

# %% [markdown]
# The way that the flow takes them, from control cells that are shifted by the mean change to where the cells of the
# pair are expected. It is short where the pair does little else than to move the mean.

# %%
model.flow_paths(pair)
save(spm.pl.flow_paths(adata), "simulated_flow")

# %% [markdown]
# ## Which programs go together under the perturbation?
#
# Predicted from generated cells, observed in real ones of a pair that was held out. Over 20 held-out pairs the
# predicted change of each correlation is compared with the observed one, whose noise is that of few cells, and with
# what was planted between the modules that most genes of the programs come from.

# %%
found = model.module_correlation(strongest)
save(spm.pl.program_correlation(adata, pair), "simulated_correlation")
control = off_diagonal(found["control"][:1])
predicted = off_diagonal(found["predicted"]) - control
print(
    f"changes of correlation, predicted and observed: {pearson(predicted, off_diagonal(found['observed']) - control)}"
)
module_of = pd.crosstab(adata.var["scbig_program"], adata.var["module"]).idxmax(axis=1)[list(found["programs"])]
planted = adata.uns["scperturb_modules"]["simulation"]
at = np.ix_(module_of, module_of)
rows = [list(planted["rows"]).index(name) for name in found["conditions"]]
before = off_diagonal([planted["program_correlation_control"][at]])
after = off_diagonal(planted["program_correlation"][row][at] for row in rows)
differ = off_diagonal([np.not_equal.outer(module_of.to_numpy(), module_of.to_numpy())])[0]
print(f"predicted and planted: {pearson(predicted[:, differ], (after - before)[:, differ])}")

# %% [markdown]
# Everything that was drawn is stored in the AnnData: after a file, the pictures are the same without the model.

# %%
adata.write_h5ad(chosen.out / "simulated.h5ad")
save(spm.pl.gene_programs(ad.read_h5ad(chosen.out / "simulated.h5ad")), "simulated_programs_again")
save(spm.pl.training_history(model, ["flow_matching_train"]), "simulated_training")

# %% [markdown]
# # 2. Blood cells under interferon
#
# Kang et al. (2018): 2,000 blood cells, half of them with interferon beta. There is one perturbation, so nothing is
# trained; programs are found from how cells vary beyond the difference of the two conditions. `generate=False` leaves
# out what is needed to generate cells.

# %%
if not chosen.kang.exists() or not chosen.sets.exists():
    raise SystemExit(f"2. left out: there is no {chosen.kang} or no {chosen.sets}; give --kang and --sets.")
print("2. Blood cells under interferon")
adata = ad.read_h5ad(chosen.kang)
spm.pp.standardize_perturbations(adata, "condition", control="ctrl")
spm.pp.normalize(adata)
spm.SCBIG.setup_anndata(adata)
model = spm.SCBIG(adata, relations=["coexpression"], generate=False, gate=False, n_folds=0)
model.gene_programs()
enriched = spm.tl.program_enrichment(adata, chosen.sets, n_permutations=199)
stored = adata.uns["scperturb_modules"]["scbig"]["programs"]
stored.to_csv(chosen.out / "kang_programs.csv")
print(stored.drop(columns="top_genes").round(2).to_string())
print(
    "strength {strength:.0f}, of random programs {permutation_strength:.0f}, p = {permutation_p:.3f}".format(
        **enriched.attrs
    )
)
save(spm.pl.gene_programs(adata), "kang_programs")

# %% [markdown]
# Hallmark sets are of processes, not of cell types: programs of B cells or of killer cells stay without a name there,
# or get one that misleads. Read their genes. Which programs does interferon move?

# %%
activity = model.get_program_activity().groupby(adata.obs["perturbation"], observed=True).mean()
print(activity.T.assign(name=stored["name"]).round(2).to_string())

# %% [markdown]
# Where to go on: [SCBIG](../docs/models/scbig.md) tells what the model computes and when it fails.
