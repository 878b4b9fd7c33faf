"""Where published screens come from, and what their labels look like."""

from __future__ import annotations

from dataclasses import dataclass

from scperturb_modules._download import RemoteFile

RECORD = "13350497"
"""Zenodo record of scPerturb 1.4 (Peidli et al. 2024, doi 10.1038/s41592-023-02144-y), CC BY 4.0."""


@dataclass(frozen=True)
class ScreenSource:
    """A screen of scPerturb; each fact about its file stands here and nowhere else.

    Parameters
    ----------
    call
        The public function that gives it.
    file
        Name in the record.
    checksum
        ``"sha256:..."`` or ``"md5:..."``.
    n_cells, n_genes
        Of the file.
    cell_line, modality
        ``modality`` is CRISPRa, CRISPRi or CRISPR-KO.
    doi
        Of the study.
    sep
        What joins the genes of a combination.
    guide_suffix
        Regular expression of what follows the target in a guide's name; None where labels name targets.
    controls
        Guides without a human target whose names do not say so.
    unlabelled
        Labels of cells without a guide.
    """

    call: str
    file: str
    checksum: str
    n_cells: int
    n_genes: int
    cell_line: str
    modality: str
    doi: str
    sep: str | None = None
    guide_suffix: str | None = None
    controls: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()

    def remote(self, checksum: str | None = None) -> RemoteFile:
        """The file in the record; ``checksum`` wins over the known one."""
        return RemoteFile(
            url=f"https://zenodo.org/records/{RECORD}/files/{self.file}?download=1",
            path=f"screens/{RECORD}/{self.file}",
            checksum=checksum or self.checksum,
            version=f"Zenodo {RECORD}",
            use_local=f"spm.datasets.{self.call[:-1]}{', ' if '=' in self.call else ''}path=FILE)",
        )


NORMAN = ScreenSource(
    "norman_2019()",
    "NormanWeissman2019_filtered.h5ad",
    "md5:c870e6967d91c017d9da827bab183cd6",
    111_445,
    33_694,
    "K562",
    "CRISPRa",
    "10.1126/science.aax4438",
    sep="_",
)
ADAMSON = ScreenSource(
    "adamson_2016()",
    "AdamsonWeissman2016_GSM2406681_10X010.h5ad",
    "sha256:e70fcd49808cab8d724de8d5a332940911206e1c8ef44cc7b568d048ed795c85",
    65_337,
    32_738,
    "K562",
    "CRISPRi",
    "10.1016/j.cell.2016.11.048",
    guide_suffix=r"_p[A-Z]+\d+",  # of the vector, as in OST4_pDS353
    controls=("62(mod)_pBA581", "63(mod)_pBA580", "Gal4-4(mod)_pBA582"),
    unlabelled=("*",),
)
REPLOGLE_K562 = ScreenSource(
    "replogle_2022_k562()",
    "ReplogleWeissman2022_K562_essential.h5ad",
    "sha256:412fd0df8c4ccea9f4db91cd88033c49200838b29d40945e48574be588b48789",
    310_385,
    8_563,
    "K562",
    "CRISPRi",
    "10.1016/j.cell.2022.05.013",
)
REPLOGLE_RPE1 = ScreenSource(
    "replogle_2022_rpe1()",
    "ReplogleWeissman2022_rpe1.h5ad",
    "sha256:12d6a0cf9378c4f09411e27f0ce07b59f1d97731bd576d6fadf112f6f088d1a4",
    247_914,
    8_749,
    "RPE1",
    "CRISPRi",
    "10.1016/j.cell.2022.05.013",
)
PAPALEXI = ScreenSource(
    "papalexi_2021()",
    "PapalexiSatija2021_eccite_RNA.h5ad",
    "md5:d9e8bfe20b0e7b0919be042e8fcf6d03",
    20_729,
    18_649,
    "THP-1",
    "CRISPR-KO",
    "10.1038/s41588-021-00778-2",
    guide_suffix=r"g\d+",  # of the guide, as in STAT2g2
)
NADIG_HEPG2 = ScreenSource(
    'nadig_2025(cell_line="hepg2")',
    "NadigOConner2024_hepg2.h5ad",
    "sha256:1af2f7b3e692ad3d077e6027d68a1f800619e29aa3f7a0efa70146fb7223a4bf",
    145_473,
    9_624,
    "HepG2",
    "CRISPRi",
    "10.1038/s41588-025-02169-3",
)
NADIG_JURKAT = ScreenSource(
    'nadig_2025(cell_line="jurkat")',
    "NadigOConner2024_jurkat.h5ad",
    "sha256:ade3d83150fd6944212363cd11da77c0d2143fa6df1febb3f15a66d4dab0677f",
    262_956,
    8_882,
    "Jurkat",
    "CRISPRi",
    "10.1038/s41588-025-02169-3",
)
NADIG = {"hepg2": NADIG_HEPG2, "jurkat": NADIG_JURKAT}
