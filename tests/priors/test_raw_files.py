"""Public files of prior knowledge as their publishers write them, read by the calls that the table of files names."""

from __future__ import annotations

import gzip
import logging
from collections import Counter

import numpy as np
import pandas as pd
import pytest

import scperturb_modules as spm
from scperturb_modules._errors import DataError
from scperturb_modules.priors._identifiers import GeneNames, find_genes
from scperturb_modules.priors._read import read_table
from scperturb_modules.priors._sources import SOURCES, _remote

GENES = ["STAT1", "IRF1", "JAK2", "HBB"]

GAF_END = "protein\ttaxon:9606\t20240101\tUniProt\t\t\n"
GO_ROW = "UniProtKB\tP0\t{}\tinvolved_in\t{}\tPMID:1\tIDA\t\tP\tsome name\tALIAS|{}\t" + GAF_END

OBO = """format-version: 1.2
ontology: go

[Term]
id: GO:0008150
name: biological_process
namespace: biological_process

[Term]
id: GO:0060333
name: interferon signalling
namespace: biological_process
is_a: GO:0008150 ! biological_process

[Typedef]
id: part_of
name: part of
is_transitive: true
"""

HGNC = (
    "hgnc_id\tsymbol\tname\tlocus_group\tstatus\talias_symbol\tprev_symbol\tentrez_id\tensembl_gene_id\tuniprot_ids\n"
    'HGNC:1\tSTAT1\t"signal, 1"\tprotein-coding gene\tApproved\t"STAT91|ISGF-3"\t\t6772\tENSG00000115415\tP\n'
    "HGNC:2\tIRF1\tfactor\tprotein-coding gene\tApproved\t\t\t3659\tENSG00000125347\t\n"
    "HGNC:3\tMARCHF8\tligase\tprotein-coding gene\tApproved\t\tMARCH8\t220972\tENSG00000165406\t\n"
    "HGNC:4\tNOID\tnone\tother\tApproved\t\t\t\t\t\n"
)

STRING = (
    "protein1 protein2 neighborhood fusion cooccurence coexpression experimental database textmining combined_score\n"
    "9606.ENSP00000354394 9606.ENSP00000245414 0 0 0 100 200 0 800 900\n"
    "9606.ENSP00000245414 9606.ENSP00000354394 0 0 0 100 200 0 800 900\n"
    "9606.ENSP00000354394 9606.ENSP00000317087 0 0 0 0 0 0 450 450\n"
    "9606.ENSP00000317087 9606.ENSP00000000001 0 0 0 0 0 0 700 700\n"
)

STRING_INFO = (
    "#string_protein_id\tpreferred_name\tprotein_size\tannotation\n"
    '9606.ENSP00000354394\tSTAT1\t750\tSignal transducer; 5\'-phosphate, a "quoted" word\n'
    "9606.ENSP00000245414\tIRF1\t325\tInterferon regulatory factor 1\n"
    "9606.ENSP00000317087\tMARCH8\t291\tannotation not available\n"
)

