"""How perturbation labels are read: names of controls, separators, guides. Pure functions on text.

Nothing is guessed from the look of a gene's name: HLA-A, NKX2-1 and MYC_enh are names, not combinations.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scperturb_modules._conditions import CONTROL, GENE_SEPARATOR
from scperturb_modules._errors import name_some

POSSIBLE_SEPARATORS = ("_", ",", ";", "|", "&")
"""Characters that join genes in some files and are part of names in others; a hyphen never joins."""

# folded: no case, blanks, '-', '_' or '.'
_CONTROL_NAMES = frozenset(
    ("control", "controls", "ctrl", "ctl", "nt", "ntc", "unperturbed", "untreated", "mock", "vehicle", "dmso")
    + ("nontargeting", "nontargetingcontrol", "nontargetingctrl", "nontarget", "nontargeted", "intergenic")
    + ("neg", "negative", "negctrl", "negcontrol", "negativecontrol", "negativectrl", "scramble", "scrambled")
    + ("safe", "safetargeting", "safeharbour", "safeharbor", "aavs1", "rosa26")
)
_SHORTEST_NUMBERED = 4
"""NegCtrl0 and non-targeting_12 are controls; NTC20 is a gene, so shorter names take no number."""

_NO_LABEL = frozenset({"", "nan", "na", "<na>", "none", "null"})


def is_control_name(name: str) -> bool:
    """Whether a label is a control by one of the names in use, also several of them joined or numbered.

    >>> [is_control_name(name) for name in ("Non-targeting", "NegCtrl0_NegCtrl1", "ctrl+ctrl", "NTC20", "KLF1")]
    [True, True, True, False, False]
    """
    if _is_one_control(name):
        return True
    tokens = re.split(r"[_,;|&+]", name)
    return len(tokens) > 1 and not without_controls(tokens, _is_one_control)


def _is_one_control(name: str) -> bool:
    folded = re.sub(r"[\s._-]+", "", name).casefold()
    stem = folded.rstrip("0123456789")
    return folded in _CONTROL_NAMES or (len(stem) >= _SHORTEST_NUMBERED and stem in _CONTROL_NAMES)


def without_controls(parts: Iterable[str], is_control: Callable[[str], bool]) -> list[str]:
    """Drop the parts that are controls, also where a control's name was itself cut in two ("A", "non", "targeting")."""
    kept: list[str] = []
    for part in parts:
        if is_control(part):
            continue
        if kept and is_control(f"{kept[-1]}_{part}"):
            kept.pop()
            continue
        kept.append(part)
    return kept


def is_missing_name(name: str) -> bool:
    """Whether a text stands for no label, as in columns that were turned into text ("nan")."""
    return name.strip(" +_,;|&").casefold() in _NO_LABEL


@dataclass(frozen=True)
class Reading:
    """What a label means: its distinct genes in sorted order (none: control) and how it was read."""

    genes: tuple[str, ...]
    action: str
    unmapped: tuple[str, ...] = ()


@dataclass(frozen=True)
class Grammar:
    """The rules by which labels are read.

    Parameters
    ----------
    sep
        A separator of genes besides ``+``, or None.
    controls
        The names given by the user, taken exactly; None for the names in use.
    targets
        Guide to target; empty where labels name targets already.
    """

    sep: str | None = None
    controls: frozenset[str] | None = None
    targets: Mapping[str, str] = field(default_factory=dict)

    def is_control(self, name: str) -> bool:
        if name == CONTROL:
            return True
        return is_control_name(name) if self.controls is None else name in self.controls

    def split(self, label: str) -> list[str]:
        """The names that a label joins; guides whose own name holds a ``+`` (a strand) stay whole."""
        separator = self.sep if self.sep and self.sep != GENE_SEPARATOR else None
        joined = label.replace(separator, GENE_SEPARATOR) if separator else label
        parts = [part.strip() for part in joined.split(GENE_SEPARATOR) if part.strip()]
        whole = []
        while parts:
            ends = (n for n in range(len(parts), 1, -1) if GENE_SEPARATOR.join(parts[:n]) in self.targets)
            n = next(ends, 1)
            whole.append(GENE_SEPARATOR.join(parts[:n]))
            parts = parts[n:]
        return whole

    def read(self, label: str) -> Reading:
        """Read one label; ``unmapped`` names the guides without a target."""
        name = label.strip()
        if self.is_control(name):
            return Reading((), "kept" if label == CONTROL else "control")
        if name in self.targets:
            return self._reading(label, self.targets[name].split(GENE_SEPARATOR), ["guides mapped"])
        parts = self.split(name)
        actions = [f"split at {self.sep!r}"] if self.sep and self.sep in name else []
        if not self.targets:
            return self._reading(label, parts, actions)
        guides = without_controls(parts, self.is_control)
        targets = [gene for guide in parts for gene in self.targets.get(guide, guide).split(GENE_SEPARATOR)]
        unmapped = tuple(guide for guide in guides if guide not in self.targets)
        return self._reading(label, targets, [*actions, "guides mapped"], unmapped)

    def _reading(self, label: str, parts: list[str], actions: list[str], unmapped: tuple[str, ...] = ()) -> Reading:
        kept = without_controls([part.strip() for part in parts], self.is_control)
        genes = tuple(sorted(set(kept)))
        if len(kept) < len(parts):
            actions.append("control removed" if kept else "control")
        if len(genes) < len(kept):
            actions.append("repeated gene removed")
        if list(genes) != list(dict.fromkeys(kept)):
            actions.append("sorted")
        if not actions and GENE_SEPARATOR.join(genes) != label:
            actions.append("blanks removed")
        return Reading(genes, "; ".join(actions) or "kept", unmapped)


