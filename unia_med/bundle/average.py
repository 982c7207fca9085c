"""Several runs as one method, so that their average is exported like any other prediction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from unia_med.bundle.views import with_views
from unia_med.config.load import plain
from unia_med.config.schema import PostprocessConfig, RunConfig
from unia_med.errors import UserError
from unia_med.inference.ensemble import common_cleaning
from unia_med.inference.uncertainty import apply_temperature, normalised_entropy
from unia_med.methods.base import Batch, Method, Prediction
from unia_med.runs import Run

_ALIKE = ("data.grid", "data.channels", "data.volumes.channel_endings", "inference.slice_smoothing")
"""Settings in which members must agree: a bundle brings an image to one grid, and smooths the mean."""


class AveragedMethod(Method[Any]):
    """The mean of the class probabilities of several methods, each at its own temperature.

    Args:
        members: with their trained weights.
        temperatures: of the members.
        orders: for each member the position of every class, background first, in its own order.
    """

    def __init__(
        self, members: Sequence[Method], temperatures: Sequence[float], orders: Sequence[Sequence[int]]
    ) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self._temperatures, self._orders = list(temperatures), [list(order) for order in orders]

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Is never called: an average is not trained."""
        raise NotImplementedError("an average of methods predicts alone")

    def predict(self, images: Tensor) -> Prediction:
        """Mean probabilities, and their entropy.

        Args:
            images: (B, C, H, W) float32 in [0, 1].
        """
        found = []
        for member, temperature, order in zip(self.members, self._temperatures, self._orders, strict=True):
            assert isinstance(member, Method)  # a ModuleList does not know
            own = apply_temperature(member.predict(images).probabilities.float(), temperature)
            same = order == sorted(order)
            found.append(own if same else torch.cat([own[:, label : label + 1] for label in order], 1))
        mean = torch.stack(found).mean(0)
        return Prediction(mean, normalised_entropy(mean))


def averaged(runs: Sequence[Run], cleaning: Mapping[str, Any] | None) -> tuple[AveragedMethod, RunConfig]:
    """Return the average of runs as a method, and the config with which it is exported.

    Args:
        runs: of classes with the same names.
        cleaning: steps of post-processing, labels in the order of the first run; None: those that all have in common.

    Raises:
        UserError: runs that bring images to different grids, or walk along the image before they are averaged.
    """
    configs = [run.config for run in runs]
    first = configs[0]
    for run, config in zip(runs, configs, strict=True):
        for key in _ALIKE:
            if _value(config, key) != _value(first, key):
                what = f"{key} differs from that of {runs[0].name}, and a bundle has one for all its networks"
                raise UserError(what, where=run.name, remedy="Average them by `unia-med predict --model RUN1 RUN2`")
        if config.inference.walker is not None:
            what = "a bundle of several models walks along no image (inference.walker)"
            raise UserError(what, where=run.name, remedy="Average them by `unia-med predict --model RUN1 RUN2`")
    classes = list(first.data.target_classes)
    orders = [[0, *(1 + list(run.classes).index(name) for name in classes)] for run in runs]
    members = [with_views(run.method(), config.inference.tta) for run, config in zip(runs, configs, strict=True)]
    method = AveragedMethod(members, [c.inference.temperature or 1.0 for c in configs], orders)
    if cleaning is None:
        cleaning = common_cleaning([(c.inference.postprocess.steps(c.data), c.data.target_classes) for c in configs])
    settings = {"temperature": 1.0, "postprocess": _settings(cleaning, first)}
    return method, first.model_copy(update={"inference": first.inference.model_copy(update=settings)})


def about(runs: Sequence[Run], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the card of a bundle says otherwise of an average: how many networks, and which.

    Args:
        runs: that are averaged.
        values: of the first run, as `card` gives them.
    """
    names = ", ".join(run.name for run in runs)
    training = f"- The mean of the class probabilities of {len(runs)} networks: {names}. Of the first:\n"
    return {
        "run_name": " + ".join(run.name for run in runs),
        "description": f"{values['description']} The mean of {len(runs)} networks.",
        "training": training + values["training"],
        "scores": "The average was not scored. Score the bundle on your own masks before you use it.",
        "eval_metrics": {},
    }


def _value(config: RunConfig, key: str) -> Any:
    value: Any = plain(config)
    for part in key.split("."):
        value = value[part]
    return value


def _settings(cleaning: Mapping[str, Any], config: RunConfig) -> PostprocessConfig:
    """Return steps whose classes are labels as settings, whose classes are names; of a group the first member's."""
    largest = cleaning.get("largest_component", False)
    if isinstance(largest, (list, tuple)):
        groups = config.data.groups or {name: [name] for name in config.data.classes}
        members = list(groups.values())
        largest = [members[label - 1][0] for label in largest]
    return PostprocessConfig(**{**cleaning, "largest_component": largest})
