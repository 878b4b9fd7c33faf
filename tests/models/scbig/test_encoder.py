from __future__ import annotations

import numpy as np
import pytest
import torch

from scperturb_modules.models.scbig._encoder import PretrainModule, ProgramAutoencoder
from scperturb_modules.models.scbig._tokens import ProgramSlots

PROGRAM = torch.tensor([2, 0, 1, 0, 2, 0, 0, 1, 2, 0])


def principal_components(cells, mean, sd, n):
    scaled = ((cells - mean) / sd.clamp(min=0.1)).double()
    variance, vectors = torch.linalg.eigh(scaled.T @ scaled / len(scaled))
    return (vectors[:, -n:] / variance[-n:].sqrt()).to(cells.dtype)


def network_of(cells, program, n_latent=3, **kwargs):
    mean, sd = cells.mean(dim=0), cells.std(dim=0)
    kwargs = {"width": 8, "n_layers": 1, "heads": 2, "n_inducing": 4} | kwargs
    return ProgramAutoencoder(program, mean, sd, principal_components(cells, mean, sd, n_latent), **kwargs)


def disturbed(network):
    """No part at 0, as after training."""
    with torch.no_grad():
        for one in network.parameters():
            one.add_(0.3 * torch.randn_like(one))
    return network


def curved_cells(n_cells, n_genes=60, n_programs=6, seed=0):
    """Genes that follow the activity of their program, by curves of which PCA sees the straight part only."""
    rng = np.random.default_rng(seed)
    curve = torch.arange(n_genes) * 5 % (2 * n_programs)
    activity = rng.normal(size=(n_cells, n_programs))
    shape = np.concatenate([activity, np.abs(activity)], axis=1)[:, curve]
    cells = shape + rng.normal(0, 0.3, shape.shape)
    return torch.tensor(cells, dtype=torch.float32), curve % n_programs


def share_explained(network, cells):
    network.eval()
    with torch.no_grad():
        error = network.decode(network.encode(cells)) - cells
    return 1 - float(error.square().sum() / (cells - cells.mean(dim=0)).square().sum())


@pytest.fixture
def cells():
    return torch.rand(12, len(PROGRAM)) * 3


@pytest.mark.usefixtures("float64", "seeded")
class TestProgramSlots:
    def test_tokens_and_readout_are_the_loops_over_programs(self, cells):
        slots, weight = ProgramSlots(PROGRAM), torch.randn(len(PROGRAM), 5)
        tokens = slots.tokens(cells, weight)
        read = slots.readout(tokens, weight)
        assert tokens.shape == (3, 12, 5)
        for k in range(3):
            own = PROGRAM.eq(k)
            torch.testing.assert_close(tokens[k], cells[:, own] @ weight[own])
            torch.testing.assert_close(read[:, own], tokens[k] @ weight[own].T)

    def test_tokens_are_the_sums_over_genes_by_program(self, cells):
        weight = torch.randn(len(PROGRAM), 5)
        of_genes = cells.T[:, :, None] * weight[:, None]
        expected = torch.zeros(3, 12, 5).index_add(0, PROGRAM, of_genes)
        torch.testing.assert_close(ProgramSlots(PROGRAM).tokens(cells, weight), expected)

    def test_a_program_without_a_gene_is_an_error(self):
        with pytest.raises(ValueError, match="at least one gene"):
            ProgramSlots(torch.tensor([0, 2, 2]))


