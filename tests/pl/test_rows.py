import pandas as pd
import pytest

from scperturb_modules.pl._rows import resolve_row, resolve_rows

ROWS = pd.Index(["KLF1|K562", "KLF1|RPE1", "BAK1+KLF1|K562", "CEBPA|RPE1"])


def test_genes_in_any_order_and_a_condition_in_all_contexts():
    assert resolve_rows("KLF1+BAK1|K562", ROWS) == ["BAK1+KLF1|K562"]
    assert resolve_rows(["CEBPA", "KLF1", "KLF1|K562"], ROWS) == ["CEBPA|RPE1", "KLF1|K562", "KLF1|RPE1"]


def test_one_row_is_asked_for_by_its_context_where_there_are_several():
    assert resolve_row("CEBPA", ROWS) == "CEBPA|RPE1"
    with pytest.raises(ValueError, match="in 2 contexts; name one of 'KLF1|K562', 'KLF1|RPE1'"):
        resolve_row("KLF1", ROWS)


def test_an_unknown_condition_names_near_matches():
    with pytest.raises(ValueError, match=r"the truth holds no condition 'klf1\|K562'; near matches: 'KLF1\|K562'"):
        resolve_rows("klf1|K562", ROWS, "the truth")
    with pytest.raises(ValueError, match="near matches: 'CEBPA'"):
        resolve_rows(["CEBPB"], pd.Index(["CEBPA", "BAK1"]))
    with pytest.raises(ValueError, match="no condition 'XYZ'; it holds 'KLF1|K562'"):
        resolve_rows("XYZ", ROWS)
