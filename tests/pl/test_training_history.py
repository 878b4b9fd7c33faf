import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from scperturb_modules._errors import MissingKeyError, NotTrainedError
from scperturb_modules.pl import training_history


def as_history(start=0, **metrics):
    """scvi's form: per metric a table of one column, indexed by epoch."""
    return {
        name: pd.DataFrame({name: values}, index=pd.RangeIndex(start, start + len(values), name="epoch"))
        for name, values in metrics.items()
    }


@pytest.fixture
def history():
    return as_history(
        train_loss=[4.0, 2.0, 1.0, 0.9], validation_loss=[5.0, np.nan, 2.0, 3.0], gate=[0.0, 0.1, 0.2, 0.3]
    )


def lines(ax):
    return {line.get_label(): line.get_xydata().tolist() for line in ax.get_lines()}


def test_lines_equal_the_tables_in_the_given_axes(history, two_axes):
    wanted, current = two_axes
    assert training_history(history, ax=wanted) is wanted
    assert not current.get_lines()
    drawn = lines(wanted)
    assert drawn["training conditions"] == [[0, 4.0], [1, 2.0], [2, 1.0], [3, 0.9]]
    assert drawn["held-out conditions"] == [[0, 5.0], [2, 2.0], [3, 3.0]]  # not every epoch is validated
    assert not any("gate" in label for label in drawn)


def test_the_best_epoch_is_that_of_the_least_held_out_loss(history):
    ax = training_history(history)
    assert lines(ax)["best epoch: 2"] == [[2, 0], [2, 1]]
    later = as_history(10, train_loss=[3.0, 2.0, 1.0], validation_loss=[2.0, 1.0, 1.0])
    assert "best epoch: 11" in lines(training_history(later))


def test_without_validation_nothing_is_called_best(history):
    del history["validation_loss"]
    assert list(lines(training_history(history))) == ["training conditions"]
    history |= as_history(validation_loss=[np.nan] * 4)
    assert list(lines(training_history(history))) == ["training conditions"]


def test_the_axis_is_logarithmic_only_where_losses_spread(history):
    assert training_history(history).get_yscale() == "linear"
    assert training_history(as_history(train_loss=[20.0, 1.0])).get_yscale() == "log"
    assert training_history(as_history(train_loss=[20.0, -1.0])).get_yscale() == "linear"


def test_a_model_is_read_by_its_history(history):
    class Model:
        pass

    model = Model()
    model.history = history
    assert lines(training_history(model)) == lines(training_history(history))
    model.history = None
    with pytest.raises(NotTrainedError, match="Call model.train"):
        training_history(model)


TERMS = [
    f"{stage}_{term}_train" for stage in ("autoencoder", "flow") for term in ("loss", "mean", "correlation", "gate")
]


def test_any_metrics_are_lines_of_their_own(history, two_axes):
    wanted, _ = two_axes
    ax = training_history(history, ["gate", "validation_loss", "gate"], ax=wanted)
    assert lines(ax) == {
        "gate": [[0, 0.0], [1, 0.1], [2, 0.2], [3, 0.3]],
        "validation_loss": [[0, 5.0], [2, 2.0], [3, 3.0]],
    }
    assert ax.get_ylabel() == "Value" and ax.get_yscale() == "linear"
    assert list(lines(training_history(history, "gate"))) == ["gate"]
    assert training_history(as_history(kl=[50.0, 1.0]), "kl").get_yscale() == "log"


def test_many_metrics_are_told_apart(assert_readable):
    history = as_history(**{name: np.arange(3) + i for i, name in enumerate(TERMS)})
    ax = training_history(history, TERMS)
    assert len({(line.get_color(), line.get_linestyle()) for line in ax.get_lines()}) == len(TERMS)
    assert_readable(ax)


def test_metrics_that_cannot_be_drawn_are_named(history):
    with pytest.raises(MissingKeyError, match=r"history\['kl'\] does not exist; history has 'train_loss'"):
        training_history(history, ["gate", "kl"])
    with pytest.raises(ValueError, match="metrics is empty; name some of 'train_loss'"):
        training_history(history, [])
    with pytest.raises(ValueError, match=r"history\['kl'\] holds no finite value"):
        training_history(as_history(kl=[np.nan]), "kl")
    with pytest.raises(MissingKeyError, match=r"name metrics=\[...\] of these"):
        training_history(as_history(kl=[1.0]))
    assert not plt.get_fignums()


def test_what_is_missing_is_named():
    with pytest.raises(MissingKeyError, match="history\\['train_loss'\\] does not exist; history has 'elbo'"):
        training_history(as_history(elbo=[1.0]))
    with pytest.raises(ValueError, match="no finite value"):
        training_history(as_history(train_loss=[np.nan]))


@pytest.mark.parametrize("n", [1, 2, 300])
def test_no_text_is_cut_or_overlaps(assert_readable, n):
    losses = np.exp(-np.arange(n) / 50)
    assert_readable(training_history(as_history(train_loss=losses * 0.5, validation_loss=losses + 0.2)))