CONTENT = {
    "go_annotations": "!gaf-version: 2.2\n!\n"
    + "".join(GO_ROW.format(gene, "GO:0060333", gene) for gene in ("STAT1", "IRF1"))
    + GO_ROW.format("HBB", "GO:0008150", "HBB"),
    "go_terms": OBO,
    "gene2go": "#tax_id\tGeneID\tGO_ID\tEvidence\tQualifier\tGO_term\tPubMed\tCategory\n"
    "9606\t6772\tGO:0060333\tIDA\tinvolved_in\tinterferon signalling\t1|2\tProcess\n"
    "9606\t3659\tGO:0060333\tIEA\tinvolved_in\tinterferon signalling\t-\tProcess\n"
    "9606\t999\tGO:0060333\tIEA\tinvolved_in\tinterferon signalling\t-\tProcess\n"
    "10090\t6772\tGO:0060333\tIEA\tinvolved_in\tinterferon signalling\t-\tProcess\n",
    "reactome_pathways": "Interferon Signaling\tR-HSA-913531\tIRF1\tSTAT1\n"
    "Immune System\tR-HSA-168256\tIRF1\tJAK2\tSTAT1\n",
    "reactome_hierarchy": "R-BTA-168256\tR-BTA-913531\nR-HSA-168256\tR-HSA-913531\n",
    "string": STRING,
    "string_info": STRING_INFO,
    "humap": "STAT1\tIRF1\t0.95\nIRF1\tsp|Q00000|NONE\t0.5\nJAK2\tSTAT1\t2.5e-05\n",
    "collectri": "source,target,weight,TF.category,resources,PMID,sign.decision\n"
    'STAT1,IRF1,1,dbTF,"ExTRI;HTRI",123;456,PMID\n'
    "STAT1,HBB,-1,dbTF,TRRUST,7,default activation\n"
    "NFKB,IRF1,1,coTF,SIGNOR,8,PMID\n",
    "gene_ids": HGNC,
}


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """The path of each file that `download` knows, under the name that it has when downloaded."""
    folder = tmp_path_factory.mktemp("raw")
    paths = {}
    for source in SOURCES:
        paths[source.name] = folder / _remote(source, None, None).path
        paths[source.name].parent.mkdir(parents=True)
        text = CONTENT[source.name].encode()
        paths[source.name].write_bytes(gzip.compress(text) if paths[source.name].suffix == ".gz" else text)
    return paths


def edges_of(network):
    ends = zip(network.source, network.target, strict=True)
    return {(network.genes[i], network.genes[j]): w for (i, j), w in zip(ends, network.weight.tolist(), strict=True)}


READ = {
    "go_annotations": {("IRF1", "STAT1"): 1.0, ("HBB", "IRF1"): 0.5, ("HBB", "STAT1"): 0.5},
    "go_terms": {("IRF1", "STAT1"): 1.0, ("HBB", "IRF1"): 0.5, ("HBB", "STAT1"): 0.5},
    "gene2go": {("IRF1", "STAT1"): 1.0},
    "string": {("IRF1", "STAT1"): 0.9},
    "string_info": {("IRF1", "STAT1"): 0.9},
    "humap": {("IRF1", "STAT1"): 0.95, ("JAK2", "STAT1"): 2.5e-05},
    "collectri": {("STAT1", "IRF1"): 1.0, ("STAT1", "HBB"): 1.0},
}


@pytest.mark.parametrize("name", [source.name for source in SOURCES])
def test_each_file_is_read_by_the_call_that_the_table_names(name, raw, monkeypatch):
    monkeypatch.setattr(spm.priors, "download", raw.__getitem__)
    call = spm.priors.sources().loc[name, "read_by"]
    assert f'spm.priors.download("{name}")' in call
    read = eval(call, {"spm": spm, "genes": GENES})
    if name in READ:
        assert edges_of(read) == READ[name]
    elif name == "gene_ids":
        asked = ["STAT91", "ISGF-3", "MARCH8", "3659", "ENSG00000115415.7", "NOID"]
        assert read.translate(asked)["symbol"].tolist() == ["STAT1", "STAT1", "MARCHF8", "IRF1", "STAT1", "NOID"]
    else:
        assert read.genes == ("IRF1", "JAK2", "STAT1") and read.genes_of("R-HSA-913531") == ("IRF1", "STAT1")
        assert read.attrs["left_out"]["relations of other species"] == 1
        assert [read.ids[i] for i in read.parent] == ["R-HSA-168256"]


def test_terms_of_raw_files(raw):
    names = GeneNames.from_tables(raw["gene_ids"])
    for source in ("go_annotations", "gene2go"):
        sets = spm.priors.go_sets(None, raw[source], raw["go_terms"], names=names)
        assert set(sets.genes_of("GO:0060333")) == {"STAT1", "IRF1"}
        assert {"STAT1", "IRF1"} <= set(sets.genes_of("GO:0008150")), "genes of a term belong to its parents"
    assert sets.attrs["left_out"]["annotations without gene or term"] == 1, "the id 999 has no symbol"
    with pytest.raises(DataError, match=r"gene2go has Entrez ids\. Pass names="):
        spm.priors.go_sets(None, raw["gene2go"], names=GeneNames.from_tables(raw["string_info"]))


def test_signs_of_collectri(raw):
    network = spm.priors.regulons(raw["collectri"], GENES, signed=True)
    assert edges_of(network) == {("STAT1", "IRF1"): 1.0, ("STAT1", "HBB"): -1.0}


