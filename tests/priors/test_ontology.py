"""Genes by their terms of the Gene Ontology, against walks over plain Python sets."""

from __future__ import annotations

import logging

import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.priors._go_terms import read_terms
from scperturb_modules.priors._identifiers import GeneNames
from scperturb_modules.priors._ontology import gene_ontology, go_sets

ALL = ("BP", "MF", "CC")


def members(sets):
    return {term: set(sets.genes_of(term)) for term in sets.sets}


def term_table(rows):
    return pd.DataFrame(rows, columns=["go_id", "name", "aspect", "parents"])


TERMS = term_table(
    [
        ("GO:1", "root", "BP", ""),
        ("GO:2", "child", "BP", "GO:1|is_a"),
        ("GO:3", "part", "BP", "GO:2|part_of"),
        ("GO:4", "regulator", "BP", "GO:1|is_a;GO:3|regulates"),
        ("GO:5", "function", "MF", "GO:3|part_of"),
    ]
)
ANNOTATIONS = {"A": ["GO:3"], "B": ["GO:4"], "C": ["GO:5"], "D": ["GO:2", "GO:2"]}


def random_ontology(seed, n_terms=40, n_genes=25):
    """Terms with parents among those before them, by all relations; and annotations of random genes."""
    rng = np.random.default_rng(seed)
    relations = ["is_a", "part_of", "regulates", "negatively_regulates"]
    aspects = rng.choice(ALL, n_terms)
    rows = []
    for term in range(n_terms):
        above = rng.choice(term, size=min(term, rng.integers(0, 4)), replace=False) if term else []
        parents = ";".join(f"GO:{parent:02d}|{rng.choice(relations)}" for parent in above)
        rows.append((f"GO:{term:02d}", f"term {term}", aspects[term], parents))
    draws = rng.integers(n_terms, size=(n_genes, 3))
    pairs = [(f"G{gene:02d}", f"GO:{term:02d}") for gene, row in enumerate(draws) for term in row]
    return term_table(rows), pd.DataFrame(pairs, columns=["gene", "go_id"])


def slow_members(annotations, terms, aspects):
    """{term: genes} by walking up from every annotation."""
    aspect = dict(zip(terms["go_id"], terms["aspect"], strict=True))
    parents = {
        row.go_id: [
            parent.split("|")[0]
            for parent in row.parents.split(";")
            if parent.endswith(("|is_a", "|part_of")) and aspect[parent.split("|")[0]] == row.aspect
        ]
        for row in terms.itertuples()
    }
    found = {}

    def add(gene, term):
        found.setdefault(term, set()).add(gene)
        for parent in parents[term]:
            add(gene, parent)

    for gene, term in zip(annotations["gene"], annotations["go_id"], strict=True):
        if aspect[term] in aspects:
            add(gene, term)
    return found


# ---- propagation


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("aspects", [("BP",), ("MF", "CC"), ALL])
def test_propagation_is_a_walk_to_all_ancestors(seed, aspects):
    terms, annotations = random_ontology(seed)
    sets = go_sets(None, annotations, terms, aspects=aspects)
    assert members(sets) == slow_members(annotations, terms, aspects)
    assert list(sets.sets) == sorted(sets.sets)
    assert sets.descriptions == tuple(f"term {int(term[3:])}" for term in sets.sets)


def test_regulation_and_links_between_aspects_are_not_followed():
    sets = go_sets(None, ANNOTATIONS, TERMS, aspects=ALL)
    assert members(sets) == {
        "GO:1": {"A", "B", "D"},
        "GO:2": {"A", "D"},
        "GO:3": {"A"},
        "GO:4": {"B"},
        "GO:5": {"C"},
    }
    assert sets.attrs == {
        "source": "Gene Ontology",
        "derived_from": "Gene Ontology annotations",
        "aspects": ["BP", "CC", "MF"],
        "propagated": True,
    }


def test_terms_only_tell_names_and_aspects_without_propagation():
    sets = go_sets(None, ANNOTATIONS, TERMS, propagate=False, version="2022-07-01")
    assert members(sets) == {"GO:2": {"D"}, "GO:3": {"A"}, "GO:4": {"B"}}
    assert sets.descriptions == ("child", "part", "regulator")
    assert (sets.attrs["propagated"], sets.attrs["version"]) == (False, "2022-07-01")


def test_without_terms_all_is_taken_and_said(caplog):
    with caplog.at_level(logging.INFO):
        sets = go_sets(None, ANNOTATIONS)
    assert set(sets.sets) == {"GO:2", "GO:3", "GO:4", "GO:5"}
    assert "do not say their aspect" in caplog.text


def test_large_terms_are_left_out_by_all_genes_of_the_source():
    sets = go_sets(["A", "B"], ANNOTATIONS, TERMS, max_term_size=2)
    assert members(sets) == {"GO:2": {"A"}, "GO:3": {"A"}, "GO:4": {"B"}}
    assert sets.attrs["left_out"] == {"annotations of other aspects": 1, "terms of more than 2 genes": 1}
    assert "GO:1" in go_sets(None, ANNOTATIONS, TERMS, max_term_size=None).sets


