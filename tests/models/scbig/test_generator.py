"""The generator of cells by itself, on random weights: sets of genes, the flow and its start, guidance, solvers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from scperturb_modules.models.scbig._generator import LEAST_EXPRESSION, MOST_LOG_RATIO, N_SHIFTED, log_ratio
from scperturb_modules.nn import guided, integrate

OF_GENES = ("node", "present", "measured", "measured_part", "expected_part")


def rows_with(rows, **changed):
    return rows._replace(**changed)


@pytest.fixture
def drawn(make_generator):
    """Generator, rows, states of 5 cells for each of 4 conditions, vectors of the conditions."""
    generator, rows, _ = make_generator()
    with torch.no_grad():
        return generator, rows, torch.randn(4, 5, 4), generator.condition(rows)


def with_settings(generator, **settings):
    generator.settings = replace(generator.settings, **settings)
    return generator


# -- conditions ------------------------------------------------------------------------------------------------------


def test_no_gene_is_the_control_vector_in_every_place(make_generator):
    generator, rows, _ = make_generator(sizes={"n_contexts": 2})
    context = torch.tensor([0, 1, 0, 1])
    none = rows_with(rows, present=torch.zeros_like(rows.present), context=context)
    expected = generator.conditions.control + generator.context.weight[context]
    assert torch.equal(generator.condition(none), expected)
    other = generator.condition(rows_with(rows, context=context)) - expected
    assert other.abs().amax(dim=1).min() > 0.1


def test_orders_and_padding_of_genes(make_generator):
    generator, rows, _ = make_generator()
    expected = generator.condition(rows)
    at = {"present": -1, "node": -1, "measured": -1, "measured_part": 1, "expected_part": 1}
    turned = rows_with(rows, **{name: getattr(rows, name).flip(axis) for name, axis in at.items()})
    assert torch.equal(generator.condition(turned), expected)
    elsewhere = rows_with(rows, node=torch.where(rows.present > 0, rows.node, 7))
    assert torch.equal(generator.condition(elsewhere), expected)
    longer = rows_with(
        rows, **{name: torch.cat([own, 0 * own], dim=at[name]) for name in at for own in [getattr(rows, name)]}
    )
    torch.testing.assert_close(generator.condition(longer), expected, rtol=0, atol=1e-5)


def test_conditions_differ_by_genes_parts_and_measurement(make_generator):
    generator, rows, _ = make_generator()
    before = generator.condition(rows)
    for changed in (
        {"node": torch.where(rows.present > 0, (rows.node + 1) % 8, 0)},
        {"measured_part": rows.measured_part + 1, "expected_part": rows.expected_part - 1},
        {"measured": (1 - rows.measured) * rows.present},
    ):
        assert (generator.condition(rows_with(rows, **changed)) - before).abs().amax(dim=1).min() > 1e-3
    alike = rows_with(rows, measured_part=rows.expected_part)
    seen = rows_with(alike, measured=(1 - rows.measured) * rows.present)
    assert (generator.condition(alike) - generator.condition(seen)).abs().amax(dim=1).min() > 1e-3


# -- the flow --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"use_flow": False}, {"guidance": 3.0}, {"solver": "euler", "n_steps": 2}])
def test_before_training_nothing_flows(make_generator, settings):
    generator, rows, _ = make_generator(random=False, **settings)
    start = torch.randn(4, 5, 4)
    assert torch.equal(generator.transport(start, generator.condition(rows)), start)


def test_transport_is_the_integral_of_the_velocity(drawn):
    generator, _, start, condition = drawn
    for solver, n_steps in (("euler", 3), ("midpoint", 5), ("heun", 4), ("rk4", 8)):
        with_settings(generator, solver=solver, n_steps=n_steps)
        field = guided(generator.velocity, condition, None, 1.0)
        expected = integrate(field, start, n_steps=n_steps, solver=solver)
        assert torch.equal(generator.transport(start, condition), expected)
        assert not torch.equal(expected, start)


def test_solvers_agree_at_many_steps_and_not_at_few(drawn):
    generator, _, start, condition = drawn
    exact = with_settings(generator, solver="rk4", n_steps=64).transport(start, condition)
    error = {}
    for solver in ("euler", "midpoint", "heun", "rk4"):
        for n_steps in (2, 32):
            found = with_settings(generator, solver=solver, n_steps=n_steps).transport(start, condition)
            error[solver, n_steps] = (found - exact).abs().max().item()
    assert all(error[solver, 32] < error[solver, 2] / 4 for solver, _ in error)
    assert error["euler", 2] > error["midpoint", 2] > 1e-4 and error["rk4", 32] < 1e-4


def test_the_path_ends_where_transport_does(drawn):
    generator, _, start, condition = drawn
    for settings in ({}, {"use_flow": False}):
        with_settings(generator, **settings)
        path = generator.transport(start, condition, path=True)
        n_times = 2 if settings else generator.settings.n_steps + 1
        assert path.shape == (n_times, 4, 5, 4)
        assert torch.equal(path[0], start) and torch.equal(path[-1], generator.transport(start, condition))


def test_without_a_flow_the_velocity_is_the_displacement(make_generator):
    generator, rows, _ = make_generator(use_flow=False)
    start, condition = torch.randn(4, 5, 4), generator.condition(rows)
    found = generator.transport(start, condition)
    torch.testing.assert_close(found, start + generator.velocity(torch.zeros(4), start, condition))
    assert torch.equal(generator.transport(start, condition, differentiable=True), found)


def test_guidance_of_1_is_the_condition_as_it_is(drawn):
    generator, _, start, condition = drawn
    plain = generator.transport(start, condition)
    field = guided(generator.velocity, condition, None, 1.0)
    assert torch.equal(integrate(field, start, n_steps=8), plain)
    null = generator.conditions.null.expand_as(condition)
    usual = generator.transport(start, null)
    torch.testing.assert_close(with_settings(generator, guidance=0.0).transport(start, condition), usual)
    stronger = with_settings(generator, guidance=2.0).transport(start, condition)
    assert (stronger - plain).abs().max() > 1e-2

    def expected(t, x):
        of_null = generator.velocity(t, x, null)
        return of_null + 2.0 * (generator.velocity(t, x, condition) - of_null)

    torch.testing.assert_close(stronger, integrate(expected, start, n_steps=8))


def test_guidance_needs_training_without_conditions(drawn):
    """The settings refuse it before; here too nothing is made up."""
    generator, _, start, condition = drawn
    object.__setattr__(generator.settings, "p_unconditional", 0.0)
    plain = generator.transport(start, condition)
    assert generator.unknown(condition) is None and torch.isfinite(plain).all()
    object.__setattr__(generator.settings, "guidance", 2.0)
    with pytest.raises(ValueError, match="Guidance of 2.0 needs a model that was also trained without conditions"):
        generator.transport(start, condition)


def test_conditions_do_not_reach_each_other(drawn):
    generator, _, start, condition = drawn
    together = generator.transport(start, condition)
    for b in range(4):
        alone = generator.transport(start[b : b + 1], condition[b : b + 1])
        torch.testing.assert_close(alone[0], together[b], rtol=0, atol=1e-5)
        cell = generator.transport(start[b : b + 1, 2:3], condition[b : b + 1])
        torch.testing.assert_close(cell[0, 0], together[b, 2], rtol=0, atol=1e-5)


# -- where the flow starts -------------------------------------------------------------------------------------------


def test_the_shift_is_that_of_moved_controls(make_generator):
    generator, _, _ = make_generator(sizes={"n_contexts": 2, "n_reference": N_SHIFTED + 30})
    change, context = torch.randn(3, 9), torch.tensor([1, 0, 1])
    found = generator.shift(change, context)
    for b in range(3):
        controls = generator.reference[context[b], :N_SHIFTED]
        moved = generator.autoencoder.encode(controls + change[b]) - generator.autoencoder.encode(controls)
        torch.testing.assert_close(found[b], moved.mean(dim=0), rtol=1e-4, atol=1e-4)
    assert torch.all(generator.shift(torch.zeros(3, 9), context).abs() < 1e-5)


def test_the_deviation_is_of_decoded_states(make_generator):
    generator, _, _ = make_generator()
    start, end = torch.randn(2, 3, 5, 4)
    expected = generator.autoencoder.decode(end) - generator.autoencoder.decode(start)
    assert torch.equal(generator.deviation(start, end), expected)
    assert torch.all(generator.deviation(start, start) == 0)


def test_log_ratios_are_of_counts_and_bounded():
    before = torch.tensor([[1.0, 2.0, -0.3, 0.5, 3.0, 0.01]])
    after = torch.tensor([[1.0, 2.5, 0.0, -1.0, 0.1, 4.0]])
    found = log_ratio(before, after)
    # no expression counts as a little, so that nothing becomes of nothing
    assert found[0, 0] == 0 and found[0, 2] == 0
    assert float(found[0, 1]) == pytest.approx(float(torch.expm1(after[0, 1]).log() - torch.expm1(before[0, 1]).log()))
    assert found[0, 3:].tolist() == [-MOST_LOG_RATIO, -MOST_LOG_RATIO, MOST_LOG_RATIO]
    assert torch.equal(log_ratio(before, torch.full_like(before, LEAST_EXPRESSION)) <= 0, before >= -1)
