"""Parameter groups and the batch container."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from unia_med.methods.base import (
    Batch,
    Method,
    Prediction,
    check_parameter_groups,
    group_parameters,
    undecayed_parameters,
)


class _Toy(Method):
    """Every kind of parameter that decay treats in its own way."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
        self.pos_embed = nn.Parameter(torch.zeros(1, 5, 4))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 4))
        self.table = nn.Embedding(3, 4)
        self.head = nn.Conv2d(4, 2, 1)
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {"loss": self.head(self.backbone(batch.images)).mean() * step}

    def predict(self, images: Tensor) -> Prediction:
        probabilities = self.head(self.backbone(images)).softmax(1)
        return Prediction(probabilities, probabilities[:, 0])

    def rate_multipliers(self) -> dict[str, float]:
        return {"head.": 10.0}


def test_norms_biases_and_embeddings_are_not_decayed() -> None:
    groups = _Toy().parameter_groups(1e-3, 0.01)
    sizes = {(g["lr"], g["weight_decay"]): sum(p.numel() for p in g["params"]) for g in groups}
    assert sizes == {
        (1e-3, 0.01): 36,  # convolution 4x1x3x3
        (1e-3, 0.0): 4 + 8 + 8 + 20 + 4 + 12,  # its bias, two norms, position, token, table
        (1e-2, 0.01): 8,
        (1e-2, 0.0): 2,
    }


def test_a_gate_at_the_end_never_opens() -> None:
    """Not even after the last step, at which the validation table looks."""
    method = _Toy()
    method.iterations = 100
    assert [method.reached(1.0, step) for step in (99, 100)] == [False, False]
    assert [method.reached(0.99, step) for step in (98, 99, 100)] == [False, True, True]
    assert [method.ramp(0.2, 0.1, step) for step in (19, 20, 25, 30, 100)] == pytest.approx([0, 0, 0.5, 1, 1])


def test_a_patch_embedding_weight_is_decayed() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patch_embed = nn.Conv2d(1, 2, 2)

    assert undecayed_parameters(Net()) == {"patch_embed.bias"}


def test_missing_doubled_and_frozen_parameters_are_named() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match=r"missing \['1.bias'\]"):
        check_parameter_groups(net, [{"params": [net[0].weight, net[0].bias, net[1].weight]}])
    with pytest.raises(RuntimeError, match=r"more than once \['0.weight'\]"):
        check_parameter_groups(net, [{"params": list(net.parameters())}, {"params": [net[0].weight]}])
    with pytest.raises(RuntimeError, match="1 not trainable"):
        check_parameter_groups(net, [{"params": [*net.parameters(), nn.Parameter(torch.zeros(1))]}])


def test_a_shared_parameter_is_counted_once() -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    net[1].weight = net[0].weight
    groups = group_parameters(net, 1.0, 0.0)
    check_parameter_groups(net, groups)
    assert sum(len(group["params"]) for group in groups) == 3


def test_the_longest_prefix_wins_and_idle_prefixes_are_refused() -> None:
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    groups = group_parameters(net, 1.0, 0.0, {"1": 2.0, "1.w": 3.0})
    assert sorted(group["lr"] for group in groups) == [1.0, 3.0]
    with pytest.raises(RuntimeError, match="decoder"):
        group_parameters(net, 1.0, 0.0, {"decoder": 10.0})


def test_batch_moves_and_measures_itself() -> None:
    batch = Batch(torch.zeros(2, 1, 4, 4), torch.zeros(2, 3))
    assert len(batch) == 2
    assert batch.to("meta").images.device.type == "meta"
    assert batch.to("meta").scores is None


def test_forward_is_the_training_step() -> None:
    toy = _Toy()
    batch = Batch(torch.rand(2, 1, 4, 4), torch.zeros(2, 3))
    assert torch.equal(toy(batch, 3)["loss"], toy.losses(batch, 3)["loss"])
    assert toy.label_maps(batch) == {}


def test_an_incomplete_method_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="losses"):
        Method()
