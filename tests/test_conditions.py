import itertools

import pytest

from scperturb_modules._conditions import (
    CONTEXT_UNSEEN,
    HIGHER_ORDER,
    MEASURED,
    PAIR_0OF2,
    PAIR_1OF2,
    PAIR_2OF2,
    REGIMES,
    SINGLE_UNSEEN,
    canonical_condition,
    genes_of,
    genes_of_row,
    parse_row_name,
    regimes_of,
    row_name,
)


@pytest.mark.parametrize("order", list(itertools.permutations(["KLF1", "BAK1", "HLA-A"])))
def test_order_of_genes_never_matters(order):
    assert canonical_condition(order) == "BAK1+HLA-A+KLF1"


def test_a_gene_named_twice_counts_once():
    assert canonical_condition(["A", "A"]) == "A"
    assert genes_of("A+A") == ("A",)


def test_no_gene_is_the_control():
    assert canonical_condition([]) == "control"
    assert genes_of("control") == ()
    assert genes_of("ctrl", control="ctrl") == ()


def test_canonical_and_genes_undo_each_other():
    assert canonical_condition(genes_of("KLF1+BAK1")) == "BAK1+KLF1"


@pytest.mark.parametrize("row", [("A+B", "K562"), ("A", None), ("A", "T|B cells")])
def test_row_name_round_trip(row):
    assert parse_row_name(row_name(*row)) == row


def test_genes_of_a_row_do_not_depend_on_its_context():
    assert genes_of_row("BAK1+KLF1|K562") == genes_of_row("BAK1+KLF1") == ("BAK1", "KLF1")
    assert genes_of_row("control|K562") == ()


TRAINING = {("A", None), ("B", None), ("A+C", None)}


@pytest.mark.parametrize(
    ("condition", "regime"),
    [
        ("A", MEASURED),
        ("A+C", MEASURED),
        ("C", SINGLE_UNSEEN),  # seen in a pair only
        ("A+B", PAIR_2OF2),
        ("A+D", PAIR_1OF2),
        ("B+C", PAIR_1OF2),
        ("D+E", PAIR_0OF2),
        ("A+B+D", HIGHER_ORDER),
    ],
)
def test_regime_in_one_context(condition, regime):
    assert regimes_of([(condition, None)], TRAINING) == [regime]


@pytest.mark.parametrize(
    ("condition", "context", "regime"),
    [
        ("A", "k562", MEASURED),
        ("A", "rpe1", CONTEXT_UNSEEN),  # known elsewhere, not in this context
        ("C", "rpe1", SINGLE_UNSEEN),
        ("A", "jurkat", CONTEXT_UNSEEN),  # the context has no perturbed training condition at all
        ("C", "jurkat", CONTEXT_UNSEEN),
        ("A+B", "rpe1", PAIR_1OF2),  # A was measured in another context only
    ],
)
def test_regime_counts_within_the_context(condition, context, regime):
    training = {("A", "k562"), ("B", "rpe1")}
    assert regimes_of([(condition, context)], training) == [regime]


def test_every_regime_is_listed():
    assert len(REGIMES) == len(set(REGIMES)) == 7