def test_a_gene_left_without_terms_stays_known():
    graph = gene_ontology(["A", "E", "X"], {**ANNOTATIONS, "E": ["GO:1"]}, TERMS, max_term_size=3)
    assert graph.genes == ("A", "E")
    assert graph.isolated == ("A", "E")


def test_terms_that_the_ontology_lacks_keep_their_own_genes():
    annotations = {**ANNOTATIONS, "E": ["GO:9"], "F": ["GO:9", "GO:3"]}
    table = pd.DataFrame([(gene, term, "BP") for gene in annotations for term in annotations[gene]])
    table.columns = ["gene", "go_id", "aspect"]
    sets = go_sets(None, table, TERMS)
    assert members(sets)["GO:9"] == {"E", "F"}
    assert members(sets)["GO:1"] == {"A", "B", "D", "F"}
    assert sets.descriptions[sets.sets.index("GO:9")] == ""
    assert sets.attrs["left_out"]["terms that the ontology does not have"] == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("GO:1", "a", "BP", "GO:2|is_a"), ("GO:2", "b", "BP", "GO:1|part_of")], "2 terms .* 'GO:1', 'GO:2'"),
        ([("GO:1", "a", "BP", "GO:1|is_a")], "1 terms are their own ancestors"),
        ([("GO:1", "a", "BP", "GO:7|is_a")], "1 parents are not in the table: 'GO:1 -> GO:7'"),
        ([("GO:1", "a", "BP", ""), ("GO:2", "b", "BP", "GO:1")], "1 parents without a relation: 'GO:1'"),
        ([("GO:1", "a", "BP", ""), ("GO:1", "b", "BP", "")], "once in the table; 'GO:1'"),
        ([("GO:1", "a", "biology", "")], "unknown aspects 'biology'"),
        ([], "it is empty"),
    ],
)
def test_ontologies_that_cannot_be_used(rows, message):
    with pytest.raises(DataError, match=message):
        read_terms(term_table(rows))


def test_parents_by_other_relations_may_be_unknown():
    assert read_terms(term_table([("GO:1", "a", "BP", "GO:7|regulates")])).parents.nnz == 0


# ---- the network


def slow_edges(found, genes, top, minimum):
    """{pair: Jaccard} where either gene lists the other."""
    of = {gene: {term for term in found if gene in found[term]} for gene in genes}
    edges = {}
    for gene in genes:
        value = {
            other: len(of[gene] & of[other]) / len(of[gene] | of[other])
            for other in genes
            if other != gene and of[gene] & of[other]
        }
        best = sorted((other for other in value if value[other] > minimum), key=lambda other: (-value[other], other))
        edges.update({(min(gene, other), max(gene, other)): value[other] for other in best[:top]})
    return edges


def as_edges(graph):
    return {(row.source, row.target): row.weight for row in graph.to_table().itertuples()}


@pytest.mark.parametrize("seed", range(4))
def test_network_is_the_double_loop(seed):
    terms, annotations = random_ontology(seed)
    found = {term: genes for term, genes in slow_members(annotations, terms, ("BP",)).items() if len(genes) <= 8}
    wanted = [f"G{i:02d}" for i in range(0, 25, 2)]
    graph = gene_ontology(wanted, annotations, terms, max_term_size=8, top=3, minimum=0.2)
    assert as_edges(graph) == slow_edges(found, wanted, 3, 0.2)


@pytest.mark.parametrize("measure", ["jaccard", "rarity"])
def test_network_is_that_of_the_sets(measure):
    terms, annotations = random_ontology(9)
    choices = {"aspects": ALL, "max_term_size": 10, "name": "go", "version": "1"}
    network = {"measure": measure, "top": 2, "minimum": 0.05, "symmetric": False}
    graph = gene_ontology(None, annotations, terms, **choices, **network)
    expected = go_sets(None, annotations, terms, **choices).to_graph(**network)
    assert graph.sha256() == expected.sha256()
    assert graph.attrs == expected.attrs
    assert graph.directed


# ---- which annotations count


EVIDENCE = pd.DataFrame(
    {
        "symbol": ["A", "B", "C", "D", "E"],
        "go_id": "GO:1",
        "Aspect": "P",
        "evidence": ["IDA", "IEA", "ND", "IMP", "IDA"],
        "qualifier": ["involved_in", "", "involved_in", "NOT|involved_in", "acts_upstream_of"],
    }
)


@pytest.mark.parametrize(
    ("choice", "genes", "dropped"),
    [
        ({}, "ABE", 1),
        ({"exclude_evidence": ()}, "ABCE", 0),
        ({"exclude_evidence": ("ND", "IEA")}, "AE", 2),
        ({"exclude_evidence": "IEA"}, "ACE", 1),
        ({"evidence": ["IDA", "IMP"]}, "AE", 2),
        ({"evidence": ["IEA", "ND"]}, "B", 3),
        ({"evidence": "ND", "exclude_evidence": ()}, "C", 3),
    ],
)
def test_evidence(choice, genes, dropped):
    sets = go_sets(None, EVIDENCE, **choice)
    assert sets.genes == tuple(genes)
    expected = {"annotations with the qualifier NOT": 1, "annotations by other evidence": dropped}
    assert sets.attrs["left_out"] == {reason: count for reason, count in expected.items() if count}


