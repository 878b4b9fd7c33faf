from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules._errors import DataError
from scperturb_modules.pl import _gene_graph as module
from scperturb_modules.pl import gene_graph
from scperturb_modules.pl._neighbourhood import neighbourhood
from scperturb_modules.pl._node_layout import place_boxes
from scperturb_modules.pl._style import BAND_COLOR, OWN_COLOR
from scperturb_modules.priors import GeneGraph


def draw(seed=0, *, n_genes=60, n_edges=150, directed=False, signed=False):
    """A random network with many equal weights."""
    rng = np.random.default_rng(seed)
    names = np.array([f"GENE{i:02d}" for i in range(n_genes)])
    ends = names[rng.integers(n_genes, size=(2, n_edges))]
    weight = rng.choice([0.2, 0.5, 0.9], n_edges) * (rng.choice([-1, 1], n_edges) if signed else 1)
    table = pd.DataFrame({"source": ends[0], "target": ends[1], "weight": weight})
    return GeneGraph.from_table(table, name="ppi", directed=directed, signed=signed)


def small(**said):
    rows = [("A", "B", 3.0), ("A", "X", 1.0), ("B", "X", 2.0), ("X", "Y", 5.0), ("C", "Z", 1.0)]
    return GeneGraph.from_table(pd.DataFrame(rows, columns=["source", "target", "weight"]), name="ppi", **said)


def links_of(graph):
    """Gene -> other gene -> strength, in both directions."""
    links = {gene: {} for gene in graph.genes}
    for source, target, weight in zip(graph.source, graph.target, graph.weight, strict=True):
        for one, other in ((source, target), (target, source)):
            of_gene, name = links[graph.genes[one]], graph.genes[other]
            of_gene[name] = max(of_gene.get(name, 0), abs(weight))
    return links


def slowly_chosen(graph, found, n_neighbours, max_nodes):
    """Names of the perturbed genes and of the neighbours to draw, and how many neighbours there are."""
    links = links_of(graph)
    among = {gene: len(set(links[gene]) & set(found)) for gene in found}
    perturbed = sorted(sorted(found, key=lambda gene: (-among[gene], gene))[:max_nodes])
    outside = {gene: {other: w for other, w in links[gene].items() if other not in found} for gene in perturbed}
    everyone = set().union(*outside.values())
    shared = {other: sum(other in of_gene for of_gene in outside.values()) for other in everyone}
    place, strength = {}, {}
    for of_gene in outside.values():
        ranked = sorted(of_gene, key=lambda other: (-of_gene[other], -shared[other], other))
        for rank, other in enumerate(ranked[:n_neighbours]):
            place[other] = min(rank, place.get(other, rank))
            strength[other] = max(of_gene[other], strength.get(other, 0))
    chosen = sorted(place, key=lambda other: (place[other], -shared[other], -strength[other], other))
    return perturbed, chosen[: max_nodes - len(perturbed)], len(everyone)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize(("n_neighbours", "max_nodes"), [(3, 80), (5, 15), (0, 80), (4, 6), (2, 9)])
def test_the_choice_of_genes_and_edges_equals_plain_loops(directed, n_neighbours, max_nodes):
    for seed in range(5):
        graph = draw(seed, n_genes=30, directed=directed, signed=True)  # with pairs joined in both directions
        found = sorted(np.random.default_rng(seed).choice(graph.genes, 8, replace=False).tolist())
        near = neighbourhood(graph, found, n_neighbours, max_nodes)
        perturbed, chosen, n_outside = slowly_chosen(graph, found, n_neighbours, max_nodes)
        assert near.names == perturbed + chosen and near.n_perturbed == len(perturbed)
        assert (near.n_perturbed_found, near.n_neighbours_found) == (8, n_outside)
        expected = {
            (graph.genes[i], graph.genes[j]): w
            for i, j, w in zip(graph.source, graph.target, graph.weight, strict=True)
            if {graph.genes[i], graph.genes[j]} <= set(near.names) and {graph.genes[i], graph.genes[j]} & set(perturbed)
        }
        ends = [(near.names[i], near.names[j]) for i, j in zip(near.source, near.target, strict=True)]
        assert dict(zip(ends, near.weight, strict=True)) == expected and len(ends) == len(expected)


