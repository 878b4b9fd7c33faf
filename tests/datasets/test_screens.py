"""Published screens, on small stand-ins of the layout of their files."""

from __future__ import annotations

import functools
import hashlib
import logging
import re
import threading
import warnings
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData, read_h5ad
from scipy import sparse

import scperturb_modules as spm
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.datasets import _screen_sources as sources

SOURCES = [one for one in vars(sources).values() if isinstance(one, sources.ScreenSource)]

LABELS = {
    "norman_2019": ["control", "KLF1", "SET_KLF1", "KLF1_BAK1"],
    "adamson_2016": ["63(mod)_pBA580", "Gal4-4(mod)_pBA582", "OST4_pDS353", "OST4_pDS354", "*", None],
    "replogle_2022_k562": ["control", "GATA1", "HLA-A"],
    "replogle_2022_rpe1": ["control", "GATA1", "NKX2-1"],
    "papalexi_2021": ["control", "STAT2g2", "STAT2g1", "CUL3g1", "CD86g1"],
    "nadig_2025": ["control", "GATA1", "HSPA14"],
}
CANONICAL = {
    "norman_2019": ["control", "KLF1", "KLF1+SET", "BAK1+KLF1"],
    "adamson_2016": ["control", "control", "OST4", "OST4"],
    "replogle_2022_k562": ["control", "GATA1", "HLA-A"],
    "replogle_2022_rpe1": ["control", "GATA1", "NKX2-1"],
    "papalexi_2021": ["control", "STAT2", "STAT2", "CUL3", "CD86"],
    "nadig_2025": ["control", "GATA1", "HSPA14"],
}
SYMBOLS = ["KLF1", "OST4", "GATA1", "STAT2", "TBCE", "TBCE"]
ENSEMBL = [f"ENSG{number:011d}" for number in range(len(SYMBOLS))]


def stand_in(name: str, *, cells_each: int = 4) -> AnnData:
    """Columns and formats as in scPerturb: dense where the file is dense, CSC where it is CSC, barcodes repeated."""
    labels = np.repeat(np.array(LABELS[name], dtype=object), cells_each)
    counts = np.random.default_rng(0).poisson(1.0, (len(labels), len(SYMBOLS))).astype(np.float32)
    dense = name.startswith(("replogle", "nadig"))
    obs = pd.DataFrame(
        {"perturbation": pd.Categorical(labels), "batch": "1"}, index=[f"c{i}" for i in range(len(labels))]
    )
    obs.index.name = "cell_barcode"
    if name == "norman_2019":
        obs.index = [f"c{i // 2}" for i in range(len(labels))]  # lanes cut off
    ensembl = "ensemble_id" if name == "norman_2019" else "ensembl_id"
    names = SYMBOLS if name == "norman_2019" else [*SYMBOLS[:-1], "TBCE_ENSG00000284770"]
    var = pd.DataFrame(
        {ensembl: [f"ENSG{i:011d}" for i in range(len(names))]}, index=pd.Index(names, name="gene_symbol")
    )
    return AnnData(counts if dense else sparse.csc_matrix(counts), obs=obs, var=var)


def write(adata: AnnData, path):
    adata.write_h5ad(path)
    return path


@pytest.fixture
def file_of(tmp_path):
    """Path of the stand-in of a screen."""

    @functools.cache
    def make(name):
        return write(stand_in(name), tmp_path / f"{name}.h5ad")

    return make


pytestmark = pytest.mark.filterwarnings("ignore:.*names are not unique:UserWarning")  # while the stand-ins are made


