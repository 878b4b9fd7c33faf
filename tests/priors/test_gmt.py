"""Gene sets from files, tables and dictionaries as users have them."""

from __future__ import annotations

import gzip
import logging

import pandas as pd
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.priors._gene_sets import gene_sets

BLOOD = {"heme": ["ALAS2", "HMBS"], "globins": ["HBB", "HBA1"], "erythroid genes": ["HBB", "ALAS2", "KLF1"]}
GMT = "heme synthesis\tR-HSA-1\tALAS2\tHMBS\nglobins\t\tHBB\tHBA1\n"


def members(sets):
    return {name: set(sets.genes_of(name)) for name in sets.sets}


@pytest.mark.parametrize(
    "text",
    [
        GMT,
        GMT.replace("\n", "\r\n"),
        GMT.replace("\n", "\r"),
        "\ufeff" + GMT,
        GMT.rstrip("\n"),
        GMT.replace("HMBS", "HMBS\t\t \t"),
        "\n" + GMT + "\n\n",
        GMT.replace("HBB\t", " HBB \t"),
    ],
    ids=["plain", "windows", "old mac", "bom", "no last newline", "padded by tabs", "blank lines", "spaces"],
)
@pytest.mark.parametrize("ending", [".gmt", ".gmt.gz", ".txt", ".GMT"])
def test_gmt_files_as_they_occur(tmp_path, text, ending):
    path = tmp_path / f"my sets.v1{ending}"
    path.write_bytes(gzip.compress(text.encode()) if ending.endswith(".gz") else text.encode())
    sets = gene_sets(path)
    assert members(sets) == {"heme synthesis": {"ALAS2", "HMBS"}, "globins": {"HBB", "HBA1"}}
    assert sets.genes == ("ALAS2", "HBA1", "HBB", "HMBS")
    assert sets.descriptions == ("R-HSA-1", "")
    assert sets.name.startswith("my sets.v1")
    assert "left_out" not in sets.attrs


def test_blank_fields_and_weights_of_enrichr_are_counted(tmp_path, caplog):
    path = tmp_path / "enrichr.gmt"
    path.write_text("STAT1\tna\tIRF1,1.0\t\tGBP1,0.53\tIRF1\tGBP2,2e-05\n18S\tna\t18S rRNA, 5.8S rRNA\tHLA-A\n")
    with caplog.at_level(logging.INFO):
        sets = gene_sets(path)
    assert members(sets) == {"STAT1": {"IRF1", "GBP1", "GBP2"}, "18S": {"18S rRNA, 5.8S rRNA", "HLA-A"}}
    assert sets.attrs["left_out"] == {"blank gene fields": 1, "weights cut off": 3}
    assert "1 blank gene fields" in caplog.text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GMT + "alone\tR-HSA-3\n", "1 of 3 lines without genes: 'alone'"),
        (GMT + "alone\tR-HSA-3\t\t\n", "lines without genes: 'alone'"),
        (GMT + "globins\tother\tHBG1\n", "stand more than once: 'globins'"),
        ("heme,R-HSA-1,ALAS2\n", "with tabs between"),
        ("", "no gene sets"),
        (GMT + "\t\tHBG1\n", "1 without a name"),
    ],
)
def test_gmt_files_that_cannot_be_used(tmp_path, text, message):
    path = tmp_path / "sets.gmt"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        gene_sets(path)


def test_missing_and_cut_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        gene_sets(tmp_path / "none.gmt")
    path = tmp_path / "cut.gmt.gz"
    path.write_bytes(gzip.compress(GMT.encode() * 50)[:-12])
    with pytest.raises(DataError, match="cut short"):
        gene_sets(path)


def test_table_and_dictionary_and_file_of_a_table_agree(tmp_path):
    expected = gene_sets(BLOOD)
    pairs = [(gene, name) for name, genes in BLOOD.items() for gene in genes]
    table = pd.DataFrame(pairs, columns=["symbol", "pathway"])
    table.to_csv(tmp_path / "pairs.tsv", sep="\t", index=False)
    table.to_csv(tmp_path / "pairs.csv.gz", index=False)
    for source in (table, tmp_path / "pairs.tsv", str(tmp_path / "pairs.csv.gz")):
        sets = gene_sets(source)
        assert members(sets) == members(expected)
        assert sets.genes == expected.genes


def test_rows_without_gene_or_set_are_counted():
    table = pd.DataFrame({"gene": ["HBB", None, "KLF1", " "], "term": ["a", "a", float("nan"), "b"]})
    sets = gene_sets(table)
    assert members(sets) == {"a": {"HBB"}}
    assert sets.attrs["left_out"] == {"rows without gene or set": 3}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"heme": "ALAS2"}, r"give a list: \['ALAS2'\]"),
        ({"heme": ["ALAS2"], "none": []}, "1 without a gene: 'none'"),
        ({}, "no gene sets"),
        (pd.DataFrame({"gene": ["HBB"], "cluster": ["a"]}), "no column 'set'"),
    ],
)
def test_sources_that_cannot_be_used(source, message):
    with pytest.raises(DataError, match=message):
        gene_sets(source)


def test_a_gene_named_twice_is_in_the_set_once():
    assert gene_sets({"a": ["HBB", "HBB"]}).membership.nnz == 1


def test_provenance(tmp_path):
    (tmp_path / "h.all.v7.gmt").write_text(GMT)
    sets = gene_sets(tmp_path / "h.all.v7.gmt", version="7.0")
    assert sets.name == "h.all.v7"
    assert sets.attrs == {"derived_from": "gene sets h.all.v7", "source": "h.all.v7.gmt", "version": "7.0"}


def test_real_gmt_is_what_gseapy_reads(shared_priors, tmp_path):
    from gseapy import read_gmt

    packed = shared_priors / "reactome_pathways.gmt.gz"
    plain = tmp_path / "reactome.gmt"
    plain.write_bytes(gzip.decompress(packed.read_bytes()))
    expected = {name: set(genes) for name, genes in read_gmt(str(plain)).items()}
    sets = gene_sets(packed)
    assert len(sets.sets) == 2444
    by_set = sets.membership.tocsc()
    for number, name in enumerate(sets.sets):
        rows = by_set.indices[by_set.indptr[number] : by_set.indptr[number + 1]]
        assert {sets.genes[row] for row in rows} == expected[name]
