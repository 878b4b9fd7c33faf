"""Annotations and terms of the Gene Ontology from files as they are published."""

from __future__ import annotations

import gzip

import pandas as pd
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.priors._identifiers import GeneNames
from scperturb_modules.priors._ontology import go_sets

TERMS = pd.DataFrame(
    [
        ("GO:1", "root", "BP", ""),
        ("GO:2", "child", "BP", "GO:1|is_a"),
        ("GO:3", "part", "BP", "GO:2|part_of"),
        ("GO:4", "regulator", "BP", "GO:1|is_a;GO:3|regulates"),
        ("GO:5", "function", "MF", "GO:3|part_of"),
    ],
    columns=["go_id", "name", "aspect", "parents"],
)


def members(sets):
    return {term: set(sets.genes_of(term)) for term in sets.sets}


def gaf_row(gene, qualifier, term, evidence, aspect):
    rest = ['"open quote', "x|y", "protein", "taxon:9606", "20200101", "UniProt", "", ""]
    return "\t".join(["UniProtKB", "P0", gene, qualifier, term, "PMID:1", evidence, "", aspect, *rest]) + "\n"


GAF = (
    "!gaf-version: 2.2\n!generated-by:\tGOC\n"
    + gaf_row("NA", "involved_in", "GO:3", "IDA", "P")
    + "!a comment further down\n"
    + gaf_row("B!", "acts_upstream_of_or_within", "GO:4", "IEA", "P")
    + gaf_row("B!", "NOT|involved_in", "GO:3", "IDA", "P")
    + gaf_row("C", "enables", "GO:5", "IPI", "F")
    + gaf_row("", "involved_in", "GO:3", "IDA", "P")
    + gaf_row("D", "involved_in", "GO:2", "ND", "P")
)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["human.gaf", "goa human.gaf.gz", "goa.txt"])
def test_gaf(tmp_path, line_end, name):
    text = GAF.replace("\n", line_end).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    sets = go_sets(None, tmp_path / name, TERMS)
    assert members(sets) == {"GO:1": {"NA", "B!"}, "GO:2": {"NA"}, "GO:3": {"NA"}, "GO:4": {"B!"}}
    assert sets.attrs["left_out"] == {
        "annotations without gene or term": 1,
        "annotations with the qualifier NOT": 1,
        "annotations by other evidence": 1,
        "annotations of other aspects": 1,
    }


def test_gaf_that_is_cut_short(tmp_path):
    (tmp_path / "cut.gaf").write_text(GAF[: GAF.rindex("PMID")])
    with pytest.raises(DataError, match="1 of 6 rows end before the aspect .* in lines '9'"):
        go_sets(None, tmp_path / "cut.gaf")
    (tmp_path / "cut.gaf.gz").write_bytes(gzip.compress(GAF.encode())[:-10])
    with pytest.raises(DataError, match="cut short"):
        go_sets(None, tmp_path / "cut.gaf.gz")
    with pytest.raises(FileNotFoundError):
        go_sets(None, tmp_path / "none.gaf")


def test_gene2go(tmp_path):
    head = "#tax_id\tGeneID\tGO_ID\tEvidence\tQualifier\tGO_term\tPubMed\tCategory\n"
    rows = [
        ("9606", "3043", "GO:3", "IDA", "involved_in", "Process"),
        ("9606", "10661", "GO:3", "IDA", "NOT involved_in", "Process"),
        ("9606", "10661", "GO:2", "IDA", "-", "Process"),
        ("9606", "77", "GO:2", "IDA", "-", "Process"),
        ("9606", "88", "GO:2", "IDA", "-", "Process"),
        ("10090", "3043", "GO:4", "IDA", "-", "Process"),
        ("9606", "3043", "GO:5", "IDA", "-", "Function"),
    ]
    lines = ["\t".join([*row[:5], "name", "-", row[5]]) + "\n" for row in rows]
    (tmp_path / "gene2go.gz").write_bytes(gzip.compress((head + "".join(lines)).encode()))
    ids = pd.DataFrame({"symbol": ["HBB", "KLF1", "X", "Y"], "entrez": [3043, 10661, 88, 88]})
    names = GeneNames.from_tables(ids)
    sets = go_sets(None, tmp_path / "gene2go.gz", TERMS, names=names)
    assert members(sets) == {"GO:1": {"HBB", "KLF1"}, "GO:2": {"HBB", "KLF1"}, "GO:3": {"HBB"}}
    assert sets.attrs["left_out"]["annotations without gene or term"] == 2
    with pytest.raises(DataError, match="columns symbol and entrez"):
        go_sets(None, tmp_path / "gene2go.gz", TERMS)


OBO = """format-version: 1.2
data-version: releases/2022-07-01

[Term]
id: GO:1
name: biological_process
namespace: biological_process

[Term]
id: GO:2
name: child [of] a root
namespace: biological_process
alt_id: GO:22
alt_id: GO:222
def: "Text with is_a: GO:9 ! in it." [GOC:x]
is_a: GO:1 ! biological_process

[Term]
id: GO:3
name: part
namespace: biological_process
relationship: part_of GO:22 {source="x"} ! child
relationship: regulates GO:99 ! nothing here

[Term]
id: GO:9
name: obsolete term
namespace: biological_process
is_a: GO:77
is_obsolete: true

[Term]
id: GO:5
name: function
namespace: molecular_function
relationship: part_of GO:3 ! part

[Typedef]
id: part_of
name: part of
namespace: external
is_transitive: true
"""


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("name", ["go-basic.obo", "go.obo.gz"])
def test_obo(tmp_path, line_end, name):
    text = OBO.replace("\n", line_end).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    annotations = {"A": ["GO:3"], "B": ["GO:222"], "C": ["GO:5"], "D": ["GO:9"]}
    sets = go_sets(None, annotations, tmp_path / name, aspects=("BP", "MF", "CC"))
    assert members(sets) == {
        "GO:1": {"A", "B"},
        "GO:2": {"A", "B"},
        "GO:3": {"A"},
        "GO:5": {"C"},
        "GO:9": {"D"},
    }
    assert sets.descriptions == ("biological_process", "child [of] a root", "part", "function", "")
    assert sets.attrs["left_out"] == {
        "alternative ids of terms replaced": 1,
        "terms that the ontology does not have": 1,
    }


def test_gmt_is_taken_as_it_is(tmp_path):
    (tmp_path / "go.gmt").write_bytes(b"heme process (GO:1)\tabout heme\tA\tB\r\nother (GO:2)\tna\tB\tC\r\n")
    for terms in (None, TERMS):
        sets = go_sets(["A", "B"], tmp_path / "go.gmt", terms)
        assert members(sets) == {"heme process (GO:1)": {"A", "B"}, "other (GO:2)": {"B"}}
        assert sets.descriptions == ("about heme", "na")
        assert not sets.attrs["propagated"]


def test_tables_with_gaps_and_dictionaries_with_texts():
    table = pd.DataFrame({"gene": ["A", None, "B", " C "], "term": ["GO:1", "GO:1", float("nan"), "GO:1 "]})
    sets = go_sets(None, table)
    assert members(sets) == {"GO:1": {"A", "C"}}
    assert sets.attrs["left_out"] == {"annotations without gene or term": 2}
    assert members(go_sets(None, table.astype("category"))) == members(sets)
    with pytest.raises(DataError, match=r"give a list: \['GO:1'\]"):
        go_sets(None, {"A": "GO:1"})
    with pytest.raises(DataError, match="no column 'go_id'"):
        go_sets(None, table.rename(columns={"term": "what"}))
