from __future__ import annotations

import itertools

import pytest
import torch

from scperturb_modules.nn._set_encoder import SetEncoder

pytestmark = pytest.mark.usefixtures("float64")

DTYPES = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.fixture
def encoder():
    return SetEncoder(16, 4)


def everyone(*shape):
    return torch.ones(shape, dtype=torch.bool)


@DTYPES
def test_any_order_and_any_slot_of_padding_give_the_same_bits(encoder, dtype):
    encoder, tokens = encoder.to(dtype), torch.randn(20, 4, 16, dtype=dtype)
    tokens = tokens - tokens.mean(dim=-1, keepdim=True)  # as a layer norm leaves them
    present = torch.tensor([[True, True, True, False], [True, True, False, False]]).repeat(10, 1)
    expected = encoder(tokens, present)
    for order in itertools.permutations(range(4)):
        order = list(order)
        assert torch.equal(encoder(tokens[:, order], present[:, order]), expected)
    swapped = tokens[:, [1, 0]]
    assert torch.equal(encoder(swapped, everyone(20, 2)), encoder(tokens[:, :2], everyone(20, 2)))


@DTYPES
def test_what_is_in_an_empty_slot_does_not_count(encoder, dtype):
    encoder, tokens = encoder.to(dtype), torch.randn(3, 2, 16, dtype=dtype)
    expected = encoder(tokens, everyone(3, 2))
    alone = encoder(tokens[:, :1], everyone(3, 1))
    tolerance = {"atol": 1e-6 if dtype == torch.float32 else 1e-12, "rtol": 0}
    for filling in (0, 1e6, torch.nan):
        filled = tokens.new_full((3, 1, 16), filling)
        for slots in itertools.permutations([tokens[:, :1], tokens[:, 1:], filled]):
            present = torch.stack([torch.full((3,), one is not filled) for one in slots], dim=1)
            torch.testing.assert_close(encoder(torch.cat(slots, dim=1), present), expected, **tolerance)
        for slots, present in (((filled, tokens[:, :1]), [False, True]), ((tokens[:, :1], filled), [True, False])):
            out = encoder(torch.cat(slots, dim=1), torch.tensor(present).expand(3, 2))
            torch.testing.assert_close(out, alone, **tolerance)


@DTYPES
def test_the_empty_set_is_the_control_whatever_is_in_its_slots_and_all_gradients_are_finite(encoder, dtype):
    encoder, tokens = encoder.to(dtype), torch.randn(3, 2, 16, dtype=dtype, requires_grad=True)
    present = torch.tensor([[True, True], [False, False], [False, True]])
    out = encoder(tokens, present)
    assert out.dtype == dtype and torch.equal(out[1], encoder.control)
    (out * torch.randn_like(out)).sum().backward()
    assert all(p.grad.isfinite().all() for name, p in encoder.named_parameters() if name != "null")
    assert (encoder.control.grad != 0).all() and encoder.null.grad is None
    assert tokens.grad.isfinite().all()
    assert torch.equal((tokens.grad != 0).any(dim=-1), present)
    assert torch.equal(encoder(tokens[:, :0], present[:, :0])[2], encoder.control)


def test_it_is_the_norm_of_what_is_pooled_and_the_mapped_sum(encoder):
    tokens = torch.randn(1, 3, 16)
    x = tokens
    for layer in encoder.layers:
        x = layer(x)
    pooled = encoder.pool(encoder.query[None, None], x)[:, 0]
    expected = torch.layer_norm(pooled + tokens[0].sum(dim=0) @ encoder.sum.weight.T, (16,))
    torch.testing.assert_close(encoder(tokens, everyone(1, 3)), expected, atol=1e-12, rtol=0)


def test_every_token_counts_and_other_sets_of_the_batch_do_not(encoder):
    tokens, present = torch.randn(4, 3, 16), everyone(4, 3)
    out = encoder(tokens, present)
    for slot in range(3):
        without = present.clone()
        without[0, slot] = False
        changed = encoder(tokens, without)
        assert (changed[0] - out[0]).abs().max() > 1e-3
        torch.testing.assert_close(changed[1:], out[1:], atol=1e-12, rtol=0)


def test_dropout_is_of_training_only(encoder):
    encoder, tokens = SetEncoder(16, 4, dropout=0.5), torch.randn(2, 3, 16)
    assert not torch.equal(encoder(tokens, everyone(2, 3)), encoder(tokens, everyone(2, 3)))
    encoder.eval()
    assert torch.equal(encoder(tokens, everyone(2, 3)), encoder(tokens, everyone(2, 3)))
