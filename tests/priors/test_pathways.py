"""Pathway hierarchies against walks over plain Python sets."""

from __future__ import annotations

import functools
import gzip
import logging
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import DataError
from scperturb_modules.priors._gene_sets import gene_sets
from scperturb_modules.priors._identifiers import GeneNames
from scperturb_modules.priors._pathway_hierarchy import PathwayHierarchy
from scperturb_modules.priors._pathways import reactome
from scperturb_modules.priors._stored import store, stored

LEVELS = (1, 2, 3, "leaf", "top", "all")


class Slow:
    """The hierarchy by recursion over children and parents."""

    def __init__(self, sets, relations):
        self.sets = {one: set(genes) for one, genes in sets.items()}
        self.ids = set(sets) | {one for relation in relations for one in relation}
        self.children, self.parents = ({one: set() for one in self.ids} for _ in range(2))
        for parent, child in relations:
            self.children[parent].add(child)
            self.parents[child].add(parent)
        self.genes_of = functools.cache(self._genes_of)
        self.depth = functools.cache(lambda one: max((self.depth(p) + 1 for p in self.parents[one]), default=0))
        self.holding = {}
        for one in self.ids:
            for gene in self.genes_of(one):
                self.holding.setdefault(gene, set()).add(one)

    def _genes_of(self, one):
        return self.sets.get(one, set()).union(*(self.genes_of(child) for child in self.children[one]))

    def ancestors(self, one):
        return self.parents[one].union(*(self.ancestors(parent) for parent in self.parents[one]))

    def level(self, gene, level):
        held = self.holding.get(gene, set())
        if level == "all":
            return held
        if level == "top":
            return {one for one in held if not self.parents[one]}
        found = {one for one in held if not any(gene in self.genes_of(child) for child in self.children[one])}
        for _ in range({"leaf": 1}.get(level, level) - 1):
            found = {parent for one in found for parent in self.parents[one] or {one}}
        return found


def draw(seed, *, gaps=False):
    """Sets and relations of a random hierarchy: several parents, chains of many lengths, pathways on their own.

    The sets are propagated; with ``gaps``, some are absent and some lack genes of their children.
    """
    rng = np.random.default_rng(seed)
    ids = [f"P{i:02d}" for i in rng.permutation(30)]
    places = [(i, j) for i in range(28) for j in range(i + 1, 28) if rng.random() < 0.08]
    relations = [(ids[i], ids[j]) for i, j in places]
    genes = np.array([f"G{i:02d}" for i in range(40)])
    direct = {one: set(rng.choice(genes, rng.integers(1, 5), replace=False).tolist()) for one in ids}
    slow = Slow(direct, relations)
    sets = {one: sorted(slow.genes_of(one)) for one in ids}
    if gaps:
        sets = {one: [gene for gene in held if rng.random() < 0.9] for one, held in sets.items() if rng.random() < 0.8}
        sets = {one: held for one, held in sets.items() if held}
    return sets, relations


def table_of(relations):
    return pd.DataFrame(relations, columns=["parent", "child"])


def by_gene(table):
    return {gene: set(part["id"]) for gene, part in table.groupby("gene")}


@pytest.fixture(scope="session")
def real_files(shared_priors):
    return shared_priors / "reactome_pathways.gmt.gz", shared_priors / "reactome_pathway_relation.tsv.gz"


@pytest.fixture(scope="session")
def real(real_files):
    return reactome(None, *real_files)


@pytest.fixture(scope="session")
def real_slow(real_files):
    with gzip.open(real_files[0], "rt") as file:
        lines = [line.rstrip("\n").split("\t") for line in file]
    with gzip.open(real_files[1], "rt") as file:
        relations = [tuple(line.split()) for line in file][1:]
    return lines, relations, Slow({line[1]: line[2:] for line in lines}, relations)


@pytest.fixture
def diamond():
    """D in B and C, both in A; a chain of one; E below D, without a set of its own, with F below it."""
    sets = {"A": ["a", "b", "d", "f"], "B": ["b", "d", "f"], "C": ["d", "f"], "D": ["d", "f"], "F": ["f"], "X": ["x"]}
    relations = [("A", "B"), ("A", "C"), ("B", "D"), ("C", "D"), ("D", "E"), ("E", "F")]
    return reactome(None, sets, table_of(relations))


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_levels_are_those_of_a_walk(seed, gaps):
    sets, relations = draw(seed, gaps=gaps)
    slow, fast = Slow(sets, relations), reactome(None, sets, table_of(relations))
    assert set(fast.ids) == slow.ids and list(fast.ids) == [*sets, *sorted(slow.ids - set(sets))]
    assert fast.genes == tuple(sorted(slow.holding))
    for level in LEVELS:
        table = fast.pathways(level=level)
        assert by_gene(table) == {gene: slow.level(gene, level) for gene in fast.genes}, level
        assert set(table["level"]) == {1 if level == "leaf" else level} and not table.duplicated().any()
        member = fast.level_membership(level)
        assert member.shape == (len(fast.genes), len(fast.ids)) and (member.data == 1).all()
        assert member.nnz == len(table)


