"""The folder of a saved model: round trip, equal bytes, and every way in which it can be wrong."""

from __future__ import annotations

import json
import pickletools

import numpy as np
import pytest
import torch

from scperturb_modules._errors import DataError
from scperturb_modules.train import _format as fmt
from scperturb_modules.train import read_folder, write_folder

RECORD = {"class": "APP", "genes": np.array(["B", "A"], dtype=object), "layers": (2, 3), "lr": 0.003}


def make_tensors() -> dict[str, torch.Tensor]:
    table = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    ids = torch.tensor([1, 2])
    return {"table": table, "tied": table, "turned": table.T, "ids": ids, "half": table.bfloat16(), "on": ids > 1}


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    write_folder(path, RECORD, make_tensors(), files={"training.h5ad": lambda file: file.write_bytes(b"cells")})
    return path


def rewrite(folder, **changes) -> None:
    """Change entries of model.json and give it a checksum that fits, as a newer version or a stranger would."""
    content = {**json.loads((folder / "model.json").read_text()), **changes}
    (folder / "model.json").write_text(json.dumps({**content, "checksum": fmt._checksum(content)}))


def test_what_was_written_comes_back(folder):
    saved = read_folder(folder)
    assert saved.record["genes"].dtype == object and saved.record["genes"].tolist() == ["B", "A"]
    assert (saved.record["class"], saved.record["layers"], saved.record["lr"]) == ("APP", (2, 3), 0.003)
    for name, tensor in make_tensors().items():
        assert saved.tensors[name].dtype == tensor.dtype and torch.equal(saved.tensors[name], tensor)
    assert saved.files == {"training.h5ad": folder / "training.h5ad"}
    assert {"package", "python", "torch", "scvi-tools", "anndata"} == saved.versions.keys()


def test_saving_twice_gives_the_same_bytes(folder, tmp_path):
    shuffled = dict(reversed(RECORD.items()))
    tensors = dict(reversed(make_tensors().items()))
    write_folder(tmp_path / "again", shuffled, tensors, files={"training.h5ad": lambda f: f.write_bytes(b"cells")})
    for name in ("model.json", "weights.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_no_file_is_a_pickle(folder):
    for file in folder.iterdir():
        with pytest.raises((ValueError, IndexError)):
            list(pickletools.genops(file.read_bytes()))


def test_an_existing_folder_is_kept_unless_told(folder):
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_folder(folder, {}, {})
    write_folder(folder, {"new": 1}, {}, overwrite=True)
    assert read_folder(folder).record == {"new": 1} and not (folder / "training.h5ad").exists()


def test_a_failing_writer_leaves_the_old_folder(folder):
    def fail(path):
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_folder(folder, {}, {}, files={"more.h5ad": fail}, overwrite=True)
    assert read_folder(folder).record["class"] == "APP" and len(list(folder.parent.iterdir())) == 1


@pytest.mark.parametrize("name", ["model.pt", "x.pkl", "../x.h5ad", "model.json", "weights.safetensors", "a\\b.json"])
def test_names_that_are_not_allowed_are_refused_on_writing(tmp_path, name):
    with pytest.raises(ValueError, match="cannot be a file of a saved model"):
        write_folder(tmp_path / "model", {}, {}, files={name: lambda path: None})
    assert not (tmp_path / "model").exists()


def test_a_sparse_tensor_is_refused_by_name(tmp_path):
    with pytest.raises(TypeError, match=r"tensors\['graph'\] is torch.sparse_coo"):
        write_folder(tmp_path / "model", {}, {"graph": torch.eye(3).to_sparse()})


def test_no_folder_says_what_writes_one(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no model.json; save\(\) writes"):
        read_folder(tmp_path)


@pytest.mark.parametrize("name", ["weights.safetensors", "training.h5ad"])
def test_a_cut_an_altered_and_a_missing_file_are_refused_by_name(folder, name):
    whole = (folder / name).read_bytes()
    (folder / name).write_bytes(whole[:-1])
    with pytest.raises(DataError, match=f"{name} is cut or altered"):
        read_folder(folder)
    (folder / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(DataError, match=f"{name} is cut or altered"):
        read_folder(folder)
    (folder / name).unlink()
    with pytest.raises(DataError, match=f"lacks '{name}'"):
        read_folder(folder)


def test_model_json_cut_or_altered_is_refused(folder):
    text = (folder / "model.json").read_text()
    (folder / "model.json").write_text(text.replace("0.003", "0.004"))
    with pytest.raises(DataError, match="model.json' was altered"):
        read_folder(folder)
    (folder / "model.json").write_text(text.replace("0.003", "NaN"))
    with pytest.raises(DataError, match="model.json' was altered"):
        read_folder(folder)
    (folder / "model.json").write_text(text[:-5])
    with pytest.raises(DataError, match="model.json' is cut or damaged"):
        read_folder(folder)


def test_foreign_folders_and_files_are_refused(folder):
    (folder / ".DS_Store").touch()
    read_folder(folder)
    (folder / "model.pt").touch()
    with pytest.raises(DataError, match="belong to no saved model: 'model.pt'"):
        read_folder(folder)
    (folder / "model.pt").unlink()
    rewrite(folder, sha256={**json.loads((folder / "model.json").read_text())["sha256"], "../x.h5ad": "0"})
    with pytest.raises(DataError, match=r"belong to no saved model: '\.\./x.h5ad'"):
        read_folder(folder)
    rewrite(folder, surprise=1)
    with pytest.raises(DataError, match="too many or too few: 'surprise'"):
        read_folder(folder)
    (folder / "model.json").write_text('{"format": 1, "class": "MeanShift"}')
    with pytest.raises(DataError, match="not written by save"):
        read_folder(folder)


def test_weights_that_must_be_listed_are(folder):
    rewrite(folder, sha256={})
    (folder / "training.h5ad").unlink()
    with pytest.raises(DataError, match="weights.safetensors"):
        read_folder(folder)


def test_a_newer_format_names_the_version_that_wrote_it(folder):
    rewrite(folder, format_version=99, versions={"package": "7.1.0"}, unknown=1)
    with pytest.raises(DataError, match="format version 99, written by scperturb_modules 7.1.0.*Update"):
        read_folder(folder)


def test_migrations_are_applied_in_turn(folder, monkeypatch):
    monkeypatch.setattr(fmt, "FORMAT_VERSION", 3)
    with pytest.raises(DataError, match="format version 1, which scperturb_modules .* no longer reads"):
        read_folder(folder)
    first = lambda content: {**content, "record": {**content["record"], "steps": ["first"]}}  # noqa: E731
    second = lambda content: {**content, "record": {"steps": [*content["record"]["steps"], "second"]}}  # noqa: E731
    monkeypatch.setattr(fmt, "_MIGRATIONS", {1: first, 2: second})
    assert read_folder(folder).record == {"steps": ["first", "second"]}


def test_safetensors_that_do_not_parse_are_refused(folder):
    (folder / "weights.safetensors").write_bytes(b"no tensors")
    sums = json.loads((folder / "model.json").read_text())["sha256"]
    rewrite(folder, sha256={**sums, "weights.safetensors": fmt._sha256(folder / "weights.safetensors")})
    with pytest.raises(DataError, match="cannot be read"):
        read_folder(folder)
