"""Which annotations of the Gene Ontology count: by qualifier, evidence and aspect."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scperturb_modules._errors import DataError, name_some
from scperturb_modules.priors._go_annotations import Annotations, as_aspects
from scperturb_modules.priors._go_terms import Terms

logger = logging.getLogger(__name__)

NO_DATA = ("ND",)
_EVIDENCE = "EXP IDA IPI IMP IGI IEP HTP HDA HMP HGI HEP IBA IBD IKR IRD ISS ISO ISA ISM IGC RCA TAS NAS IC ND IEA"


@dataclass(frozen=True)
class Choice:
    """Aspects (BP, MF, CC) and codes of evidence (None: all) to keep, and codes to leave out."""

    aspects: tuple[str, ...]
    evidence: Sequence[str] | None
    exclude_evidence: Sequence[str]

    @classmethod
    def of(cls, aspects: Sequence[str], evidence: Sequence[str] | None, exclude_evidence: Sequence[str]) -> Choice:
        """From what the user asked for; an unknown aspect is a :class:`DataError`."""
        given = pd.Series(_listed(aspects), dtype=object)
        if given.empty:
            raise DataError("aspects is empty; choose of 'BP', 'MF' and 'CC'.")
        known = tuple(sorted(set(as_aspects(given, what="aspects"))))
        return cls(known, _listed(evidence), _listed(exclude_evidence) or ())

    def apply(self, read: Annotations, ontology: Terms | None, *, what: str) -> tuple[pd.DataFrame, dict[str, int]]:
        """Annotations that count, under the main ids of terms; and how many were left out or changed, by reason."""
        table, counts = read.table, dict(read.left_out)
        if ontology is not None:
            other = table["go_id"].map(ontology.other_ids)
            counts["alternative ids of terms replaced"] = int(other.notna().sum())
            table = table.assign(go_id=other.fillna(table["go_id"]))
        keep = np.ones(len(table), dtype=bool)
        for reason, dropped in (
            ("annotations with the qualifier NOT", _says_not(table)),
            ("annotations by other evidence", self._other_evidence(table, what)),
            ("annotations of other aspects", self._other_aspect(table, read, ontology, what)),
        ):
            counts[reason] = int((keep & dropped).sum())
            keep &= ~dropped
        if not keep.any():
            reasons = ", ".join(f"{count} {reason}" for reason, count in counts.items() if count)
            raise DataError(f"{what}: none of {len(table)} annotations is left; left out: {reasons or 'nothing'}.")
        return table[keep], counts

    def _other_evidence(self, table: pd.DataFrame, what: str) -> NDArray[np.bool_]:
        asked = {*(self.evidence or ()), *self.exclude_evidence}
        if "evidence" not in table:
            if asked - set(NO_DATA):
                raise DataError(f"{what}: the annotations have no column evidence, so that it cannot be chosen.")
            return np.zeros(len(table), dtype=bool)
        occurring = sorted(set(table["evidence"]))
        unknown = sorted(asked.difference(occurring, _EVIDENCE.split()))
        if unknown:
            there = name_some(occurring, most=len(occurring))
            raise DataError(f"{what}: unknown codes of evidence {name_some(unknown)}; there are {there}.")
        excluded = table["evidence"].isin(list(self.exclude_evidence))
        other = excluded if self.evidence is None else excluded | ~table["evidence"].isin(list(self.evidence))
        return other.to_numpy(dtype=bool)

    def _other_aspect(
        self, table: pd.DataFrame, read: Annotations, ontology: Terms | None, what: str
    ) -> NDArray[np.bool_]:
        """Also where the aspect is not known, unless all are wanted."""
        if "aspect" in table:
            aspect = as_aspects(table["aspect"], what=what)
        elif ontology is not None and read.descriptions is None:
            aspect = table["go_id"].map(pd.Series(ontology.aspects, index=ontology.ids))
        else:
            logger.info("%s: the annotations do not say their aspect; all are taken", what)
            return np.zeros(len(table), dtype=bool)
        other = ~aspect.isin(self.aspects)
        return (other & (len(self.aspects) < 3)).to_numpy(dtype=bool)


def _listed(codes: Sequence[str] | None) -> Sequence[str] | None:
    return [codes] if isinstance(codes, str) else codes


def _says_not(table: pd.DataFrame) -> NDArray[np.bool_]:
    if "qualifier" not in table:
        return np.zeros(len(table), dtype=bool)
    return table["qualifier"].str.contains(r"\bNOT\b").to_numpy(dtype=bool)
