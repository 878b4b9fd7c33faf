"""The data stream: states of cells, changes that depend on them, and what it learns from."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scperturb_modules.models.biodsnn._settings import settings_of
from scperturb_modules.models.biodsnn._stream import DataStream, StreamModule, StreamShape, frozen

N_GENES, N_LATENT = 7, 3


def stream_of(*, n_members=2, **settings):
    """Random weights and a centre; in evaluation mode."""
    rng = np.random.default_rng(0)
    chosen = settings_of("tool", {"d": 4, "vae_hidden": (5,), "n_latent": N_LATENT, "modulation_rank": 2, **settings})
    numbers = (rng.uniform(0.5, 2, N_GENES), rng.uniform(0.5, 1, N_GENES), rng.normal(size=(N_GENES, N_LATENT)))
    stream = DataStream(n_members, StreamShape(*(torch.tensor(one).float() for one in numbers)), chosen).double()
    with torch.no_grad():
        for parameter in stream.parameters():
            parameter.normal_(std=0.7)
        stream.centre.normal_()
    return stream.eval()


def cells_of(*shape, seed=1):
    return torch.tensor(np.random.default_rng(seed).normal(1, 1, (*shape, N_GENES)).clip(0))


def encoded_of(n_conditions, *, n_members=2, seed=2):
    rng = np.random.default_rng(seed)
    z, z_0 = (torch.tensor(rng.normal(size=(n_members, k, N_GENES, 4))) for k in (n_conditions, 1))
    return z, z_0


@pytest.mark.parametrize("use_vae", [True, False])
def test_the_change_of_a_cell_is_the_loop(use_vae, float64):
    stream = stream_of(use_vae=use_vae)
    (z, z_0), cells = encoded_of(3), cells_of(3, 5)
    found = stream.deviation(stream.sensitivity(z, z_0), stream.state(cells), stream.centre).detach().numpy()
    assert found.shape == (3, 5, N_GENES)
    of_genes, of_state = stream.of_genes.weight.detach().numpy(), stream.of_state.weight.detach().numpy()
    state = stream.state(cells).detach().numpy()
    if not use_vae:
        centred = cells.numpy() - stream.mean.numpy()
        np.testing.assert_allclose(state, centred @ stream.components.numpy(), atol=1e-12)
    for k in range(3):
        for c in range(5):
            s = of_state @ (state[k, c] - stream.centre.numpy())
            for g in range(N_GENES):
                t = np.mean(
                    [
                        np.tanh(z[m, k, g].numpy() @ of_genes[m]) - np.tanh(z_0[m, 0, g].numpy() @ of_genes[m])
                        for m in range(2)
                    ],
                    axis=0,
                )
                assert found[k, c, g] == pytest.approx(float(t @ s) / 2**0.5, abs=1e-12)


@pytest.mark.parametrize("use_vae", [True, False])
def test_over_all_controls_the_mean_change_is_that_of_the_condition(use_vae, float64):
    stream = stream_of(use_vae=use_vae)
    controls = cells_of(200)
    with torch.no_grad():
        stream.centre.copy_(stream.state(controls).mean(dim=0))
        sensitivity = stream.sensitivity(*encoded_of(4))
        states = stream.state(controls).expand(4, -1, -1)
        of_cells = stream.deviation(sensitivity, states, stream.centre)
    assert of_cells.abs().max() > 0.1
    assert of_cells.mean(dim=1).abs().max() < 1e-10


def test_the_unperturbed_cell_does_not_change_whatever_its_state(float64):
    stream = stream_of()
    _, z_0 = encoded_of(1)
    sensitivity = stream.sensitivity(z_0, z_0)
    assert torch.all(stream.deviation(sensitivity, stream.state(cells_of(1, 9)), stream.centre) == 0)


def test_regenerated_cells_keep_their_zeros_and_need_no_draw_in_evaluation():
    stream, cells = stream_of(), cells_of(6)
    regenerated = stream.regenerated(cells)
    assert (cells == 0).any() and torch.all((regenerated == 0) == (cells == 0))
    assert torch.equal(stream.regenerated(cells), regenerated)
    torch.testing.assert_close(regenerated[cells > 0], stream.vae.decode(stream.state(cells))[cells > 0])
    stream.train()
    assert not torch.equal(stream.regenerated(cells), stream.regenerated(cells))
    without = stream_of(use_vae=False)
    assert torch.equal(without.regenerated(cells), cells) and without.vae is None


def distance(x, y):
    return np.mean([np.linalg.norm(a - b) for a in x for b in y])


@pytest.mark.parametrize("use_vae", [True, False])
def test_terms_of_cells_are_the_loops(use_vae, float64):
    stream = stream_of(use_vae=use_vae)
    z, z_0 = encoded_of(3)
    batch = {"control_X": cells_of(3, 6), "X": cells_of(3, 4, seed=5), "target": cells_of(3, seed=6) - 1}
    sensitivity = stream.sensitivity(z, z_0)
    terms = stream.of_cells(sensitivity, batch)
    controls = batch["control_X"]
    states = stream.state(controls).detach()
    centre = states.reshape(-1, N_LATENT).mean(dim=0)
    predicted = controls + batch["target"][:, None] + stream.deviation(sensitivity, states, centre)
    spread, energy = [], []
    for k in range(3):
        found, true = predicted[k].detach().numpy(), batch["X"][k].numpy()
        logs = [np.log(one.var(axis=0, ddof=1) + 0.01) for one in (found, true)]
        spread.append(np.mean((logs[0] - logs[1]) ** 2))
        x, y = (stream.state(torch.tensor(one)).detach().numpy() for one in (found, true))
        energy.append(2 * distance(x, y) - distance(x, x) - distance(y, y))
    assert terms["spread"].item() == pytest.approx(np.mean(spread), rel=1e-9)
    assert terms["energy"].item() == pytest.approx(np.mean(energy), rel=1e-9)


def test_the_cell_part_trains_the_modulation_and_not_the_autoencoder(float64):
    stream = stream_of()
    z, z_0 = encoded_of(3)
    batch = {"control_X": cells_of(3, 6), "X": cells_of(3, 4, seed=5), "target": cells_of(3, seed=6) - 1}
    terms = stream.of_cells(stream.sensitivity(z, z_0), batch)
    (terms["spread"] + terms["energy"]).backward()
    assert stream.of_state.weight.grad.abs().max() > 0 and stream.of_genes.weight.grad.abs().max() > 0
    assert all(one.grad is None for one in stream.vae.parameters())
    assert all(one.requires_grad for one in stream.vae.parameters())


def test_parameters_that_were_fixed_before_stay_fixed():
    vae = stream_of().vae
    fixed = next(vae.parameters()).requires_grad_(False)
    with frozen(vae):
        assert not any(one.requires_grad for one in vae.parameters())
    assert not fixed.requires_grad and sum(one.requires_grad for one in vae.parameters()) > 3
    with frozen(None):
        pass


def test_the_weight_of_the_kl_term_rises_over_the_first_steps(float64):
    stream = stream_of(w_kl=2.0, w_reconstruction=0.5)
    stream.n_steps = 50
    cells = cells_of(4)
    for step in range(14):
        loss, terms = stream.of_controls(cells)
        share = min(step / 10, 1.0)
        wanted = 0.5 * terms["reconstruction"] + 2.0 * share * terms["kl"]
        assert loss.item() == pytest.approx(wanted.item(), rel=1e-12)
    assert int(stream.n_seen) == 14
    active = (stream.state(cells).var(dim=0) > 0.01).sum()
    assert terms["active_dimensions"].item() == int(active)


@pytest.mark.parametrize(
    ("settings", "terms"),
    [
        ({}, {"reconstruction", "kl", "active_dimensions", "spread", "energy"}),
        ({"modulation_rank": 0}, {"reconstruction", "kl", "active_dimensions"}),
        ({"use_vae": False}, {"spread", "energy"}),
    ],
)
def test_what_is_trained_is_what_there_is(settings, terms, float64):
    stream = stream_of(w_cell=0.25, **settings)
    stream.n_seen.fill_(100)
    batch = {"control_X": cells_of(3, 6), "X": cells_of(3, 4, seed=5), "target": cells_of(3, seed=6) - 1}
    module = StreamModule(stream, lambda _: encoded_of(3))
    before = {name: one.clone() for name, one in stream.named_parameters()}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    output = module(batch)[2]
    assert set(output.extra_metrics) == terms and output.n_obs_minibatch == 3
    parts = {name: one.item() for name, one in output.extra_metrics.items()}
    wanted = parts.get("reconstruction", 0) + stream.settings.w_kl * parts.get("kl", 0)
    wanted += 0.25 * (parts.get("spread", 0) + parts.get("energy", 0))
    assert output.loss.item() == pytest.approx(wanted, rel=1e-12)
    output.loss.backward()
    optimizer.step()
    moved = {name for name, one in stream.named_parameters() if not torch.equal(one, before[name])}
    kinds = {name.partition(".")[0] for name in moved}
    assert kinds == ({"vae"} if "kl" in terms else set()) | ({"of_state", "of_genes"} if "spread" in terms else set())
    if "kl" in terms:
        assert {name.split(".")[1] for name in moved if name.startswith("vae.")} == {"encoder", "decoder"}
