"""Networks of interactions and regulons against plain loops over rows, on random tables and on public ones."""

from __future__ import annotations

import gzip
import logging

import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.priors import GeneGraph
from scperturb_modules.priors._edge_tables import interactions, regulons
from scperturb_modules.priors._identifiers import GeneNames

SEEDS = range(6)
GENES = [f"G{i:02d}" for i in range(30)]


def draw(seed, n=300, columns=("gene_a", "gene_b")):
    """Rows as public tables have them: repeated edges, both directions, self-loops; scores of 0 to 999."""
    rng = np.random.default_rng(seed)
    ends = rng.choice(GENES, size=(2, n))
    score = rng.choice([0, 150, 400, 700, 900, 999], n)
    return pd.DataFrame({columns[0]: ends[0], columns[1]: ends[1], "score": score})


def asked_for(seed):
    """Some genes of the table, and some that it lacks."""
    return [*np.random.default_rng(seed + 100).permutation(GENES)[:20], "unknown1", "unknown2"]


def edges_of(network):
    ends = zip(network.source, network.target, strict=True)
    return {(network.genes[i], network.genes[j]): w for (i, j), w in zip(ends, network.weight.tolist(), strict=True)}


def slowly(rows, genes, *, directed, minimum=0.0, scale=1.0):
    """Edges and counts from rows (source, target, strength), one after the other."""
    edges, counts = {}, {"outside": 0, "below": 0, "merged": 0, "loops": 0}
    for source, target, strength in rows:
        ends = (source, target) if directed else tuple(sorted((source, target)))
        if genes is not None and not {source, target} <= set(genes):
            counts["outside"] += 1
        elif strength == 0 or strength < minimum:
            counts["below"] += 1
        elif source == target:
            counts["loops"] += 1
        else:
            counts["merged"] += ends in edges
            edges[ends] = max(edges.get(ends, 0), strength / scale)
    return edges, counts


def counts_of(network):
    attrs = network.attrs
    seen = {"outside": attrs["n_edges_outside"], "below": attrs.get("n_edges_below", 0)}
    return {**seen, "merged": network.n_merged, "loops": network.n_self_loops}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("minimum", [None, 400])
@pytest.mark.parametrize("directed", [False, True])
def test_interactions_of_random_tables(seed, minimum, directed):
    table = draw(seed)
    for genes in (None, asked_for(seed)):
        network = interactions(table, genes, minimum=minimum, directed=directed)
        edges, counts = slowly(table.to_numpy(), genes, directed=directed, minimum=minimum or 0, scale=1000)
        assert edges_of(network) == edges and counts_of(network) == counts
        assert network.genes == tuple(sorted(set(genes or GENES) & set(GENES)))
        assert (network.directed, network.attrs["score"], network.attrs["score_of_one"]) == (directed, "score", 1000)
        assert min(counts["below"], counts["merged"], counts["loops"]) > 0, "the table has what is tested"
    assert network.attrs["derived_from"] == "protein interactions" and network.attrs["n_edges_outside"] > 50


def test_genes_without_an_edge_among_those_asked_for_are_isolated():
    table = pd.DataFrame({"source": ["A", "C"], "target": ["B", "D"]})
    network = interactions(table, ["C", "B", "A", "X"])
    assert (network.genes, network.isolated) == (("A", "B", "C"), ("C",))
    with pytest.raises(DataError, match=r"interactions: 0 of 2 genes found; first names: 'X', 'Y' / 'A', 'B', 'C' and"):
        interactions(table, ["X", "Y"])


@pytest.mark.parametrize(
    "columns",
    [
        ("source", "target"),
        ("protein1", "protein2"),
        ("Gene1", "Gene2"),
        ("from", "to"),
        ("A", "B"),
        ("ENTITYA", "ENTITYB"),
        ("Official Symbol Interactor A", "Official Symbol Interactor B"),
    ],
)
def test_ends_under_the_names_of_public_tables(columns):
    table = draw(0, columns=columns)
    assert interactions(table).sha256() == interactions(draw(0)).sha256()
    assert list(table.columns) == [*columns, "score"], "the user's table is untouched"


def test_symbols_go_before_protein_ids():
    symbols = draw(0, columns=("source_genesymbol", "target_genesymbol"))
    assert interactions(symbols.assign(source="P1", target="P2")).sha256() == interactions(draw(0)).sha256()
    assert interactions(draw(0).assign(source="a database")).sha256() == interactions(draw(0)).sha256()


