"""Describes the training data of a run in words."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from unia_med.config.schema import RunConfig
from unia_med.names import number_of
from unia_med.report.overview import PARTS
from unia_med.report.run_folder import RunRecord
from unia_med.report.words import weights_phrase

_TAG_SOURCES = {
    "masks": "slice tags, derived from the masks of the training patients (research setting)",
    "csv": "slice or volume tags from a table",
    "labels": "slice tags, derived from the weak labels",
    "annotations": "image tags, from the annotations of objects",
    "onehot": "image tags from a list",
    "none": "no tags",
}


def training_section(run: RunRecord, counts: Mapping[str, int]) -> str:
    """Return the facts as a list of terms.

    Args:
        run: record of the training.
        counts: patients by part of the split; may be empty.
    """
    config, training = run.config, run.config.training
    facts = {
        "Method": f"{config.method.name}, network {config.network.backbone}",
        "Started from": weights_phrase(config.network.weights, training.start_from),
        "Labels": "; ".join(supervision(config)),
        "Prior": prior_sentence(config),
        "Data": f"{config.data.name}: {config.data.root or 'no folder named'}",
        "Patients": ", ".join(f"{counts[part]} {word}" for part, word in PARTS.items() if counts.get(part)),
        "Classes": ", ".join(config.data.target_classes),
        "Grid": f"{_spacing(config)}, {config.data.grid.size[0]} x {config.data.grid.size[1]} px",
        "Training": f"{training.iterations} iterations of {training.batch_size} slices, seed {config.seed}",
        "best.pt": "the last state" if training.keep_best_by == "none" else "highest validation Dice",
        "Temperature": _temperature(run),
        "Computed with": _environment(run),
    }
    rows = "".join(f"<dt>{escape(term)}</dt><dd>{escape(text)}</dd>" for term, text in facts.items() if text)
    return f'<dl class="facts">{rows}</dl>'


def supervision(config: RunConfig) -> list[str]:
    """Return the labels that training saw, a phrase for each source.

    Args:
        config: of the run.
    """
    tags = config.data.tags.source
    found = [_TAG_SOURCES.get(tags, f"tags: {tags}")]
    for source in config.data.labels:
        kind = "full masks" if source.kind == "masks" else source.kind
        origin = "from files"
        if source.source == "masks":
            origin = "of the data set" if source.kind == "masks" else "made from masks (research setting)"
        patients = source.patients
        whose = (
            ""
            if patients is None
            else f" of {number_of(patients if isinstance(patients, int) else len(patients), 'patient')}"
        )
        completed = "" if source.fill == "none" else f", completed by {source.fill}"
        found.append(f"{kind}{whose} {origin}{completed}")
    return found


def prior_sentence(config: RunConfig) -> str:
    """Return the anatomical priors by name.

    Args:
        config: of the run.
    """
    if not config.prior.names:
        return "none"
    return f"{', '.join(config.prior.names)}; {config.prior.rounds} rounds of labels"


def _spacing(config: RunConfig) -> str:
    spacing = config.data.grid.spacing_mm
    if config.data.grid.resize == "stretch":
        return "stretched to one size"
    return "stored pixels" if spacing is None else f"{spacing:g} mm pixels"


def _temperature(run: RunRecord) -> str:
    value = run.config.inference.temperature
    if run.calibration is not None and value == run.calibration.temperature:
        return f"{value:.3f}, fitted on {number_of(run.calibration.cases, 'validation volume')}"
    return "1, none was fitted" if value is None else f"{value:g}, set in the config"


def _environment(run: RunRecord) -> str:
    facts = run.environment
    if not facts:
        return ""
    packages = facts.get("packages") or {}
    parts = [f"unia_med {facts.get('unia_med', '?')}", f"Python {facts.get('python', '?')}"]
    parts += [f"{name} {packages[name]}" for name in ("torch", "monai") if packages.get(name)]
    return ", ".join([*parts, f"on {facts.get('device_name') or facts.get('device', '?')}"])
