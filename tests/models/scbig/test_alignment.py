from __future__ import annotations

import numpy as np
import pytest
import torch

from scperturb_modules.models.scbig._alignment import correlation_loss, distribution_loss, program_covariances

pytestmark = pytest.mark.usefixtures("seeded")


def exchangeable(rho, k):
    """(k, k) correlation rho between all programs."""
    return torch.full((k, k), rho) + (1 - rho) * torch.eye(k)


def draws(covariance, n):
    """(C, n, K) cells of C conditions with these covariances (C, K, K)."""
    return torch.randn(len(covariance), n, covariance.shape[1]) @ torch.linalg.cholesky(covariance).mT


def sinkhorn_cost(x, y, n_steps=100):
    """Entropic transport cost at 5 % of the mean cost, between sets of cells (n, q)."""
    cost = torch.cdist(x, y).square()
    log_p = -cost / (0.05 * cost.mean())
    for _ in range(n_steps):
        log_p = log_p - log_p.logsumexp(dim=1, keepdim=True)
        log_p = log_p - log_p.logsumexp(dim=0, keepdim=True)
    return (log_p.exp() * cost).sum() / len(x)


class TestProgramCovariances:
    def test_they_are_the_loop_over_conditions(self):
        rng = np.random.default_rng(0)
        row = rng.integers(0, 4, 300)
        activities = rng.normal(size=(300, 3)) + 5 * row[:, None]
        own = [np.cov(activities[row == p].T) for p in range(4)]
        n = np.bincount(row)
        pooled = sum((n[p] - 1) * own[p] for p in range(4)) / (n - 1).sum()
        expected = [(n[p] * own[p] + 200 * pooled) / (n[p] + 200) for p in range(4)]
        np.testing.assert_allclose(program_covariances(activities, row, 4), expected)

    def test_conditions_with_one_cell_or_none_have_that_of_all(self):
        activities = np.random.default_rng(0).normal(size=(6, 2))
        covariances = program_covariances(activities, np.array([0, 0, 0, 0, 0, 2]), 3)
        expected = np.cov(activities[:5].T)
        np.testing.assert_allclose(covariances[1], expected)
        np.testing.assert_allclose(covariances[2], expected)
        np.testing.assert_allclose(covariances[0], expected)

    def test_a_level_far_from_0_does_not_matter(self):
        activities = np.random.default_rng(0).normal(size=(50, 2))
        row = np.arange(50) % 2
        np.testing.assert_allclose(
            program_covariances(activities + 1e6, row, 2), program_covariances(activities, row, 2), rtol=1e-8, atol=1e-8
        )


