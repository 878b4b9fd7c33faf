"""Singles that were not measured, predicted from each source of prior knowledge: what `make bench-priors` computes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from real import datlinger, norman_k562, papalexi
from real_priors import FOLDER, perturbed_genes

import scperturb_modules as spm
from scperturb_modules.metrics import PRIMARY

BASE = "MeanFitted"
RECOMMENDED = ("GO", "Reactome", "STRING")
FUSED, EVERYTHING = "GO + Reactome + STRING", "all sources"
TRUE, PARTIAL, DECOY, BOTH = "true network", "partial network", "decoy network", "true + decoy network"
SEEDS = range(5)
ONE_CONTEXT = "all"
"""Name of the context of a screen that has one, as in what a baseline has fitted."""

Contenders = Mapping[str, tuple[type[spm.baselines.Baseline], Mapping[str, Any]]]
"""Predictor and its priors, by the name of the row."""


@dataclass(frozen=True)
class Screen:
    """A real screen and how its targets are left out."""

    load: Callable[[], ad.AnnData]
    n_folds: int
    columns: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Runs:
    """What the predictors did with targets that were left out.

    Attributes
    ----------
    errors
        A row per target, context and predictor: ``target``, ``context``, ``predictor``, ``L2``, and ``known``: 1 where
        one of its priors knows the target, 0 where none does, NaN without priors.
    learned
        A row per fold, context, predictor and source: ``weight``, ``view``, ``power``, ``pseudo_count``; the base is
        one of the sources. A source that joins no two training targets has no row.
    """

    errors: pd.DataFrame
    learned: pd.DataFrame

    @classmethod
    def joined(cls, parts: Iterable[Runs]) -> Runs:
        """All rows of all parts."""
        several = list(parts)
        return cls(*(pd.concat([getattr(one, name) for one in several]) for name in ("errors", "learned")))

    def of(self, context: str) -> Runs:
        """The rows of one context."""
        return Runs(*(table[table["context"] == context] for table in (self.errors, self.learned)))


def norman_singles() -> ad.AnnData:
    """CRISPRa in K562 without the pairs, which would be left out with their genes."""
    return singles_of(norman_k562())


def singles_of(adata: ad.AnnData) -> ad.AnnData:
    return adata[~adata.obs["perturbation"].astype(str).str.contains("+", regex=False)].copy()


SCREENS: Mapping[str, Screen] = {
    "papalexi": Screen(papalexi, 25, {"batch_key": "replicate"}),
    "norman": Screen(norman_singles, 18),
    "datlinger": Screen(datlinger, 20, {"cell_type_key": "stimulation"}),
}


def knowledge(targets: Iterable[str]) -> dict[str, Any]:
    """Each source with all of its genes, so that what is rare stays rare; targets keep the names that they have."""
    names = spm.priors.GeneNames.from_tables(FOLDER / "gene_ids.tsv.gz", FOLDER / "gene_alias.tsv.gz")
    whole = {"names": names, "keep_others": True}
    return {
        "GO": spm.priors.go_sets(
            targets, FOLDER / "go_gene2term.tsv.gz", FOLDER / "go_terms.tsv.gz", aspects=("BP", "MF", "CC"), **whole
        ),
        "Reactome": spm.priors.reactome(
            targets, FOLDER / "reactome_pathways.gmt.gz", FOLDER / "reactome_pathway_relation.tsv.gz", **whole
        ),
        "STRING": spm.priors.interactions(FOLDER / "string_v12_scored_no_textmining.tsv.gz", targets, **whole),
        "hu.MAP": spm.priors.interactions(FOLDER / "humap_pairs.tsv.gz", targets, **whole),
        "SIGNOR": spm.priors.interactions(FOLDER / "signor_pairs.tsv.gz", targets, directed=True, **whole),
        "TRRUST": spm.priors.regulons(FOLDER / "trrust_human.tsv.gz", targets, **whole),
        "DoRothEA": spm.priors.regulons(FOLDER / "dorothea_hs_ABCD.tsv.gz", targets, **whole),
        "Hallmark": spm.priors.gene_sets(FOLDER / "msigdb_hallmark_v7.0.gmt.gz", targets, **whole),
        "WikiPathways": spm.priors.gene_sets(FOLDER / "wikipathways_2019_human.gmt.gz", targets, **whole),
    }


@cache
def real_sources() -> Mapping[str, Any]:
    """The knowledge for all real screens, in the forms that predictors use, so that no fold computes them anew."""
    targets = set[str]().union(*(perturbed_genes(screen.load()) for screen in SCREENS.values()))
    return spm.priors.as_sources(knowledge(sorted(targets)))


def real_contenders(sources: Mapping[str, Any]) -> Contenders:
    three = {name: sources[name] for name in RECOMMENDED}
    return {
        **_without_priors(),
        **{name: (spm.baselines.NearestPrior, {name: source}) for name, source in sources.items()},
        FUSED: (spm.baselines.NearestPrior, three),
        EVERYTHING: (spm.baselines.NearestPrior, sources),
        "KernelRidge": (spm.baselines.KernelRidge, three),
        "EmbeddingLinear": (spm.baselines.EmbeddingLinear, three),
    }


def simulated_contenders(adata: ad.AnnData) -> Contenders:
    truth = adata.uns["scperturb_modules"]["simulation"]
    graphs = {TRUE: truth["graph"], PARTIAL: truth["graph_partial"], DECOY: truth["graph_decoy"]}
    sources = spm.priors.as_sources(graphs)
    return {
        **_without_priors(),
        **{name: (spm.baselines.NearestPrior, {name: source}) for name, source in sources.items()},
        BOTH: (spm.baselines.NearestPrior, {name: sources[name] for name in (TRUE, DECOY)}),
    }


def _without_priors() -> Contenders:
    plain = (spm.baselines.NoChange, spm.baselines.MeanShift, spm.baselines.MeanFitted)
    return {one.name: (one, {}) for one in plain}


def run_screen(name: str) -> Runs:
    """Leave each target of a real screen out once."""
    screen = SCREENS[name]
    return left_out(screen.load(), real_contenders(real_sources()), n_folds=screen.n_folds, **screen.columns)


def run_simulated() -> Runs:
    """Leave a fifth of the singles of each simulated screen out; a target is that of its seed."""
    parts = []
    for seed in SEEDS:
        adata = spm.datasets.simulate(seed=seed)
        runs = left_out(singles_of(adata), simulated_contenders(adata), n_folds=5)
        parts.append(Runs(runs.errors.assign(target=f"seed {seed}: " + runs.errors["target"]), runs.learned))
    return Runs.joined(parts)


def left_out(adata: ad.AnnData, contenders: Contenders, *, n_folds: int, **columns: str) -> Runs:
    """Predict every single from the others; controls are shared (the published protocol)."""
    truth, screen = spm.pp.pseudobulk(adata, **columns), adata.copy()
    errors, learned = [], []
    for fold in range(n_folds):
        spm.pp.split(
            screen, "unseen_single", n_folds=n_folds, fold=fold, holdout_controls=0.0, overwrite=True, **columns
        )
        training = spm.pp.pseudobulk(screen, cells="training", **columns)
        rows = [row for row in truth.obs_names if row not in training.obs_names]
        for name, (predictor, priors) in contenders.items():
            model = predictor(training, priors=priors)
            model.train()
            scored = spm.tl.evaluate(model.predict(rows), truth, metrics=[PRIMARY])
            known = (scored["status"] == "ok").astype(float) if priors else np.nan
            errors.append(scored.assign(predictor=name, known=known))
            learned += [{"fold": fold, "predictor": name, **facts} for facts in _learned(model.fitted)]
    scores = pd.concat(errors, ignore_index=True).rename(
        columns={"condition": "target", "stratum": "context", "value": "L2"}
    )
    scores["context"] = scores["context"].astype(str).replace("", ONE_CONTEXT)
    return Runs(scores[["target", "context", "predictor", "L2", "known"]], pd.DataFrame(learned))


def _learned(fitted: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """One row per context and source, the base among them; nothing of predictors that learn nothing of priors."""
    for context, facts in fitted.get("neighbours", {}).items():
        yield {"context": context, "source": BASE, "weight": facts["base_weight"]}
        for source, fit in facts["sources"].items():
            chosen = {key: fit[key] for key in ("weight", "view", "power", "pseudo_count")}
            yield {"context": context, "source": source, **chosen}
