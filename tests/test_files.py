import pytest

from scperturb_modules._files import require_free, whole_file


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path):
    target = tmp_path / "table.csv"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="disk"), whole_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("disk full")
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["table.csv"]


def test_a_folder_is_replaced_whole(tmp_path):
    target = tmp_path / "model"
    target.mkdir()
    (target / "stale.json").write_text("{}")
    with whole_file(target) as temporary:
        temporary.mkdir()
        (temporary / "model.json").write_text("{}")
    assert [path.name for path in target.iterdir()] == ["model.json"]


def test_the_temporary_name_keeps_its_suffix(tmp_path):
    with whole_file(tmp_path / "a" / "picture.png") as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"")
    assert (tmp_path / "a" / "picture.png").exists()


def test_only_an_older_folder_of_its_kind_is_overwritten(tmp_path):
    folder = tmp_path / "model"
    require_free(folder, overwrite=False)
    folder.mkdir()
    require_free(folder, overwrite=True)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        require_free(folder, overwrite=False)
    (folder / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="no saved zebra and would be lost"):
        require_free(folder, what="saved zebra", overwrite=True)
    (folder / "model.json").touch()
    require_free(folder, overwrite=True)
