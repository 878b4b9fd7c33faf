# ---
# jupyter:
#   jupytext:
#     text_representation: {extension: .py, format_name: percent}
# ---
# %% [markdown]
# # Genetic interactions with BioDSNN
#
# Two genes perturbed together can do more, less or something else than the sum of what each does alone. This tutorial
# trains BioDSNN on a screen, asks it for pairs that it has not seen, and draws every figure of the paper in one call
# each: first on a simulated screen of which we know the truth, then on CRISPRa in K562.
#
# ```
# python tutorials/genetic_interactions.py [--out DIR] [--norman PATH] [--priors DIR] [--quick]
# ```
#
# Pictures and tables are written to `DIR`. Either part takes under three minutes of one core. `--quick` trains for a
# few epochs only: it shows that everything runs, its numbers mean nothing. The second part is left out where its files
# are not there.
#
# **How to read the figures.** *Seen* counts the genes of a pair that were measured alone in training: 2/2, 1/2 or 0/2.
# Beside the model stands `AdditiveShrunk`, the sum of the measured singles, shrunken by their noise; where a gene was
# not measured, its neighbours in the networks stand in. BioDSNN starts from exactly this sum and adds its own part
# times a *gate*. Where the gate is 0 the two are equal to the last bit, and their points lie at the same place.

# %%
import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

import scperturb_modules as spm

SHARED = Path("../shared")
SMALL = {"n_members": 1, "n_folds": 2}
"""Fewer members and folds than usual, to be done sooner."""
PAIR_LEVELS = {"pair_2of2": "2/2", "pair_1of2": "1/2", "pair_0of2": "0/2"}

parser = argparse.ArgumentParser(description="Genetic interactions with BioDSNN, simulated and measured.")
parser.add_argument("--out", type=Path, default=Path("results/genetic_interactions"), help="for pictures and tables")
parser.add_argument("--norman", type=Path, default=SHARED / "data/norman_mcfaline_devel/devel_with_counts.h5ad")
parser.add_argument("--priors", type=Path, default=SHARED / "priors", help="folder of GO and Reactome")
parser.add_argument("--quick", action="store_true", help="a few epochs only; the numbers mean nothing")
chosen = parser.parse_known_args()[0]  # a notebook has arguments of its own
chosen.out.mkdir(parents=True, exist_ok=True)


# %% [markdown]
# Helpers: to save a picture, to train a predictor, to name the singles of pairs, to find the strongest pair of each
# level, and to collect numbers in tables.


# %%
def save(ax: Axes, name: str) -> None:
    """Write the figure of some axes."""
    ax.figure.savefig(chosen.out / f"{name}.png", dpi=130)
    plt.close(ax.figure)
    print(f"  {chosen.out / name}.png")


def trained(kind: Any, adata: ad.AnnData, priors: Any, **settings: Any) -> Any:
    """A predictor after training."""
    kind.setup_anndata(adata)
    model = kind(adata, priors=priors, **settings)
    model.train(**{"max_epochs": 2} if chosen.quick and not kind.is_baseline else {})
    return model


def with_singles(pairs: Iterable[str]) -> list[str]:
    """Pairs and their genes: a score of a predicted pair needs predicted singles."""
    names = list(pairs)
    return [*names, *sorted({gene for name in names for gene in name.split("+")})]


def strongest(truth: ad.AnnData, seen: pd.Series) -> dict[str, str]:
    """Of each level the pair with the largest measured change."""
    size = truth.to_df(layer="delta").pow(2).sum(axis=1)
    return {level: size[seen.index[seen == level]].idxmax() for level in PAIR_LEVELS if (seen == level).any()}


