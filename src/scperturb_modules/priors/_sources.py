"""Where public prior knowledge comes from, and its download."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from scperturb_modules._download import RemoteFile, fetch
from scperturb_modules._errors import name_some


@dataclass(frozen=True)
class Source:
    """A public file of prior knowledge.

    ``url`` holds ``{version}`` where other releases are kept, too; ``checksum`` is that of ``version``, None where it
    is not known; ``member`` is the file inside a ZIP archive; ``read_by`` is the call that reads the file, with the
    names of files in braces.
    """

    name: str
    database: str
    version: str
    licence: str
    content: str
    read_by: str
    url: str
    checksum: str | None = None
    member: str | None = None


_GO = "https://release.geneontology.org/{version}"
_REACTOME = "https://download.reactome.org/{version}"
_STRING = "https://stringdb-downloads.org/download"
_HGNC = "https://storage.googleapis.com/public-download-files/hgnc/archive/archive/quarterly/tsv"

SOURCES = (
    Source(
        "go_annotations",
        "Gene Ontology annotations, human",
        "2026-08-05",
        "CC BY 4.0",
        "GAF 2.2, symbols; before 2026 the archive calls the file annotations/goa_human.gaf.gz",
        "spm.priors.gene_ontology(genes, {go_annotations}, {go_terms})",
        f"{_GO}/annotations/gaf/HUMAN-uniprot.gaf.gz",
        "sha256:a0afba19dfb1f8fa996bc1bdcd61fd0c9bd4cf0d2bf2509d09ac86993c0e70a2",
    ),
    Source(
        "go_terms",
        "Gene Ontology",
        "2026-08-05",
        "CC BY 4.0",
        "OBO: terms and their parents, without cycles",
        "spm.priors.gene_ontology(genes, {go_annotations}, {go_terms})",
        f"{_GO}/ontology/go-basic.obo",
        "sha256:b08d45b268b8c24ccb2513dbbbc7d4df9f6521c099b413f79eb31e06e0fa3bcc",
    ),
    Source(
        "gene2go",
        "NCBI Gene, GO annotations",
        "current",
        "public domain; GO is CC BY 4.0",
        "tab-separated, Entrez ids, all species (human: tax_id 9606), more than 1 GB; replaced daily",
        "spm.priors.gene_ontology(genes, {gene2go}, {go_terms}, names=spm.priors.GeneNames.from_tables({gene_ids}))",
        "https://ftp.ncbi.nlm.nih.gov/gene/DATA/gene2go.gz",
    ),
    Source(
        "reactome_pathways",
        "Reactome, human",
        "97",
        "CC0",
        "GMT, symbols; a pathway holds the genes of those below it",
        "spm.priors.reactome(genes, {reactome_pathways}, {reactome_hierarchy})",
        f"{_REACTOME}/ReactomePathways.gmt.zip",
        "sha256:8c1dbc8578431da5d2d5118262718c60b553a9be3398e93658daa069e4a9afd4",
        "ReactomePathways.gmt",
    ),
    Source(
        "reactome_hierarchy",
        "Reactome",
        "97",
        "CC0",
        "tab-separated without a header: parent, child; all species (human: R-HSA-)",
        "spm.priors.reactome(genes, {reactome_pathways}, {reactome_hierarchy})",
        f"{_REACTOME}/ReactomePathwaysRelation.txt",
        "sha256:fd49a624d80c14eb37ae57a02e141d574d5ede3f60022bb99edbd909448a3f1e",
    ),
    Source(
        "string",
        "STRING, human",
        "12.0",
        "CC BY 4.0",
        "separated by blanks: protein1, protein2 (9606.ENSP ids), a score of 0 to 1000 per channel, combined_score",
        "spm.priors.interactions({string}, genes, names=spm.priors.GeneNames.from_tables({string_info}))",
        f"{_STRING}/protein.links.detailed.v{{version}}/9606.protein.links.detailed.v{{version}}.txt.gz",
    ),
    Source(
        "string_info",
        "STRING, human",
        "12.0",
        "CC BY 4.0",
        "tab-separated: #string_protein_id (9606.ENSP id), preferred_name (symbol)",
        "spm.priors.interactions({string}, genes, names=spm.priors.GeneNames.from_tables({string_info}))",
        f"{_STRING}/protein.info.v{{version}}/9606.protein.info.v{{version}}.txt.gz",
        "sha256:144de4b0d98c6a7dfde6ddc2591cf88657f27b989eadff4f501450c3ed1f0f1c",
    ),
    Source(
        "humap",
        "hu.MAP",
        "2.0",
        "CC BY 4.0",
        "tab-separated without a header: gene, gene, probability of one complex; symbols",
        "spm.priors.interactions({humap}, genes)",
        "https://zenodo.org/records/15293715/files/humap2_ppis_genename_20200821.pairsWprob.gz?download=1",
    ),
    Source(
        "collectri",
        "CollecTRI, human",
        "2.0",
        "CC BY 4.0",
        "CSV, symbols: source (regulator or complex), target, weight (1 activates, -1 represses)",
        "spm.priors.regulons({collectri}, genes)",
        "https://zenodo.org/records/8192729/files/CollecTRI_regulons.csv?download=1",
        "sha256:4473c9189dd53dacc80297709ad1452dda1086a1cc2185f9a56146c261668701",
    ),
    Source(
        "gene_ids",
        "HGNC, complete set",
        "2026-07-07",
        "CC0",
        "tab-separated: symbol, alias_symbol, prev_symbol (joined by |), ensembl_gene_id, entrez_id, ...",
        "spm.priors.GeneNames.from_tables({gene_ids})",
        f"{_HGNC}/hgnc_complete_set_{{version}}.txt",
        "sha256:e73e9259177884b5994fc81ed733c1b3d4df34c84290bc9dddc86e960d5d6419",
    ),
)
"""What :func:`download` knows; each fact about a file stands here and nowhere else."""


def sources() -> pd.DataFrame:
    """The public files that :func:`download` knows.

    Returns
    -------
    DataFrame
        By ``name``: ``database``, ``version`` (the one that is downloaded by default), ``licence``, ``content``,
        ``read_by`` (the call that downloads and reads it), ``url``, ``checksum`` (None: the first download is the
        reference) and ``member`` of a ZIP archive.

    Examples
    --------
    >>> sources().loc["reactome_pathways", ["version", "licence"]].tolist()
    ['97', 'CC0']
    >>> sources().loc["collectri", "read_by"]
    'spm.priors.regulons(spm.priors.download("collectri"), genes)'
    """
    table = pd.DataFrame([asdict(source) for source in SOURCES]).set_index("name")
    downloads = {source.name: f'spm.priors.download("{source.name}")' for source in SOURCES}
    table["read_by"] = [source.read_by.format(**downloads) for source in SOURCES]
    table["url"] = [source.url.format(version=source.version) for source in SOURCES]
    return table


def download(
    name: str,
    *,
    folder: str | os.PathLike[str] | None = None,
    sha256: str | None = None,
    version: str | None = None,
    force: bool = False,
    progress: bool = True,
) -> Path:
    """Download a public file of prior knowledge once.

    The file is whole or not there. A record beside it, ``<file>.json``, holds its URL, version, date and SHA-256. Later
    calls use no network and check the file against that record.

    Parameters
    ----------
    name
        ``"go_annotations"``, ``"go_terms"``, ``"gene2go"``, ``"reactome_pathways"``, ``"reactome_hierarchy"``,
        ``"string"``, ``"string_info"``, ``"humap"``, ``"collectri"`` or ``"gene_ids"``; see :func:`sources`.
    folder
        Where files are kept. By default the folder in the environment variable ``SCPERTURB_MODULES_CACHE``, else the
        cache folder of the operating system.
    sha256
        SHA-256 that the download must have. By default the checksum of the table; where the table has none, and for
        another version, the first download is what later uses are checked against.
    version
        Another release than the one of the table, where the publisher keeps them.
    force
        Download again.
    progress
        Show a bar on a terminal or in a notebook.

    Returns
    -------
    Path
        The file, unpacked if the publisher packs it as ZIP; ``.gz`` files stay compressed.

    Raises
    ------
    ValueError
        An unknown name, or a version of a file whose publisher keeps one only.
    OSError
        No network, nothing at the URL, a download that was cut short, a wrong checksum, or a kept file that was changed
        since. The message names the URL and says what to do; no partial file stays behind.

    Examples
    --------
    Every file is read by one call; :func:`sources` lists the calls:

    >>> genes = ["STAT1", "IRF1"]
    >>> terms = download("go_terms")  # doctest: +SKIP
    >>> spm.priors.gene_ontology(genes, download("go_annotations"), terms)  # doctest: +SKIP
    >>> pathways = download("reactome_pathways"), download("reactome_hierarchy")  # doctest: +SKIP
    >>> spm.priors.reactome(genes, *pathways)  # doctest: +SKIP
    >>> spm.priors.interactions(download("humap"), genes)  # doctest: +SKIP
    >>> spm.priors.regulons(download("collectri"), genes)  # doctest: +SKIP

    STRING has ids of proteins and ``gene2go`` ids of NCBI, which other files translate. With ``gene_ids``, too, STRING
    is found by Ensembl ids and by other symbols of your genes:

    >>> names = spm.priors.GeneNames.from_tables([download("gene_ids"), download("string_info")])  # doctest: +SKIP
    >>> spm.priors.interactions(download("string"), genes, minimum=700, names=names)  # doctest: +SKIP
    >>> spm.priors.gene_ontology(genes, download("gene2go"), terms, names=names)  # doctest: +SKIP
    """
    source = next((one for one in SOURCES if one.name == name), None)
    if source is None:
        known = name_some((one.name for one in SOURCES), most=len(SOURCES))
        raise ValueError(f"{name!r} is not a file that spm.priors.download knows; it knows {known}.")
    return fetch(_remote(source, version, sha256), folder=folder, force=force, progress=progress)


def _remote(source: Source, version: str | None, sha256: str | None) -> RemoteFile:
    other = version is not None and version != source.version
    if other and "{version}" not in source.url:
        raise ValueError(
            f"version={version!r}: only {source.version!r} of {source.name!r} can be downloaded. Get another one by "
            f"hand and pass its path: {_with_paths(source)}."
        )
    chosen = version or source.version
    url = source.url.format(version=chosen)
    file = source.member or url.rpartition("/")[2].partition("?")[0]
    return RemoteFile(
        url=url,
        path=f"priors/{source.name}/{chosen}/{file}",
        checksum=sha256 or (None if other else source.checksum),
        version=chosen,
        member=source.member,
        use_local=_with_paths(source),
    )


def _with_paths(source: Source) -> str:
    """The call that reads a file, with capitals in place of paths."""
    return source.read_by.format(**{one.name: one.name.upper() for one in SOURCES})
