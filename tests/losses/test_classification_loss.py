"""Tag classification against the formula."""

from __future__ import annotations

import math

import torch

from unia_med.losses.classification import tag_classification


def test_known_value_with_an_unknown_tag() -> None:
    logits = torch.tensor([[2.0, -1.0, 5.0]])
    tags = torch.tensor([[1, 0, -1]], dtype=torch.int8)
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(-1))) / 2
    assert math.isclose(tag_classification(logits, tags).item(), expected, rel_tol=1e-6)


def test_equals_the_multilabel_soft_margin_when_all_tags_are_known() -> None:
    logits, tags = torch.randn(4, 3), torch.randint(0, 2, (4, 3))
    expected = torch.nn.functional.multilabel_soft_margin_loss(logits, tags.float())
    assert torch.allclose(tag_classification(logits, tags), expected)