# STRING


def test_string_by_its_table_of_names(raw):
    names = GeneNames.from_tables(ids=raw["string_info"])
    network = spm.priors.interactions(raw["string"], [*GENES, "MARCH8"], names=names)
    assert edges_of(network) == {("IRF1", "STAT1"): 0.9, ("MARCH8", "STAT1"): 0.45}
    assert (network.n_merged, network.attrs["n_edges_outside"], network.attrs["score_of_one"]) == (1, 1, 1000)
    assert spm.priors.interactions(raw["string"], GENES, names=names, minimum=700, score="textmining").n_edges == 1
    with pytest.raises(DataError, match=r'protein ids: pass names=spm\.priors\.GeneNames.*download\("string_info"\)'):
        spm.priors.interactions(raw["string"], GENES)


def test_others_of_string_have_symbols_where_there_are_any(raw):
    names = GeneNames.from_tables(ids=raw["string_info"])
    some = spm.priors.interactions(raw["string"], ["STAT1"], names=names, keep_others=True)
    assert some.genes == ("9606.ENSP00000000001", "IRF1", "MARCH8", "STAT1")
    every = spm.priors.interactions(raw["string"], names=names)
    assert every.sha256() == some.sha256() and edges_of(every)["IRF1", "STAT1"] == 0.9


def test_string_by_ensembl_ids_and_by_newer_symbols(raw):
    names = GeneNames.from_tables([raw["gene_ids"], raw["string_info"]])
    assert names.candidates("9606.ENSP00000317087") == ("MARCHF8",) and "MARCH8" not in names.symbols
    network = spm.priors.interactions(raw["string"], ["ENSG00000115415.7", "MARCHF8"], names=names)
    assert edges_of(network) == {("ENSG00000115415.7", "MARCHF8"): 0.45}
    back = GeneNames.from_tables([raw["string_info"], raw["gene_ids"]])
    assert back.candidates("9606.ENSP00000317087") == ("MARCH8",), "the first table says which symbols are current"


def test_symbols_of_a_later_table_are_renamed_only_where_certain():
    first = pd.DataFrame({"symbol": ["NEW", "P", "Q"], "alias_symbol": ["OLD1|OLD2", "BOTH|P_OLD", "BOTH"]})
    later = pd.DataFrame({"symbol": ["OLD1", "OLD2", "BOTH", "P_OLD", "P"], "ensembl": [f"E{i}" for i in range(5)]})
    names = GeneNames.from_tables([first, later])
    assert [names.candidates(f"E{i}")[0] for i in range(5)] == ["OLD1", "OLD2", "BOTH", "P_OLD", "P"]
    alone = GeneNames.from_tables([first, later.iloc[[1, 3]]])
    assert [alone.candidates(one) for one in ("E1", "E3")] == [("NEW",), ("P",)]
    with pytest.raises(DataError, match="needs a table of ids"):
        GeneNames.from_tables([])


def test_others_take_no_name_of_a_gene_that_was_asked_for():
    ids = pd.DataFrame({"symbol": ["PTPRC", "XK"], "ensembl": ["E1", "E2"], "alias_symbol": ["CD45", None]})
    names = GeneNames.from_tables(ids)
    left_out = find_genes(["PTPRC", "CD45", "XK"], ["E1", "XK"], what="GO", names=names, keep_others=True)
    assert left_out == {"XK": "XK", "E1": "E1"}
    found = find_genes(["CD45"], ["E1", "PTPRC"], what="GO", names=names, keep_others=True)
    assert found == {"CD45": "PTPRC", "E1": "E1"}


def slowly_called(asked, known, names):
    """The names of genes that were not asked for, each looked up by itself."""
    others = known - set(find_genes(asked, known, what="drawn", names=names).values())
    means = {one: names.candidates(one) for one in others}
    times = Counter(found for found in means.values() if len(found) == 1)
    sure = {one: len(means[one]) == 1 and times[means[one]] == 1 for one in others}
    return {means[one][0] if sure[one] and means[one][0] not in {*known, *asked} else one: one for one in others}


