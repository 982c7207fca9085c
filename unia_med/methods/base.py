"""What a training method is: a module with losses, a prediction and its parameter groups.

The trainer, the predictor and the exporter know a method by nothing else than this file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, TypeVar, cast

import torch
from torch import Tensor, nn

from unia_med.config.schema import RunConfig
from unia_med.config.section import Section

Settings = TypeVar("Settings", bound=Section)
_NORM_LAYERS: tuple[type[nn.Module], ...] = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
# Learned positions and class tokens are parameters of the module itself, so only their names identify them.
_ROUNDING = 1e-6  # of an iteration
_EMBEDDING_NAMES = ("embed", "token", "position")


@dataclass
class Batch:
    """Slices with their weak labels, on one device.

    Attributes:
        images: (B, C, H, W) float32 in [0, 1].
        tags: (B, T) int8; 1 present, 0 absent, -1 unknown (`unia_med.labels`).
        scores: (B, K, H, W) float32 in [0, 1], class scores of a prior or of a self-training round; or None.
        labels: (B, H, W) int64 sparse labels with `IGNORE` where nothing is known; or None.
        valid: (B, 1, H, W) float32, 1 where the pixel comes from the source image, 0 where augmentation filled
            in; None means 1 everywhere.
        index: (B,) int64, position of each slice in its data set.
        exact: (B,) bool, slices whose scores are right by construction; nothing corrects them. None: no slice.
    """

    images: Tensor
    tags: Tensor
    scores: Tensor | None = None
    labels: Tensor | None = None
    valid: Tensor | None = None
    index: Tensor | None = None
    exact: Tensor | None = None

    def to(self, device: torch.device | str) -> Batch:
        """Return the same batch on another device.

        Args:
            device: where the tensors shall live; tensors already there are not copied.
        """
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved: dict[str, Any] = {
            name: None if v is None else v.to(device, non_blocking=True) for name, v in values.items()
        }
        return Batch(**moved)

    def __len__(self) -> int:
        return int(self.images.shape[0])


@dataclass
class Prediction:
    """A method's result for slices.

    Attributes:
        probabilities: (B, K, H, W) float32, summing to 1 over K.
        uncertainty: (B, H, W) float32 in [0, 1]; 1 is least certain.
    """

    probabilities: Tensor
    uncertainty: Tensor


class Method(nn.Module, ABC, Generic[Settings]):
    """Base class of every training method, generic in its settings.

    Images reach a method in [0, 1]; standardisation is the network's own business. `forward` is the training
    step, so that wrappers such as `DistributedDataParallel` see one ordinary call.

    Args:
        config: The whole run; None for a method that reads none of the attributes below.

    Attributes:
        settings: `config.method`.
        classes: K, with background.
        iterations: Of the whole training, the scale of all gates.
        head_multiplier: Factor on the learning rate of everything that is not pretrained.
    """

    settings: Settings
    classes: int
    iterations: int
    head_multiplier: float

    def __init__(self, config: RunConfig | None = None) -> None:
        super().__init__()
        if config is not None:
            self.settings = cast(Settings, config.method)
            self.classes = len(config.data.target_classes) + 1
            self.iterations = config.training.iterations
            self.head_multiplier = config.training.head_multiplier

    samples_features: ClassVar[bool] = False
    """Whether the method has a distribution of features, and with it `predict_samples`."""

    @abstractmethod
    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses of one batch: the key `loss` (what is minimised) and its named parts, all scalars.

        Args:
            batch: slices and weak labels; tags of a case may be used here and nowhere else.
            step: iterations done so far, for gates and schedules; the first call sees 0.
        """

    @abstractmethod
    def predict(self, images: Tensor) -> Prediction:
        """Class probabilities and uncertainty of slices, from the images alone.

        Args:
            images: (B, C, H, W) float32 in [0, 1]. The caller has set eval mode and switched gradients off.
        """

    def predict_samples(self, images: Tensor, samples: int) -> Prediction:
        """As `predict`, with probabilities averaged over draws of the features' distribution.

        Only where `samples_features` is true. The draws are the same in every call, so that results can be repeated
        and do not depend on how slices are batched.

        Args:
            images: (B, C, H, W) float32 in [0, 1].
            samples: number of draws, at least 1; more are smoother and slower.
        """
        raise NotImplementedError(f"{type(self).__name__} has no distribution of features")

    def pseudo_probabilities(self, images: Tensor, tags: Tensor, step: int) -> Tensor:
        """Class probabilities (B, K, H, W) from which a self-training round labels training slices.

        Args:
            images: (B, C, H, W) float32 in [0, 1], training slices.
            tags: (B, T) int8, as in `Batch`; unlike in `predict` they may be used.
            step: iterations done so far. A method whose decoder has not learned yet answers with what it has.
        """
        return self.predict(images).probabilities

    def forward(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Return the training step; the same as `losses`."""
        return self.losses(batch, step)

    def label_maps(self, batch: Batch) -> dict[str, Tensor]:
        """Intermediate label maps for the validation table, by column name.

        Args:
            batch: slices with their tags (the table measures pseudo labels, which may use them).

        Returns:
            (B, H, W) int64 labels per column, with `IGNORE` where the column abstains; nothing by default.
        """
        return {}

    def reached(self, start: float, step: int) -> bool:
        """Whether a gate is open: `start` is a fraction of the iterations; 1 means never.

        Args:
            start: in [0, 1].
            step: iterations done so far.
        """
        return self.ramp(start, 0.0, step) > 0

    def ramp(self, start: float, width: float, step: int) -> float:
        """Return 0 before `start`, then a linear rise to 1 over `width`, both fractions of the iterations.

        Args:
            start: in [0, 1]; 1 means never.
            width: in [0, 1]; 0 is a sudden step.
            step: iterations done so far.
        """
        done, whole = step - start * self.iterations, width * self.iterations
        if start >= 1 or done < -_ROUNDING:
            return 0.0
        return 1.0 if done >= whole - _ROUNDING else max(0.0, done / whole)

    def rate_multipliers(self) -> dict[str, float]:
        """Learning rate factors by parameter name prefix, e.g. `{"head.": 10.0}`; the longest prefix wins."""
        return {}

    def parameter_groups(self, learning_rate: float, weight_decay: float) -> list[dict[str, Any]]:
        """Optimiser groups: one per learning rate, with and without weight decay.

        Args:
            learning_rate: rate of every parameter without a multiplier of its own.
            weight_decay: decay of weights; norms, biases and embeddings get none.
        """
        groups = group_parameters(self, learning_rate, weight_decay, self.rate_multipliers())
        check_parameter_groups(self, groups)
        return groups


Part = TypeVar("Part")


def needed_part(part: Part | None) -> Part:
    """Return an optional part of a network's output, which the settings made it compute.

    Args:
        part: None is a mistake in the program.
    """
    if part is None:
        raise RuntimeError("the network was not asked for this part of its output")
    return part


def weighted_sum(terms: Mapping[str, Callable[[], Tensor]], weights: Mapping[str, float]) -> dict[str, Tensor]:
    """Return the result of `Method.losses`: the weighted sum as `loss`, and its unweighted parts.

    Args:
        terms: computes a loss, by name.
        weights: of the terms, at least one above 0; a term whose weight is 0 or missing is not computed.

    Example:
        >>> found = weighted_sum({"a": lambda: torch.tensor(3.0), "off": lambda: 1 / 0}, {"a": 0.5})
        >>> {name: value.item() for name, value in found.items()}
        {'loss': 1.5, 'a': 3.0}
    """
    parts = {name: terms[name]() for name, weight in weights.items() if weight > 0}
    total = torch.stack([weights[name] * part.float() for name, part in parts.items()]).sum()
    return {"loss": total, **parts}


def group_parameters(
    module: nn.Module,
    learning_rate: float,
    weight_decay: float,
    multipliers: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """Sort the trainable parameters of a module into optimiser groups.

    Norms, biases and embeddings get no weight decay (timm's default; the published UniA decays them all).

    Args:
        module: what is trained.
        learning_rate: base rate.
        weight_decay: decay of ordinary weights.
        multipliers: rate factor by name prefix; the longest matching prefix wins.

    Example:
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
        >>> [(g["lr"], g["weight_decay"], len(g["params"])) for g in group_parameters(net, 0.1, 0.01, {"1": 10})]
        [(0.1, 0.01, 1), (0.1, 0.0, 1), (1.0, 0.0, 2)]
    """
    multipliers = dict(multipliers or {})
    _check_prefixes(module, multipliers)
    undecayed = undecayed_parameters(module)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in _trainable(module):
        rate = learning_rate * _multiplier(name, multipliers)
        decay = 0.0 if name in undecayed else weight_decay
        groups.setdefault((rate, decay), []).append(parameter)
    return [{"params": p, "lr": rate, "weight_decay": decay} for (rate, decay), p in groups.items()]


def undecayed_parameters(module: nn.Module) -> set[str]:
    """Names of the parameters that weight decay would harm: norms, biases and embeddings.

    Example:
        >>> sorted(undecayed_parameters(nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))))
        ['0.bias', '1.bias', '1.weight']
    """
    names = set()
    for prefix, child in module.named_modules():
        whole = isinstance(child, (*_NORM_LAYERS, nn.Embedding))
        for name, parameter in child.named_parameters(prefix=prefix, recurse=False):
            leaf = name.rpartition(".")[2]
            if whole or parameter.ndim <= 1 or any(word in leaf for word in _EMBEDDING_NAMES):
                names.add(name)
    return names


def check_parameter_groups(module: nn.Module, groups: list[dict[str, Any]]) -> None:
    """Make sure that each trainable parameter appears exactly once in the optimiser groups.

    A parameter in no group keeps its random start value for the whole run without a word (defect A6 of the
    published UniA); one in two groups is stepped twice.

    Args:
        module: what is trained.
        groups: as given to a torch optimiser.

    Raises:
        RuntimeError: naming the parameters that are missing, doubled, frozen or foreign.
    """
    names = {id(parameter): name for name, parameter in _trainable(module)}
    counts = Counter(id(parameter) for group in groups for parameter in group["params"])
    missing = [name for key, name in names.items() if key not in counts]
    doubled = [names.get(key, "a foreign parameter") for key, count in counts.items() if count > 1]
    foreign = sum(key not in names for key in counts)
    if missing or doubled or foreign:
        raise RuntimeError(
            f"parameter groups of {type(module).__name__} are wrong: missing {missing}, more than once {doubled}, "
            f"{foreign} not trainable parameters of the module"
        )


def _trainable(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, parameter) for name, parameter in module.named_parameters() if parameter.requires_grad)


def _multiplier(name: str, multipliers: Mapping[str, float]) -> float:
    matches = [prefix for prefix in multipliers if name.startswith(prefix)]
    return multipliers[max(matches, key=len)] if matches else 1.0


def _check_prefixes(module: nn.Module, multipliers: Mapping[str, float]) -> None:
    names = [name for name, _ in module.named_parameters()]
    idle = [prefix for prefix in multipliers if not any(name.startswith(prefix) for name in names)]
    if idle:
        raise RuntimeError(f"rate multipliers of {type(module).__name__} match no parameter: {idle}")
