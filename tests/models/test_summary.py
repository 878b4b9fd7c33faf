"""What a model tells of itself."""

from __future__ import annotations

import numpy as np
import pandas as pd

from scperturb_modules.models._storage import sha256_of
from scperturb_modules.models._summary import priors_table
from scperturb_modules.priors import GeneGraph


def test_the_summary_counts_every_case(screen, toy_class, priors):
    screen.obs["perturbation"] = screen.obs["perturbation"].replace({"G07": "TP53", "G03": "X01"})
    toy_class.setup_anndata(screen)
    model = toy_class(screen, priors=priors, width=3)
    text = model.summary()
    assert text.splitlines()[0] == "Toy, not trained"
    assert "data: 9 training conditions, 12 genes" in text
    assert "ppi (network, 10 genes, covers 9 of 13, 69%)" in text
    assert "perturbed genes: 9; 2 not measured ('TP53', 'X01'); 1 isolated in every network ('TP53')" in text
    assert "1 known nowhere ('TP53')" in text
    assert "network: 24 parameters" in text and "training:" not in text
    assert repr(model) == model.summary_string == text


def test_a_trained_model_tells_of_its_training(trained):
    text = repr(trained)
    assert text.startswith("Toy, trained")
    assert f"3 epochs, validation loss {trained.fit_result.best_score:.4g} in epoch" in text
    assert "gate: all 0.5" in text


def test_without_priors_and_with_contexts(make_screen, toy_class):
    adata = make_screen(contexts=("k562", "rpe1"))
    toy_class.setup_anndata(adata, cell_type_key="cell_type")
    text = repr(toy_class(adata))
    assert "18 training conditions in 2 contexts ('k562', 'rpe1'), 12 genes" in text
    assert "priors: none" in text and "isolated" not in text


def test_the_fingerprint_of_a_prior_is_that_of_its_content():
    table = pd.DataFrame({"x": [1.0, np.nan, -0.0]}, index=["B", "A", "C"])
    same = pd.DataFrame({"other": [0.0, 1.0, np.nan]}, index=["C", "B", "A"])
    assert sha256_of(table) == sha256_of(same)
    assert sha256_of(table) != sha256_of(table.rename(index={"A": "D"}))
    assert sha256_of(table) != sha256_of(table * 2)
    network = GeneGraph.from_table(pd.DataFrame({"source": ["A"], "target": ["B"]}))
    assert sha256_of(network) == network.sha256()
    found = priors_table({"net": network, "tab": table}, frozenset({"A", "Z"}))
    assert found["n_matched"].tolist() == [1, 1] and found["n_genes"].tolist() == [2, 3]
    assert found["sha256"].tolist() == [sha256_of(network), sha256_of(table)]
