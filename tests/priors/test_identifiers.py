"""Names of genes: the tables they come from, what is never guessed, and the messages where two sides do not match."""

from __future__ import annotations

import logging
import time

import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.priors._identifiers import GeneNames, find_genes

IDS = pd.DataFrame(
    [
        ("PTPRC", "ENSG00000000001", 5788),
        ("SEPTIN2", "ENSG00000000002|ENSG00000000012", 4735),
        ("SEPTIN6", "ENSG00000000003.4", 23157),
        ("MARCHF8", "ENSG00000000004", 220972),
        ("XK", "ENSG00000000005", 7504),
        ("TWIN1", "ENSG00000000006", 1),
        ("TWIN2", "ENSG00000000006", 2),
        ("NOID", None, np.nan),
    ],
    columns=["symbol", "ensembl", "entrez"],
)
ALIASES = pd.DataFrame(
    [
        ("CD45", "PTPRC"),
        ("LCA", "PTPRC"),
        ("SEPT2", "SEPTIN2"),
        ("SEPT2", "SEPTIN6"),
        ("MARCH8", "MARCHF8"),
        ("NA", "XK"),
        ("XK", "PTPRC"),
    ],
    columns=["alias", "symbol"],
)


@pytest.fixture(scope="module")
def names():
    return GeneNames.from_tables(IDS, ALIASES)


@pytest.fixture(scope="module")
def public(shared_priors):
    return GeneNames.from_tables(shared_priors / "gene_ids.tsv.gz", shared_priors / "gene_alias.tsv.gz")


def symbols_of(path, column=0):
    return sorted(set(pd.read_csv(path, sep="\t", keep_default_na=False).iloc[:, column]))


@pytest.mark.parametrize(
    ("gene", "symbol", "how", "candidates", "near"),
    [
        ("PTPRC", "PTPRC", "symbol", "PTPRC", ""),
        ("XK", "XK", "symbol", "XK", ""),
        ("CD45", "PTPRC", "alias", "PTPRC", ""),
        ("NA", "XK", "alias", "XK", ""),
        ("SEPT2", "", "ambiguous", "SEPTIN2|SEPTIN6", ""),
        ("ENSG00000000001", "PTPRC", "ensembl", "PTPRC", ""),
        ("ENSG00000000001.17", "PTPRC", "ensembl", "PTPRC", ""),
        ("ENSG00000000012.2", "SEPTIN2", "ensembl", "SEPTIN2", ""),
        ("ENSG00000000003", "SEPTIN6", "ensembl", "SEPTIN6", ""),
        ("ENSG00000000006", "", "ambiguous", "TWIN1|TWIN2", ""),
        ("5788", "PTPRC", "entrez", "PTPRC", ""),
        ("Ptprc", "", "unknown", "", "PTPRC"),
        ("sept-2", "", "unknown", "", "SEPTIN2|SEPTIN6"),
        ("KIAA1804", "", "unknown", "", ""),
    ],
)
def test_what_a_name_stands_for(names, gene, symbol, how, candidates, near):
    table = names.translate([gene, "PTPRC", gene])
    assert table.index.tolist() == [gene, "PTPRC", gene] and table.index.name == "gene"
    for row in (0, 2):
        assert table.iloc[row].to_dict() == {"symbol": symbol, "how": how, "candidates": candidates, "near": near}
    assert names.candidates(gene) == tuple(filter(None, candidates.split("|")))


def test_names_of_no_genes(names):
    assert names.translate([]).columns.tolist() == ["symbol", "how", "candidates", "near"]
    assert repr(names) == "GeneNames(8 symbols, 7 Ensembl ids, 7 Entrez ids, 6 aliases)"


def test_the_complete_set_of_hgnc(tmp_path):
    path = tmp_path / "hgnc_complete_set.txt"
    path.write_bytes(
        b"hgnc_id\tsymbol\talias_symbol\tprev_symbol\tentrez_id\tensembl_gene_id\r\n"
        b'HGNC:1\tPTPRC\t"LCA|T200"\tCD45\t5788\tENSG00000081237\r\n'
        b"HGNC:2\tNOID\t\t\t\t\r\n"
        b'HGNC:3\tOTHER\tT200\t"OLD1|OLD2"\t7\tENSG00000000007\r\n'
    )
    hgnc = GeneNames.from_tables(path)
    asked = ["LCA", "CD45", "OLD2", "5788", "ENSG00000081237", "T200", "NOID"]
    assert hgnc.translate(asked)["symbol"].tolist() == ["PTPRC", "PTPRC", "OTHER", "PTPRC", "PTPRC", "", "NOID"]
    assert hgnc.candidates("T200") == ("OTHER", "PTPRC")


