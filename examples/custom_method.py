"""A training method of one's own, from outside the package: the registry, a config section, and 40 lines.

    unia-med phantom --output hearts --patients 6
    python examples/custom_method.py hearts runs/mine

The method learns from slice tags alone: each class's score is the mean of its highest pixels (Pinheiro and Collobert,
CVPR 2015, in spirit). `unia-med predict` knows it too, once a package names it as an entry point of `unia_med.methods`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import Tensor, nn

from unia_med.config.load import load_config
from unia_med.config.schema import CustomConfig, RunConfig
from unia_med.engine.session import train
from unia_med.losses.classification import tag_classification
from unia_med.methods.base import Batch, Method, Prediction
from unia_med.registry import METHODS


class TopPixels(Method[CustomConfig]):
    """A few convolutions; the mean score of the highest pixels of a class has to agree with its tag."""

    def __init__(self, config: RunConfig) -> None:
        super().__init__(config)
        self.share, width = float(str(self.settings.settings["share"])), 16
        layers = [nn.Conv2d(config.network.channels, width, 5, padding=2), nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 5, padding=4, dilation=2), nn.BatchNorm2d(width), nn.ReLU()]
        self.network = nn.Sequential(*layers, nn.Conv2d(width, self.classes, 1))

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Tag classification by the highest pixels."""
        scores = self.network(batch.images)[:, 1:].flatten(2)
        highest = scores.topk(max(1, int(self.share * scores.shape[-1])), dim=-1).values.mean(-1)
        return {"loss": tag_classification(highest, batch.tags)}

    def predict(self, images: Tensor) -> Prediction:
        """Softmax over background and classes; what is not certain is uncertain."""
        probabilities = self.network(images).float().softmax(1)
        return Prediction(probabilities, 1 - probabilities.amax(1))


def main(data: Path, output: Path) -> int:
    """Train the method; every part of a run is there: resume, validation, checkpoints, metrics."""
    METHODS["top_pixels"] = f"{__name__}:TopPixels"
    method = "method={name: custom, use: top_pixels, settings: {share: 0.05}}"
    size = ["data.grid.size=[64, 64]", "data.grid.spacing_mm=3.0", "training.iterations=10", "prior={}"]
    changes = [f"data.root={data}", method, *size]
    return train(load_config("phantom_tiny.yaml", changes), output, device="cpu")


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