def nodes_of(ax):
    """Name -> colour of its box."""
    return {t.get_text(): to_hex(t.get_bbox_patch().get_facecolor()) for t in ax.texts if t.get_bbox_patch()}


def notes_of(ax):
    return [text.get_text() for text in ax.texts if text.get_bbox_patch() is None]


def joined(ax):
    """The pair of nodes nearest to the ends of each line, with its width."""
    place = {t.get_text(): np.array(t.get_position()) for t in ax.texts if t.get_bbox_patch()}
    lines = {}
    for line in ax.patches:
        ends = [
            min(place, key=lambda name: np.abs((place[name] - end) / (1, 0.4)).max())  # boxes are wider than high
            for end in line._posA_posB
        ]
        lines[tuple(ends)] = line
    return lines


def test_perturbed_genes_and_their_neighbours_are_drawn_in_the_given_axes(two_axes):
    wanted, current = two_axes
    assert gene_graph(small(), ["A", "B", "NOT"], ax=wanted) is wanted
    assert not current.texts and len(plt.get_fignums()) == 1
    assert nodes_of(wanted) == {"A": OWN_COLOR.lower(), "B": OWN_COLOR.lower(), "X": BAND_COLOR.lower()}
    assert set(joined(wanted)) == {("A", "B"), ("A", "X"), ("B", "X")}
    assert {"ppi: 2 perturbed genes and 1 neighbour", "Not in the network: NOT"} <= set(notes_of(wanted))


def test_wider_lines_are_stronger_edges_and_the_picture_says_so():
    ax = gene_graph(small(), ["A", "B"])
    lines = joined(ax)
    assert lines["A", "B"].get_linewidth() > lines["B", "X"].get_linewidth() > lines["A", "X"].get_linewidth()
    assert "Thicker lines: larger weight (1 to 3)" in notes_of(ax)
    ax = gene_graph(small(), ["C"])
    assert notes_of(ax) == ["ppi: 1 perturbed gene and 1 neighbour"]


def test_what_is_left_out_is_counted():
    graph = draw(n_edges=400)
    found = list(graph.genes[:20])
    near = neighbourhood(graph, found, 2, 25)
    note = f"5 of {near.n_neighbours_found} neighbours are drawn (n_neighbours=2, max_nodes=25)"
    assert note in notes_of(gene_graph(graph, found, n_neighbours=2, max_nodes=25))
    ax = gene_graph(graph, found, max_nodes=12)
    assert "8 perturbed genes with the fewest links to others are left out" in notes_of(ax)
    assert list(nodes_of(ax).values()) == [OWN_COLOR.lower()] * 12


def test_directions_are_arrows_and_repression_ends_in_a_bar():
    rows = [("A", "B", 1.0), ("X", "A", -1.0)]
    table = pd.DataFrame(rows, columns=["source", "target", "weight"])
    ax = gene_graph(GeneGraph.from_table(table, directed=True, signed=True), ["A", "B"])
    lines = joined(ax)
    assert set(lines) == {("A", "B"), ("X", "A")}, "lines run from source to target"
    styles = {ends: type(line.get_arrowstyle()).__name__ for ends, line in lines.items()}
    assert styles == {("A", "B"): "CurveFilledB", ("X", "A"): "BarAB"}
    colors = {to_hex(line.get_edgecolor()) for line in lines.values()}
    assert len(colors) == 2
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["perturbed gene", "neighbour", "activates", "represses"]
    ax = gene_graph(GeneGraph.from_table(table, signed=True), ["A", "B"])
    dashed = {frozenset(ends): line.get_linestyle() in ("--", "dashed") for ends, line in joined(ax).items()}
    assert dashed == {frozenset("AB"): False, frozenset("AX"): True}
    ax = gene_graph(GeneGraph.from_table(table.assign(weight=1.0)), ["A", "B"])
    assert {type(line.get_arrowstyle()).__name__ for line in joined(ax).values()} == {"Curve"}