def test_names_of_random_others():
    n_renamed = n_kept = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        symbols, ids = [f"S{i}" for i in range(25)], [f"9606.ENSP{i:011d}" for i in range(25)]
        pairs = [(str(rng.choice(ids)), str(rng.choice(symbols))) for _ in range(30)]
        names = GeneNames.from_tables(pd.DataFrame(pairs, columns=["#string_protein_id", "preferred_name"]))
        known = set(rng.choice([*ids, *symbols[:5]], 20, replace=False).tolist())
        asked = [*rng.choice([*symbols, *known], 8, replace=False).tolist(), min(known)]
        expected = slowly_called(asked, known, names)
        found = find_genes(asked, known, what="drawn", names=names)
        every = find_genes(asked, known, what="drawn", names=names, keep_others=True)
        assert every == found | expected and list(every)[: len(found)] == list(found)
        assert sorted(every.values()) == sorted(known), "no gene of the source is lost"
        assert find_genes(None, known, what="drawn", names=names) == slowly_called([], known, names)
        n_renamed += sum(name != one for name, one in expected.items())
        n_kept += sum(name == one and one.startswith("9606") for name, one in expected.items())
    assert n_renamed > 50 and n_kept > 50


# files without a header

TRRUST = "AATF\tBAX\tRepression\t22909821\nAATF\tCDKN1A\tUnknown\t17157788;1\nABL1\tBAX\tActivation\t10918613\n"


def written(tmp_path, text, name="file.tsv"):
    (tmp_path / name).write_text(text)
    return tmp_path / name


def test_trrust_as_it_is_published(tmp_path, caplog):
    with caplog.at_level(logging.INFO):
        network = spm.priors.regulons(written(tmp_path, TRRUST, "trrust_rawdata.human.tsv"), signed=True)
    assert edges_of(network) == {("AATF", "BAX"): -1.0, ("ABL1", "BAX"): 1.0}
    assert network.attrs["n_edges_unknown"] == 1 and network.name == "trrust_rawdata"
    assert "the first line is an edge, so the columns are taken for 'source', 'target', 'mode'" in caplog.text


@pytest.mark.parametrize(
    ("text", "edges"),
    [
        ("K\tL\t0.25\n", {("K", "L"): 0.25}),
        ("K\tK\t0.25\nK\tL\t0.5\n", {("K", "L"): 0.5}),
        ("K L 0.25\nM N 1\n", {("K", "L"): 0.25, ("M", "N"): 1.0}),
        ("K,L,0.25\nNA,nan,1\n", {("K", "L"): 0.25, ("NA", "nan"): 1.0}),
        ("K\tL\nM\tK\n", {("K", "L"): 1.0, ("K", "M"): 1.0}),
        ("10661\t3043\n3043\t88\n", {("10661", "3043"): 1.0, ("3043", "88"): 1.0}),
        ("gene1\tgene2\t2020\nK\tL\t0.5\n", {("K", "L"): 1.0}),
        ("from\tto\nK\tL\nL\tto\n", {("K", "L"): 1.0, ("L", "to"): 1.0}),
    ],
)
def test_a_first_line_that_is_an_edge_and_one_that_is_not(tmp_path, text, edges):
    assert edges_of(spm.priors.interactions(written(tmp_path, text))) == edges


@pytest.mark.parametrize(
    "text",
    [
        "left\tright\nK\tL\nL\tM\n",
        "K\tL\nM\tN\n",
        "left\tright\tscore\nK\tL\t0.5\n",
        "left\tright\tnan\nK\tL\t0.5\n",
        "K\tL\t0.5\t0.6\nL\tM\t0.5\t0.6\n",
        "left\tright\tscore\tActivation\nK\tL\t0.5\tx\n",
        "alone\nK\nL\n",
    ],
)
@pytest.mark.parametrize("read", [spm.priors.interactions, spm.priors.regulons])
def test_nothing_is_guessed_of_other_first_lines(tmp_path, text, read):
    with pytest.raises(DataError, match=r"no two columns with the ends of an edge; .* names=\[\"source\", \"target\""):
        read(written(tmp_path, text))