@pytest.mark.usefixtures("float64", "seeded")
class TestProgramAutoencoder:
    def test_genes_in_another_order_with_their_programs_and_weights_say_the_same(self, cells):
        network, order = disturbed(network_of(cells, PROGRAM)), torch.randperm(len(PROGRAM))
        other = network_of(cells[:, order], PROGRAM[order])
        state = network.state_dict()
        for name, of_gene in state.items():
            if name == "to_genes":
                state[name] = of_gene[:, order]
            elif len(of_gene.shape) and len(of_gene) == len(PROGRAM):
                state[name] = of_gene[order]
        other.load_state_dict(state)
        z = network.encode(cells)
        torch.testing.assert_close(other.encode(cells[:, order]), z)
        torch.testing.assert_close(other.decode(z), network.decode(z)[:, order])
        torch.testing.assert_close(other.loss(cells[:, order])[0], network.loss(cells)[0])

    @pytest.mark.parametrize("tokens", [True, False])
    def test_cells_in_another_order_have_the_same_latents_and_loss(self, cells, tokens):
        network, order = disturbed(network_of(cells, PROGRAM, tokens=tokens)), torch.randperm(len(cells))
        torch.testing.assert_close(network.encode(cells[order]), network.encode(cells)[order])
        torch.testing.assert_close(network.loss(cells[order])[0], network.loss(cells)[0])

    @pytest.mark.parametrize("tokens", [True, False])
    def test_cells_have_any_leading_axes(self, cells, tokens):
        network = disturbed(network_of(cells, PROGRAM, tokens=tokens))
        z = network.encode(cells)
        torch.testing.assert_close(network.encode(cells.reshape(3, 4, -1)), z.reshape(3, 4, -1))
        torch.testing.assert_close(network.decode(z.reshape(3, 4, -1)), network.decode(z).reshape(3, 4, -1))
        assert network.encode(cells[0]).shape == (3,)

    @pytest.mark.parametrize("tokens", [True, False])
    def test_before_training_it_is_the_projection_on_principal_components(self, cells, tokens):
        network = network_of(cells, PROGRAM, tokens=tokens)
        scaled = (cells - network.mean) / network.sd
        _, _, vectors = torch.linalg.svd(scaled, full_matrices=False)
        expected = scaled @ vectors[:3].T @ vectors[:3] * network.sd + network.mean
        torch.testing.assert_close(network.decode(network.encode(cells)), expected)

    def test_the_loss_is_the_loop_over_genes_and_programs(self, cells):
        network = disturbed(network_of(cells, PROGRAM))
        loss, terms = network.loss(cells)
        error = (network.decode(network.encode(cells)) - cells) / network.sd
        genes_of = [PROGRAM.eq(k) for k in range(3)]
        of_programs = [error[:, own].mean(dim=1).square() * own.sum() for own in genes_of]
        assert terms["reconstruction"].item() == pytest.approx(error.square().mean().item())
        assert terms["programs"].item() == pytest.approx(torch.stack(of_programs).mean().item())
        assert loss.item() == pytest.approx(terms["reconstruction"].item() + 0.03 * terms["programs"].item())

    def test_standardised_latents_have_mean_0_and_variance_1_and_decode_to_the_same(self, cells):
        network = disturbed(network_of(cells, PROGRAM))
        before = network.decode(network.encode(cells))
        for _ in range(2):
            network.standardise(network.encode(cells))
            z = network.encode(cells)
            torch.testing.assert_close(z.mean(dim=0), torch.zeros(3))
            torch.testing.assert_close(z.std(dim=0, correction=0), torch.ones(3))
            torch.testing.assert_close(network.decode(z), before)

    def test_a_latent_dimension_that_does_not_vary_is_not_blown_up(self, cells):
        network = ProgramAutoencoder(PROGRAM, cells.mean(dim=0), cells.std(dim=0), torch.zeros(10, 2))
        network.standardise(network.encode(cells))
        assert network.latent_sd.tolist() == [1e-3, 1e-3]
        assert network.decode(network.encode(cells)).isfinite().all()

    @pytest.mark.parametrize("tokens", [True, False])
    def test_gradients_are_finite_and_reach_every_parameter(self, cells, tokens):
        cells[:, 4] = 1.5
        network = disturbed(network_of(cells, PROGRAM, tokens=tokens))
        cells[1] = cells[0]
        cells.requires_grad_()
        network.loss(cells)[0].backward()
        assert cells.grad.isfinite().all()
        for name, one in network.named_parameters():
            assert one.grad.isfinite().all() and one.grad.abs().sum() > 0, name

    def test_a_saved_network_gives_the_same(self, cells):
        network = disturbed(network_of(cells, PROGRAM))
        network.standardise(network.encode(cells))
        nothing = torch.zeros(10)
        other = ProgramAutoencoder(
            PROGRAM, nothing, nothing, torch.zeros(10, 3), width=8, n_layers=1, heads=2, n_inducing=4
        )
        other.load_state_dict(network.state_dict())
        torch.testing.assert_close(other.decode(other.encode(cells)), network.decode(network.encode(cells)))


@pytest.mark.usefixtures("seeded")
def test_what_pca_does_not_see_is_learned_and_nothing_is_lost_on_unseen_cells():
    cells, program = curved_cells(3000)
    unseen = cells[2000:]
    network = network_of(cells[:2000], program, n_latent=6, width=16)
    module, of_pca = PretrainModule(network), share_explained(network, unseen)
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2)
    losses = []
    for _ in range(100):
        batch = cells[torch.randint(2000, (8, 16))]
        output = module({"X": batch[:4], "control_X": batch[4:]})[2]
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        losses.append(output.loss.item())
    assert np.mean(losses[-20:]) < 0.9 * np.mean(losses[:20])
    assert share_explained(network, unseen) > of_pca + 0.05


@pytest.mark.usefixtures("seeded")
def test_pretraining_takes_cells_and_controls_alike(cells):
    network = network_of(cells, PROGRAM)
    output = PretrainModule(network)({"X": cells[:4].reshape(2, 2, -1), "control_X": cells[4:].reshape(4, 2, -1)})[2]
    loss, terms = network.loss(cells)
    torch.testing.assert_close(output.loss, loss)
    torch.testing.assert_close(output.extra_metrics, terms)
    assert output.n_obs_minibatch == 12
