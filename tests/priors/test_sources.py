"""The table of public files, and their download."""

from __future__ import annotations

import functools
import hashlib
import re
import threading
import zipfile
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from scperturb_modules.priors import _sources
from scperturb_modules.priors._sources import SOURCES, download, sources

NAMES = {
    *("go_annotations", "go_terms", "gene2go", "reactome_pathways", "reactome_hierarchy"),
    *("string", "string_info", "humap", "collectri", "gene_ids"),
}


def test_the_table_is_complete():
    table = sources()
    assert set(table.index) == NAMES and table.index.is_unique
    required = table.drop(columns=["checksum", "member"])
    assert required.notna().all(axis=None) and (required != "").all(axis=None)
    assert table["url"].str.startswith("https://").all()
    assert not table["url"].str.contains(r"[{}]").any()
    for checksum in table["checksum"].dropna():
        assert re.fullmatch(r"sha256:[0-9a-f]{64}|md5:[0-9a-f]{32}", checksum)
    # one release of GO and one of Reactome: terms and annotations must fit each other
    assert table.loc["go_terms", "version"] == table.loc["go_annotations", "version"]
    assert table.loc["reactome_pathways", "version"] == table.loc["reactome_hierarchy", "version"]


@pytest.mark.parametrize("source", [one for one in SOURCES if one.version != "current"], ids=lambda one: one.name)
def test_the_version_is_in_the_url_or_fixed(source):
    numbered = "{version}" in source.url
    assert numbered or "zenodo.org/records/" in source.url


def test_the_docstring_lists_every_name():
    assert all(f'"{name}"' in download.__doc__ for name in NAMES)


def test_an_unknown_name_lists_the_known(tmp_path):
    with pytest.raises(ValueError, match="'GO' is not a file") as error:
        download("GO", folder=tmp_path)
    assert all(repr(name) in str(error.value) for name in NAMES)


def test_only_one_version_is_kept(tmp_path):
    with pytest.raises(ValueError, match=r"only 'current' of 'gene2go'.*gene_ontology"):
        download("gene2go", version="2020-01-01", folder=tmp_path)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder on a local server in place of the publishers'."""
    folder = tmp_path / "served"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    base = f"http://127.0.0.1:{server.server_port}"
    local = tuple(replace(one, url=f"{base}/{{version}}/{one.url.rpartition('/')[2]}") for one in SOURCES)
    monkeypatch.setattr(_sources, "SOURCES", local)
    yield folder
    server.shutdown()
    server.server_close()
    thread.join()


def put(folder, name, content):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def test_download_and_version(served, tmp_path):
    cache = tmp_path / "cache"
    put(served / "2026-08-05", "go-basic.obo", b"of another day")
    with pytest.raises(OSError, match="is not the file that was expected"):
        download("go_terms", folder=cache)
    first = put(served / "2026-08-05", "go-basic.obo", b"format-version: 1.2\n")
    path = download("go_terms", folder=cache, sha256=first)
    assert path == cache / "priors/go_terms/2026-08-05/go-basic.obo"
    put(served / "2024-03-28", "go-basic.obo", b"older")  # the checksum of the table is not that of another release
    older = download("go_terms", folder=cache, version="2024-03-28")
    assert older == cache / "priors/go_terms/2024-03-28/go-basic.obo"
    assert (path.read_bytes(), older.read_bytes()) == (b"format-version: 1.2\n", b"older")


def test_without_a_known_checksum_the_first_download_is_the_reference(served, tmp_path):
    put(served / "12.0", "9606.protein.links.detailed.v12.0.txt.gz", b"links")
    path = download("string", folder=tmp_path / "cache")
    path.write_bytes(b"other links")
    with pytest.raises(OSError, match="was changed after"):
        download("string", folder=tmp_path / "cache")


def test_a_query_is_no_part_of_the_file_name(served, tmp_path):
    put(served / "2.0", "CollecTRI_regulons.csv", b"source,target,weight\n")
    wanted = hashlib.sha256(b"source,target,weight\n").hexdigest()
    assert download("collectri", folder=tmp_path / "cache", sha256=wanted).name == "CollecTRI_regulons.csv"


def test_reactome_is_unpacked(served, tmp_path):
    (served / "97").mkdir()
    packed = served / "97" / "ReactomePathways.gmt.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("ReactomePathways.gmt", "Signalling\tR-HSA-1\tSTAT1\n")
    wanted = hashlib.sha256(packed.read_bytes()).hexdigest()
    path = download("reactome_pathways", folder=tmp_path / "cache", sha256=wanted)
    assert path.read_text() == "Signalling\tR-HSA-1\tSTAT1\n"


def test_offline_names_the_function_that_takes_a_local_file(monkeypatch, tmp_path):
    dead = tuple(replace(one, url="http://127.0.0.1:9/x") for one in SOURCES)
    monkeypatch.setattr(_sources, "SOURCES", dead)
    with pytest.raises(OSError, match=r"Cannot reach http://127.0.0.1:9/x .*path: .*\.regulons\(COLLECTRI, genes\)"):
        download("collectri", folder=tmp_path)
