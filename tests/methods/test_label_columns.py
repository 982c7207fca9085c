"""The columns of the validation table, of every method: labels of pixels, and the prediction among them."""

from __future__ import annotations

import pytest
import torch

from unia_med.build import build_method
from unia_med.config.schema import RunConfig
from unia_med.labels import IGNORE
from unia_med.methods.base import Batch, Method
from unia_med.registry import METHODS

SIZE = (32, 48)


def method(name: str) -> Method:
    torch.manual_seed(0)
    network = {"backbone": "hybrid_lite0" if name == "unia" else "lite0", "weights": "none"}
    values = {"network": network, "method": {"name": name}, "training": {"iterations": 10}}
    return build_method(RunConfig.model_validate(values)).eval()


@pytest.mark.parametrize("name", sorted(METHODS))
def test_columns_are_labels_of_pixels_and_the_prediction_is_that_of_predict(name: str) -> None:
    images = torch.rand(2, 1, *SIZE, generator=torch.Generator().manual_seed(1))
    tags = torch.tensor([[1, 1, 1], [0, 1, 1]], dtype=torch.int8)
    labels = torch.full((2, *SIZE), IGNORE)
    labels[:, 2, 5:40], labels[:, 16, 8:20], labels[:, 22, 20:30] = 0, 2, 3
    one = method(name)
    with torch.no_grad():
        for head in (part for part in one.modules() if isinstance(part, torch.nn.Conv2d) and part.out_channels == 4):
            head.weight.mul_(50)  # of random heads one class would win everywhere
            head.bias = None if head.bias is None else torch.nn.Parameter(torch.zeros_like(head.bias))
        columns = one.label_maps(Batch(images, tags, labels=labels))
        predicted = one.predict(images).probabilities.argmax(1)
    for column, found in columns.items():
        assert found.shape == (2, *SIZE) and found.dtype == torch.int64, column
        assert set(found.unique().tolist()) <= {0, 1, 2, 3, IGNORE}, column
    if "prediction" in columns:
        assert torch.equal(columns["prediction"], predicted)
        assert len(predicted.unique()) > 1
