"""The downloader against a real server on this machine."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import threading
import zipfile
from collections import Counter
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from rich.progress import Progress

from scperturb_modules import _download
from scperturb_modules._download import CACHE_VARIABLE, DownloadError, RemoteFile, cache_folder, fetch, verify

CONTENT = b"gene\tterm\n" * 70_000  # more than two chunks
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
MD5 = f"md5:{hashlib.md5(CONTENT).hexdigest()}"


class Server:
    """Counts requests; ``cut`` bytes at the end of each body are announced and never sent."""

    def __init__(self):
        self.files = {"/table.tsv": CONTENT}
        self.requests = Counter()
        self.cut = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.requests[self.path] += 1
                body = outer.files.get(self.path)
                if body is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) - outer.cut])

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture(scope="module")
def running():
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.http.shutdown()
    server.http.server_close()
    thread.join()


@pytest.fixture
def server(running):
    running.requests.clear()
    running.cut = 0
    running.files = {"/table.tsv": CONTENT}
    return running


@pytest.fixture
def remote(server):
    return RemoteFile(f"{server.url}/table.tsv", "go/1/table.tsv", version="1", use_local="spm.priors.gene_ontology")


def left_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def refused_url() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/table.tsv"


@pytest.mark.parametrize("checksum", [None, SHA256, SHA256.removeprefix("sha256:").upper(), MD5])
def test_a_file_and_its_record(remote, server, tmp_path, checksum):
    path = fetch(replace(remote, checksum=checksum), folder=tmp_path)
    assert path == tmp_path / "go/1/table.tsv"
    assert path.read_bytes() == CONTENT
    assert left_in(tmp_path) == ["go/1/table.tsv", "go/1/table.tsv.json"]
    record = json.loads((tmp_path / "go/1/table.tsv.json").read_text())
    assert record["sha256"] == SHA256
    assert (record["url"], record["version"], record["bytes"]) == (remote.url, "1", len(CONTENT))


def test_the_second_call_does_not_touch_the_network(remote, server, tmp_path):
    first = fetch(remote, folder=tmp_path)
    assert fetch(remote, folder=tmp_path) == first
    assert fetch(replace(remote, url=refused_url()), folder=tmp_path) == first
    assert server.requests["/table.tsv"] == 1
    fetch(remote, folder=tmp_path, force=True)
    assert server.requests["/table.tsv"] == 2


@pytest.mark.parametrize("wrong", ["sha256:" + "0" * 64, "md5:" + "0" * 32])
def test_a_wrong_checksum_names_both_and_leaves_nothing(remote, tmp_path, wrong):
    right = MD5 if wrong.startswith("md5") else SHA256
    with pytest.raises(DownloadError, match=f"expected {wrong}, got {right}") as error:
        fetch(replace(remote, checksum=wrong), folder=tmp_path)
    assert remote.url in str(error.value) and "sha256=" in str(error.value)
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("cut", [1, 100_000, len(CONTENT)])
def test_half_a_file_is_no_file(remote, server, tmp_path, cut):
    server.cut = cut
    with pytest.raises(DownloadError, match="was cut short.*Nothing was kept"):
        fetch(remote, folder=tmp_path)
    assert list((tmp_path / "go/1").iterdir()) == []


def test_half_a_file_is_found_also_where_the_client_does_not_say_so(remote, tmp_path, monkeypatch):
    """urllib3 before 2.0 ends quietly."""

    def quiet(self, url, output_file, pooch):
        Path(output_file).write_bytes(CONTENT[:-1])
        self.progressbar.total = len(CONTENT)

    monkeypatch.setattr("pooch.HTTPDownloader.__call__", quiet)
    with pytest.raises(DownloadError, match=f"cut short .{len(CONTENT) - 1} of {len(CONTENT)} bytes"):
        fetch(remote, folder=tmp_path)
    assert left_in(tmp_path) == []


def test_what_stood_there_stays_when_a_new_download_fails(remote, server, tmp_path):
    path = fetch(remote, folder=tmp_path)
    before = left_in(tmp_path)
    server.cut = 10
    with pytest.raises(DownloadError, match="cut short"):
        fetch(remote, folder=tmp_path, force=True)
    assert path.read_bytes() == CONTENT
    assert left_in(tmp_path) == before
    fetch(remote, folder=tmp_path)


def test_a_file_that_the_publisher_moved(remote, server, tmp_path):
    server.files = {}
    with pytest.raises(DownloadError, match="404.*moved or removed.*pass its path: spm.priors.gene_ontology"):
        fetch(remote, folder=tmp_path)
    assert left_in(tmp_path) == []


def test_no_network_names_the_url_and_what_to_do(remote, tmp_path):
    url = refused_url()
    with pytest.raises(DownloadError, match="Cannot reach") as error:
        fetch(replace(remote, url=url), folder=tmp_path)
    assert url in str(error.value)
    assert "download it elsewhere and pass its path: spm.priors.gene_ontology." in str(error.value)
    assert isinstance(error.value, OSError)


def test_a_changed_file_is_named(remote, tmp_path):
    path = fetch(remote, folder=tmp_path)
    path.write_bytes(CONTENT + b"x")
    with pytest.raises(DownloadError, match="was changed after.*force=True") as error:
        fetch(remote, folder=tmp_path)
    assert str(path) in str(error.value) and SHA256 in str(error.value)
    fetch(remote, folder=tmp_path, force=True)
    assert fetch(remote, folder=tmp_path).read_bytes() == CONTENT


def test_another_checksum_asked_of_a_kept_file(remote, tmp_path):
    fetch(replace(remote, checksum=MD5), folder=tmp_path)
    for same in (None, MD5, SHA256):
        fetch(replace(remote, checksum=same), folder=tmp_path)
    with pytest.raises(DownloadError, match="not the file that was asked for: sha256:0+"):
        fetch(replace(remote, checksum="sha256:" + "0" * 64), folder=tmp_path)


def test_a_file_put_there_by_hand_is_checked_and_gets_a_record(remote, server, tmp_path):
    path = tmp_path / remote.path
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another file")
    with pytest.raises(DownloadError, match="not the file that was expected") as error:
        fetch(replace(remote, checksum=SHA256), folder=tmp_path)
    assert str(path) in str(error.value)
    path.write_bytes(CONTENT)
    fetch(replace(remote, checksum=SHA256), folder=tmp_path)
    assert not server.requests
    path.write_bytes(b"changed")
    with pytest.raises(DownloadError, match="was changed"):
        fetch(remote, folder=tmp_path)


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_a_file_of_an_archive(remote, server, tmp_path):
    server.files["/sets.zip"] = archive = zipped(sets=CONTENT, other=b"")
    packed = f"sha256:{hashlib.sha256(archive).hexdigest()}"
    one = replace(remote, url=f"{server.url}/sets.zip", path="sets", member="sets", checksum=packed)
    assert fetch(one, folder=tmp_path).read_bytes() == CONTENT
    assert left_in(tmp_path) == ["sets", "sets.json"]
    assert json.loads((tmp_path / "sets.json").read_text())["sha256"] == SHA256
    fetch(one, folder=tmp_path)
    assert server.requests["/sets.zip"] == 1
    (tmp_path / "sets").write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match="was changed"):
        fetch(one, folder=tmp_path)


@pytest.mark.parametrize("url", ["/table.tsv", "/sets.zip"])
def test_no_archive_or_not_the_one(remote, server, tmp_path, url):
    server.files["/sets.zip"] = zipped(other=CONTENT)
    with pytest.raises(DownloadError, match="is no ZIP archive that holds 'sets'"):
        fetch(replace(remote, url=server.url + url, path="sets", member="sets"), folder=tmp_path)
    assert left_in(tmp_path) == []


def test_the_folder_of_downloads(monkeypatch, tmp_path):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "mine"))
    assert cache_folder() == tmp_path / "mine"
    assert cache_folder("elsewhere") == Path("elsewhere")
    monkeypatch.delenv(CACHE_VARIABLE)
    assert cache_folder().name == "scperturb_modules"


def test_verify_a_local_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    for right in (SHA256, SHA256.removeprefix("sha256:"), MD5):
        verify(path, right)
    with pytest.raises(DownloadError, match=str(path)):
        verify(path, "0" * 64)


def test_the_bar_is_told_of_every_byte(remote, tmp_path, monkeypatch, capsys):
    seen = []
    update = Progress.update
    monkeypatch.setattr(Progress, "update", lambda self, task, **told: (seen.append(told), update(self, task, **told)))
    fetch(remote, folder=tmp_path)
    assert sum(told["advance"] for told in seen[:-1]) >= len(CONTENT)
    assert seen[-1] == {"advance": len(CONTENT), "total": len(CONTENT)}  # filled anew
    assert capsys.readouterr() == ("", "")  # no terminal: nothing is written


def test_no_chatter(remote, tmp_path, capfd):
    fetch(remote, folder=tmp_path)
    with pytest.raises(DownloadError):
        fetch(replace(remote, path="b", checksum="0" * 64), folder=tmp_path)
    assert capfd.readouterr() == ("", "")


def test_the_bar_on_a_terminal(remote, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    fetch(remote, folder=tmp_path)
    assert "table.tsv" in capsys.readouterr().err
    fetch(remote, folder=tmp_path, force=True, progress=False)
    assert capsys.readouterr().err == ""


def test_chunks_are_small_enough_for_a_bar():
    assert len(CONTENT) > 2 * _download._CHUNK