@pytest.mark.parametrize("seed", range(4))
def test_steps_are_those_of_a_walk(seed):
    sets, relations = draw(seed, gaps=True)
    slow, fast = Slow(sets, relations), reactome(None, sets, table_of(relations))
    depth = dict(zip(fast.table["id"], fast.table["depth"], strict=True))
    assert max(depth.values()) >= 3
    for one in fast.ids:
        assert set(fast.genes_of(one)) == slow.genes_of(one) and list(fast.genes_of(one)) == sorted(fast.genes_of(one))
        assert set(fast.parents(one)["id"]) == slow.parents[one]
        assert set(fast.children(one)["id"]) == slow.children[one]
        assert sorted(fast.ancestors(one)["id"]) == sorted(slow.ancestors(one))
        assert depth[one] == slow.depth(one)
        path = list(fast.path_to_top(one)["id"])
        assert path[0] == one and len(path) == depth[one] + 1 and not slow.parents[path[-1]]
        assert all(upper in slow.parents[lower] for lower, upper in zip(path, path[1:], strict=False))
    assert dict(zip(fast.table["id"], fast.table["n_genes"], strict=True)) == {
        one: len(slow.genes_of(one)) for one in fast.ids
    }


def test_only_asked_genes_with_the_levels_that_all_of_them_have():
    sets, relations = draw(1)
    slow = Slow(sets, relations)
    asked = ["G07", "nobody", "G03", "G11"]
    fast = reactome(asked, sets, table_of(relations))
    assert fast.genes == ("G03", "G07", "G11")
    assert by_gene(fast.pathways(level=2)) == {gene: slow.level(gene, 2) for gene in fast.genes}
    assert list(dict.fromkeys(fast.pathways(["G11", "G03"])["gene"])) == ["G11", "G03"]
    assert set(fast.genes_of("P03")) == slow.genes_of("P03") & set(fast.genes)


def test_short_chains_a_pathway_without_a_set_and_two_parents(diamond):
    def ids(gene, level):
        return sorted(diamond.pathways(gene, level)["id"])

    assert [ids("x", level) for level in (1, 2, 3, "top", "all")] == [["X"]] * 5
    assert [ids("f", level) for level in (1, 2, 3, "top")] == [["F"], ["E"], ["D"], ["A"]]
    assert [ids("d", level) for level in (1, 2, 3)] == [["D"], ["B", "C"], ["A"]]
    assert [ids("b", level) for level in (1, 2, 3)] == [["B"], ["A"], ["A"]]
    assert list(diamond.path_to_top("F")["id"]) == ["F", "E", "D", "B", "A"]
    assert diamond.genes_of("E") == ("f",)
    assert diamond.attrs["left_out"] == {
        "pathways in the hierarchy without a set": 1,
        "sets that are not in the hierarchy": 1,
        "genes added to a parent that lacks a gene of its child": 1,
    }


def test_real_levels_are_those_of_a_walk(real, real_slow):
    slow = real_slow[2]
    genes = np.random.default_rng(0).choice(real.genes, 200, replace=False).tolist()
    for level in LEVELS:
        assert by_gene(real.pathways(genes, level)) == {gene: slow.level(gene, level) for gene in genes}, level


def test_real_facts(real, real_slow):
    lines, relations, slow = real_slow
    assert (len(real.genes), len(real.ids), len(real.parent)) == (11201, 2444 + 170, 2628)
    assert real.attrs["left_out"] == {
        "pathways in the hierarchy without a set": 170,
        "sets that are not in the hierarchy": 4,
        "genes added to a parent that lacks a gene of its child": 1409,
    }
    assert sum(len(slow.genes_of(one) - slow.sets.get(one, set())) for one in slow.ids) == 1409
    sets = slow.sets
    both = [(parent, child) for parent, child in relations if parent in sets and child in sets]
    assert len(both) == 2446 and sum(sets[child] <= sets[parent] for parent, child in both) == 2442
    assert dict(zip(real.ids[:2444], real.pathway_names[:2444], strict=True)) == {line[1]: line[0] for line in lines}
    leaves = real.pathways("IRF1")
    assert set(leaves["name"]) == {
        "Interferon gamma signaling",
        "Interferon alpha/beta signaling",
        "Factors involved in megakaryocyte development and platelet production",
    }
    assert list(real.path_to_top("Interferon gamma signaling")["name"]) == [
        "Interferon gamma signaling",
        "Interferon Signaling",
        "Cytokine Signaling in Immune system",
        "Immune System",
    ]
    # a gap between a pathway and its ancestor does not make the ancestor specific: no gene of a Rho GTPase cycle has
    # Signal Transduction on level 1
    assert "Signal Transduction" not in set(real.pathways(level=1)["name"])
    assert "KLF1" not in real.genes


