import pandas as pd
from rich.console import Console

from scperturb_modules.cli._results import _table

NAN = float("nan")
COLUMNS = ["model", "mean", "ci_low", "ci_high", "gain", "gain_low", "gain_high", "gain_vs", "n"]


def lines_of(rows):
    """The table as a terminal of 80 columns shows it."""
    console = Console(width=80)
    with console.capture() as captured:
        console.print(_table(pd.DataFrame(rows, columns=COLUMNS), "title"))
    return [line.split("  ") for line in captured.get().splitlines()]


def cells(line):
    return [cell.strip() for cell in line if cell.strip()]


def test_long_names_and_numbers_fit_in_one_line_each_best_first():
    rows = [
        ("EmbeddingLinear", 12.345, 11.5, 13.25, -1.0812, -1.2751, -0.646, "AdditiveShrunk", 60),
        ("AdditiveShrunk", 4.684, 4.341, 5.17, 0.021, 0.008, 0.0372, "AdditiveFitted", 60),
    ]
    title, header, _, *shown = lines_of(rows)
    assert cells(header) == ["Predictor", "L2 (95 % CI)", "Gain % (95 % CI)", "over"]
    assert [cells(line) for line in shown] == [
        ["AdditiveShrunk", "4.68 (4.34, 5.17)", "2.1 (0.8, 3.7)", "AdditiveFitted"],
        ["EmbeddingLinear", "12.35 (11.50, 13.25)", "-108.1 (-127.5, -64.6)", "AdditiveShrunk"],
    ]


def test_without_interval_or_comparison_nothing_is_invented():
    rows = [
        ("NoChange", 3.0, NAN, NAN, NAN, NAN, NAN, "", 4),
        ("MeanShift", 4.0, NAN, NAN, -0.0001, NAN, NAN, "NoChange", 4),
    ]
    _, _, _, *shown = lines_of(rows)
    assert [cells(line) for line in shown] == [["NoChange", "3.00"], ["MeanShift", "4.00", "0.0", "NoChange"]]
