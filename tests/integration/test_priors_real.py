"""What fused priors tell of targets that were not measured, on the screen of Papalexi."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

import scperturb_modules as spm

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def runs():
    """benchmarks/priors_runs.py, imported as the scripts import their neighbours."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("priors_runs")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def adata(runs, shared_data):
    return runs.SCREENS["papalexi"].load()


@pytest.fixture(scope="module")
def three(runs, adata, shared_priors):
    """The sources that are recommended, with all of their genes; targets keep the names of the screen."""
    targets = sorted(runs.perturbed_genes(adata))
    names = spm.priors.GeneNames.from_tables(shared_priors / "gene_ids.tsv.gz", shared_priors / "gene_alias.tsv.gz")
    genes = names.symbols.difference(names.translate(targets)["symbol"]).union(targets)
    annotations, terms = (shared_priors / name for name in ("go_gene2term.tsv.gz", "go_terms.tsv.gz"))
    pathways, relations = (
        shared_priors / name for name in ("reactome_pathways.gmt.gz", "reactome_pathway_relation.tsv.gz")
    )
    edges = shared_priors / "string_v12_scored_no_textmining.tsv.gz"
    return spm.priors.as_sources(
        {
            "GO": spm.priors.go_sets(genes, annotations, terms, aspects=("BP", "MF", "CC"), names=names),
            "Reactome": spm.priors.reactome(genes, pathways, relations, names=names),
            "STRING": spm.priors.interactions(edges, genes, names=names),
        }
    )


@pytest.fixture(scope="module")
def found(runs, adata, three):
    """Each of the 25 targets left out once."""
    contenders = {
        "NoChange": (spm.baselines.NoChange, {}),
        "MeanShift": (spm.baselines.MeanShift, {}),
        "fused": (spm.baselines.NearestPrior, three),
    }
    screen = runs.SCREENS["papalexi"]
    return runs.left_out(adata, contenders, n_folds=screen.n_folds, **screen.columns)


def test_fused_priors_lower_the_error_of_unmeasured_targets(found):
    """L2 over the 299 genes; settings and weights are learned from the other targets alone."""
    table = found.errors.pivot(index="target", columns="predictor", values="L2")
    assert table.shape == (25, 3)
    mean = table.mean()
    assert mean["NoChange"] == pytest.approx(1.359, abs=0.002)
    assert mean["MeanShift"] == pytest.approx(1.441, abs=0.002)
    assert mean["fused"] <= 1.28


def test_every_target_is_known_under_the_name_of_the_screen(found):
    fused = found.errors[found.errors["predictor"] == "fused"]
    assert "MARCH8" in set(fused["target"])
    assert (fused["known"] == 1).all()


def test_weights_are_learned_in_every_fold(found):
    """Three sources and the mean, which share one mean."""
    weights = found.learned.pivot(index="fold", columns="source", values="weight")
    assert weights.shape == (25, 4)
    assert weights.sum(axis=1).to_numpy() == pytest.approx(1.0)
    assert weights.mean().idxmax() == "GO"