def test_genes_without_an_edge_are_drawn_alone():
    graph = GeneGraph("ppi", ("A", "B"), np.array([], int), np.array([], int), np.array([]))
    ax = gene_graph(graph, "A")
    assert list(nodes_of(ax)) == ["A"] and not ax.patches
    assert list(nodes_of(gene_graph(graph, ["B", "A", "B"]))) == ["A", "B"]


def test_a_picture_is_the_same_each_time():
    graph = draw(3)
    first, second = (gene_graph(graph, graph.genes[:10]) for _ in range(2))
    assert [t.get_position() for t in first.texts] == [t.get_position() for t in second.texts]


def test_errors_say_what_to_do():
    with pytest.raises(DataError, match=r"0 of 2 genes found in the network 'ppi'; first names: 'a', 'b' / 'A', 'B'"):
        gene_graph(small(), ["a", "b"])
    with pytest.raises(TypeError, match=r"is a DataFrame; make a GeneGraph.*from_table"):
        gene_graph(small().to_table(), ["A"])
    with pytest.raises(ValueError, match="n_neighbours=-1, max_nodes=80"):
        gene_graph(small(), ["A"], n_neighbours=-1)
    with pytest.raises(ValueError, match="max_nodes=0"):
        gene_graph(small(), ["A"], max_nodes=0)


@pytest.mark.parametrize("seed", range(4))
def test_boxes_never_overlap_and_groups_stay_apart(seed):
    rng = np.random.default_rng(seed)
    size = np.stack([rng.uniform(0.2, 1.2, 50), rng.uniform(0.15, 0.3, 50)], axis=1)
    source, target = rng.integers(50, size=(2, 30))
    place = place_boxes(size, source, target)
    gap = np.abs(place[:, None] - place[None]) - (size[:, None] + size[None]) / 2
    np.fill_diagonal(gap[:, :, 0], 1)
    assert (gap.max(axis=2) > 0).all()
    low, high = (place - size / 2).min(axis=0), (place + size / 2).max(axis=0)
    np.testing.assert_allclose(low, 0, atol=1e-9)
    assert 0.8 < high[0] / high[1] < 4, "a page, not a strip"


@pytest.mark.parametrize("n_perturbed", [1, 5, 25, 60])
@pytest.mark.parametrize("directed", [False, True])
def test_no_text_is_cut_and_no_boxes_overlap(assert_readable, n_perturbed, directed):
    graph = draw(directed=directed, signed=directed)
    long = tuple(f"{gene}-AND-A-LONG-NAME" if gene.endswith("5") else gene for gene in graph.genes)
    graph = replace(graph, genes=long)
    ax = gene_graph(graph, [*graph.genes[:n_perturbed], "NOT"])
    assert_readable(ax)
    renderer = ax.figure.canvas.get_renderer()
    boxes = [t.get_bbox_patch().get_window_extent(renderer) for t in ax.texts if t.get_bbox_patch()]
    touching = [(i, j) for i in range(len(boxes)) for j in range(i) if boxes[i].overlaps(boxes[j])]
    assert len(boxes) > n_perturbed - 1 and not touching


def test_real_targets_in_string(shared_priors, assert_readable):
    table = pd.read_csv(shared_priors / "string_v12_scored_no_textmining.tsv.gz", sep="\t")
    table = table.rename(columns={"gene_a": "source", "gene_b": "target", "score": "weight"})
    genes = ["STAT1", "STAT2", "IRF1", "JAK2", "IFNGR1", "CUL3", "MARCH8", "BRD4"]
    ax = gene_graph(GeneGraph.from_table(table, name="STRING"), genes)
    assert_readable(ax)
    assert "Not in the network: MARCH8" in notes_of(ax)
    assert {"STAT1", "JAK1", "IRF9"} <= set(nodes_of(ax))
    assert module._has_widths(neighbourhood(GeneGraph.from_table(table), genes[:6], 5, 80))
