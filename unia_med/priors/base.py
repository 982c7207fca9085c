"""The interface of anatomical priors: knowledge of structures that tags cannot give.

A prior is one of two kinds. A `TeachingPrior` draws synthetic slices with exact labels, on which a teacher is trained;
a `ScoringPrior` labels the training volumes itself. Both say which classes they know; a run's own classes are matched
to these by name (`unia_med.priors.classes`). Adding a prior is one file, one line in `unia_med.registry.PRIORS`, and a
section `prior.NAME` of settings follows from its `settings_type`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar, Generic, NamedTuple, TypeVar

from unia_med.config.section import Section
from unia_med.config.teacher import TeacherConfig

if TYPE_CHECKING:
    import numpy as np

    from unia_med.config.schema import GridConfig
    from unia_med.data.sample import CaseFiles

SettingsT = TypeVar("SettingsT", bound=Section)
TeacherT = TypeVar("TeacherT", bound=TeacherConfig)


class PriorVolume(NamedTuple):
    """One training volume as a prior sees it.

    Attributes:
        case: the case.
        images: float32 (Z, H, W) in [0, 1], the first channel.
        tags: int8 (Z, P) of the prior's own classes, or None where tags are not used.
    """

    case: CaseFiles
    images: np.ndarray
    tags: np.ndarray | None


class Prior(ABC, Generic[SettingsT]):
    """Knowledge of the classes that are named in `classes`.

    Args:
        settings: the section `prior.NAME` of the run.
    """

    classes: ClassVar[tuple[str, ...]]
    """Names of the classes it knows; they are its labels 1, 2, 3, ..."""
    settings_type: type[SettingsT]
    """Model of its settings."""

    def __init__(self, settings: SettingsT) -> None:
        self.settings = settings

    @property
    def weight(self) -> float | None:
        """Share in the mean with other priors, in [0, 1]; None takes an equal part of what the others leave."""
        return None


class TeachingPrior(Prior[TeacherT]):
    """A prior that draws synthetic slices, on which a teacher is trained."""

    @abstractmethod
    def draw(self, count: int, grid: GridConfig, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return images uint8 (N, H, W) and labels uint8 (N, H, W) of synthetic slices.

        Args:
            count: N.
            grid: pixels and their size.
            seed: source of all randomness.
        """


class ScoringPrior(Prior[SettingsT]):
    """A prior that labels volumes itself."""

    @abstractmethod
    def scores(self, volumes: Sequence[PriorVolume], grid: GridConfig) -> Iterator[np.ndarray]:
        """Yield scores (Z, P + 1, H, W) in [0, 1] of each volume, background first, summing to 1 over the classes.

        Args:
            volumes: all training volumes.
            grid: pixels and their size.
        """


def shares(priors: Sequence[Prior]) -> list[float]:
    """Return the share of each prior in their mean; they sum to 1, also where stated weights sum to more.

    Args:
        priors: at least one; where nobody has any weight, all count alike.

    Example:
        >>> shares([])
        []
    """
    stated = [prior.weight for prior in priors if prior.weight is not None]
    rest = max(0.0, 1 - sum(stated)) / max(1, len(priors) - len(stated))
    parts = [rest if prior.weight is None else prior.weight for prior in priors]
    total = sum(parts)
    return [part / total for part in parts] if total else [1 / len(parts) for _ in parts]
