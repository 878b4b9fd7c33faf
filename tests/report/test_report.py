"""What stands on the page, in which order, and that nothing of the data can act in it."""

import re
from html.parser import HTMLParser

import pytest

from scperturb_modules.pl._style import REGIME_LABELS
from scperturb_modules.report import write_report
from scperturb_modules.report._table import digits

from .conftest import NASTY, Broken


class Outline(HTMLParser):
    """Headings, ids, addresses and the text of every element, by its tag."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.addresses, self.headings, self.open = [], [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append((tag, given))
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [given[name] for name in ("src", "href", "action", "data", "srcset") if given.get(name)]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append([int(tag[1]), ""])
            self.open = tag

    def handle_endtag(self, tag):
        self.open = None if tag == self.open else self.open

    def handle_data(self, data):
        if self.open:
            self.headings[-1][1] += data


@pytest.fixture(scope="module")
def outline(text):
    return Outline(text)


def section(text, id):
    return text.split(f'<section id="{id}"')[1].split("</section>")[0]


def test_the_verdict_comes_first_and_sections_keep_their_order(outline):
    second = [title for level, title in outline.headings if level == 2]
    assert second == [
        "Verdict", "Which model to use", "Leaderboard", "How sure", "Predictions", "Genetic interactions",
        "What was left out or is unknown", "What to test next", "How to make the same numbers again",
        "Words used on this page",
    ]  # fmt: skip
    levels = [level for level, _ in outline.headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:], strict=False))


def test_every_regime_has_a_sentence_a_badge_and_a_row(text, board):
    verdict, which = section(text, "verdict"), section(text, "which")
    regimes = set(board.summary()["regime"])
    assert len(regimes) == 4
    for regime in regimes:
        label = REGIME_LABELS[regime]
        assert label[:1].upper() + label[1:] in verdict and label in which
    assert verdict.count('class="sentence"') == len(regimes) == verdict.count('<span class="badge')
    assert "These data cannot rank" in verdict


def test_nothing_is_fetched(outline, text):
    assert [one for one in outline.addresses if not one.startswith(("#", "data:"))] == []
    assert not re.search(r"https?://|@import|url\(", text)
    assert "default-src 'none'" in text


def test_text_of_the_data_is_never_markup(text, outline):
    assert NASTY not in text and "&lt;script&gt;alert(1)" in text
    assert Broken.name not in text and "<i>memory" not in text
    assert "Broken &amp; &lt;b&gt;bold" in section(text, "left-out")
    assert [tag for tag, _ in outline.tags].count("script") == 1


def test_every_id_is_there_once_and_every_link_has_an_aim(outline):
    assert len(outline.ids) == len(set(outline.ids))
    aims = [one[1:] for one in outline.addresses if one.startswith("#")]
    assert aims and set(aims) <= set(outline.ids)
    for tag, given in outline.tags:
        for name in ("aria-labelledby", "aria-controls", "data-for"):
            assert given.get(name, outline.ids[0]) in outline.ids, (tag, given)


def test_pictures_have_words_and_tables_have_captions_and_scopes(outline, text):
    pictures = [given for tag, given in outline.tags if tag == "img"]
    assert len(pictures) > 4 and all(len(given["alt"]) > 20 for given in pictures)
    assert text.count("<table") == text.count("<caption") > 5
    assert all(given.get("scope") in ("col", "row") for tag, given in outline.tags if tag == "th")
    assert dict(outline.tags[0][1])["lang"] == "en"


def test_predictions_hold_every_condition_of_every_predictor(text, board):
    from scperturb_modules.tl._summary import losses

    primary = board.frame[board.frame["metric"] == "l2_top1000"]
    table = section(text, "conditions")
    assert table.count("<tr ") == len(losses(primary))
    assert "no prediction" in table  # of the predictor that failed
    assert {"beats", "ties", "loses", "baseline"} >= set(re.findall(r'data-word="(.*?)"', table))
    assert re.search(r"[↑↓]G\d\d", table)


def test_pairs_with_both_singles_measured_have_their_interactions(text):
    pairs = section(text, "pairs")
    assert 'id="interactions"' in pairs and "<img" in pairs
    assert pairs.count('<tr data-label_measured="') == 4


def test_what_was_left_out_and_what_comes_next_is_told(text):
    left_out = section(text, "left-out")
    assert "no prior given" in left_out and "failed" in left_out and ">error</th>" in left_out
    assert "A+B" in section(text, "after")


def test_the_run_can_be_made_again(text, board):
    again = section(text, "again")
    assert "n_boot=100" in again and "spm benchmark SCREEN.h5ad" in again and "--n-boot 100" in again
    assert "fingerprint of the data" in again and "combination_fold1" in again
    assert "# in Python only: Doubtful" in again


def test_the_python_call_can_be_read(board):
    import ast

    from scperturb_modules.report._reproduce import python_call

    call = ast.parse(python_call(board.settings)).body[2].value
    given = {one.arg: one.value for one in call.keywords}
    assert ast.literal_eval(given["scheme"]) == ["combination", "unseen_single"]
    assert ast.literal_eval(given["batch_key"]) is None


def test_the_same_folder_gives_the_same_bytes(folder, page_path, tmp_path):
    write_report(folder, tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page_path.read_bytes()
    assert page_path.stat().st_size < 3_000_000


def test_a_page_that_fails_leaves_the_old_one(board, tmp_path, monkeypatch):
    from scperturb_modules.report import _report

    path = tmp_path / "report.html"
    path.write_text("old")
    monkeypatch.setattr(_report, "_contents", lambda source, title: {})
    monkeypatch.setattr(_report, "_page", lambda contents: "\ud800")  # cannot be written
    with pytest.raises(UnicodeEncodeError):
        write_report(board, path)
    assert path.read_text() == "old" and [one.name for one in tmp_path.iterdir()] == ["report.html"]


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no results"):
        write_report(tmp_path, tmp_path / "report.html")


def test_a_long_table_keeps_its_ends_and_says_so(board, monkeypatch):
    from scperturb_modules.report import _predictions
    from scperturb_modules.report._answers import answers_of
    from scperturb_modules.report._source import source_of

    source = source_of(board, None)
    every = source.conditions
    monkeypatch.setattr(_predictions, "MOST_ROWS", 40)
    answers = answers_of(source)
    table, left_out = _predictions.predictions(source, answers)
    assert len(table.lines) == 40
    assert left_out.startswith(f"40 of {len(every)}") and f"{len(every) - 40} between" in left_out
    chosen = {(answer.split, answer.regime, answer.use) for answer in answers}
    n_chosen = sum(tuple(key) in chosen for key in every[["split_kind", "regime", "model"]].to_numpy())
    assert sum(line.data["which"] == "recommended" for line in table.lines) == n_chosen > 0
    errors = {line.cells[2].text for line in table.lines}
    ends = every.loc[[every["gain"].idxmin(), every["gain"].idxmax()], "error"]
    assert {digits(value) for value in ends} <= errors
