from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from scperturb_modules._errors import DataError
from scperturb_modules.pl import _prior_coverage as module
from scperturb_modules.pl import prior_coverage
from scperturb_modules.priors._coverage import STATES, coverage

PRIORS = ["GO", "STRING", "SIGNOR"]


def covered(n_genes, *, priors=PRIORS, seed=0, n_measured=5000):
    """What ``coverage`` returns, of random states; the last gene is in no prior, the first in all."""
    rng = np.random.default_rng(seed)
    genes = [f"GENE{i}" for i in range(n_genes)]
    states = pd.DataFrame(rng.choice(STATES, (n_genes, len(priors)), p=[0.6, 0.1, 0.3]), index=genes, columns=priors)
    states.iloc[-1], states.iloc[0] = "unknown", "covered"
    status = ["covered" if "covered" in row else min(row, key=STATES.index) for row in states.to_numpy().tolist()]
    table = pd.DataFrame({"status": status, "measured": rng.random(n_genes) < 0.3}, index=genes)
    sources = pd.DataFrame({f"perturbed_{state}": (states == state).sum() for state in STATES})
    measured = rng.multinomial(n_measured, [0.5, 0.1, 0.4], len(priors))
    sources[[f"measured_{state}" for state in STATES]] = measured
    return SimpleNamespace(genes=table, states=states, sources=sources)


def texts(ax):
    return [text.get_text() for text in ax.texts]


