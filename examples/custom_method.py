"""A training method of one's own, from outside the package: a file that a config names, and 40 lines.

    unia-med phantom --output hearts --patients 6
    python examples/custom_method.py hearts runs/mine
    unia-med predict --model runs/mine --input hearts --output masks

The method learns from slice tags alone: each class's score is the mean of its highest pixels (Pinheiro and Collobert,
CVPR 2015, in spirit). A config says `method: {use: custom_method.py:TopPixels, settings: {share: 0.05}}`; the run
folder keeps a copy of the file, so that every command knows the method.
"""

from __future__ import annotations

import sys
from pathlib import Path

from torch import Tensor, nn

import unia_med
from unia_med.config.schema import CustomConfig, RunConfig
from unia_med.losses.classification import tag_classification
from unia_med.methods.base import Batch, Method, Prediction


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
    method = {"name": "custom", "use": f"{Path(__file__).resolve()}:TopPixels", "settings": {"share": 0.05}}
    size = {"data.grid.size": [64, 64], "data.grid.spacing_mm": 3.0, "training.iterations": 10, "prior": {}}
    unia_med.train("phantom_tiny.yaml", output, set={"data.root": str(data), "method": method, **size}, device="cpu")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
