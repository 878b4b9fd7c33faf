from __future__ import annotations

import numpy as np
import pytest
import torch

from scperturb_modules.nn._set_attention import AttentionBlock, InducedBlock

pytestmark = pytest.mark.usefixtures("float64")


def slow_norm(x):
    return (x - x.mean()) / np.sqrt(x.var() + 1e-5)


def slow_attended(block, queries, keys, present):
    """One query, one head and one key at a time; arrays of one row of the batch."""
    weights = {name: value.detach().numpy() for name, value in block.state_dict().items()}

    def linear(name, x):
        return weights[f"{name}.weight"] @ x + weights[f"{name}.bias"]

    d, e = queries.shape[1], queries.shape[1] // block.heads
    there = [linear("key_value", slow_norm(one)) for one, is_there in zip(keys, present, strict=True) if is_there]
    out = np.zeros_like(queries)
    for i, query in enumerate(queries):
        asked, heard = linear("query", slow_norm(query)), np.zeros(d)
        for head in range(block.heads):
            part = slice(head * e, (head + 1) * e)
            powers = np.exp([asked[part] @ one[:d][part] / np.sqrt(e) for one in there])
            heard[part] = sum(w * one[d:][part] for w, one in zip(powers / powers.sum(), there, strict=True))
        x = query + (linear("out", heard) if there else 0)
        hidden = torch.nn.functional.gelu(torch.tensor(linear("feed_forward.0", slow_norm(x)))).numpy()
        out[i] = x + linear("feed_forward.3", hidden)
    return out


@pytest.fixture
def present():
    return torch.tensor([[True] * 5, [False, True, False, False, True], [False] * 5])


@pytest.mark.parametrize("of_itself", [False, True])
def test_the_block_is_the_loop_over_queries_heads_and_keys(present, of_itself):
    block, keys = AttentionBlock(6, 3, hidden=7), torch.randn(3, 5, 6)
    queries = keys if of_itself else torch.randn(3, 4, 6)
    fast = block(queries, None if of_itself else keys, present)
    for row in range(3):
        slow = slow_attended(block, queries[row].numpy(), keys[row].numpy(), present[row].numpy())
        np.testing.assert_allclose(fast[row].detach(), slow, atol=1e-12)


@pytest.mark.parametrize("make", [lambda: AttentionBlock(8, 2), lambda: InducedBlock(8, 2, 3)])
def test_tokens_in_another_order_come_out_in_that_order(make):
    block, tokens, order = make(), torch.randn(2, 6, 8), torch.randperm(6)
    torch.testing.assert_close(block(tokens)[:, order], block(tokens[:, order]), atol=1e-12, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_absent_tokens_count_for_nothing_and_have_no_gradient(present, dtype):
    block, queries = AttentionBlock(8, 2).to(dtype), torch.randn(3, 4, 8, dtype=dtype)
    keys = torch.randn(3, 5, 8, dtype=dtype, requires_grad=True)
    out = block(queries, keys, present)
    out.square().sum().backward()
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in block.parameters())
    assert (keys.grad[~present] == 0).all() and (keys.grad[present] != 0).any(dim=-1).all()
    torch.testing.assert_close(out, block(queries, torch.where(present[..., None], keys, 1e3), present))
    torch.testing.assert_close(out[2:], queries[2:] + block.feed_forward(torch.layer_norm(queries[2:], (8,))))


def test_an_induced_block_sees_present_tokens_only(present):
    block, tokens = InducedBlock(8, 2, 3), torch.randn(3, 5, 8)
    alone = block(tokens[1:2, present[1]])
    torch.testing.assert_close(block(tokens, present)[1:2, present[1]], alone, atol=1e-12, rtol=0)
    assert block(tokens, present).isfinite().all()
    other = tokens.clone()
    other[0, 0] += 1
    assert (block(other)[0, 1:] != block(tokens)[0, 1:]).any(dim=-1).all()


@pytest.mark.parametrize("make", [AttentionBlock, lambda d, h, dropout: InducedBlock(d, h, 3, dropout=dropout)])
def test_dropout_is_of_training_only_and_every_parameter_learns(make):
    block, tokens = make(8, 2, dropout=0.5), torch.randn(2, 6, 8)
    assert not torch.equal(block(tokens), block(tokens))
    block.eval()
    assert torch.equal(block(tokens), block(tokens))
    block(tokens).square().sum().backward()
    assert all((p.grad != 0).any() for p in block.parameters())


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="width of 8 does not split into 3 heads"):
        AttentionBlock(8, 3)
