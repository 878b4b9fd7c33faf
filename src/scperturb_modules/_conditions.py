"""Conditions: one canonical name per set of perturbed genes, and how much of it was seen in training.

A condition is the set of genes perturbed in a cell. Its canonical name joins the sorted, distinct genes by
``+``; the condition without a gene is the control. A row of a pseudobulk or a Prediction is a condition in a
context (cell type) and is named ``condition`` or ``condition|context``.

A leaf module: imports nothing of the package.
"""

from __future__ import annotations

from collections.abc import Iterable

CONTROL = "control"
GENE_SEPARATOR = "+"
CONTEXT_SEPARATOR = "|"

MEASURED = "measured"
SINGLE_UNSEEN = "single_unseen"
PAIR_2OF2 = "pair_2of2"
PAIR_1OF2 = "pair_1of2"
PAIR_0OF2 = "pair_0of2"
CONTEXT_UNSEEN = "context_unseen"
HIGHER_ORDER = "higher_order"
REGIMES = (MEASURED, SINGLE_UNSEEN, PAIR_2OF2, PAIR_1OF2, PAIR_0OF2, CONTEXT_UNSEEN, HIGHER_ORDER)

_PAIR_BY_SEEN = (PAIR_0OF2, PAIR_1OF2, PAIR_2OF2)

Row = tuple[str, str | None]
"""A condition and its context (None where the screen has one context)."""


def canonical_condition(genes: Iterable[str], *, control: str = CONTROL) -> str:
    """Join distinct genes in sorted order; no gene at all is the control.

    >>> canonical_condition(["KLF1", "BAK1"])
    'BAK1+KLF1'
    >>> canonical_condition([])
    'control'
    """
    distinct = sorted(set(genes))
    return GENE_SEPARATOR.join(distinct) if distinct else control


def genes_of(condition: str, *, control: str = CONTROL) -> tuple[str, ...]:
    """The perturbed genes of a condition, sorted and distinct; empty for the control.

    >>> genes_of("KLF1+BAK1"), genes_of("control")
    (('BAK1', 'KLF1'), ())
    """
    parts = {part.strip() for part in condition.split(GENE_SEPARATOR)}
    return tuple(sorted(parts - {control, ""}))


def is_canonical(label: str, *, control: str = CONTROL) -> bool:
    """Whether a label is the canonical name of its condition.

    >>> is_canonical("A+B"), is_canonical("B+A"), is_canonical("A+control")
    (True, False, False)
    """
    return (
        CONTEXT_SEPARATOR not in label
        and canonical_condition(genes_of(label, control=control), control=control) == label
    )


def row_name(condition: str, context: str | None = None) -> str:
    """Name of a condition in a context: ``A+B`` or ``A+B|context``."""
    return condition if context is None else f"{condition}{CONTEXT_SEPARATOR}{context}"


def parse_row_name(name: str) -> Row:
    """Undo :func:`row_name`; the context may itself hold a bar, the condition may not.

    >>> parse_row_name("A+B|K562"), parse_row_name("A+B")
    (('A+B', 'K562'), ('A+B', None))
    """
    condition, bar, context = name.partition(CONTEXT_SEPARATOR)
    return condition, (context if bar else None)


def genes_of_row(name: str) -> tuple[str, ...]:
    """The perturbed genes of a row, whatever its context.

    >>> genes_of_row("BAK1+KLF1|K562")
    ('BAK1', 'KLF1')
    """
    return genes_of(parse_row_name(name)[0])


def regime_by_seen(n_genes: int, n_seen: int) -> str:
    """Regime of a condition of ``n_genes`` genes that was not measured itself; ``n_seen`` of its singles were.

    >>> regime_by_seen(2, 1), regime_by_seen(1, 0)
    ('pair_1of2', 'single_unseen')
    """
    if n_genes > 2:
        return HIGHER_ORDER
    return SINGLE_UNSEEN if n_genes == 1 else _PAIR_BY_SEEN[n_seen]


def regimes_of(rows: Iterable[Row], training: Iterable[Row], *, control: str = CONTROL) -> list[str]:
    """How much of each condition was measured in training; one of :data:`REGIMES` per row.

    Parameters
    ----------
    rows
        (condition, context) of the conditions asked for; the context is None where the screen has one only.
    training
        The perturbed rows with training cells.
    control
        Label of the control.

    Notes
    -----
    ``context_unseen``: the context has no perturbed training condition, or the condition was measured in other
    contexts only. Otherwise singles count as seen when measured *in this context*.

    >>> regimes_of([("A+B", None), ("C", None)], [("A", None), ("B", None)])
    ['pair_2of2', 'single_unseen']
    """
    seen = frozenset(training)
    contexts = {context for _, context in seen}
    conditions = {condition for condition, _ in seen}

    def regime(condition: str, context: str | None) -> str:
        if (condition, context) in seen:
            return MEASURED
        if context is not None and (context not in contexts or condition in conditions):
            return CONTEXT_UNSEEN
        genes = genes_of(condition, control=control)
        return regime_by_seen(len(genes), sum((gene, context) in seen for gene in genes))

    return [regime(*row) for row in rows]