def test_names_from_the_genes_of_a_screen():
    var = pd.DataFrame({"gene_ids": ["ENSG00000000001"]}, index=["PTPRC"])
    assert GeneNames.from_tables(var.rename_axis("symbol").reset_index()).candidates("ENSG00000000001") == ("PTPRC",)


def test_tables_that_cannot_be_used():
    with pytest.raises(DataError, match="needs a table of ids, a table of aliases, or both"):
        GeneNames.from_tables()
    with pytest.raises(DataError, match=r"gene ids: no column 'ensembl', .*; the columns are 'symbol'"):
        GeneNames.from_tables(IDS[["symbol"]])
    with pytest.raises(DataError, match=r"gene aliases: no column 'alias'; the columns are 'symbol', 'ensembl'"):
        GeneNames.from_tables(aliases=IDS)


def test_genes_are_found_by_other_names(names, caplog):
    known = ["PTPRC", "MARCH8", "SEPTIN2", "XK"]
    with caplog.at_level(logging.INFO):
        found = find_genes(["unknown", "MARCHF8", "CD45", "XK", "SEPT2", "XK"], known, what="GO", names=names)
    assert list(found.items()) == [("MARCHF8", "MARCH8"), ("CD45", "PTPRC"), ("XK", "XK")]
    assert "GO: 2 genes found by another name, such as 'MARCHF8', 'CD45'" in caplog.text
    assert "GO: 1 ambiguous names are left out: 'SEPT2'." in caplog.text
    assert find_genes(["XK", "CD45"], known, what="GO") == {"XK": "XK"}, "without names only equal names"
    assert find_genes(None, ["B", "A"], what="GO", names=names) == {"A": "A", "B": "B"}


def test_an_ambiguous_alias_is_not_guessed_where_the_source_has_one_of_its_genes(names):
    assert find_genes(["SEPT2", "XK"], ["SEPTIN6", "XK"], what="GO", names=names) == {"XK": "XK"}
    assert find_genes(["SEPTIN6", "XK"], ["SEPT2", "XK"], what="GO", names=names) == {"XK": "XK"}


def test_no_two_genes_become_one(names, caplog):
    assert find_genes(["CD45", "PTPRC"], ["PTPRC"], what="GO", names=names) == {"PTPRC": "PTPRC"}
    assert find_genes(["CD45", "LCA", "XK"], ["PTPRC", "XK"], what="GO", names=names) == {"XK": "XK"}
    assert "GO: 2 ambiguous names are left out: 'CD45', 'LCA'" in caplog.text


def test_a_source_of_ids_is_read_through_the_names(names):
    known = ["ENSG00000000001", "ENSG00000000004.1", "ENSG00000000006"]
    found = find_genes(["CD45", "MARCHF8", "TWIN1"], known, what="table", names=names)
    assert found == {"CD45": "ENSG00000000001", "MARCHF8": "ENSG00000000004.1"}


def slowly_found(genes, known, names):
    """Every pair of a gene and a symbol of the source, compared."""
    found = {gene: gene for gene in genes if gene in known}
    means = {name: names.candidates(name) for name in {*genes, *known}}
    also = {}
    for gene in genes:
        if gene not in known and len(means[gene]) == 1:
            same = [one for one in known if means[one] == means[gene]]
            same = [one for one in same if one in means[gene]] or same
            if len(same) == 1:
                also[gene] = same[0]
    targets = list(also.values())
    return found | {g: s for g, s in also.items() if s not in found and targets.count(s) == 1}


def test_random_names_against_every_pair_compared():
    n_mapped = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        symbols, others = [f"S{i}" for i in range(25)], [f"A{i}" for i in range(25)]
        pairs = {(str(rng.choice([*others, *symbols])), str(rng.choice(symbols))) for _ in range(40)}
        names = GeneNames.from_tables(aliases=pd.DataFrame(sorted(pairs), columns=["alias", "symbol"]))
        every = [*symbols, *others, "unknown"]
        genes, known = rng.choice(every, 25, replace=False).tolist(), rng.choice(every, 25, replace=False).tolist()
        expected = slowly_found(genes, known, names)
        assert find_genes(genes, known, what="drawn", names=names) == expected
        n_mapped += sum(gene != symbol for gene, symbol in expected.items())
    assert n_mapped > 20


ENSEMBL = [f"ENSG{i:011d}.3" for i in range(40)]
HUMAN = [f"GENE{i}" for i in range(40)]
MOUSE = [f"Gene{i}" for i in range(40)]


