"""Published screens as published, with canonical labels.

All are the harmonised files of scPerturb 1.4. Each function downloads its file once; files, checksums and layouts stand
in ``_screen_sources``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Literal

from . import _screen_sources as sources
from ._screen_read import load_screen

if TYPE_CHECKING:
    from anndata import AnnData

PathLike = str | os.PathLike[str]


def norman_2019(*, path: PathLike | None = None, folder: PathLike | None = None, sha256: str | None = None) -> AnnData:
    """CRISPRa of single genes and pairs in K562 (Norman et al. 2019, Science 365:786).

    111,445 cells x 33,694 genes, a download of 0.7 GB. What follows here holds for every published screen of
    ``spm.datasets``.

    Parameters
    ----------
    path
        A local copy (h5ad); nothing is downloaded.
    folder
        Where downloads are kept. By default the folder in the environment variable ``SCPERTURB_MODULES_CACHE``, else
        the cache folder of the operating system.
    sha256
        SHA-256 that the file must have. By default the checksum known for the download; a local copy is not checked.

    Returns
    -------
    AnnData
        As published: ``X`` holds counts (CSR), ``obs`` and ``var`` the columns of scPerturb. In addition
        ``obs["perturbation"]`` holds canonical labels, ``obs["perturbation_original"]`` those of the file (see
        :func:`scperturb_modules.pp.standardize_perturbations`). Genes have symbols as names and Ensembl ids in
        ``var["ensembl"]``. Repeated names of cells and genes are numbered, and cells without a guide are left out; both
        are logged with their number. Batches are in ``obs["gemgroup"]``.

    Raises
    ------
    OSError
        No network, a download that was cut short, a wrong checksum, a kept file that was changed, or no file at
        ``path``. The message says what to do.
    DataError
        The file is damaged, or its labels cannot be read.
    MissingKeyError
        The file has no labels or no symbols.

    Notes
    -----
    scPerturb labels cells in which no guide was read as control, too.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.norman_2019()  # doctest: +SKIP
    >>> spm.pp.normalize(adata)  # doctest: +SKIP
    """
    return load_screen(sources.NORMAN, path=path, folder=folder, sha256=sha256)


def adamson_2016(*, path: PathLike | None = None, folder: PathLike | None = None, sha256: str | None = None) -> AnnData:
    """CRISPRi of regulators of the unfolded protein response in K562 (Adamson et al. 2016, Cell 167:1867).

    65,337 cells x 32,738 genes (experiment 10X010), a download of 0.5 GB. Parameters, result and errors are those of
    :func:`norman_2019`.

    Notes
    -----
    Labels name guides and vectors, as in ``OST4_pDS353``; the target is what stands before the vector. Control is made
    of the guides ``62(mod)_pBA581``, ``63(mod)_pBA580`` and ``Gal4-4(mod)_pBA582``, which have no human target; cells
    of ``*`` (no guide called) and without a label, about 2,700, are left out.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.adamson_2016()  # doctest: +SKIP
    """
    return load_screen(sources.ADAMSON, path=path, folder=folder, sha256=sha256)


def replogle_2022_k562(
    *, path: PathLike | None = None, folder: PathLike | None = None, sha256: str | None = None
) -> AnnData:
    """CRISPRi of essential genes in K562 (Replogle et al. 2022, Cell 185:2559).

    310,385 cells x 8,563 genes, a download of 1.5 GB. Parameters, result and errors are those of :func:`norman_2019`;
    batches are in ``obs["batch"]``. The file of the study itself can be given as ``path``, too.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.replogle_2022_k562()  # doctest: +SKIP
    """
    return load_screen(sources.REPLOGLE_K562, path=path, folder=folder, sha256=sha256)


def replogle_2022_rpe1(
    *, path: PathLike | None = None, folder: PathLike | None = None, sha256: str | None = None
) -> AnnData:
    """CRISPRi of essential genes in RPE1 (Replogle et al. 2022, Cell 185:2559).

    247,914 cells x 8,749 genes, a download of 1.2 GB. Parameters, result and errors are those of :func:`norman_2019`;
    batches are in ``obs["batch"]``. The file of the study itself can be given as ``path``, too.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.replogle_2022_rpe1()  # doctest: +SKIP
    """
    return load_screen(sources.REPLOGLE_RPE1, path=path, folder=folder, sha256=sha256)


def papalexi_2021(
    *, path: PathLike | None = None, folder: PathLike | None = None, sha256: str | None = None
) -> AnnData:
    """Knock-outs of regulators of immune checkpoints in stimulated THP-1 (Papalexi et al. 2021, Nat. Genet. 53:322).

    20,729 cells x 18,649 genes (the RNA of ECCITE-seq), a download of 0.15 GB. Parameters, result and errors are those
    of :func:`norman_2019`; replicates are in ``obs["hto"]``.

    Notes
    -----
    Labels name guides, as in ``STAT2g2``; the target is what stands before ``g`` and the number.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.papalexi_2021()  # doctest: +SKIP
    """
    return load_screen(sources.PAPALEXI, path=path, folder=folder, sha256=sha256)


def nadig_2025(
    cell_line: Literal["hepg2", "jurkat"] = "hepg2",
    *,
    path: PathLike | None = None,
    folder: PathLike | None = None,
    sha256: str | None = None,
) -> AnnData:
    """CRISPRi of essential genes in HepG2 or Jurkat (Nadig et al. 2025, Nat. Genet. 57:1228).

    145,473 cells x 9,624 genes (HepG2, a download of 0.9 GB) or 262,956 x 8,882 (Jurkat, 1.3 GB). The other parameters,
    result and errors are those of :func:`norman_2019`; batches are in ``obs["batch"]``. The file of the study itself
    can be given as ``path``, too.

    Parameters
    ----------
    cell_line
        ``"hepg2"`` or ``"jurkat"``.
    path, folder, sha256
        See :func:`norman_2019`.

    Raises
    ------
    ValueError
        Another cell line.

    Examples
    --------
    >>> import scperturb_modules as spm
    >>> adata = spm.datasets.nadig_2025("jurkat")  # doctest: +SKIP
    """
    if cell_line not in sources.NADIG:
        raise ValueError(f"cell_line={cell_line!r} was not screened; use {' or '.join(map(repr, sources.NADIG))}.")
    return load_screen(sources.NADIG[cell_line], path=path, folder=folder, sha256=sha256)
