"""Genes by their terms of the Gene Ontology: as sets, and as a network of genes with similar terms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scperturb_modules._errors import DataError
from scperturb_modules.priors._gmt import members_table
from scperturb_modules.priors._go_annotations import AnnotationSource, read_annotations
from scperturb_modules.priors._go_choice import NO_DATA, Choice
from scperturb_modules.priors._go_terms import Terms, read_terms
from scperturb_modules.priors._graph import GeneGraph
from scperturb_modules.priors._identifiers import GeneNames
from scperturb_modules.priors._overlap import Measure
from scperturb_modules.priors._read import Table
from scperturb_modules.priors._set_table import GeneSets, count_left_out


def gene_ontology(
    genes: Iterable[str] | None,
    annotations: AnnotationSource,
    terms: Table | None = None,
    *,
    aspects: Sequence[str] = ("BP",),
    evidence: Sequence[str] | None = None,
    exclude_evidence: Sequence[str] = NO_DATA,
    propagate: bool | None = None,
    max_term_size: int | None = 2000,
    measure: Measure = "jaccard",
    top: int = 20,
    minimum: float = 0.1,
    symmetric: bool = True,
    name: str = "gene_ontology",
    version: str = "",
    names: GeneNames | None = None,
) -> GeneGraph:
    """Network of genes with similar terms of the Gene Ontology.

    It is ``go_sets(...).to_graph(...)``: :func:`go_sets` describes how annotations are read and chosen,
    :meth:`GeneSets.to_graph` how edges are made.

    Parameters
    ----------
    genes, annotations, terms, aspects, evidence, exclude_evidence, propagate, max_term_size, name, version, names
        As in :func:`go_sets`.
    measure, top, minimum, symmetric
        As in :meth:`GeneSets.to_graph`.

    Returns
    -------
    GeneGraph
        The annotated genes among ``genes``; the weight is the similarity.

    Raises
    ------
    FileNotFoundError
        No file is at a path.
    DataError
        As in :func:`go_sets` and :meth:`GeneSets.to_graph`.

    Examples
    --------
    >>> annotations = {"KLF1": ["GO:0030218", "GO:0006357"], "GATA1": ["GO:0030218"], "HBB": ["GO:0015671"]}
    >>> gene_ontology(None, annotations).to_table()[["source", "target", "weight"]]
      source target  weight
    0  GATA1   KLF1     0.5
    """
    sets = go_sets(
        genes,
        annotations,
        terms,
        aspects=aspects,
        evidence=evidence,
        exclude_evidence=exclude_evidence,
        propagate=propagate,
        max_term_size=max_term_size,
        name=name,
        version=version,
        names=names,
    )
    return sets.to_graph(measure=measure, top=top, minimum=minimum, symmetric=symmetric)


def go_sets(
    genes: Iterable[str] | None,
    annotations: AnnotationSource,
    terms: Table | None = None,
    *,
    aspects: Sequence[str] = ("BP",),
    evidence: Sequence[str] | None = None,
    exclude_evidence: Sequence[str] = NO_DATA,
    propagate: bool | None = None,
    max_term_size: int | None = 2000,
    name: str = "gene_ontology",
    version: str = "",
    names: GeneNames | None = None,
    keep_others: bool = False,
) -> GeneSets:
    """Read which gene has which terms of the Gene Ontology.

    Parameters
    ----------
    genes
        Names to keep, for example those perturbed and those measured; None: all annotated genes.
    annotations
        Path of a GAF file, of NCBI's gene2go (human rows; ``names`` must know Entrez ids) or of a GMT file (terms are
        sets already, and taken as they are); a table, or its path, with the columns ``gene`` (or ``symbol``),
        ``go_id`` and, where known, ``aspect``, ``evidence`` and ``qualifier``; or a dictionary from genes to terms.
    terms
        The ontology: path of an OBO file, or a table, or its path, with the columns ``go_id``, ``name``, ``aspect``
        and ``parents`` (``GO:0048308|is_a;GO:0048311|part_of``).
    aspects
        Any of ``"BP"`` (biological process), ``"MF"`` (molecular function) and ``"CC"`` (cellular component).
        Without aspects in ``annotations`` and without ``terms`` all annotations are taken.
    evidence, exclude_evidence
        Evidence codes to keep (None: all), and to leave out: ``ND`` says that nothing is known; ``IEA`` is electronic.
    propagate
        Add every gene to all ancestors of its terms, along is_a and part_of within an aspect; regulates says nothing
        of membership. Default: where ``terms`` are given and annotations are no GMT file.
    max_term_size
        Terms of more genes, counted in all annotations after propagation, are left out: they join all with all. None:
        keep them.
    name
        What to call the sets.
    version
        Version or date of the annotations, where it is known.
    names
        Other names of genes.
    keep_others
        Keep annotated genes that are not among ``genes``: how rare a term is counts all genes.

    Returns
    -------
    GeneSets
        Annotated genes among ``genes``, by GO ids; descriptions are the names of the terms. ``attrs["left_out"]``
        counts annotations that were dropped (``NOT``, evidence, no gene or term), terms that the ontology does not
        know (their genes are not propagated), terms by size, and terms without one of the genes.

    Raises
    ------
    FileNotFoundError
        No file is at a path.
    DataError
        A file is damaged; a column is absent; an aspect or evidence code is unknown; terms are their own ancestors or
        have unknown parents; no annotation, or none of the genes, is left.

    References
    ----------
    Ashburner et al., Gene Ontology: tool for the unification of biology. Nature Genetics 25 (2000).

    Examples
    --------
    >>> import pandas as pd
    >>> terms = pd.DataFrame(
    ...     {
    ...         "go_id": ["GO:0030218", "GO:0030099"],
    ...         "name": ["erythrocyte differentiation", "myeloid cell differentiation"],
    ...         "aspect": "BP",
    ...         "parents": ["GO:0030099|is_a", ""],
    ...     }
    ... )
    >>> sets = go_sets(["KLF1"], {"KLF1": ["GO:0030218"], "SPI1": ["GO:0030099"]}, terms)
    >>> sets.sets_of("KLF1")
    ('GO:0030099', 'GO:0030218')
    """
    choice = Choice.of(aspects, evidence, exclude_evidence)
    ontology = None if terms is None else read_terms(terms)
    read = read_annotations(annotations, names, what=name)
    known_terms = ontology if read.descriptions is None else None  # those of a GMT file are called as it likes
    spread = known_terms is not None if propagate is None else propagate
    if spread and known_terms is None:
        raise DataError(
            f"{name}: propagate=True needs the ontology, terms=..., and annotations of single genes, not a GMT file."
        )
    table, counts = choice.apply(read, known_terms, what=name)
    attrs: dict[str, Any] = {"source": "Gene Ontology", "derived_from": "Gene Ontology annotations"}
    attrs |= {"version": version} if version else {}
    attrs |= {"aspects": list(choice.aspects), "propagated": spread}
    number, ids = pd.factorize(table["go_id"].to_numpy(dtype=object), sort=True)
    symbols, membership = members_table(table["gene"].to_numpy(dtype=object), number, len(ids))
    told = read.descriptions or {}
    if known_terms is not None:
        told = dict(zip(known_terms.ids, known_terms.names, strict=True))
        counts["terms that the ontology does not have"] = sum(term not in told for term in ids)
    if known_terms is not None and spread:
        ids, membership = _propagated(ids, membership, known_terms)
    descriptions = tuple(told.get(term, "") for term in ids)
    sets = GeneSets(name, symbols, tuple(ids), membership, descriptions, count_left_out(attrs, counts, name))
    if max_term_size is not None:
        sets = sets.with_sets(sets.size <= max_term_size, f"terms of more than {max_term_size} genes")
    return sets if genes is None else sets.subset(genes, names=names, keep_others=keep_others)


def _propagated(
    ids: NDArray[np.object_], membership: sparse.csr_array, ontology: Terms
) -> tuple[NDArray[np.object_], sparse.csr_array]:
    """Terms (sorted) with all their ancestors, and the genes of each; an unknown term keeps its own genes."""
    place = ontology.ids.get_indexer(pd.Index(ids, dtype=object))
    known = np.flatnonzero(place >= 0)
    unknown = np.flatnonzero(place < 0)
    above = sparse.csr_array(membership[:, known] @ ontology.with_ancestors(place[known]))
    used = np.flatnonzero(np.bincount(above.indices, minlength=len(ontology.ids)))
    every = np.concatenate([ontology.ids.to_numpy()[used], ids[unknown]])
    order = np.argsort(every)
    members = sparse.csr_array(sparse.hstack([above[:, used], membership[:, unknown]], format="csr")[:, order])
    members.data[:] = 1.0
    return every[order], members