def test_the_column_of_strengths():
    table = draw(1).assign(experiments=[1.5] * 300, confidence=0.25)
    network = interactions(table, score="experiments")
    assert set(network.weight) == {0.15} and network.attrs["score"] == "experiments"
    network = interactions(table, score="confidence")
    assert set(network.weight) == {0.25} and "score_of_one" not in network.attrs
    assert interactions(table.assign(weight=0.5)).attrs["score"] == "weight"
    plain = interactions(table[["gene_a", "gene_b"]])
    assert set(plain.weight) == {1.0} and "score" not in plain.attrs


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (lambda t: t, {"score": "textmining"}, r"no column 'textmining'; the columns are 'gene_a', 'gene_b', 'score'"),
        (lambda t: t[["gene_a"]], {}, r"no two columns with the ends of an edge; the columns are 'gene_a'\. Rename"),
        (lambda t: t[["gene_a", "gene_b"]], {"minimum": 700}, r"minimum=700 needs a column of strengths"),
        (lambda t: t, {"minimum": 0.7}, r"minimum=0\.7 is not on the scale of 'score', which goes from 0 to 999"),
        (lambda t: t.assign(score=t["score"] / 1000), {"minimum": 700}, r"minimum=700 is not on the scale.*to 0\.999"),
        (lambda t: t.assign(score=-1.0), {}, r"300 weights below zero"),
        (lambda t: t.assign(score="high"), {}, r"300 weights that are no finite number, in rows '0'"),
        (lambda t: t.assign(gene_b=[None, *t["gene_b"][1:]]), {}, r"1 edges without a gene name, in rows '0'"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(change, arguments, message):
    with pytest.raises(DataError, match=message):
        interactions(change(draw(2)), **arguments)


def test_missing_strengths_are_an_error_where_they_matter():
    table = draw(3).astype({"score": float})
    table.index = [f"line {i}" for i in range(300)]
    table.loc["line 7", ["gene_a", "gene_b", "score"]] = ["G00", "G01", np.nan]
    for minimum in (None, 400):
        with pytest.raises(DataError, match=r"1 weights that are no finite number, in rows 'line 7'"):
            interactions(table, minimum=minimum)
    others = interactions(table, GENES[1:])
    assert others.n_edges > 50 and others.attrs["score_of_one"] == 1000


def test_rows_may_have_one_name_and_a_table_may_be_empty():
    table = pd.concat([draw(0), draw(1)])
    assert edges_of(interactions(table)) == slowly(table.to_numpy(), None, directed=False, scale=1000)[0]
    empty = interactions(draw(0)[:0])
    assert (empty.n_edges, empty.genes) == (0, ())


def write(table, path, *, separator="\t", line_end="\n"):
    text = table.to_csv(sep=separator, index=False, lineterminator=line_end).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def test_files_of_every_kind_read_alike(tmp_path):
    table = draw(4).replace("G07", "NA")
    expected = interactions(table)
    for path in (
        write(table, tmp_path / "a.tsv"),
        write(table, tmp_path / "windows.tsv", line_end="\r\n"),
        write(table, tmp_path / "windows.csv.gz", separator=",", line_end="\r\n"),
        write(table, tmp_path / "my_edges.v2.csv", separator=","),
    ):
        network = interactions(path, version="2")
        assert network.sha256() == expected.sha256() and "NA" in network.genes
        assert (network.attrs["source"], network.attrs["version"]) == (path.name, "2")
    assert network.name == "my_edges" and interactions(path, name="mine").name == "mine"


def test_a_file_that_is_absent_or_cut_short(tmp_path):
    path = write(draw(5, n=5000), tmp_path / "edges.tsv.gz")
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"edges: '.*edges\.tsv\.gz' is cut short or damaged .* Fetch it again"):
        interactions(path)
    with pytest.raises(FileNotFoundError, match=r"'.*absent\.tsv' does not exist"):
        regulons(tmp_path / "absent.tsv")


def test_the_table_of_a_network_reads_back():
    first = interactions(draw(0), asked_for(0), name="STRING", version="12", directed=True)
    again = interactions(first.to_table())
    assert (again.name, again.directed, again.genes) == ("STRING", True, first.genes)
    assert again.sha256() == first.sha256() and again.attrs["version"] == "12"
    assert interactions(first.to_table(), directed=False).directed is False
    alone = GeneGraph.from_table(pd.DataFrame({"source": ["A", "C"], "target": ["B", "C"]}))
    assert interactions(alone.to_table(), ["A", "C"]).isolated == ("A", "C")