def separators_found(labels: Iterable[str], known: Collection[str]) -> dict[str, list[str]]:
    """Labels that hold a possible separator between names that are targets (or controls) themselves.

    Parameters
    ----------
    labels
        Distinct labels, without those that are known to be one name.
    known
        Names that are targets: other labels, measured genes, targets of guides. Pass a set.

    >>> separators_found(["A_B", "A_enh", "HLA-A"], {"A", "B", "HLA-A"})
    {'_': ['A_B']}
    """

    def is_known(name: str) -> bool:
        return name.strip() in known or _is_one_control(name)

    found: dict[str, list[str]] = {}
    for label in labels:
        if is_control_name(label):
            continue
        for separator in POSSIBLE_SEPARATORS:
            if any(_joins_known(part, separator, is_known) for part in label.split(GENE_SEPARATOR)):
                found.setdefault(separator, []).append(label)
    return found


def _joins_known(name: str, separator: str, is_known: Callable[[str], bool]) -> bool:
    tokens = name.split(separator)
    if len(tokens) == 1:
        return False
    cuts = ((separator.join(tokens[:i]), separator.join(tokens[i:])) for i in range(1, len(tokens)))
    return all(map(is_known, tokens)) or any(is_known(left) and is_known(right) for left, right in cuts)


def looks_like_control(label: str) -> bool:
    """Whether a label is a control's name but for a number; too little to take it for one."""
    return is_control_name(label.rstrip("0123456789 ._-"))


def control_suggestion(wanted: str | None, n_cells: Mapping[str, int]) -> str:
    """Which labels may be the control: by name, by likeness to the wanted one, else the most frequent ones.

    >>> control_suggestion("ctrl", {"non-targeting": 40, "KLF1": 60})
    "Did you mean 'non-targeting' (40 cells)?"
    """
    by_size = sorted(n_cells, key=lambda label: (-n_cells[label], label))
    likely = [label for label in by_size if label == CONTROL or is_control_name(label)]
    if not likely:
        likely = [label for label in by_size if looks_like_control(label)]
    if not likely and wanted is not None:
        folded = {label.casefold(): label for label in reversed(by_size)}
        likely = [folded[name] for name in difflib.get_close_matches(str(wanted).casefold(), folded)]
    shown = " or ".join(f"{label!r} ({n_cells[label]} cells)" for label in (likely or by_size)[:3])
    return f"Did you mean {shown}?" if likely else f"The most frequent labels are {shown}."


def separator_message(found: Mapping[str, Sequence[str]], labels: Collection[str]) -> str:
    """Which ``sep=`` to pass, and what that would split too."""
    sentences = []
    for separator, joined in found.items():
        also = sorted(label for label in labels if separator in label and label not in joined)
        text = f"Found {separator!r} between names that are targets themselves in {len(joined)} labels "
        text += f"({name_some(sorted(joined))}): pass sep={separator!r}"
        if also:
            text += f" (it splits {name_some(also, most=3)} too: rename first what is one name)"
        sentences.append(f"{text}; or sep='+' if {separator!r} is part of the names.")
    return " ".join(sentences)