def test_evidence_that_cannot_be_chosen():
    with pytest.raises(DataError, match="unknown codes of evidence 'IAE'; there are 'IDA', 'IEA', 'IMP', 'ND'"):
        go_sets(None, EVIDENCE, exclude_evidence=("IAE",))
    with pytest.raises(DataError, match="none of 5 annotations is left; left out: 1 .*NOT, 4 .*evidence"):
        go_sets(None, EVIDENCE, evidence=["TAS"])
    with pytest.raises(DataError, match="no column evidence"):
        go_sets(None, ANNOTATIONS, evidence=["IDA"])


@pytest.mark.parametrize("aspects", [("P",), "BP", ["biological_process"]])
def test_aspects_by_any_of_their_names(aspects):
    assert go_sets(None, ANNOTATIONS, TERMS, aspects=aspects).genes == ("A", "B", "D")


def test_aspects_that_do_not_exist():
    for aspects in (("BP", "XX"), ()):
        with pytest.raises(DataError, match="BP"):
            go_sets(None, ANNOTATIONS, TERMS, aspects=aspects)
    with pytest.raises(DataError, match="unknown aspects 'X'"):
        go_sets(None, EVIDENCE.assign(Aspect="X"))


def test_genes_of_the_user_under_their_names():
    names = GeneNames.from_tables(aliases=pd.DataFrame({"alias": ["A_old"], "symbol": ["A"]}))
    assert go_sets(["A_old", "ZZ"], ANNOTATIONS, TERMS, names=names).genes == ("A_old",)
    with pytest.raises(DataError, match="0 of 1 genes found"):
        go_sets(["ZZ"], ANNOTATIONS, TERMS)


def test_propagation_needs_an_ontology(tmp_path):
    (tmp_path / "go.gmt").write_text("process (GO:1)\tna\tA\tB\n")
    for source, terms in ((ANNOTATIONS, None), (tmp_path / "go.gmt", TERMS)):
        with pytest.raises(DataError, match="propagate=True needs the ontology"):
            go_sets(None, source, terms, propagate=True)


# ---- the real ontology


@pytest.fixture(scope="module")
def real(shared_priors):
    """Annotations, terms, and all processes of all genes."""
    annotations = pd.read_csv(shared_priors / "go_gene2term.tsv.gz", sep="\t", keep_default_na=False)
    terms = pd.read_csv(shared_priors / "go_terms.tsv.gz", sep="\t", keep_default_na=False)
    return annotations, terms, go_sets(None, annotations, terms, max_term_size=None)


def test_real_terms_contain_their_children(real):
    annotations, terms, sets = real
    place = {term: number for number, term in enumerate(sets.sets)}
    held = sets.membership.T.tocsr()
    rng = np.random.default_rng(0)
    rows = terms[terms["go_id"].isin(place) & terms["parents"].str.contains("is_a|part_of")]
    for row in rows.iloc[rng.choice(len(rows), 200, replace=False)].itertuples():
        own = set(held[[place[row.go_id]]].indices.tolist())
        for parent in row.parents.split(";"):
            if parent.endswith(("|is_a", "|part_of")):
                assert own <= set(held[[place[parent.split("|")[0]]]].indices.tolist())
    assert sets.genes == tuple(sorted(set(annotations.loc[annotations["aspect"] == "BP", "symbol"])))


def test_real_facts(real):
    annotations, terms, sets = real
    by_name = dict(zip(sets.descriptions, sets.sets, strict=True))
    klf1 = set(sets.sets_of("KLF1"))
    lineage = ("erythrocyte differentiation", "myeloid cell differentiation", "hemopoiesis", "biological_process")
    assert {by_name[name] for name in lineage} <= klf1
    direct = set(annotations.query("symbol == 'KLF1' and aspect == 'BP'")["go_id"])
    assert direct < klf1
    assert by_name["hemopoiesis"] not in direct
    assert sets.similarity(["PSMB1"], ["PSMB2"])[0, 0] > sets.similarity(["PSMB1"], ["HBB"])[0, 0]


@pytest.mark.parametrize("propagate", [True, False])
def test_real_network_is_the_double_loop(real, propagate):
    annotations, terms, _ = real
    genes = sorted(set(annotations["symbol"]))[::80]
    graph = gene_ontology(genes, annotations, terms, propagate=propagate, max_term_size=500, top=7)
    sets = go_sets(None, annotations, terms, propagate=propagate, max_term_size=None)
    size = dict(zip(sets.sets, sets.size, strict=True))
    found = {}
    for gene in graph.genes:
        for term in sets.sets_of(gene):
            if size[term] <= 500:
                found.setdefault(term, set()).add(gene)
    assert len(graph.genes) > 200
    assert as_edges(graph) == slow_edges(found, graph.genes, 7, 0.1)