def test_genes_keep_the_names_the_user_has():
    names = GeneNames.from_tables(aliases=pd.DataFrame({"alias": ["old1", "old2"], "symbol": ["G01", "G02"]}))
    genes = ["old1", "G02", "old2", *GENES[3:]]
    network = interactions(draw(0), genes, names=names)
    renamed = draw(0).replace("G01", "old1")
    assert network.sha256() == interactions(renamed, ["old1", "G02", *GENES[3:]]).sha256()
    assert "old2" not in network.genes and "G02" in network.genes


def draw_regulons(seed, n=900):
    rng = np.random.default_rng(seed + 1000)
    table = draw(seed, n, ("tf", "target")).drop(columns="score")
    mode = rng.choice(["Activation", "Repression", "Unknown"], n)
    return table.assign(mode=mode, mor=pd.Series(mode).map({"Activation": 1, "Repression": -1, "Unknown": 0}))


def slowly_signed(table, genes):
    """Edges and counts, pair by pair."""
    said, counts = {}, {"outside": 0, "unknown": 0, "contradicting": 0}
    for tf, target, sign in table[["tf", "target", "mor"]].to_numpy():
        if genes is not None and not {tf, target} <= set(genes):
            counts["outside"] += 1
        elif sign == 0:
            counts["unknown"] += 1
        else:
            said.setdefault((tf, target), []).append(sign)
    counts["contradicting"] = sum(len(signs) for signs in said.values() if len(set(signs)) == 2)
    return {pair: signs[0] for pair, signs in said.items() if len(set(signs)) == 1 and pair[0] != pair[1]}, counts


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("column", ["mor", "mode"])
def test_regulons_of_random_tables(seed, column):
    drawn = draw_regulons(seed)
    table = drawn[["tf", "target", column]]
    for genes in (None, asked_for(seed)):
        edges, counts = slowly_signed(drawn, genes)
        network = regulons(table, genes, signed=True)
        assert edges_of(network) == edges
        assert {key: network.attrs[f"n_edges_{key}"] for key in counts} == counts
        assert counts["unknown"] > 20 and counts["contradicting"] > 3
        plain = regulons(table, genes)
        expected, counts = slowly([(*row, 1.0) for row in table[["tf", "target"]].to_numpy()], genes, directed=True)
        assert edges_of(plain) == expected and counts_of(plain) == counts
        assert plain.directed and network.directed and plain.genes == network.genes
    assert plain.attrs["derived_from"] == "regulons"


def test_contradictions_are_listed(caplog):
    rows = [("T", "A", "Activation"), ("T", "A", "Repression"), ("T", "A", "Unknown"), ("T", "B", "repression")]
    table = pd.DataFrame(rows, columns=["TF", "Gene", "Mode"])
    with caplog.at_level(logging.INFO):
        network = regulons(table, signed=True)
    assert edges_of(network) == {("T", "B"): -1.0} and network.isolated == ("A",)
    assert "left out 1 rows whose sign is not known, and 2 that contradict each other: 'T -> A'" in caplog.text


def test_sizes_of_weights_are_kept():
    rows = [("T", "A", 0.5), ("T", "B", -0.25), ("U", "A", 0.0)]
    table = pd.DataFrame(rows, columns=["source", "target", "weight"])
    assert edges_of(regulons(table)) == {("T", "A"): 0.5, ("T", "B"): 0.25, ("U", "A"): 1.0}
    assert edges_of(regulons(table, signed=True)) == {("T", "A"): 0.5, ("T", "B"): -0.25}
    tenfold = regulons(table.assign(weight=table["weight"] * 10), signed=True)
    assert edges_of(tenfold) == {("T", "A"): 0.5, ("T", "B"): -0.25} and tenfold.attrs["score_of_one"] == 10
    with pytest.raises(DataError, match=r"1 weights that are no finite number, in rows '1'"):
        regulons(table.assign(weight=[1, np.nan, 1]), signed=True)


def test_signs_of_modes_go_with_sizes_of_weights():
    table = pd.DataFrame({"tf": ["T", "T"], "target": ["A", "B"], "mode": ["Repression", "Activation"]})
    assert edges_of(regulons(table.assign(weight=0.5), signed=True)) == {("T", "A"): -0.5, ("T", "B"): 0.5}


@pytest.mark.parametrize("levels", ["AB", ["A", "B"], ("B", "A")])
def test_levels_are_selected(levels):
    table = draw_regulons(0).assign(confidence=np.resize(list("ABCD"), 900))
    chosen = regulons(table, GENES, levels=levels)
    assert chosen.sha256() == regulons(table[table["confidence"].isin(["A", "B"])], GENES).sha256()
    assert chosen.attrs["levels"] == list(levels) and chosen.n_edges < regulons(table).n_edges


