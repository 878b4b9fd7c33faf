"""Labels that can be read, though perhaps not as they were meant."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Set

from scperturb_modules._conditions import CONTROL, GENE_SEPARATOR
from scperturb_modules._errors import ScreenWarning, name_some
from scperturb_modules.pp._label_grammar import Grammar, Reading, looks_like_control


def warn_of_doubtful(readings: Mapping[str, Reading], grammar: Grammar, measured: Set[str], where: str) -> None:
    """Warn on behalf of the caller's caller's caller; ``measured`` are the names of the measured genes."""
    genes = sorted({gene for reading in readings.values() for gene in reading.genes})
    for names, text in (
        (_spellings(genes), "genes are written in more than one way and not merged"),
        (
            _like_controls(readings, genes, grammar),
            "names look like controls and are kept as perturbations; pass control= if they are controls",
        ),
        (
            _measured_controls(readings, grammar, measured),
            "labels are measured genes and read as controls; pass control= if they are targets",
        ),
        (
            _numbered(readings),
            "labels join a name and a number, taken for a gene; pass guide_to_target= if it is the guide's",
        ),
    ):
        if names:
            warnings.warn(f"{where}: {len(names)} {text}: {name_some(names)}.", ScreenWarning, stacklevel=4)
    if grammar.sep not in (None, GENE_SEPARATOR) and not any(str(grammar.sep) in label for label in readings):
        warnings.warn(f"{where}: sep={grammar.sep!r} occurs in no label.", ScreenWarning, stacklevel=4)


def _spellings(genes: Iterable[str]) -> list[str]:
    spellings: dict[str, list[str]] = {}
    for gene in genes:
        spellings.setdefault(gene.casefold(), []).append(gene)
    return ["/".join(spelling) for spelling in spellings.values() if len(spelling) > 1]


def _like_controls(readings: Mapping[str, Reading], genes: Iterable[str], grammar: Grammar) -> list[str]:
    """Where the user names the controls, AAVS1 alone may be a perturbation; half of a pair (A+ctrl) hardly is one."""
    if grammar.controls is not None:
        genes = {gene for reading in readings.values() if len(reading.genes) > 1 for gene in reading.genes}
    return sorted(filter(looks_like_control, genes))


def _measured_controls(readings: Mapping[str, Reading], grammar: Grammar, measured: Set[str]) -> list[str]:
    """CTRL is a gene, too."""
    if grammar.controls is not None:
        return []
    return [
        label for label, reading in readings.items() if not reading.genes and label != CONTROL and label in measured
    ]


def _numbered(readings: Mapping[str, Reading]) -> list[str]:
    """A guide's number (A_2) or a control's (A_NT_2) cut off; where all names are numbers, they are targets."""
    n_numbers = {label: sum(gene.isdigit() for gene in reading.genes) for label, reading in readings.items()}
    return [label for label, n in n_numbers.items() if 0 < n < len(readings[label].genes)]
