"""Which label map feeds which term of UniA in one step: a function of settings and step, without any network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from unia_med.config.unia import UniaConfig

Source = Literal["auxiliary", "P1", "P2", "F"]
PIXEL_TERMS = ("segmentation", "dense_energy")
_GATES = {
    "token_contrast": "token_contrast",
    "affinity": "affinity",
    "segmentation": "segmentation",
    "dense_energy": "segmentation",
}


@dataclass(frozen=True)
class LabelPlan:
    """Labels and terms of one step [11, 16].

    Attributes:
        weights: of the terms that are on, by name.
        decoder: label of the decoder and of the dense energy.
        affinity: label of the affinity loss.
        distribution: label whose foreground the distribution map learns.
        contrast: label of the token contrast.
        trust_cam: row 1 of the mutual complementing refinement is on.
        agreement: row 2 is on.
    """

    weights: dict[str, float]
    decoder: Source
    affinity: Source
    distribution: Source
    contrast: Source
    trust_cam: bool
    agreement: bool

    @property
    def needed(self) -> frozenset[Source]:
        """The label maps that an active term reads."""
        readers: dict[str, Source] = {
            "segmentation": self.decoder,
            "dense_energy": self.decoder,
            "affinity": self.affinity,
            "distribution": self.distribution,
            "token_contrast": self.contrast,
        }
        return frozenset(source for term, source in readers.items() if term in self.weights)

    @property
    def needs_affinity(self) -> bool:
        """Whether the step needs the affinity between tokens: for its loss, or to make F."""
        return "affinity" in self.weights or "F" in self.needed


def label_plan(settings: UniaConfig, step: int, iterations: int) -> LabelPlan:
    """Return the plan of a step.

    Args:
        settings: of the method.
        step: iterations done so far.
        iterations: of the whole training, the scale of all gates.
    """

    def reached(gate: str) -> bool:
        start = getattr(settings.gates, gate)
        return start < 1 and step >= start * iterations - 1e-6

    final = reached("final_labels")
    weights = {
        name: weight
        for name, weight in settings.weights.model_dump().items()
        if weight > 0 and (name not in _GATES or reached(_GATES[name]))
    }
    decoder = _decoder_source(settings, final)
    form = settings.form
    return LabelPlan(
        weights=weights,
        decoder=decoder,
        affinity=(form.affinity_source or decoder) if final else "auxiliary",
        distribution=(form.distribution_source or decoder) if final else "auxiliary",
        contrast="auxiliary",
        trust_cam=reached("trust_cam"),
        agreement=reached("agreement"),
    )


def _decoder_source(settings: UniaConfig, final: bool) -> Source:
    """Return the label that the settings name; P2 replaces F until the final labels are used."""
    return "P2" if settings.label_source == "F" and not final else settings.label_source
