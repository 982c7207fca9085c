"""Settings of anatomical priors, knowledge that tags cannot give, and of the rounds of self-training.

The settings of a single prior are declared by the prior itself (`settings_type`), in a section of its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, create_model, field_validator, model_validator

from unia_med.config.section import Section
from unia_med.config.teacher import TeacherConfig
from unia_med.errors import suggestion
from unia_med.registry import PRIORS, resolve, with_installed

if TYPE_CHECKING:
    from unia_med.config.data import DataConfig
    from unia_med.priors.base import Prior


class WalkerConfig(Section):
    """Random walker (Grady, IEEE TPAMI 2006) from the pixels of a slice that are sure, along its intensity edges.

    The network's maps are blurred and blurred alike from slice to slice, so that a network trained on them repeats the
    blur; the edges of the image are not.
    """

    foreground: float = Field(0.6, gt=0, lt=1)
    """From this probability of all classes together, a pixel is a seed of its likeliest class."""
    background: float = Field(0.2, ge=0, lt=1)
    """Up to this probability of all classes together, a pixel is a seed of the background."""
    beta: float = Field(20000.0, gt=0)
    """How strongly the walk avoids intensity edges (scikit-image's scale); larger follows edges closer."""

    @model_validator(mode="after")
    def _band(self) -> WalkerConfig:
        if self.background >= self.foreground:
            raise ValueError(f"background ({self.background}) must lie below foreground ({self.foreground})")
        return self


class ProposalsConfig(Section):
    """Regions beside the object that maps have found, of which slice tags choose one per slice for a missed class.

    Classes that occur together share one peak of their activation maps, and one of them is found by none. The regions
    are pieces of like brightness; which of them show the class is learned from the tags of all slices by
    multiple-instance learning (a slice that lacks the class shows regions that are not it).
    """

    classes: list[str] = Field(min_length=1)
    """The classes that the maps miss, by class or by group."""
    object: float = Field(0.45, gt=0, lt=1)
    """From this probability of all classes together, a pixel belongs to the object that the maps have found, unless one
    of these classes is the likeliest there."""
    levels: list[float] = Field([0.2, 0.4, 0.6, 0.8], min_length=1)
    """Regions are pieces beyond these levels of brightness: 0 is the mean of the object's darker part, 1 that of its
    brighter one, as Otsu's threshold parts them."""
    contrast: Literal["bright", "dark", "both"] = "both"
    """Whether regions are brighter or darker than a level. One kind is chosen from fewer regions, and more surely."""
    reach: float = Field(0.45, gt=0, le=10)
    """How far from the object a region may begin, in radii of the object's largest section."""


class PriorRounds(Section):
    """Which priors label the training slices, and how often the trained network labels them again.

    With no names there is no prior: the first round then learns from the weak labels alone (UniA: from its own
    activation maps), and self-training follows where there are more rounds.
    """

    names: list[str] = []
    """Priors that label the slices of the first round, names of `unia_med.registry.PRIORS`; their scores are averaged.
    Each knows some classes: those of `data.classes` have to be among them, in any order."""
    rounds: int = Field(1, ge=1, le=10)
    """Labelling rounds: the first learns from prior and weak labels, each further one also from the network's own."""
    restart: bool = False
    """Later rounds begin with the weights that the run began with, and with a learning rate schedule of their own. A
    network that goes on repeats what it was labelled by, its own features; a fresh one has to find it in the image."""
    trust: Literal["network", "agreement"] = "network"
    """What later rounds learn. `network`: weak labels, also completed ones, win over the network's. `agreement`: what
    was completed (`data.labels`, `fill`) counts only where the network says the same, other completed pixels become
    unlabelled, and the annotations as drawn win; where nothing was completed, the network's confident labels hold."""
    source: Literal["prediction", "maps"] = "prediction"
    """What later rounds are labelled by: the network's prediction, or the activation maps of methods that have them."""
    proposals: ProposalsConfig | None = None
    """Regions of classes that the network's maps miss are added before anything else; null: none. It needs tags."""
    walker: WalkerConfig | None = None
    """Completes the network's sure pixels to dense labels; null: its probabilities are the labels."""
    use_tags: bool = True
    """false labels the slices as if no tag were known."""
    confidence: float = Field(0.6, ge=0, lt=1)
    """A class needs this probability, else its pixel is ignored."""
    background_confidence: float | None = Field(None, ge=0, lt=1)
    """What the background needs; null: `confidence`. The mean over views shrinks thin structures; a larger value leaves
    their borders open, for the network to find in the image."""
    scales: list[float] = [1.0, 1.25]
    """Image scales whose probabilities are averaged when slices are labelled."""
    slice_smoothing: float = Field(0.0, ge=0)
    """Standard deviation, in slices, of a Gaussian along the stack by which these probabilities are smoothed: what a
    slice shows, its neighbours show, too. 0: none."""
    one_object: bool = False
    """Where the network labels, all classes together are one object per volume: pixels outside the largest become
    doubtful. Not for lesions and other things of which there are several."""
    one_piece: list[str] = []
    """Classes that are one piece per slice: where the network labels, other pieces than the largest become doubtful. A
    merged class (`data.groups`) is one piece if all its members are named."""
    synthetic_share: float = Field(0.33, ge=0, lt=1)
    """Share of synthetic slices in a batch; for priors that draw some."""

    @field_validator("names")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        known = known_priors()
        for name in names:
            if name not in known:
                raise ValueError(f"unknown prior {name!r}. {suggestion(name, known)}")
        if len(set(names)) != len(names):
            raise ValueError("names a prior more than once")
        teachers = [name for name in names if draws_slices(name)]
        if len(teachers) > 1:
            raise ValueError(f"{' and '.join(teachers)} each train a teacher; name one of them")
        return names

    @model_validator(mode="after")
    def _tags_choose(self) -> PriorRounds:
        if self.proposals is not None and not self.use_tags:
            raise ValueError("proposals are chosen by tags; set use_tags: true or proposals: null")
        return self

    def settings_of(self, name: str) -> Section:
        """Return the settings of one prior; of one that registered itself later, its defaults."""
        found = getattr(self, name, None)
        return found if isinstance(found, Section) else prior_type(name).settings_type()

    def teacher(self) -> tuple[str, TeacherConfig] | None:
        """Return the name and the settings of the prior that trains a teacher, or None."""
        sections = ((name, self.settings_of(name)) for name in self.names)
        return next(((name, found) for name, found in sections if isinstance(found, TeacherConfig)), None)


def known_priors() -> dict[str, str]:
    """Return the priors of the registry and of installed packages, name -> "module:Class"."""
    return with_installed(PRIORS, "unia_med.priors")


def prior_type(name: str) -> type[Prior[Any]]:
    """Return the class of a prior."""
    found: type[Prior[Any]] = resolve(known_priors(), name, "prior")
    return found


def priors_that_know(classes: Sequence[str]) -> list[str]:
    """Return the names of the priors that know all of some classes, without regard to case."""
    wanted = {name.upper() for name in classes}
    return [name for name in known_priors() if wanted <= {one.upper() for one in prior_type(name).classes}]


def draws_slices(name: str) -> bool:
    """Return whether a prior draws synthetic slices, on which a teacher is trained."""
    return issubclass(prior_type(name).settings_type, TeacherConfig)


def refuse_unknown_classes(names: Sequence[str], data: DataConfig) -> None:
    """Raise a ValueError where a prior does not know a class of the run; names are compared without regard to case.

    Args:
        names: of priors.
        data: names the classes.
    """
    for name in names:
        known = prior_type(name).classes
        upper = {one.upper() for one in known}
        foreign = [one for one in data.classes if one.upper() not in upper]
        if foreign:
            raise ValueError(
                f"prior.names: the prior {name!r} knows the classes {', '.join(known)}; data.classes has "
                f"{', '.join(foreign)}. Remove {name!r} from prior.names, or name in data.classes what it knows"
            )


def labels_named(names: Sequence[str], data: DataConfig) -> tuple[int, ...]:
    """Return the labels 1..T of the run whose classes are named; a merged class needs all its members named.

    Args:
        names: of classes or of groups, without regard to case.
        data: names classes and groups.
    """
    wanted = {name.upper() for name in names}
    groups: Mapping[str, Sequence[str]] = data.groups or {name: [name] for name in data.classes}
    return tuple(
        label
        for label, (group, members) in enumerate(groups.items(), start=1)
        if group.upper() in wanted or {member.upper() for member in members} <= wanted
    )


def refuse_foreign_names(key: str, names: Sequence[str], data: DataConfig) -> None:
    """Raise a ValueError where a name is neither a class nor a group of the run.

    Args:
        key: the setting that holds the names, for the message.
        names: without regard to case.
        data: names classes and groups.
    """
    known = [*data.classes, *(name for name in data.groups or () if name not in data.classes)]
    foreign = [name for name in names if name.upper() not in {one.upper() for one in known}]
    if foreign:
        raise ValueError(f"{key} names {', '.join(foreign)}; the classes are {', '.join(known)}")


def _with_sections() -> type[PriorRounds]:
    """Return the model with a section for each prior that is known now."""
    sections: dict[str, Any] = {}
    for name in known_priors():
        kind = prior_type(name).settings_type
        sections[name] = (kind, kind())
    return create_model(
        "PriorConfig", __base__=PriorRounds, __module__=__name__, __doc__=PriorRounds.__doc__, **sections
    )


if TYPE_CHECKING:
    PriorConfig = PriorRounds
else:
    PriorConfig = _with_sections()