@pytest.mark.parametrize(
    ("genes", "known", "message"),
    [
        (ENSEMBL, HUMAN, r"GO: 0 of 40 .* look like Ensembl ids, .* human symbols: pass names=spm\.priors\.GeneNames"),
        (HUMAN, ENSEMBL, r"look like human symbols, those of the source like Ensembl ids: pass names="),
        ([str(i) for i in range(9)], HUMAN, r"0 of 9 .* look like Entrez ids, .* pass names="),
        (HUMAN, [f"9606.ENSP{i:011d}" for i in range(9)], r"source like Ensembl protein ids: pass names=.*string_info"),
        (MOUSE, HUMAN, r"look like mouse symbols, those of the source like human symbols: map orthologs first"),
        (HUMAN, MOUSE, r"look like human symbols, those of the source like mouse symbols: map orthologs first"),
        ([*MOUSE, "GENE1"], HUMAN, r"GO: 1 of 41 genes found; .* mouse symbols"),
        ([gene.lower() for gene in HUMAN], HUMAN, r"symbols in lower case, .* write both in the same letter case"),
        (["YAL038W", "YBR123C"], HUMAN, r"'YAL038W', 'YBR123C' / 'GENE0', .* Use the same kind of gene names on both"),
        (HUMAN, [], r"0 of 40 genes found; .* / none\. Use the same kind"),
    ],
)
def test_why_no_gene_is_found(genes, known, message):
    with pytest.raises(DataError, match=message):
        find_genes(genes, known, what="GO")


def test_other_kinds_among_genes_that_are_found_are_logged(caplog):
    assert len(find_genes([*HUMAN[:10], *ENSEMBL], HUMAN, what="GO")) == 10
    assert "GO: 10 of 50 genes found. The genes look like Ensembl ids" in caplog.text
    caplog.clear()
    assert len(find_genes([*HUMAN[:1], *(f"OTHER{i}" for i in range(99))], HUMAN, what="GO")) == 1
    assert not caplog.text, "a source that knows few genes is no mistake"


@pytest.mark.parametrize("table", ["go_gene2term", "corum_pairs", "string_high_confidence_pairs"])
def test_symbols_of_mouse_against_public_human_tables(shared_priors, table):
    known = symbols_of(shared_priors / f"{table}.tsv.gz")
    with pytest.raises(DataError, match=r"mouse symbols, those of the source like human symbols: map orthologs first"):
        find_genes([gene.capitalize() for gene in known[::3]] + ["Gm1234"] * 9, known, what=table)


def test_public_names_of_targets(public):
    genes = ["MARCH8", "C3orf72", "ELMSAN1", "C19orf26", "KIAA1804", "SEPT2"]
    table = public.translate(genes)
    assert table["symbol"].tolist() == ["MARCHF8", "FOXL2NB", "MIDEAS", "CBARP", "", ""]
    assert table["how"].tolist() == ["alias"] * 4 + ["unknown", "ambiguous"]
    assert public.candidates("ENSG00000081237.22") == public.candidates("CD45") == public.candidates("5788")


def test_public_names_of_the_genes_and_targets_of_screens(public, shared_data, shared_priors):
    import h5py

    go = symbols_of(shared_priors / "go_gene2term.tsv.gz")
    with h5py.File(shared_data / "norman_mcfaline_devel" / "devel_with_counts.h5ad") as file:
        labels = file["obs/perturbation/categories"].asstr()[:]
    targets = sorted({gene for label in labels for gene in label.split("+")} - {"control"})
    targets.remove("IER5L")  # it has no annotation in GO
    assert len(targets) == 30 and list(find_genes(targets, go, what="GO", names=public)) == targets
    with h5py.File(shared_data / "kang2018" / "kang_pbmc_ifnb.h5ad") as file:
        genes = file["var"][file["var"].attrs["_index"]].asstr()[:].tolist()
    plain, mapped = find_genes(genes, go, what="GO"), find_genes(genes, go, what="GO", names=public)
    assert len(mapped) > len(plain) + 400 and len(set(mapped.values())) == len(mapped)
    assert {gene: mapped[gene] for gene in plain} == plain and mapped["CPSF3L"] == "INTS11"


def test_public_tables_are_fast(shared_priors):
    genes = symbols_of(shared_priors / "gene_ids.tsv.gz")
    started = time.process_time()
    names = GeneNames.from_tables(shared_priors / "gene_ids.tsv.gz", shared_priors / "gene_alias.tsv.gz")
    names.translate([*genes, "unknown"])
    assert time.process_time() - started < 4, "0.7 s where measured"


def test_genes_that_were_not_asked_for_can_be_kept():
    names = GeneNames.from_tables(aliases=pd.DataFrame({"alias": ["MARCH8"], "symbol": ["MARCHF8"]}))
    known = ["MARCHF8", "STAT1", "JAK2", "TP53"]
    asked = find_genes(["MARCH8", "STAT1", "nowhere"], known, what="source", names=names)
    assert asked == {"MARCH8": "MARCHF8", "STAT1": "STAT1"}
    every = find_genes(["MARCH8", "STAT1", "nowhere"], known, what="source", names=names, keep_others=True)
    assert every == asked | {"JAK2": "JAK2", "TP53": "TP53"}
    assert len(set(every.values())) == len(every)
