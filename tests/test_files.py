import pytest

from scperturb_modules._files import whole_file


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