class TestCorrelationLoss:
    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("n", [64, 1024])
    def test_without_correlation_it_is_0_at_the_truth_but_for_2_percent_of_the_noise(self, n):
        target = torch.eye(16).expand(200, 16, 16)
        loss, terms = correlation_loss(draws(target, n), target)
        assert abs(loss) < 0.02 * terms["signal"]
        assert terms["signal"].item() == pytest.approx(1 / (n - 1), rel=0.05)
        with_one_cell_more_or_less = terms["signal"] - terms["floor"] * (n - 3) / (n - 1)
        assert n > 64 or abs(with_one_cell_more_or_less) > 0.02 * terms["signal"]

    @pytest.mark.usefixtures("float64")
    @pytest.mark.parametrize("n", [64, 1024])
    def test_with_correlation_it_is_0_at_the_truth_within_3_standard_errors(self, n):
        target = exchangeable(0.5, 6).expand(1, 6, 6)
        losses = torch.stack([correlation_loss(draws(target, n), target)[0] for _ in range(200)])
        assert abs(losses.mean()) < 3 * losses.std() / 200**0.5

    @pytest.mark.usefixtures("float64")
    def test_it_is_the_loop_over_conditions_and_pairs(self):
        activity, target = torch.randn(3, 12, 4), torch.stack([torch.cov(torch.randn(4, 9)) for _ in range(3)])
        errors, noise = [], []
        for c in range(3):
            r = np.corrcoef(activity[c].T.numpy())
            sd = target[c].diagonal().sqrt().numpy()
            wanted = target[c].numpy() / np.outer(sd, sd)
            for k, other in zip(*np.triu_indices(4, 1), strict=True):
                errors.append((r[k, other] - wanted[k, other]) ** 2)
                noise.append((1 - r[k, other] ** 2) ** 2 / (12 - 3))
        loss, terms = correlation_loss(activity, target)
        assert terms["signal"].item() == pytest.approx(np.mean(errors))
        assert terms["floor"].item() == pytest.approx(np.mean(noise))
        assert loss.item() == pytest.approx(np.mean(errors) - np.mean(noise))

    @pytest.mark.usefixtures("float64")
    def test_pooled_it_takes_all_cells_around_their_own_means(self):
        target = exchangeable(0.5, 6).expand(16, 6, 6)
        activity = draws(target, 8) + 10 * torch.randn(16, 1, 6)
        loss, terms = correlation_loss(activity, target, pooled=True)
        centred = activity - activity.mean(dim=1, keepdim=True)
        r = np.corrcoef(centred.flatten(end_dim=1).T.numpy())[np.triu_indices(6, 1)]
        assert terms["signal"].item() == pytest.approx(np.mean((r - 0.5) ** 2))
        assert terms["floor"].item() == pytest.approx(np.mean((1 - r**2) ** 2) / (16 * 7 - 2))
        assert loss.item() == pytest.approx((terms["signal"] - terms["floor"]).item())

    @pytest.mark.usefixtures("float64")
    def test_cells_in_another_order_and_programs_on_another_scale_are_the_same(self):
        target = exchangeable(0.3, 4).expand(2, 4, 4)
        activity, scale = draws(target, 20), torch.rand(4) + 0.5
        loss = correlation_loss(activity, target)[0]
        torch.testing.assert_close(correlation_loss(activity[:, torch.randperm(20)] * scale + 3, target)[0], loss)

    def test_programs_that_do_not_vary_are_left_out(self):
        target = exchangeable(0.3, 4).expand(2, 4, 4)
        activity = draws(target, 20)
        expected = correlation_loss(activity[..., :3], target[:, :3, :3])[0]
        activity[..., 3] = 2.0
        torch.testing.assert_close(correlation_loss(activity, target)[0], expected)
        still = target.clone()
        still[:, 3], still[:, :, 3] = 0.0, 0.0
        varying = torch.cat([activity[..., :3], torch.randn(2, 20, 1)], dim=-1)
        torch.testing.assert_close(correlation_loss(varying, still)[0], expected)

    @pytest.mark.parametrize("pooled", [True, False])
    @pytest.mark.parametrize("n", [1, 2, 3, 8])
    def test_gradients_are_finite_where_nothing_varies_or_all_is_right(self, n, pooled):
        target = exchangeable(0.3, 3).expand(2, 3, 3)
        same = torch.ones(2, n, 3, requires_grad=True)
        equal = torch.randn(2, n, 1).repeat(1, 1, 3).requires_grad_()
        for activity in (same, equal):
            loss, terms = correlation_loss(activity, target, pooled=pooled)
            loss.backward()
            assert activity.grad.isfinite().all()
            assert all(one.isfinite() for one in terms.values())
        assert loss == 0 or n * (2 if pooled else 1) > 3

    @pytest.mark.parametrize(("pooled", "finds"), [(False, True), (True, False)])
    def test_which_condition_has_which_correlation_is_learned_of_64_cells(self, pooled, finds):
        """Two programs go together in even conditions and against each other in odd ones."""
        rho = torch.tensor([0.6, -0.6]).repeat(8)
        target = torch.stack([exchangeable(one, 2) for one in rho])
        angle = torch.zeros(16, requires_grad=True)
        optimizer = torch.optim.Adam([angle], lr=0.03)
        for _ in range(150):
            first, second = torch.randn(2, 16, 64)
            learned = torch.tanh(angle)[:, None]
            mixed = learned * first + (1 - learned.square()).sqrt() * second
            optimizer.zero_grad()
            correlation_loss(torch.stack([first, mixed], dim=-1), target, pooled=pooled)[0].backward()
            optimizer.step()
        error = (torch.tanh(angle) - rho).abs().mean().item()
        assert (error < 0.1) is finds


class TestDistributionLoss:
    @pytest.mark.usefixtures("float64")
    def test_it_is_0_on_average_at_the_truth_and_its_unit_does_not_grow_with_programs(self):
        losses = torch.stack([distribution_loss(*torch.randn(2, 1, 32, 10))[0] for _ in range(200)])
        assert abs(losses.mean()) < 3 * losses.std() / 200**0.5
        shifted = [distribution_loss(torch.randn(8, 64, k) + 2, torch.randn(8, 64, k))[0].item() for k in (10, 160)]
        assert shifted[1] == pytest.approx(shifted[0], rel=0.1)

    def test_conditions_are_compared_one_by_one(self):
        level = 5 * torch.arange(2.0)[:, None, None]
        right, wrong = torch.randn(2, 64, 3) + level, torch.randn(2, 64, 3) + level.flip(0)
        true = torch.randn(2, 64, 3) + level
        assert distribution_loss(right, true)[0] < 0.1 < distribution_loss(wrong, true)[0]

    def test_cells_that_vary_too_little_are_always_worse_which_a_transport_cost_does_not_see(self):
        true, other = torch.randn(2, 8, 64, 50)
        scales = (1.0, 0.75, 0.5, 0.0)
        found = [distribution_loss(scale * other, true) for scale in scales]
        assert sorted(loss.item() for loss, _ in found) == [loss.item() for loss, _ in found]
        assert [terms["spread"].item() for _, terms in found] == pytest.approx([s**2 for s in scales], abs=0.03)
        costs = [sinkhorn_cost(scale * other[0], true[0]).item() for scale in scales]
        assert costs[0] > costs[2]

    def test_cells_in_another_order_are_the_same(self):
        x, y = torch.randn(2, 3, 20, 4)
        loss = distribution_loss(x, y)[0]
        torch.testing.assert_close(distribution_loss(x[:, torch.randperm(20)], y[:, torch.randperm(20)])[0], loss)

    @pytest.mark.parametrize("n", [1, 6])
    def test_gradients_are_finite_where_cells_coincide(self, n):
        cells = torch.randn(2, 1, 3).repeat(1, n, 1).requires_grad_()
        loss, terms = distribution_loss(cells, cells.detach())
        loss.backward()
        assert cells.grad.isfinite().all()
        assert terms["spread"].isfinite()