@pytest.mark.parametrize("name", LABELS)
def test_as_published_with_canonical_labels(name, file_of):
    published = read_h5ad(file_of(name))
    adata = getattr(spm.datasets, name)(path=file_of(name))
    kept = ~published.obs["perturbation"].isna().to_numpy() & (published.obs["perturbation"] != "*").to_numpy()
    assert list(adata.obs["perturbation"]) == np.repeat(CANONICAL[name], 4).tolist()
    assert list(adata.obs["perturbation_original"]) == list(published.obs["perturbation"][kept])
    assert sparse.isspmatrix_csr(adata.X) or isinstance(adata.X, sparse.csr_array)
    values = published.X.toarray() if sparse.issparse(published.X) else published.X
    assert np.array_equal(adata.X.toarray(), values[kept])
    assert list(adata.obs["batch"]) == ["1"] * kept.sum()
    assert adata.obs_names.is_unique and adata.var_names.is_unique
    assert list(adata.var["ensembl"]) == ENSEMBL
    assert list(adata.var_names[:5]) == SYMBOLS[:5]
    assert not adata.is_view


@pytest.mark.parametrize("name", LABELS)
def test_the_next_lines_of_a_notebook(name, file_of, tmp_path):
    """Normalised, checked, written and read."""
    adata = getattr(spm.datasets, name)(path=file_of(name))
    spm.pp.normalize(adata)
    spm.pp.validate(adata)
    assert np.array_equal(adata.layers["counts"].toarray(), np.rint(adata.layers["counts"].toarray()))
    again = read_h5ad(write(adata, tmp_path / "written.h5ad"))
    assert list(again.obs["perturbation"]) == list(adata.obs["perturbation"])


def test_repairs_are_counted(file_of, caplog):
    files = [file_of(name) for name in ("norman_2019", "adamson_2016", "papalexi_2021")]
    with caplog.at_level(logging.WARNING, "scperturb_modules"), warnings.catch_warnings():
        warnings.simplefilter("error")  # what is mended is not warned of as well
        spm.datasets.norman_2019(path=files[0])
        spm.datasets.adamson_2016(path=files[1])
        spm.datasets.papalexi_2021(path=files[2])
    assert caplog.messages == [
        "norman_2019(): 8 repeated cell names numbered; 1 repeated gene names numbered ('TBCE').",
        "adamson_2016(): 8 cells without a guide left out.",
    ]


def test_a_guide_of_another_form_keeps_its_name(tmp_path):
    adata = stand_in("papalexi_2021")
    adata.obs["perturbation"] = adata.obs["perturbation"].cat.rename_categories({"CD86g1": "CD86-guide"})
    read = spm.datasets.papalexi_2021(path=write(adata, tmp_path / "p.h5ad"))
    assert "CD86-guide" in set(read.obs["perturbation"])


@pytest.mark.parametrize("name", ["replogle_2022_k562", "replogle_2022_rpe1", "nadig_2025"])
def test_the_file_of_the_study_itself(name, tmp_path):
    """Ensembl ids as names, symbols beside them (some twice), labels in obs["gene"]."""
    adata = stand_in(name)
    adata.obs = adata.obs.rename(columns={"perturbation": "gene"})
    adata.obs["gene"] = adata.obs["gene"].cat.rename_categories({"control": "non-targeting"})
    adata.var = pd.DataFrame({"gene_name": SYMBOLS}, index=pd.Index(adata.var["ensembl_id"], name="gene_id"))
    read = getattr(spm.datasets, name)(path=write(adata, tmp_path / "study.h5ad"))
    assert list(read.obs["perturbation"]) == np.repeat(CANONICAL[name], 4).tolist()
    assert list(read.var_names) == [*SYMBOLS[:-1], "TBCE-1"]
    assert list(read.var["ensembl"]) == ENSEMBL


def test_ensembl_ids_alone_are_refused(tmp_path):
    adata = stand_in("nadig_2025")
    adata.var_names = adata.var.pop("ensembl_id").to_numpy()
    with pytest.raises(MissingKeyError, match="named by Ensembl ids only"):
        spm.datasets.nadig_2025(path=write(adata, tmp_path / "n.h5ad"))


