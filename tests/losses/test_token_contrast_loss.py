"""Token contrast against a literal loop."""

from __future__ import annotations

import torch

from unia_med.losses.affinity import pair_labels
from unia_med.losses.token_contrast import token_contrast


def test_by_brute_force() -> None:
    features, labels = torch.randn(2, 6, 2, 3), torch.tensor([[[0, 1, 255], [0, 1, 2]], [[1, 1, 1], [255, 0, 0]]])
    alike, unlike = [], []
    for tokens, classes in zip(features.flatten(2).transpose(1, 2), labels.flatten(1), strict=True):
        for i in range(6):
            for j in range(6):
                if i != j and 255 not in (classes[i], classes[j]):
                    cosine = torch.cosine_similarity(tokens[i], tokens[j], dim=0).abs()
                    (alike if classes[i] == classes[j] else unlike).append(cosine)
    expected = 0.5 * (1 - sum(alike) / (len(alike) + 1)) + 0.5 * sum(unlike) / (len(unlike) + 1)
    assert torch.allclose(token_contrast(features, *pair_labels(labels)), expected)


def test_perfect_features_leave_only_the_count_guard() -> None:
    features = torch.tensor([[[[3.0, 1.0, 0.0]], [[0.0, 0.0, 2.0]]]])
    positive, negative = pair_labels(torch.tensor([[[0, 0, 1]]]))
    assert torch.allclose(token_contrast(features, positive, negative), torch.tensor(0.5 * (1 - 2 / 3)))