def scores(predictions: dict[str, ad.AnnData], truth: ad.AnnData) -> pd.DataFrame:
    """What `spm.pl.score_by_seen` draws, for several predictors; singles that were not measured have no score."""
    metrics = ["mse_de20", "pearson_delta", "within5_de20", "l2_top1000"]
    scored = [one[one.obs_names.isin(truth.obs_names)] for one in predictions.values()]
    return pd.concat([spm.tl.evaluate(one, truth, metrics=metrics) for one in scored])


def means(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean of each metric by level and predictor, and the number of conditions."""
    plain = frame.astype({"regime": str, "metric": str, "model": str})
    table = plain.pivot_table(index=["regime", "model"], columns="metric", values="value")
    return table.assign(n=plain.groupby(["regime", "model"])["condition"].nunique()).round(3)


def agreement(predicted: dict[str, pd.DataFrame], observed: pd.DataFrame, seen: pd.Series) -> pd.DataFrame:
    """Correlation of magnitudes, and right calls among the first 20 (or half), by predictor and level."""
    levels = {"all": list(observed.index)}
    levels |= {text: list(seen.index[seen == level]) for level, text in PAIR_LEVELS.items() if (seen == level).any()}
    lines = []
    for name, table in predicted.items():
        for level, pairs in levels.items():
            found = spm.tl.interaction_agreement(
                table.loc[pairs], observed.loc[pairs], n_top=max(1, min(20, len(pairs) // 2))
            )
            line = found.scores.loc["magnitude", ["n", "pearson", "pearson_lower", "pearson_upper"]].to_dict()
            line |= {f"right_{kind}": found.top.loc[kind, "precision"] for kind in ("synergy", "suppression")}
            n_top, n = found.top.loc["synergy", ["n_top", "n"]]
            lines.append({"predictor": name, "seen": level, **line, "chance": n_top / n})
    return pd.DataFrame(lines).round(2)


# %% [markdown]
# # 1. A screen whose truth is known
#
# 40 genes, 260 pairs. How two genes interact depends on the modules that they belong to, so it can be learned; half of
# the pairs are plain sums. A quarter of the genes is unseen: none of their conditions trains.


# %%
print("1. Simulated screen")
adata = spm.datasets.simulate(
    "default", seed=0, n_genes=200, n_pairs=60 if chosen.quick else 260, n_cells=60, effect_scale=3.0
)
spm.pp.split(adata, "unseen_gene", seed=0)
truth = spm.pp.pseudobulk(adata)
is_test = truth.obs["split"] == "test"
test_pairs = [name for name in truth.obs_names[is_test] if "+" in name]

# %% [markdown]
# What is known before: the simulator's network, in which 30 % of the genes are absent, and its modules as pathways. The
# two families of modules above them are made up, so that there is a level to walk up to.

# %%
modules = {f"module {number}": list(genes) for number, genes in adata.var_names.groupby(adata.var["module"]).items()}
parents = pd.DataFrame({"parent": ["family A", "family B"] * (len(modules) // 2), "child": list(modules)})
pathways = spm.priors.reactome(None, modules, parents)
network = adata.uns["scperturb_modules"]["simulation"]["graph_partial"]
priors = {"network": network, "modules": pathways}

# %%
model = trained(spm.BioDSNN, adata, priors, **SMALL)
print(model.summary())
asked = list(dict.fromkeys([*truth.obs_names[is_test], *with_singles(test_pairs)]))
predictions = {"BioDSNN": model.predict(asked)}
for kind in (spm.baselines.AdditiveShrunk, spm.baselines.MeanShift):
    predictions[kind.__name__] = trained(kind, adata, priors).predict(asked)

# %% [markdown]
# The line `gates` of the summary comes first: on levels with gate 0 the network did not lower the error of left-out
# conditions, and what follows is the plain anchor there.
#
# ## How large is the error, by how much was seen?
#
# Fewer than ten conditions have no bar. The share within 5 % of the true mean rewards a prediction of no change where
# effects are small: read it beside the other two.

# %%
frame = scores(predictions, truth)
means(frame).to_csv(chosen.out / "simulated_scores.csv")
print(means(frame).to_string())
for metric in ("mse_de20", "pearson_delta", "within5_de20"):
    save(spm.pl.score_by_seen(frame, metric=metric, models=list(predictions)), f"simulated_{metric}")

# %% [markdown]
# ## Genetic interactions, predicted against observed
#
# A plain sum has the magnitude 1.41 without noise; noise of the singles lowers it. `noise=truth` puts the measured
# noise on predictions, so that the two can be compared. Where the prediction is a sum, its magnitudes differ by
# that noise and by the offset that all pairs share, and rank little.
#
# The usual threshold of synergy, 1.15, was chosen on a screen with more noise. Here it would call most of the planted
# sums synergistic, as the first of the two tables shows. Noise lowers magnitudes, so 1.41 is a safe threshold.

# %%
seen = predictions["BioDSNN"].obs.loc[test_pairs, "seen"].astype(str)
planted = adata.uns["scperturb_modules"]["simulation"]["pairs"]
planted = pd.Series(planted["gi_class"].to_numpy(), index=planted["first"] + "+" + planted["second"], name="planted")
usual = spm.tl.genetic_interactions(truth, pairs=test_pairs)
limits = {"synergy": 1.41}
observed = spm.tl.genetic_interactions(truth, pairs=test_pairs, thresholds=limits)
for one in (usual, observed):
    print(pd.crosstab(planted[test_pairs], one["label"].replace("", "(none)")).to_string())
predicted = {
    name: spm.tl.genetic_interactions(
        predictions[name], pairs=test_pairs, noise=truth, genes=observed.attrs["genes"], thresholds=limits
    )
    for name in ("BioDSNN", "AdditiveShrunk")
}
table = agreement(predicted, observed, seen)
table.to_csv(chosen.out / "simulated_agreement.csv", index=False)
print(table.to_string(index=False))
predicted["BioDSNN"].join(observed, rsuffix="_observed").assign(seen=seen).to_csv(
    chosen.out / "simulated_interactions.csv"
)
save(spm.pl.genetic_interactions(predicted["BioDSNN"], observed=observed), "simulated_magnitude")
both_seen = list(seen.index[seen == "pair_2of2"])
save(
    spm.pl.genetic_interactions(predicted["BioDSNN"].loc[both_seen], observed=observed.loc[both_seen]),
    "simulated_magnitude_2of2",
)

# %% [markdown]
# ## The surest calls of synergy and of suppression
#
# The twenty largest and the twenty smallest predicted magnitudes of all pairs, then the ten of the pairs whose genes
# were both seen. A call is right where the pair is among as many of the truth; beside the share of right calls stands
# that of a random list. Calls are ranks: the tenth largest magnitude need not lie beyond a threshold.

# %%
save(spm.pl.interaction_calls(predicted["BioDSNN"], observed, n_top=20), "simulated_calls")
save(
    spm.pl.interaction_calls(predicted["BioDSNN"].loc[both_seen], observed.loc[both_seen], n_top=10),
    "simulated_calls_2of2",
)

# %% [markdown]
# ## The most affected genes of one pair per level

# %%
shown = {name: predictions[name] for name in ("BioDSNN", "AdditiveShrunk")}
examples = strongest(truth, seen)
for level, pair in examples.items():
    save(spm.pl.affected_genes(adata, shown, pair), f"simulated_genes_{level}")

# %% [markdown]
# ## Pathways: attention, and the way from the most changed genes up
#
# Attention says where the network looks, not what regulates what. It is the share that the genes of a pathway give to
# each other, 0 to 1; what they give less to each other stays with themselves. Mind the axis: changes can be tiny.

# %%
pair = examples["pair_2of2"]
attention = model.get_pathway_attention([pair])
attention.to_csv(chosen.out / "simulated_pathway_attention.csv", index=False)
save(spm.pl.pathway_attention(attention, pair), "simulated_pathway_attention")
changes = predictions["BioDSNN"].to_df(layer="delta").loc[pair]
top_genes = changes.abs().nlargest(20).index
save(spm.pl.pathway_walk(pathways, top_genes, changes=changes[top_genes]), "simulated_pathway_walk")

# %% [markdown]
# ## What each part is worth
#
# Every ablation is a model of its own, trained and judged on the same split of a smaller screen. `noVAE` is equal to
# `BioDSNN`: the autoencoder shapes cells, not means. One split of one screen ranks nothing that lies within the
# intervals.

# %%
small = spm.datasets.simulate(
    "default", seed=1, n_genes=80, n_perturbable=20, n_pairs=80, n_cells=40, n_controls=300, effect_scale=3.0
)
small_modules = {
    f"module {number}": list(genes) for number, genes in small.var_names.groupby(small.var["module"]).items()
}
small_priors = {
    "network": small.uns["scperturb_modules"]["simulation"]["graph_partial"],
    "modules": spm.priors.gene_sets(small_modules),
}
ablations = spm.BioDSNN.ablations(**SMALL)
if chosen.quick:
    ablations = {name: ablations[name] for name in ("BioDSNN", "noVAE")}
board = spm.tl.benchmark(
    small,
    {**ablations, "AdditiveShrunk": spm.baselines.AdditiveShrunk},
    scheme="combination",
    n_folds=1,
    priors=small_priors,
    metrics=["l2_top1000", "mse_de20"],
)
summary = board.summary()
summary.to_csv(chosen.out / "simulated_ablations.csv", index=False)
print(summary[["metric", "model", "mean", "ci_low", "ci_high", "n"]].round(3).to_string(index=False))


# %% [markdown]
# # 2. CRISPRa in K562
#
# A subset of Norman et al. (2019): 100 cells per condition, 500 genes, 18 singles, all of which train, and 15 pairs,
# all of which are tested. Of 5 pairs both genes were measured alone, of 3 one, of 7 none. What is known before: genes
# with similar GO annotations, and Reactome.
#
# **Fifteen pairs decide nothing, for or against a model.** No pair trains, so there are no left-out pairs to fit a gate
# on: all gates of pairs stay 0, `obs["status"]` says `too_few_for_gate`, and the predictions of pairs are those of
# `AdditiveShrunk` to the last bit. `BioDSNN, no gate` is what the network would have said. Compare its squared error
# with its share within 5 %: the share can rise while the error does, which is why it is no primary metric.


# %%
def norman(path: Path) -> ad.AnnData:
    """K562 cells: all singles train, all pairs test; of 100 controls none is held out."""
    cells = ad.read_h5ad(path)
    cells = cells[cells.obs["dataset"] == "norman19"].copy()
    spm.pp.standardize_perturbations(cells, "condition", overwrite=True)
    labels = cells.obs["perturbation"].cat.categories.drop("control")
    parts = {label: "test" if "+" in label else "train" for label in labels}
    spm.pp.split(cells, "custom", assignment=parts, holdout_controls=0)
    return cells


def known(genes: Sequence[str], folder: Path) -> dict[str, Any]:
    """Similarity of GO annotations, and Reactome."""
    names = spm.priors.GeneNames.from_tables(folder / "gene_ids.tsv.gz", folder / "gene_alias.tsv.gz")
    go = spm.priors.gene_ontology(
        genes, folder / "go_gene2term.tsv.gz", folder / "go_terms.tsv.gz", aspects=("BP", "MF", "CC"), names=names
    )
    reactome = spm.priors.reactome(
        genes, folder / "reactome_pathways.gmt.gz", folder / "reactome_pathway_relation.tsv.gz", names=names
    )
    return {"GO": go, "Reactome": reactome}


# %%
if not chosen.norman.exists() or not chosen.priors.exists():
    raise SystemExit(f"2. left out: there is no {chosen.norman} or no {chosen.priors}; give --norman and --priors.")
print("2. CRISPRa in K562")
adata = norman(chosen.norman)
truth = spm.pp.pseudobulk(adata)
test_pairs = [name for name in truth.obs_names if "+" in name]
priors = known(sorted({*adata.var_names, *with_singles(test_pairs), *truth.obs_names} - set(test_pairs)), chosen.priors)
model = trained(spm.BioDSNN, adata, priors, **SMALL)
print(model.summary())

# %%
asked = with_singles(test_pairs)
predictions = {"BioDSNN": model.predict(asked), "BioDSNN, no gate": model.predict(asked, gate=False, store=False)}
predictions["BioDSNN, no gate"].uns["scperturb_modules"]["prediction"]["model"] = "BioDSNN, no gate"
for kind in (spm.baselines.AdditiveShrunk, spm.baselines.MeanShift):
    predictions[kind.__name__] = trained(kind, adata, priors).predict(asked)
print(predictions["BioDSNN"].obs.loc[test_pairs, ["seen", "gate", "status"]].to_string())

# %% [markdown]
# ## The same figures
#
# With three to seven conditions per level the errors have no bars.

# %%
frame = scores(predictions, truth)
means(frame).to_csv(chosen.out / "norman_scores.csv")
print(means(frame).to_string())
for metric in ("mse_de20", "pearson_delta", "within5_de20"):
    save(spm.pl.score_by_seen(frame, metric=metric, models=list(predictions)), f"norman_{metric}")

# %% [markdown]
# Magnitudes need measured singles, which 5 pairs have; `status` names what the others lack. Of these five, at most a
# few genes change by the usual test: they get scores and intervals, but no class. Their magnitudes lie below .9 because
# the singles are mostly noise, not because they suppress each other.

# %%
seen = predictions["BioDSNN"].obs.loc[test_pairs, "seen"].astype(str)
observed = spm.tl.genetic_interactions(truth, cells=adata)
print(observed[["magnitude", "magnitude_lower", "magnitude_upper", "label", "firm", "status"]].round(2).to_string())
predicted = {
    name: spm.tl.genetic_interactions(one, pairs=test_pairs, noise=truth, genes=observed.attrs["genes"])
    for name, one in predictions.items()
}
table = pd.DataFrame({name: one["magnitude"] for name, one in predicted.items()})
table.assign(observed=observed["magnitude"], seen=seen).to_csv(chosen.out / "norman_interactions.csv")
save(spm.pl.genetic_interactions(predicted["BioDSNN"], observed=observed), "norman_magnitude")
save(spm.pl.interaction_calls(predicted["BioDSNN"], observed), "norman_calls")

# %%
shown = {name: predictions[name] for name in ("BioDSNN", "AdditiveShrunk", "BioDSNN, no gate")}
examples = strongest(truth, seen)
for level, pair in examples.items():
    save(spm.pl.affected_genes(adata, shown, pair), f"norman_genes_{level}")

# %% [markdown]
# Under a closed gate attention has moved no number of the prediction, and pathways of two or three measured genes come
# out on top easily: nothing to build on. The walk needs no network, only the predicted changes and Reactome.

# %%
pair = examples["pair_2of2"]
attention = model.get_pathway_attention([pair])
attention.to_csv(chosen.out / "norman_pathway_attention.csv", index=False)
save(spm.pl.pathway_attention(attention, pair), "norman_pathway_attention")
changes = predictions["BioDSNN"].to_df(layer="delta").loc[pair]
top_genes = changes.abs().nlargest(20).index
save(spm.pl.pathway_walk(priors["Reactome"], top_genes, changes=changes[top_genes]), "norman_pathway_walk")

# %% [markdown]
# Where to go on: [BioDSNN](../docs/models/biodsnn.md) tells what the model computes and when it fails, [genetic
# interactions](../docs/interactions.md) what each score means.