def test_names_and_ids_both_mean_a_pathway(diamond):
    assert diamond.genes_of("D") == diamond.genes_of(diamond.ids[3]) == ("d", "f")
    twins = replace(diamond, pathway_names=("one", "twin", "twin", "four", "five", "F", "E"))
    assert twins.genes_of("F") == diamond.genes_of("F") == ("f",), "an id goes before a name"
    assert twins.genes_of("four") == ("d", "f") and list(twins.parents("four")["id"]) == ["B", "C"]
    with pytest.raises(DataError, match="2 pathways are called 'twin'; give one of their ids: 'B', 'C'"):
        twins.genes_of("twin")
    assert {"twin (B)", "twin (C)"} <= set(twins.to_sets("all").sets)
    with pytest.raises(DataError, match="'foour' is not among the 7. Near names: 'four'"):
        twins.children("foour")


def test_a_table_does_not_reach_into_the_object(diamond):
    diamond.table["name"] = "changed"
    diamond.parents("D")["depth"] = 9
    assert diamond.table["name"][0] == "A" and diamond.table["depth"].max() == 4


def test_files_as_reactome_writes_them(tmp_path, caplog):
    lines = ["Top\tR-HSA-1\tA\tB\tC", "Middle\tR-HSA-2\tA\tB", "Low\tR-HSA-3\tA"]
    pairs = [("R-HSA-1", "R-HSA-2"), ("R-HSA-2", "R-HSA-3"), ("R-MMU-1", "R-MMU-2"), ("R-HSA-2", "R-HSA-3")]
    gmt = tmp_path / "ReactomePathways.gmt.gz"
    gmt.write_bytes(gzip.compress("\r\n".join(lines).encode()))
    without_header = tmp_path / "ReactomePathwaysRelation.txt"
    without_header.write_text("".join(f"{parent}\t{child}\r\n" for parent, child in pairs))
    with caplog.at_level(logging.INFO):
        read = reactome(None, gmt, without_header, version="75")
    assert "1 relations of other species" in caplog.text
    assert read.pathway_names == ("Top", "Middle", "Low") and read.ids == ("R-HSA-1", "R-HSA-2", "R-HSA-3")
    assert by_gene(read.pathways()) == {"A": {"R-HSA-3"}, "B": {"R-HSA-2"}, "C": {"R-HSA-1"}}
    assert (read.attrs["source"], read.attrs["version"], read.attrs["licence"]) == ("Reactome", "75", "CC0")
    assert read.attrs["derived_from"] == "curated pathways"
    assert repr(read) == "PathwayHierarchy('reactome', 3 genes, 3 pathways (3 with genes), 2 relations)"
    with_header = tmp_path / "relations.csv"
    table_of(pairs).to_csv(with_header, index=False)
    for hierarchy in (with_header, table_of(pairs), pd.read_csv(without_header, sep="\t")):
        again = reactome(None, gene_sets(gmt), hierarchy)
        np.testing.assert_array_equal([again.parent, again.child], [read.parent, read.child])
        assert (again.membership != read.membership).nnz == 0


def test_genes_keep_the_names_of_the_user():
    names = GeneNames.from_tables(aliases=pd.DataFrame({"alias": ["OLD"], "symbol": ["NEW"]}))
    sets, relations = {"A": ["NEW", "B"], "C": ["NEW"]}, table_of([("A", "C")])
    found = reactome(["OLD", "B", "Z"], sets, relations, names=names)
    assert found.genes == ("B", "OLD") and found.genes_of("C") == ("OLD",)


@pytest.mark.parametrize(
    ("cycle", "named"), [([("B", "C"), ("C", "B")], "2 pathways .*: 'B', 'C'"), ([("B", "B")], "1 pathways .*: 'B'")]
)
def test_a_cycle_is_named(cycle, named):
    sets = {one: ["g"] for one in "ABCD"}
    with pytest.raises(DataError, match=named + r"\. Take one relation"):
        reactome(None, sets, table_of([("A", "B"), *cycle, ("C", "D")]))


