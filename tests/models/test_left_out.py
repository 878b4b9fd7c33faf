"""Left-out rows: who judges which, and the means over judges, against a loop over rows and members."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scperturb_modules.baselines import TrainingData
from scperturb_modules.models import AnchoredSettings
from scperturb_modules.models._anchored_module import AnchoredModule, Answer
from scperturb_modules.models._folds import deal_members
from scperturb_modules.models._left_out import left_out_rows, products_over_genes

N_GENES = 5
SINGLES = [f"G{i:02d}" for i in range(8)]
PAIRS = [f"G{i:02d}+G{j:02d}" for i in range(8) for j in range(i + 1, 8) if (i + j) % 2]
LONE = ["G00+H01", "G01+H01+H02"]  # H01 and H02 have no single
VALIDATION = ("G03", "G00+G01")


class Stub(AnchoredModule):
    """Answers that depend on all that a row shows, with a gate and, if asked for, a variance."""

    def __init__(self, n_members, *, variance):
        super().__init__(n_members, 1.0, AnchoredSettings())
        self.variance = variance
        rng = np.random.default_rng(0)
        self.level = torch.nn.Parameter(torch.tensor(rng.normal(size=(n_members, 1, N_GENES))))

    def respond(self, rows):
        seen = rows.total(rows.present[None]).expand(self.n_members, -1, -1)
        told = (rows.node * rows.present + 3 * rows.measured).sum(dim=-1)[..., None]
        residual = self.level + 0.1 * seen + 0.01 * told
        gate = torch.sigmoid(self.level[..., 0] + rows.measured.sum(dim=-1))
        return Answer(residual, gate, log_variance=self.level * residual if self.variance else None)


@pytest.fixture
def case(make_training):
    """Training data of singles and pairs, arrays of random parts, and members with folds of both kinds."""
    rng = np.random.default_rng(1)
    names = [*SINGLES, *PAIRS, *LONE]
    data = TrainingData.from_pseudobulk(make_training({name: rng.normal() for name in names}, n_genes=N_GENES))
    conditions = [condition for condition, _ in data.rows]
    is_validation = np.array([name in VALIDATION for name in conditions])
    members = deal_members(conditions, data.genes, is_validation, n_members=2, n_folds=3, seed=0)
    n, k = len(conditions), 3
    present = np.array([np.arange(k) < len(genes) for genes in data.genes], dtype=float)
    measured = present * np.array([[gene in SINGLES for gene in (*genes, "", "")[:k]] for genes in data.genes])
    arrays = {
        "node": rng.integers(0, 9, (n, k)),
        "present": present,
        "measured": measured * (present.sum(axis=1, keepdims=True) > 1),
        "measured_part": rng.normal(size=(n, k, N_GENES)) * present[..., None],
        "expected_part": rng.normal(size=(n, k, N_GENES)) * present[..., None],
        "offset": rng.normal(size=(n, N_GENES)),
        "context": np.zeros(n, dtype=np.int64),
        "target": rng.normal(size=(n, N_GENES)),
    }
    return data, arrays, members


def slow_rows(module, arrays, data, members):
    """Every way to leave out a row, by loops: (row, hidden genes) to difference, residual and variance."""
    found = {}
    for row, genes in enumerate(data.genes):
        everybody = members.held_out[row].all()
        for hidden in {*members.hidden_genes}:
            judges = [
                m
                for m, own in enumerate(members.hidden_genes)
                if own == hidden and members.held_out[row, m] and (not hidden or not everybody)
            ]
            if not judges or (not hidden and len(genes) == 1 and not everybody):
                continue
            masked = torch.tensor([[k < len(genes) and genes[k] in hidden for k in range(3)]])
            batch = {name: torch.as_tensor(values[row : row + 1]) for name, values in arrays.items()}
            seen, anchor = module.read(batch, masked=masked)
            answer = module.respond(seen)
            residual = [(answer.gate[m, 0] * answer.residual[m, 0]).detach().numpy() for m in judges]
            variance = None
            if answer.log_variance is not None:
                variance = np.mean([np.exp(answer.log_variance[m, 0].detach().numpy()) for m in judges], axis=0)
            n_seen = sum(gene in SINGLES and gene not in hidden for gene in genes)
            regime = {
                1: "single_unseen",
                2: f"pair_{n_seen}of2",
            }.get(len(genes), "higher_order")
            found[row, regime, hidden] = (
                arrays["target"][row] - anchor[0, 0].numpy(),
                np.mean(residual, axis=0),
                variance,
            )
    return found


@pytest.mark.parametrize("variance", [True, False])
@pytest.mark.parametrize("chunk", [1, 4, 32])
def test_left_out_rows_are_the_loop(case, chunk, variance, monkeypatch):
    data, arrays, members = case
    monkeypatch.setattr(Stub, "rows_at_once", chunk)
    module = Stub(members.held_out.shape[1], variance=variance).eval()
    judged = list(left_out_rows(module, arrays, data, members))
    wanted = slow_rows(module, arrays, data, members)
    assert len(judged) == len(wanted)
    assert {one.regime for one in judged} >= {"single_unseen", "pair_2of2", "pair_1of2", "pair_0of2", "higher_order"}
    left = dict(wanted)
    for one in judged:
        key = next(
            key
            for key, (_, residual, _) in left.items()
            if key[:2] == (one.row, one.regime) and np.allclose(residual, one.residual, rtol=0, atol=1e-12)
        )
        difference, _, of_error = left.pop(key)
        np.testing.assert_allclose(one.difference, difference, rtol=0, atol=1e-12)
        if variance:
            np.testing.assert_allclose(one.variance, of_error, rtol=1e-12)
        else:
            assert one.variance is None
    assert not left


def test_the_inner_products_are_those_of_the_rows(case):
    data, arrays, members = case
    module = Stub(members.held_out.shape[1], variance=True).eval()
    found = products_over_genes(left_out_rows(module, arrays, data, members))
    judged = list(left_out_rows(module, arrays, data, members))
    assert found.row.tolist() == [one.row for one in judged] and list(found.regime) == [one.regime for one in judged]
    for i, one in enumerate(judged):
        assert found.product[i] == pytest.approx(np.sum(one.difference * one.residual), rel=1e-12)
        assert found.square[i] == pytest.approx(np.sum(one.residual**2), rel=1e-12)
        assert found.anchor_square[i] == pytest.approx(np.sum(one.difference**2), rel=1e-12)


def test_without_folds_nothing_is_left_out(case):
    data, arrays, _ = case
    names = [condition for condition, _ in data.rows]
    members = deal_members(names, data.genes, np.zeros(len(names), bool), n_members=2, n_folds=0, seed=0)
    module = Stub(2, variance=False).eval()
    assert list(left_out_rows(module, arrays, data, members)) == []
    assert len(products_over_genes(left_out_rows(module, arrays, data, members)).row) == 0
