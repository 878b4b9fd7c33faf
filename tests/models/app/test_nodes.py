from __future__ import annotations

import numpy as np
import pytest
import torch

from scperturb_modules.models.app._module import AppModule
from scperturb_modules.models.app._nodes import NodeFeatures
from scperturb_modules.models.app._settings import settings_of

M, N, D = 2, 6, 4


def features_of(known=None, tables=None, **settings):
    known = torch.ones(M, N, dtype=torch.bool) if known is None else known
    chosen = settings_of("tool", {"d": D, **settings})
    dropouts = {"id_dropout": chosen.id_dropout, "prior_dropout": chosen.prior_dropout}
    return NodeFeatures(M, known, tables or {}, D, learned="learned" in chosen.features, **dropouts)


def one_table(n_columns=3, present=None):
    rows = torch.tensor([True] * N) if present is None else present
    return {"go": (torch.randn(N, n_columns), rows)}


def test_a_free_vector_that_was_never_trained_does_not_reach_a_prediction():
    known = torch.ones(M, N, dtype=torch.bool)
    known[0, 2] = False
    features = features_of(known, one_table()).eval()
    before = features(M)
    with torch.no_grad():
        features.free.weight[:, 2] += 100
    after = features(M)
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1, 2], after[1, 2])


@pytest.mark.parametrize("id_dropout", [0.0, 0.5])
def test_free_vectors_are_all_used_where_there_is_nothing_else(id_dropout):
    """Else a gene that is not perturbed would be nothing at all."""
    known = torch.zeros(M, N, dtype=torch.bool)
    features = features_of(known, features="learned", id_dropout=id_dropout).eval()
    assert torch.equal(features(M), features.free.weight)


def test_the_mask_does_not_hang_on_the_dropout():
    known = torch.zeros(M, N, dtype=torch.bool)
    for id_dropout in (0.0, 0.5):
        features = features_of(known, one_table(), id_dropout=id_dropout).eval()
        before = features(M)
        torch.nn.init.normal_(features.free.weight)
        assert torch.equal(before, features(M))


def test_free_vectors_are_dropped_in_training_whole_and_per_member():
    features = features_of(features="learned", id_dropout=0.5)
    drawn = torch.stack([features(M) for _ in range(300)]) / features.free.weight
    whole = drawn.all(dim=-1) | ~drawn.any(dim=-1)
    assert whole.all()
    assert float(drawn.any(dim=-1).float().mean()) == pytest.approx(0.5, abs=0.03)
    assert not torch.equal(drawn[:, 0], drawn[:, 1])


def test_a_missing_row_is_a_bit_and_not_a_value():
    present = torch.tensor([True, False, True, True, False, True])
    tables = one_table(present=present)
    features = features_of(tables=tables, features="prior").eval()
    out = features(M)
    weight, bias = features.linear.weight, features.linear.bias
    assert weight.shape == (M, 4, D)
    torch.testing.assert_close(out[:, 1], bias)
    torch.testing.assert_close(out[:, 0], tables["go"][0][0] @ weight[:, :3] + weight[:, 3] + bias)
    tables["go"][0][1] = 1e6  # what stands in a missing row does not count
    assert torch.equal(out, features_copy(features, tables)(M))


def features_copy(features, tables):
    twin = features_of(tables=tables, features="prior").eval()
    state = features.state_dict()
    state["values_0"] = tables["go"][0]
    twin.load_state_dict(state)
    return twin


def test_rows_of_tables_are_dropped_in_training_with_their_bit():
    features = features_of(tables=one_table(), features="prior", prior_dropout=0.3)
    drawn = torch.stack([features(M) for _ in range(500)])
    gone = torch.isclose(drawn, features.linear.bias[:, None], rtol=0, atol=1e-7).all(dim=-1)
    assert float(gone.float().mean()) == pytest.approx(0.3, abs=0.02)
    assert not torch.equal(gone[:, 0], gone[:, 1])


def test_nothing_is_dropped_in_evaluation():
    features = features_of(tables=one_table()).eval()
    assert torch.equal(features(M), features(M))


def test_random_embeddings_are_frozen_and_identity_ones_free(make):
    random, *_ = make(embedding="random")
    assert not any("nodes" in name for name, _ in random.named_parameters())
    assert torch.equal(random.nodes(), random.state_dict()["nodes.table"])
    assert not torch.equal(random.nodes()[0], random.nodes()[1])
    identity, *_ = make(embedding="identity")
    assert [name for name, _ in identity.named_parameters() if "nodes" in name] == ["nodes.free.weight"]
    assert torch.equal(identity.nodes(), identity.nodes.free.weight)


def test_without_networks_or_layers_embeddings_are_features(make):
    for settings in ({"sizes": {"n_relations": 0}}, {"n_layers": 0}):
        module, *_ = make(**settings)
        assert torch.equal(module.nodes(), module.nodes.features(module.n_members))
        assert module.nodes.relation_weights() is None


def test_the_activation_of_the_last_layer_can_be_left_out(make):
    assert (make()[0].nodes() >= 0).all()
    assert (make(final_activation=False)[0].nodes() < 0).any()


def test_layers_share_the_networks_and_they_are_stored_once(make):
    module, *_ = make(n_layers=3, sizes={"n_relations": 2})
    weights = [name for name in module.state_dict() if name.endswith("columns")]
    assert weights == ["nodes.relations.0.columns", "nodes.relations.1.columns"]
    twin = module.subset(slice(0, 1))
    for one in (module, twin):
        for layer in one.nodes.layers:
            assert all(a is b for a, b in zip(layer.relations, one.nodes.relations, strict=True))


def test_networks_follow_the_module_to_another_precision(make):
    module, *_ = make(sizes={"n_relations": 2})
    single = module.nodes()
    torch.testing.assert_close(module.double().nodes().float(), single, rtol=1e-4, atol=1e-4)


def test_weights_of_networks_are_the_mean_over_genes_with_a_neighbour(make, float64, slow_graph):
    module, _, shape = make(sizes={"n_relations": 3}, n_layers=2)
    found = module.nodes.relation_weights().detach().numpy()
    start = module.nodes.features(module.n_members).detach().numpy()
    for m in range(module.n_members):
        weights = slow_graph.member_arrays(module.nodes.layers[0], m)
        chosen = slow_graph.slow_choice(start[m], [one.toarray() for one in shape.adjacencies], "gate", weights)
        expected = chosen[chosen.sum(axis=1) > 0].mean(axis=0)
        np.testing.assert_allclose(found[m], expected, rtol=1e-12)
        assert expected.sum() == pytest.approx(1)


def test_weights_of_networks_without_an_edge_are_0(make):
    module, *_ = make(sizes={"n_relations": 2, "share": 0.0})
    assert torch.all(module.nodes.relation_weights() == 0)


def test_a_gene_without_neighbours_keeps_its_own_features(make):
    """Nothing of others reaches it."""
    module, _, shape = make()
    assert bool(shape.isolated[0])
    before = module.nodes()[:, 0]
    with torch.no_grad():
        module.nodes.features.free.weight[:, 1:] += 10
    assert torch.equal(before, module.nodes()[:, 0])
    assert isinstance(module, AppModule)
