"""Two processes on the CPU train as one: equal weights, disjoint groups, one set of files, and both stop together."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("two_ranks.py")
CASES = ("toy", "app")
TIME_LIMIT = 180  # seconds; a deadlock is a failed test, not a hung machine


def run_two_ranks(case: str, folder: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), case, str(folder)],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=TIME_LIMIT)
    finally:
        if process.poll() is None:
            # Lightning's second process would outlive the first one
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    assert process.returncode == 0, output


@pytest.fixture(scope="module", params=CASES)
def ranks(request, tmp_path_factory):
    """What both ranks report, and the folder."""
    folder = tmp_path_factory.mktemp(request.param)
    run_two_ranks(request.param, folder)
    return *(json.loads((folder / f"rank{i}.json").read_text()) for i in (0, 1)), folder


def test_weights_and_history_are_equal_on_both_ranks(ranks):
    first, second, _ = ranks
    assert first["backend"] == second["backend"] == "gloo"
    assert first["weights"] == second["weights"]
    assert first["history"] == second["history"]


def test_the_validation_loss_is_the_mean_over_the_groups_of_both_ranks(ranks):
    first, _, folder = ranks
    if "toy" not in folder.name:
        pytest.skip("computed by hand for the toy only")
    x = np.random.default_rng(7).normal(size=(7, 5)).astype(np.float32)
    weight = np.array(first["weights"]["map.weight"]).reshape(5, 5)
    predicted = x @ weight.T + np.array(first["weights"]["map.bias"])
    best = first["history"]["validation_loss"][first["best_epoch"]]
    assert best == pytest.approx(np.square(predicted + x).mean(), rel=1e-5)


def test_groups_are_disjoint_and_steps_equal_within_each_epoch(ranks):
    first, second, _ = ranks
    assert first["groups"].keys() == second["groups"].keys()
    for epoch, steps in first["groups"].items():
        others = second["groups"][epoch]
        assert len(steps) == len(others) > 1
        groups = [group for step in (*steps, *others) for group in step]
        assert len(groups) == len(set(groups))


def test_both_ranks_stop_at_the_same_epoch_before_the_last(ranks):
    first, second, _ = ranks
    assert first["stopped_early"] and second["stopped_early"]
    assert first["n_epochs"] == second["n_epochs"] and first["best_epoch"] == second["best_epoch"]
    assert first["n_epochs"][0] == first["best_epoch"] + 4 < 30


def test_a_resume_inside_an_epoch_is_bit_equal(ranks):
    for report in ranks[:2]:
        assert report["resumed"] == report["weights"]
        assert report["resumed_history"] == report["history"]


def test_there_is_exactly_one_set_of_files(ranks):
    folder = ranks[2]
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert files == ["model/model.json", "model/weights.safetensors", "rank0.json", "rank1.json", "resume.ckpt"]


def test_two_ranks_learn_what_one_process_learns_from_the_same_steps(ranks):
    """Half of each step on each rank. A rank takes the mean over its own rows, so that losses differ a little."""
    first, _, folder = ranks
    if not folder.name.startswith("app"):
        pytest.skip("the toy draws dropout")
    spec = importlib.util.spec_from_file_location("scperturb_two_ranks", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    model = script.app_model()
    model.train(30, patience=3, lr=0.01, batch_size=8, accelerator="cpu")
    ours, theirs = first["history"]["train_loss"], model.history["train_loss"]["train_loss"].tolist()
    n = min(len(ours), len(theirs))
    assert n >= 4 and ours[n - 1] < 0.9 * ours[0], "it learns"
    np.testing.assert_allclose(ours[:n], theirs[:n], rtol=0.2)
    assert np.mean(ours[:n]) == pytest.approx(np.mean(theirs[:n]), rel=0.05)