def tick_names(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def drawn_states(ax):
    """Genes x priors, read from the dots and the legend that explains them."""
    labels = {text.get_text() for text in ax.get_legend().get_texts()}
    genes, priors = tick_names(ax.xaxis), tick_names(ax.yaxis)[:-1]
    states = pd.DataFrame("", index=genes, columns=priors)
    for dots in ax.collections:
        if dots.get_label() in labels:
            for x, y in dots.get_offsets():
                assert states.iloc[int(x), int(y)] == "", "one dot per gene and prior"
                states.iloc[int(x), int(y)] = dots.get_label()
    return states


def shares(ax):
    """(priors x groups x states) lengths of the bars."""
    n_priors = len([name for name in tick_names(ax.yaxis) if name != "measured gene"])
    ends = np.array([(bar.get_x(), bar.get_x() + bar.get_width()) for bar in ax.patches])
    ends = ends.reshape(2, 3, n_priors, 2).transpose(2, 0, 1, 3)
    np.testing.assert_allclose(ends[:, :, 1:, 0], ends[:, :, :-1, 1], err_msg="a bar starts where the last one ends")
    np.testing.assert_allclose(ends[:, :, 0, 0], ends[0, 0, 0, 0])
    return ends[..., 1] - ends[..., 0]


def test_each_gene_and_prior_has_the_dot_of_its_state():
    given = covered(20)
    ax = prior_coverage(given)
    drawn = drawn_states(ax)
    expected = given.states.replace(module._LABELS).loc[drawn.index, drawn.columns]
    pd.testing.assert_frame_equal(drawn, expected)
    assert sorted(drawn.index) == sorted(given.states.index) and sorted(drawn.columns) == sorted(PRIORS)
    n_covered = (given.states == "covered").sum(axis=1)
    assert n_covered[drawn.index].is_monotonic_decreasing
    assert (given.states == "covered").sum()[drawn.columns].is_monotonic_decreasing


def test_measured_genes_are_marked_on_a_line_of_their_own():
    given = covered(20)
    ax = prior_coverage(given)
    (marks,) = [dots for dots in ax.collections if len(dots.get_offsets()) and dots.get_offsets()[0, 1] == len(PRIORS)]
    names = [tick_names(ax.xaxis)[int(x)] for x in marks.get_offsets()[:, 0]]
    assert sorted(names) == sorted(given.genes.index[given.genes["measured"]])
    assert tick_names(ax.yaxis)[-1] == "measured gene"


@pytest.mark.parametrize("n_genes", [20, 105])
def test_bars_are_shares_and_numbers_stand_beside(n_genes):
    given = covered(n_genes)
    ax = prior_coverage(given)
    order = [name for name in tick_names(ax.yaxis) if name in PRIORS]
    counts = given.sources.loc[order].to_numpy().reshape(len(PRIORS), 2, 3)
    drawn = shares(ax)
    np.testing.assert_allclose(drawn / drawn.sum(axis=2, keepdims=True), counts / counts.sum(axis=2, keepdims=True))
    np.testing.assert_allclose(drawn.sum(axis=2), drawn[0, 0].sum())
    for of_perturbed, of_measured in counts:
        assert f"{of_perturbed[0]} of {n_genes} perturbed" in texts(ax)
        assert f"{of_measured[0]:,} of 5,000 measured" in texts(ax)


def test_many_genes_are_shares_alone():
    limit = module.MOST_GENES
    assert len(tick_names(prior_coverage(covered(limit)).xaxis)) == limit
    ax = prior_coverage(covered(limit + 1))
    assert not ax.collections and ax.get_xlabel() == "Share of genes" and ax.get_xlim() == (0, 1)


def test_genes_that_no_prior_covers_are_named():
    given = covered(30)
    bare = given.genes.index[given.genes["status"] != "covered"].tolist()
    assert 0 < len(bare) <= 6
    title = f"{30 - len(bare)} of 30 perturbed genes are covered by a prior"
    assert {title, f"Not covered: {', '.join(bare)}"} <= set(texts(prior_coverage(given)))
    given.genes["status"] = "covered"
    assert not any(text.startswith("Not covered") for text in texts(prior_coverage(given)))
    many = covered(2000, priors=["GO"])
    n_bare = int((many.genes["status"] != "covered").sum())
    (line,) = [text for text in texts(prior_coverage(many)) if text.startswith("Not covered")]
    assert line.endswith(f"and {n_bare - 6} more")


def test_states_differ_in_form_as_well_as_colour():
    ax = prior_coverage(covered(30))
    dots = {one.get_label(): one for one in ax.collections}
    filled = {label: to_hex(dots[label].get_facecolor()[0]) for label in module._LABELS.values()}
    size = {label: dots[label].get_sizes()[0] for label in module._LABELS.values()}
    assert filled[module._LABELS["isolated"]] == "#ffffff"
    assert size[module._LABELS["unknown"]] < size[module._LABELS["covered"]] / 3
    assert set(module._LABELS) == set(STATES) == set(module._COLORS)


def test_only_states_that_occur_are_explained():
    given = covered(10)
    given.states[:] = "covered"
    legend = prior_coverage(given).get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["covered"]


def test_draws_in_the_given_axes(two_axes):
    wanted, current = two_axes
    assert prior_coverage(covered(5), ax=wanted) is wanted
    assert prior_coverage(covered(100), ax=wanted) is wanted
    assert not current.collections and not current.patches and len(plt.get_fignums()) == 1


def test_what_coverage_returns_is_drawn():
    from anndata import AnnData

    obs = pd.DataFrame({"perturbation": ["control", "A", "B", "C"]}, index=list("wxyz"))
    screen = AnnData(np.zeros((4, 2)), obs=obs, var=pd.DataFrame(index=["A", "X"]))
    network = pd.DataFrame({"source": ["A"], "target": ["X"]})
    network.attrs["isolated"] = ["B"]
    ax = prior_coverage(coverage(screen, {"ppi": network, "none": pd.DataFrame({"x": [1.0]}, index=["E"])}))
    drawn = drawn_states(ax)
    assert drawn["ppi"].to_dict() == {"A": "covered", "B": module._LABELS["isolated"], "C": "not known"}
    assert set(drawn["none"]) == {"not known"}
    with pytest.raises(DataError, match=r"of no prior.*spm\.priors\.coverage"):
        prior_coverage(coverage(screen, None))


@pytest.mark.parametrize("n_genes", [1, 20, 60, 105, 2000])
@pytest.mark.parametrize("priors", [["GO"], [f"a prior with a long name {i}" for i in range(8)]])
def test_no_text_is_cut_or_overlaps(assert_readable, n_genes, priors):
    assert_readable(prior_coverage(covered(n_genes, priors=priors)))