def test_no_labels(tmp_path):
    adata = stand_in("nadig_2025")
    adata.obs = adata.obs[["batch"]]
    with pytest.raises(MissingKeyError, match="obs has 'batch'.*not laid out as in scPerturb"):
        spm.datasets.nadig_2025(path=write(adata, tmp_path / "n.h5ad"))


def test_files_that_cannot_be_read(file_of, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.h5ad"):
        spm.datasets.norman_2019(path=tmp_path / "nowhere.h5ad")
    half = tmp_path / "half.h5ad"
    half.write_bytes(file_of("norman_2019").read_bytes()[:3000])
    for bad in (half, write_text(tmp_path / "text.h5ad")):
        with pytest.raises(DataError, match=r"cannot be read as h5ad; is it cut short"):
            spm.datasets.norman_2019(path=bad)
    with pytest.raises(OSError, match="expected sha256:0+, got"):
        spm.datasets.norman_2019(path=file_of("norman_2019"), sha256="0" * 64)


def write_text(path):
    path.write_text("<html>Sign in to the hotel network</html>")
    return path


def test_another_cell_line():
    with pytest.raises(ValueError, match="'hela' was not screened; use 'hepg2' or 'jurkat'"):
        spm.datasets.nadig_2025("hela")


CALLS = {
    sources.NORMAN: spm.datasets.norman_2019,
    sources.ADAMSON: spm.datasets.adamson_2016,
    sources.REPLOGLE_K562: spm.datasets.replogle_2022_k562,
    sources.REPLOGLE_RPE1: spm.datasets.replogle_2022_rpe1,
    sources.PAPALEXI: spm.datasets.papalexi_2021,
    sources.NADIG_HEPG2: functools.partial(spm.datasets.nadig_2025, "hepg2"),
    sources.NADIG_JURKAT: functools.partial(spm.datasets.nadig_2025, "jurkat"),
}


def test_every_screen_has_a_function_and_a_checksum():
    assert set(CALLS) == set(SOURCES)
    assert len({one.file for one in SOURCES}) == len(SOURCES)
    for source in SOURCES:
        assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", source.checksum)
        assert source.remote().url == f"https://zenodo.org/records/13350497/files/{source.file}?download=1"


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.call)
def test_offline_says_what_to_call(source, tmp_path, monkeypatch):
    redirect(monkeypatch, "http://127.0.0.1:9/x")
    with pytest.raises(OSError, match="Cannot reach http://127.0.0.1:9/x") as error:
        CALLS[source](folder=tmp_path)
    call = re.search(r"pass its path: (spm\.datasets\..*)\.$", str(error.value)).group(1)
    with pytest.raises(FileNotFoundError):  # what the message says to call is a call
        eval(call, {"spm": spm, "FILE": "nowhere"})


def redirect(monkeypatch, url):
    """Every screen from one URL."""
    remote = sources.ScreenSource.remote
    monkeypatch.setattr(sources.ScreenSource, "remote", lambda self, sha256: replace(remote(self, sha256), url=url))


def test_downloaded_once(file_of, tmp_path, monkeypatch):
    requests = []

    class Counting(SimpleHTTPRequestHandler):
        def log_message(self, form, *args):
            requests.append(args[0])

    file = file_of("papalexi_2021")
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Counting, directory=file.parent))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        redirect(monkeypatch, f"http://127.0.0.1:{server.server_port}/{file.name}")
        monkeypatch.setenv("SCPERTURB_MODULES_CACHE", str(tmp_path / "cache"))
        with pytest.raises(OSError, match="expected md5:d9e8"):  # the checksum of the real file
            spm.datasets.papalexi_2021()
        mine = hashlib.sha256(file.read_bytes()).hexdigest()
        first, second = (spm.datasets.papalexi_2021(sha256=mine) for _ in range(2))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert len(requests) == 2  # the refused one and one more
    assert np.array_equal(first.X.toarray(), second.X.toarray())
    assert (tmp_path / "cache" / "screens" / "13350497" / sources.PAPALEXI.file).is_file()