def test_what_cannot_be_read_is_one_error(tmp_path):
    sets, relations = {"A": ["g", "h"], "B": ["g"]}, table_of([("A", "B")])
    with pytest.raises(FileNotFoundError, match="pathway hierarchy"):
        reactome(None, sets, tmp_path / "absent.txt")
    with pytest.raises(DataError, match="no column 'parent', 'child'"):
        reactome(None, sets, relations.set_axis(["up", "down"], axis=1))
    with pytest.raises(DataError, match="1 rows without parent or child, at rows '1'"):
        reactome(None, sets, table_of([("A", "B"), ("A", None)]))
    with pytest.raises(DataError, match="none of 1 relations is about the 2 pathways"):
        reactome(None, sets, table_of([("R-HSA-1", "R-HSA-2")]))
    human = gene_sets({"one": ["g"], "two": ["g"]})
    mouse = table_of([("R-MMU-1", "R-MMU-2")])
    with pytest.raises(DataError, match="'R-HSA-1', 'R-HSA-2' / 'R-MMU-1'"):
        reactome(None, replace(human, descriptions=("R-HSA-1", "R-HSA-2")), mouse)
    with pytest.raises(DataError, match="1 ids stand for several pathways: 'R-HSA-1'"):
        reactome(None, replace(human, descriptions=("R-HSA-1", "R-HSA-1")), mouse)
    with pytest.raises(DataError, match="0 of 1 genes found"):
        reactome(["nobody"], sets, relations)


def test_wrong_questions_are_one_error(diamond):
    with pytest.raises(DataError, match="2 of 3 genes are not among its 5: 'q', 'r'"):
        diamond.pathways(["a", "q", "r"])
    for level in (0, 4, "L1", True):
        with pytest.raises(ValueError, match="is unknown; use 1, 2, 3, 'leaf'"):
            diamond.pathways("a", level)
    for wrong in (
        {"genes": diamond.genes[::-1]},
        {"ids": ("A", "A", *diamond.ids[2:])},
        {"parent": diamond.parent[::-1], "child": diamond.child[::-1]},
        {"membership": diamond.level_membership(1)},
    ):
        with pytest.raises(DataError, match="not in order; make them by spm.priors.reactome"):
            replace(diamond, **wrong)


def assert_same(one, other):
    assert (one.name, one.genes, one.ids, one.pathway_names) == (
        other.name,
        other.genes,
        other.ids,
        other.pathway_names,
    )
    assert one.attrs == other.attrs and (one.membership != other.membership).nnz == 0
    np.testing.assert_array_equal([one.parent, one.child], [other.parent, other.child])


@pytest.mark.filterwarnings("ignore:Writing zarr v2")
@pytest.mark.parametrize("ending", ["h5ad", "zarr"])
def test_it_survives_a_file(diamond, tmp_path, ending):
    from anndata import AnnData, read_h5ad, read_zarr

    adata = AnnData(np.zeros((1, 1)))
    store(adata, diamond)
    getattr(adata, f"write_{ending}")(tmp_path / f"a.{ending}")
    found = stored({"h5ad": read_h5ad, "zarr": read_zarr}[ending](tmp_path / f"a.{ending}"))
    assert_same(found["reactome"], diamond)


def test_real_pathways_come_back(real):
    assert_same(PathwayHierarchy.from_uns(real.to_uns()), real)


def test_levels_as_sets_and_shares(real):
    sets = real.to_sets()
    place = sets.sets.index("Interferon gamma signaling")
    assert sets.descriptions[place] == "R-HSA-877300" and sets.genes == real.genes and sets.size.min() > 0
    leaves = by_gene(real.pathways())
    assert {sets.descriptions[sets.sets.index(name)] for name in sets.sets_of("IRF1")} == leaves["IRF1"]
    genes = np.random.default_rng(1).choice(real.genes, 60, replace=False).tolist() + ["IRF1", "STAT1", "IRF9"]
    expected = [[len(leaves[a] & leaves[b]) / len(leaves[a] | leaves[b]) for b in genes] for a in genes]
    shares = real.jaccard(genes)
    assert list(shares.index) == list(shares.columns) == genes
    np.testing.assert_allclose(shares.to_numpy(), expected, atol=1e-12)


def test_genes_that_share_pathways_are_joined():
    sets, relations = draw(2)
    hierarchy = reactome(None, sets, table_of(relations))
    for level in (1, 2):
        network = hierarchy.to_graph(level, top=100, minimum=0.25)
        shares = np.triu(hierarchy.jaccard(level=level).to_numpy(), 1)
        expected = {(a, b): shares[a, b] for a, b in zip(*np.nonzero(shares > 0.25), strict=True)}
        found = dict(zip(zip(network.source, network.target, strict=True), network.weight, strict=True))
        assert network.genes == hierarchy.genes and found == pytest.approx(expected)
