"""Coverage of perturbed and measured genes, against plain sets and loops, and on real screens and priors."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.pp import pseudobulk
from scperturb_modules.priors import GeneGraph
from scperturb_modules.priors._coverage import STATES, coverage
from scperturb_modules.priors._gene_sets import GeneSets

GENES = [f"G{i:02d}" for i in range(40)]
COUNTS = [f"{which}_{state}" for which in ("perturbed", "measured") for state in STATES]


def screen_of(labels, measured, **obs):
    from anndata import AnnData

    obs = pd.DataFrame({"perturbation": labels, **obs}, index=[f"cell{i}" for i in range(len(labels))])
    return AnnData(sparse.csr_matrix((len(obs), len(measured))), obs=obs, var=pd.DataFrame(index=list(measured)))


def draw(seed):
    """A screen of singles and pairs with a split, and a prior of each kind."""
    rng = np.random.default_rng(seed)
    labels = ["control", *("+".join(sorted(rng.choice(GENES, rng.integers(1, 3), replace=False))) for _ in range(14))]
    cells = rng.choice(labels, 200)
    parts = dict(zip(labels, rng.choice(["train", "val", "test"], len(labels)), strict=True)) | {"control": "train"}
    screen = screen_of(cells, rng.choice(GENES, 15, replace=False), split=[parts[label] for label in cells])
    networks = {}
    for name, directed in (("ppi", False), ("grn", True)):
        some = rng.choice(GENES, 20, replace=False)
        table = pd.DataFrame(rng.choice(some, (25, 2)), columns=["source", "target"])
        table.attrs.update(directed=directed, isolated=[gene for gene in some if gene not in table.to_numpy()])
        networks[name] = GeneGraph.from_table(table, name=name)
    in_sets = sorted(rng.choice(GENES, 18, replace=False))
    members = rng.random((18, 3)) < 0.25
    sets = GeneSets("sets", tuple(in_sets), ("x", "y", "z"), sparse.csr_array(members.astype(float)))
    features = pd.DataFrame(rng.normal(size=(17, 2)), index=rng.choice(GENES, 17, replace=False))
    features.iloc[::4, 1] = np.nan
    return screen, {**networks, "sets": sets, "features": features}


def slowly_known(prior):
    """Gene -> whether the prior says something of it."""
    if isinstance(prior, GeneGraph):
        ends = {prior.genes[i] for i in [*prior.source, *prior.target]}
        return {gene: gene in ends for gene in prior.genes}
    if isinstance(prior, GeneSets):
        return {gene: bool(prior.membership.toarray()[i].any()) for i, gene in enumerate(prior.genes)}
    return {gene: True for gene, row in prior.iterrows() if not any(np.isnan(value) for value in row)}


def slowly_state(prior, gene):
    known = slowly_known(prior)
    return "unknown" if gene not in known else "covered" if known[gene] else "isolated"


@pytest.mark.parametrize("seed", range(6))
def test_tables_equal_plain_sets(seed):
    screen, priors = draw(seed)
    found = coverage(screen, priors)
    of_cell = [set() if label == "control" else set(label.split("+")) for label in screen.obs["perturbation"]]
    perturbed = sorted(set().union(*of_cell))
    assert list(found.genes.index) == perturbed == list(found.states.index)
    cells = zip(screen.obs["perturbation"], of_cell, screen.obs["split"], strict=True)
    trained = [(label, genes) for label, genes, part in cells if part != "test"]
    trained_genes = set().union(*(genes for _, genes in trained))
    for gene in perturbed:
        row = found.genes.loc[gene]
        states = {name: slowly_state(prior, gene) for name, prior in priors.items()}
        assert found.states.loc[gene].to_dict() == states
        assert row["status"] == min(states.values(), key=STATES.index)
        assert row["n_priors"] == list(states.values()).count("covered")
        neighbours = set()
        for prior in (priors["ppi"], priors["grn"]):
            pairs = {(prior.genes[i], prior.genes[j]) for i, j in zip(prior.source, prior.target, strict=True)}
            neighbours |= {b for a, b in pairs if a == gene} | {a for a, b in pairs if b == gene}
        assert row["n_neighbours"] == len(neighbours)
        assert row["n_trained_neighbours"] == len(neighbours & trained_genes)
        assert row["measured"] == (gene in screen.var_names)
        assert row["n_training_cells"] == sum(gene in genes for _, genes in trained)
        assert row["n_training_conditions"] == len({label for label, genes in trained if gene in genes})
    for name, prior in priors.items():
        groups = (perturbed, screen.var_names)
        expected = [[slowly_state(prior, gene) for gene in group].count(state) for group in groups for state in STATES]
        assert found.sources.loc[name, COUNTS].tolist() == expected
        assert found.sources.loc[name, "n_genes"] == len(slowly_known(prior))
    assert found.sources["kind"].tolist() == ["network", "network", "sets", "table"]


def test_the_random_inputs_hold_every_case():
    found = [coverage(*draw(seed)) for seed in range(6)]
    states = pd.concat([one.states for one in found])
    assert all(set(STATES) <= set(states[name]) for name in ("ppi", "grn", "sets"))
    genes = pd.concat([one.genes for one in found])
    assert set(genes["status"]) == set(STATES) and set(genes["measured"]) == {True, False}
    assert (genes["n_training_cells"] == 0).any() and genes["n_trained_neighbours"].max() > 1


def test_a_pseudobulk_tells_what_its_cells_tell(screen):
    network = pd.DataFrame({"source": ["G01", "G02", "G05"], "target": ["G02", "G09", "X"]})
    held_out = screen.obs["perturbation"].isin(["G01+G02", "G03"])
    screen.obs["split"] = np.where(held_out, "test", "train")
    of_cells, of_conditions = coverage(screen, network), coverage(pseudobulk(screen), network)
    pd.testing.assert_frame_equal(of_cells.genes, of_conditions.genes)
    pd.testing.assert_frame_equal(of_cells.sources, of_conditions.sources)
    columns = ["n_neighbours", "n_trained_neighbours", "n_training_conditions", "n_training_cells"]
    assert of_cells.genes.loc[["G01", "G03"], columns].to_numpy().tolist() == [[1, 1, 2, 80], [0, 0, 1, 40]]


def test_labels_of_one_condition_in_another_order_count_once():
    found = coverage(screen_of(["ctrl", "A+B", "B+A", "A+ctrl"], ["A"]), None, control="ctrl")
    assert found.genes.loc["A", ["n_training_conditions", "n_training_cells"]].tolist() == [2, 3]
    assert found.genes.index.tolist() == ["A", "B"] and set(found.genes["status"]) == {"unknown"}


def test_other_spellings_are_told_and_not_mapped():
    table = pd.DataFrame({"x": 1.0}, index=["MARCHF8", "STAT1", "JAK2"])
    other = pd.DataFrame({"source": ["MARCH8"], "target": ["STAT1"]})
    aliases = {"MARCH8": ("MARCHF8", "NOTHERE")}
    names = SimpleNamespace(candidates=lambda gene: aliases.get(gene, ()))
    screen = screen_of(["control", "MARCH8", "Stat1", "JAK2", "XYZ"], ["STAT1", "marchf8"])
    found = coverage(screen, {"table": table, "other": other}, names=names)
    assert found.genes["known_as"].to_dict() == {"JAK2": "", "MARCH8": "MARCHF8", "Stat1": "STAT1", "XYZ": ""}
    assert found.states.loc["Stat1"].tolist() == ["unknown", "unknown"]
    assert coverage(screen, table).genes.at["MARCH8", "known_as"] == ""


def test_a_prior_of_other_names_covers_nothing_and_says_so():
    ensembl = pd.DataFrame({"x": [1.0]}, index=["ENSG00000000003"])
    found = coverage(screen_of(["control", "A"], ["A", "B"]), [ensembl])
    assert found.sources.loc["prior_0", COUNTS].tolist() == [0, 0, 1, 0, 0, 2]
    assert "prior_0 (table, 1 genes): 0 of 1 perturbed, 0 of 2 measured" in repr(found)


def test_what_is_printed_names_the_genes_that_need_attention():
    network = pd.DataFrame({"source": ["A"], "target": ["B"]})
    network.attrs.update(name="<ppi>", isolated=["C"])
    found = coverage(screen_of(["control", "A", "C", "D", "b"], ["A", "B"]), [network])
    assert repr(found).splitlines() == [
        "Coverage: 1 of 4 perturbed genes are covered by a prior",
        "  <ppi> (network, 3 genes): 1 of 4 perturbed (1 isolated), 2 of 2 measured",
        "in no prior: 2 ('D', 'b')",
        "isolated: 1 ('C')",
        "known under another name: 1 ('b as B')",
        "not measured: 3 ('C', 'D', 'b')",
    ]
    shown = found._repr_html_()
    assert "<table" in shown and "&lt;ppi&gt;" in shown and "in no prior: 2" in shown


def test_errors_say_what_mends():
    screen = screen_of(["control", "A", None], ["A"])
    with pytest.raises(DataError, match=r"missing in 1 cells \('cell2'\)"):
        coverage(screen, None)
    with pytest.raises(MissingKeyError, match="obs has 'perturbation'"):
        coverage(screen, None, perturbation_key="guide")
    with pytest.raises(MissingKeyError, match=r"'fold'\] does not exist.*spm\.pp\.split"):
        coverage(screen_of(["control", "A"], ["A"]), None, split_key="fold")
    with pytest.raises(DataError, match=r"No cell has the control label 'NT'.*'A', 'control'.*control="):
        coverage(screen_of(["control", "A"], ["A"]), None, control="NT")
    with pytest.raises(DataError, match="no perturbed gene: all 2 rows are 'control'"):
        coverage(screen_of(["control", "control"], ["A"]), None)
    screen = screen_of(["control", "A"], ["A"])
    with pytest.raises(TypeError, match="prior 'x' is a int; pass a GeneGraph"):
        coverage(screen, {"x": 3})
    with pytest.raises(DataError, match="'twice' has 1 genes in more than one row: 'A'"):
        coverage(screen, {"twice": pd.DataFrame({"x": [1.0, 2.0]}, index=["A", "A"])})


def test_nothing_that_is_given_changes():
    screen, priors = draw(0)
    before = screen.obs.copy(), priors["features"].copy()
    found = coverage(screen, priors)
    found.genes["status"] = "changed"
    pd.testing.assert_frame_equal(screen.obs, before[0])
    pd.testing.assert_frame_equal(priors["features"], before[1])
    with pytest.raises(AttributeError):
        found.genes = None


def test_a_genome_wide_screen_is_quick():
    rng = np.random.default_rng(0)
    genes = np.array([f"GENE{i}" for i in range(20_000)])
    ends = genes[rng.integers(len(genes), size=(2, 50_000))]
    network = GeneGraph.from_table(pd.DataFrame({"source": ends[0], "target": ends[1]}))
    screen = screen_of(["control", *genes], genes)
    start = time.process_time()
    found = coverage(screen, {f"prior {i}": network for i in range(6)})
    assert time.process_time() - start < 2.0, "about 0.5 s where nothing else runs"
    assert len(found.genes) == 20_000


def edges(path, **columns):
    table = pd.read_csv(path, sep="\t", keep_default_na=False)
    return table.rename(columns={**columns, "gene_a": "source", "gene_b": "target"})


def genes_in(path, *columns):
    return set(pd.read_csv(path, sep="\t", keep_default_na=False)[list(columns)].to_numpy().ravel())


@pytest.fixture(scope="module")
def norman(shared_data):
    import anndata

    screen = anndata.read_h5ad(shared_data / "norman_mcfaline_devel" / "devel_with_counts.h5ad", backed="r")
    return screen[screen.obs["cell_type"] == "k562"]


def test_norman_against_the_files(norman, shared_priors):
    files = {
        "STRING": ("string_v12_scored_no_textmining.tsv.gz", "gene_a", "gene_b"),
        "SIGNOR": ("signor_pairs.tsv.gz", "source", "target"),
        "HuMAP": ("humap_pairs.tsv.gz", "gene_a", "gene_b"),
        "CORUM": ("corum_pairs.tsv.gz", "gene_a", "gene_b"),
    }
    found = coverage(norman, {name: edges(shared_priors / file) for name, (file, *_) in files.items()})
    assert len(found.genes) == 31 and found.genes["measured"].sum() == 1
    singles = [label for label in norman.obs["perturbation"].unique() if "+" not in label and label != "control"]
    assert len(singles) == 18
    for (name, (file, *columns)), n_singles in zip(files.items(), (18, 13, 9, 6), strict=True):
        known = genes_in(shared_priors / file, *columns)
        assert found.sources.at[name, "perturbed_covered"] == len(known & set(found.genes.index))
        assert found.sources.at[name, "measured_covered"] == len(known & set(norman.var_names))
        assert (found.states.loc[singles, name] == "covered").sum() == n_singles == len(known & set(singles))
    assert found.genes.loc["KLF1", ["n_training_conditions", "n_training_cells"]].tolist() == [4, 400]


def test_a_renamed_target_of_papalexi_is_told(shared_data, shared_priors):
    import anndata

    from scperturb_modules.priors._identifiers import GeneNames

    screen = anndata.read_h5ad(shared_data / "papalexi2021" / "papalexi_299genes.h5ad", backed="r")
    string = edges(shared_priors / "string_v12_scored_no_textmining.tsv.gz", score="weight")
    names = GeneNames.from_tables(aliases=shared_priors / "gene_alias.tsv.gz")
    found = coverage(screen, {"STRING": string}, control="non-targeting", names=names)
    assert found.genes.index[found.genes["status"] != "covered"].tolist() == ["MARCH8"]
    assert found.genes["known_as"].loc["MARCH8"] == "MARCHF8"
    assert found.genes["measured"].sum() == 9
    assert "known under another name: 1 ('MARCH8 as MARCHF8')" in repr(found)