@pytest.mark.parametrize(
    ("columns", "arguments", "message"),
    [
        (["tf", "target"], {"levels": "AB"}, r"levels=\['A', 'B'\] needs a column 'confidence', 'level'"),
        (["tf", "target", "confidence"], {"levels": "AX"}, r"no row of level 'X'; the levels are 'A', 'B'"),
        (["tf", "target"], {"signed": True}, r"signed=True needs activation or repression in a column 'mor', 'weight'"),
        (["tf", "mode"], {}, r"no two columns with the ends of an edge; the columns are 'tf', 'mode'"),
    ],
)
def test_what_a_table_of_regulons_lacks(columns, arguments, message):
    table = draw_regulons(0).assign(confidence=np.resize(["A", "B"], 900))
    with pytest.raises(DataError, match=message):
        regulons(table[columns], **arguments)


def plainly(path):
    return pd.read_csv(path, sep="\t", keep_default_na=False)


@pytest.mark.parametrize(
    ("file", "n_edges", "n_genes"),
    [
        ("string_v12_scored_no_textmining", 174962, 17288),
        ("humap_pairs", 58538, 7368),
        ("corum_pairs", 37649, 3505),
        ("signor_pairs", 11850, 4544),
    ],
)
def test_public_interactions(shared_priors, file, n_edges, n_genes):
    path, directed = shared_priors / f"{file}.tsv.gz", file == "signor_pairs"
    network = interactions(path, directed=directed)
    assert (network.n_edges, len(network.genes), network.isolated) == (n_edges, n_genes, ())
    assert (network.name, network.n_merged, network.n_self_loops) == (file, 0, 0)
    table = plainly(path)
    ends = table.columns[:2]
    genes = sorted({*table[ends[0]], *table[ends[1]]})[::2]
    inside = table[table[ends[0]].isin(genes) & table[ends[1]].isin(genes)]
    some = interactions(path, genes, directed=directed)
    strength = inside["score"] / 1000 if "score" in inside else [1.0] * len(inside)
    assert edges_of(some) == dict(zip(zip(inside[ends[0]], inside[ends[1]], strict=True), strength, strict=True))
    assert some.attrs["n_edges_outside"] == n_edges - len(inside) and some.genes == tuple(genes)


def test_public_interactions_above_a_score(shared_priors):
    path = shared_priors / "string_v12_scored_no_textmining.tsv.gz"
    strong = interactions(path, minimum=700)
    assert strong.n_edges == 131520 and strong.attrs["n_edges_below"] == 174962 - 131520
    assert interactions(path, score="experiments", minimum=400).n_edges == 70549


def test_public_regulons(shared_priors):
    path = shared_priors / "dorothea_hs_ABCD.tsv.gz"
    table = plainly(path)
    everything = regulons(path, signed=True)
    assert edges_of(everything) == {(tf, target): mor for tf, target, mor in table[["tf", "target", "mor"]].to_numpy()}
    assert (everything.n_edges, len(set(everything.source))) == (29086, 361)
    assert regulons(path, levels="A").n_edges == 5434
    assert regulons(path, levels=("A", "B", "C")).n_edges == 5434 + 974 + 6815


def test_public_regulons_that_contradict_themselves(shared_priors):
    path = shared_priors / "trrust_human.tsv.gz"
    table = plainly(path)
    said = table.groupby(["tf", "target"])["mode"].agg(lambda modes: set(modes) - {"Unknown"})
    apart = [tf != target for tf, target in said.index]
    assert regulons(path).n_edges == sum(apart)
    signed = regulons(path, signed=True)
    sign = {"Activation": 1.0, "Repression": -1.0}
    one = said[apart][said[apart].map(len) == 1]
    assert edges_of(signed) == {pair: sign[next(iter(modes))] for pair, modes in one.items()}
    assert signed.attrs["n_edges_unknown"] == 4321


def test_others_are_kept_where_asked():
    table = pd.DataFrame({"source": ["A", "B", "C"], "target": ["B", "C", "D"]})
    asked = interactions(table, ["A", "C"])
    assert asked.genes == ("A", "C") and asked.n_edges == 0 and asked.attrs["n_edges_outside"] == 3
    every = interactions(table, ["A", "C"], keep_others=True)
    assert every.sha256() == interactions(table).sha256() and every.attrs["n_edges_outside"] == 0