def test_a_table_in_memory_keeps_its_columns():
    with pytest.raises(DataError, match=r"no two columns with the ends of an edge; the columns are 'K', 'L', '0\.5'"):
        spm.priors.interactions(pd.DataFrame([("L", "M", 0.5)], columns=["K", "L", "0.5"]))


def test_the_column_of_strengths_of_a_file_without_a_header(raw):
    weighted = spm.priors.interactions(raw["humap"], GENES, score="weight", minimum=0.5)
    assert edges_of(weighted) == {("IRF1", "STAT1"): 0.95} and weighted.attrs["score"] == "weight"
    with pytest.raises(DataError, match=r"no column 'probability'; the columns are 'source', 'target', 'weight'"):
        spm.priors.interactions(raw["humap"], GENES, score="probability")


@pytest.mark.parametrize("seed", range(5))
def test_random_files_without_a_header_are_those_with_one(tmp_path, seed):
    rng = np.random.default_rng(seed)
    ends = rng.choice([f"G{i}" for i in range(20)], size=(2, 50))
    table = pd.DataFrame({"source": ends[0], "target": ends[1], "weight": rng.uniform(0.1, 1, 50).round(3)})
    for columns in (["source", "target"], ["source", "target", "weight"]):
        expected = spm.priors.interactions(table[columns])
        table[columns].to_csv(tmp_path / "bare.tsv.gz", sep="\t", header=False, index=False)
        assert spm.priors.interactions(tmp_path / "bare.tsv.gz").sha256() == expected.sha256()


# separators


@pytest.mark.parametrize("name", ["t.tsv", "t.txt.gz", "t.csv", "t.csv.gz", "t.tab.xz", "t"])
@pytest.mark.parametrize("separator", ["\t", ",", " "])
def test_separators(tmp_path, name, separator):
    if ".csv" in name:
        separator = ","
    table = pd.DataFrame({"gene": ["NA", "HLA-A", "nan"], "value": [1.5, -2.0, 3.0], "n": [1, 2, 3]})
    table.to_csv(tmp_path / name, sep=separator, index=False)
    pd.testing.assert_frame_equal(read_table(tmp_path / name, {"gene": ()}, what="table"), table)


def test_tabs_come_before_commas_and_blanks(tmp_path):
    path = written(tmp_path, "gene\ta value, in mm\nA B\t1\n", "t.txt")
    assert read_table(path, {"gene": ()}, what="table").to_dict("list") == {"gene": ["A B"], "a value, in mm": [1]}
    path = written(tmp_path, "the, gene\tn\nA B\t1\n", "t.txt")
    assert read_table(path, {"the, gene": ()}, what="table").to_dict("list") == {"the, gene": ["A B"], "n": [1]}
    path = written(tmp_path, "the gene\nA B\n", "t.csv")
    assert read_table(path, {"the gene": ()}, what="table").to_dict("list") == {"the gene": ["A B"]}
    path = written(tmp_path, "gene,a value\nA B,1\n", "t.txt")
    assert read_table(path, {"gene": ()}, what="table").to_dict("list") == {"gene": ["A B"], "a value": [1]}
    path = written(tmp_path, "gene  n \nA   1\n", "t.txt")
    assert read_table(path, {"gene": ()}, what="table").to_dict("list") == {"gene": ["A"], "n": [1]}
    path = written(tmp_path, "gene\nA B\n", "t.txt")
    assert read_table(path, {"gene": ()}, what="table").to_dict("list") == {"gene": ["A B"]}


def test_damaged_files_are_one_clear_error(tmp_path):
    rng = np.random.default_rng(0)
    links = STRING + "".join(
        f"9606.ENSP{a:011d} 9606.ENSP{b:011d} 0 0 0 0 0 0 0 1\n" for a, b in rng.integers(1e9, size=(9000, 2))
    )
    (tmp_path / "cut.txt.gz").write_bytes(gzip.compress(links.encode())[:-3000])
    with pytest.raises(DataError, match="cut short or damaged"):
        spm.priors.interactions(tmp_path / "cut.txt.gz")
    with pytest.raises(DataError, match="cannot be read as a table"):
        spm.priors.interactions(written(tmp_path, ""))
    with pytest.raises(FileNotFoundError, match=r"spm\.priors\.download\(name\) fetches"):
        spm.priors.interactions(tmp_path / "none.txt")
