import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scperturb_modules import _keys as keys
from scperturb_modules._errors import DataError, MissingKeyError
from scperturb_modules.pl._program_activity import program_activity


def changes(adata):
    return adata.uns[keys.ROOT][keys.SCBIG][keys.PROGRAM_CHANGES]


def rows(axes):
    return [label.get_text() for label in axes["predicted"].get_yticklabels()]


def columns(ax):
    return [label.get_text() for label in ax.get_xticklabels()]


def drawn(ax):
    mesh = ax.collections[0]
    return np.ma.filled(mesh.get_array().astype(float), np.nan).reshape(-1, len(ax.get_xticks()))


def expected(table, column, axes):
    programs = [name.split()[0] for name in columns(axes["predicted"])]
    wide = table.pivot(index="condition", columns="program", values=column)
    return wide.loc[rows(axes), programs].to_numpy()


def above(ax):
    return [text.get_text() for text in ax.texts]


def test_both_panels_have_the_same_order_and_colours(scbig):
    axes = program_activity(scbig)
    assert list(axes) == ["predicted", "observed"]
    table = changes(scbig)
    np.testing.assert_array_equal(drawn(axes["predicted"]), expected(table, "change", axes))
    np.testing.assert_array_equal(drawn(axes["observed"]), expected(table, "observed", axes))
    assert columns(axes["predicted"]) == columns(axes["observed"])
    assert axes["predicted"].get_ylim() == axes["observed"].get_ylim() == (6, 0)
    norms = [one.collections[0].norm for one in axes.values()]
    assert norms[0].vmax == norms[1].vmax == -norms[0].vmin
    assert set(rows(axes)) == set(table["condition"])


def test_similar_programs_and_perturbations_stand_side_by_side():
    long = [(f"G{i}", f"P{j}", float(i % 2 + 10 * (j % 2))) for i in range(6) for j in range(6)]
    table = pd.DataFrame(long, columns=["condition", "program", "change"])
    axes = program_activity(table.assign(lower=np.nan, upper=np.nan, observed=np.nan))
    for names in (rows(axes), columns(axes["predicted"])):
        kinds = [int(name[1:]) % 2 for name in names]
        assert (np.diff(kinds) != 0).sum() == 1


def test_a_dot_where_the_interval_excludes_0(scbig):
    axes = program_activity(scbig)
    (dots,) = axes["predicted"].get_lines()
    low, high = (expected(changes(scbig), name, axes) for name in ("lower", "upper"))
    line, column = np.nonzero((low > 0) | (high < 0))
    assert 0 < len(line) < low.size
    assert sorted(map(tuple, dots.get_xydata())) == sorted(zip(column + 0.5, line + 0.5, strict=True))
    assert axes["predicted"].get_xlabel() == "dot: 90 % interval excludes 0" and not axes["observed"].get_lines()
    axes = program_activity(changes(scbig).assign(lower=np.nan, upper=np.nan))
    assert not axes["predicted"].get_lines() and not axes["predicted"].get_xlabel()


def test_what_is_not_measured_is_grey_or_has_no_panel(scbig):
    axes = program_activity(scbig)
    (absent,) = np.flatnonzero(np.isnan(drawn(axes["observed"])).all(axis=1))
    assert rows(axes)[absent] == changes(scbig)["condition"].iloc[-1]
    assert axes["observed"].get_xlabel() == "grey: not measured"
    assert not program_activity(scbig, rows(axes)[absent - 1])["observed"].get_xlabel()
    assert list(program_activity(changes(scbig).assign(observed=np.nan))) == ["predicted"]


def test_the_title_has_the_correlation_of_measured_changes(scbig):
    table = changes(scbig).dropna()
    r = np.corrcoef(table["change"], table["observed"])[0, 1]
    assert f"Pearson {r:.2f} over {len(table)} changes" in above(program_activity(scbig)["predicted"])
    constant = changes(scbig).assign(observed=0.0)
    assert not any("Pearson" in text for text in above(program_activity(constant)["predicted"]))


def test_programs_have_their_names_where_they_are_stored(scbig):
    assert "P5 E2F TARGETS" in columns(program_activity(scbig)["predicted"])
    assert set(columns(program_activity(changes(scbig))["predicted"])) == {f"P{i}" for i in range(1, 9)}


def test_only_the_conditions_asked_for(scbig):
    axes = program_activity(scbig, ["G01+G00", "G03"])
    assert sorted(rows(axes)) == ["G00+G01", "G03"]
    with pytest.raises(ValueError, match="the table holds no condition 'G99'"):
        program_activity(scbig, "G99")


def test_of_many_those_of_the_largest_changes(make_stored):
    adata = make_stored(50, n_conditions=70)
    axes = program_activity(adata)
    wide = changes(adata).pivot(index="condition", columns="program", values="change").abs()
    assert set(rows(axes)) == set(wide.max(axis=1).nlargest(60).index)
    shown = wide.loc[rows(axes)].max().nlargest(40)
    assert {name.split()[0] for name in columns(axes["predicted"])} == set(shown.index)
    text = above(axes["predicted"])
    assert "60 of 70 perturbations, the largest changes" in text
    assert "40 of 50 programs, the largest changes" in text


def test_one_strong_change_does_not_make_the_others_pale(scbig):
    table = changes(scbig).copy()
    table.loc[0, "change"] = 500.0
    big = pd.concat([table.assign(condition=table["condition"] + f"x{i}") for i in range(4)])
    big.iloc[1:, big.columns.get_loc("change")] = big["change"].iloc[1:].clip(-2, 2)
    assert program_activity(big)["predicted"].collections[0].norm.vmax < 5


def test_draws_in_the_place_given_and_nowhere_else(scbig, two_axes):
    wanted, current = two_axes
    axes = program_activity(scbig, ax=wanted)
    assert len(plt.get_fignums()) == 1 and not current.collections and not wanted.axison
    assert all(one.get_subplotspec().get_topmost_subplotspec() == wanted.get_subplotspec() for one in axes.values())


def test_shown_only_where_asked(scbig, monkeypatch):
    calls = []
    monkeypatch.setattr(plt, "show", lambda: calls.append(1))
    program_activity(scbig)
    program_activity(scbig, show=True)
    assert calls == [1]


def test_bad_input_is_one_error(scbig):
    table = changes(scbig)
    with pytest.raises(MissingKeyError, match=r"table\['upper'\] does not exist"):
        program_activity(table.drop(columns="upper"))
    with pytest.raises(DataError, match="2 pairs of condition and program stand twice: 'G00\\+G01 P1', 'G00\\+G01 P2'"):
        program_activity(pd.concat([table, table.head(2)]))
    with pytest.raises(DataError, match="'change' holds no number: all 48 values are missing"):
        program_activity(table.assign(change=np.nan))
    del scbig.uns[keys.ROOT][keys.SCBIG][keys.PROGRAM_CHANGES]
    with pytest.raises(MissingKeyError, match=r"\['program_changes'\] does not exist"):
        program_activity(scbig)
    assert not plt.get_fignums()


@pytest.mark.parametrize(("n", "n_conditions"), [(1, 1), (8, 6), (40, 60)])
def test_no_text_is_cut_or_overlaps(make_stored, assert_readable, n, n_conditions):
    for one in program_activity(make_stored(n, n_conditions=n_conditions)).values():
        assert_readable(one)


def test_the_same_picture_after_a_file(scbig, same_after_file):
    same_after_file(scbig, program_activity)
