"""What a bundle says about itself: labels, training, scores and the path of an image, all read from the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import yaml

from unia_med import __version__
from unia_med.config.load import plain
from unia_med.config.schema import RunConfig
from unia_med.data.io.dicom.seg import known_codes
from unia_med.data.io.orientation import AXIS_CODES
from unia_med.errors import UserError
from unia_med.files import read_rows
from unia_med.inference.likeness import read_likeness
from unia_med.inference.tta import chosen_views
from unia_med.names import number_of
from unia_med.registry import LABEL_NOTES, resolve
from unia_med.run_files import RunFiles

REQUIRED_PACKAGES = ("nibabel", "pytorch-ignite", "fire", "scipy")
"""What a bundle needs besides MONAI, PyTorch and numpy."""

_REFERENCES = {
    "unia": "Yang et al., UniA, IEEE TMM 2025, arXiv:2404.08195",
    "agmm": "Wu et al., Adaptive Gaussian Mixture Model, CVPR 2023",
    "cam": "Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016",
    "affinitynet": "Ahn and Kwak, AffinityNet, CVPR 2018",
    "partial": "Tang et al., On Regularized Losses for Weakly-supervised CNN Segmentation, ECCV 2018",
}
_ACDC_TERMS = (
    "Where the training images are those of the ACDC challenge (Bernard et al., IEEE TMI 2018), which are for "
    "non-commercial research, CC BY-NC-SA 4.0, whoever passes the weights on has to respect these terms. "
)
_OWN_TERMS = "The terms of the training data hold for the weights, too; ask whoever trained them."
_INTENDED_USE = (
    "Research on images like those of the training data. Not a medical device: nobody has tested it for clinical use, "
    "and no diagnosis or treatment may rest on it. Look at every mask."
)


def card(config: RunConfig, run: Path, step: int | None, name: str) -> dict[str, Any]:
    """Values for the templates of metadata and README.

    Args:
        config: of the run.
        run: run folder, whose `metrics.csv` is read.
        step: iterations after which the exported weights were stored; None where that is unknown.
        name: of the bundle's folder.
    """
    classes = config.data.target_classes
    scores = read_scores(RunFiles(run).metrics, step)
    cine = config.data.channels == 1
    return {
        "bundle_name": name.replace("_", " "),
        "folder_name": name,
        "run_name": run.resolve().name,
        "unia_med_version": __version__,
        "description": _description(config),
        "authors": "whoever trained the run; exported by unia_med",
        "copyright": "see LICENSE",
        "data_source": _data_source(config),
        "modality": _modality(config, run),
        "modality_tag": _modality_tag(_modality(config, run)),
        "class_names": ", ".join(classes),
        "image_classes": "one volume (x, y, slice), or a cine (x, y, slice, frame)" if cine else "one volume",
        "label_classes": ", ".join(f"{value} {name}" for name, value in config.data.mask_values.items()),
        "pred_classes": ", ".join(f"{value} {name}" for value, name in enumerate(classes, 1)),
        "channel_def": {"0": "background", **{str(value): name for value, name in enumerate(classes, 1)}},
        "image_channels": {str(index): "image" for index in range(config.data.channels)},
        "eval_metrics": {name: value for name, value in scores.items() if name.startswith("val_dice")},
        "intended_use": _INTENDED_USE,
        "references": [_REFERENCES[config.method.name]] if config.method.name in _REFERENCES else [],
        "label_table": _label_table(classes),
        "label_note": _label_note(config),
        "path_table": _table(["step", "what is done"], _path(config)),
        "training": _training(config, step),
        "scores": _scores_text(scores),
        "data_licence": _ACDC_TERMS * _on_acdc(config) + _OWN_TERMS,
        **_versions(),
    }


def read_scores(path: Path, step: int | None) -> dict[str, float]:
    """Return the exported weights' validation Dice by column of `metrics.csv`, and their `step`; empty without any.

    Args:
        path: of the file.
        step: iterations; the last row is taken where no row has it.
    """
    if not path.is_file():
        return {}
    rows = read_rows(path)
    chosen = [row for row in rows if row.get("step") == str(step)] or rows
    if not chosen:
        return {}
    wanted = {name: value for name, value in chosen[-1].items() if value and _is_score(name)}
    try:
        return {name: round(float(value), 4) for name, value in wanted.items()}
    except ValueError as error:
        raise UserError(f"is no table of numbers ({error})", path, "Restore the run's own file") from error


def settings_text(config: RunConfig) -> str:
    """Return the run's config as YAML; of paths only the last part, since a bundle goes to other people.

    Args:
        config: of the run.
    """
    return yaml.safe_dump(_without_paths(plain(config)), sort_keys=False, default_flow_style=None, width=100)


def _is_score(name: str) -> bool:
    return name == "step" or name == "val_dice" or name.startswith("val_dice_")


def _versions() -> dict[str, Any]:
    return {
        "monai_version": metadata.version("monai"),
        "pytorch_version": metadata.version("torch").partition("+")[0],
        "numpy_version": metadata.version("numpy"),
        "required_packages": {name: metadata.version(name) for name in REQUIRED_PACKAGES},
    }


def _on_acdc(config: RunConfig) -> bool:
    return config.data.name == "acdc"


def _description(config: RunConfig) -> str:
    return (
        f"Segments {', '.join(config.data.target_classes)} in volumes of slices with the method {config.method.name}, "
        f"trained from {' and '.join(_supervision(config))}."
    )


def _data_source(config: RunConfig) -> str:
    if _on_acdc(config):
        return "A data set in the layout of ACDC (Automated Cardiac Diagnosis Challenge)"
    return f"A data set of the kind {config.data.name}"


_TAGS_FROM = {
    "masks": "derived from masks",
    "csv": "from a table",
    "annotations": "from the data set's annotations",
    "onehot": "from a list of vectors",
}
"""Where tags come from that say more than the labels on pixels."""


def _supervision(config: RunConfig) -> list[str]:
    """Return what the network learned from, in words."""
    kinds = [f"{source.kind}{_of_patients(source.patients)}" for source in config.data.labels]
    origin = _TAGS_FROM.get(config.data.tags.source)
    if origin is not None and not any(source.kind == "masks" for source in config.data.labels):
        kinds.append(f"slice tags ({origin})")
    kinds += [f"the {name} prior" for name in config.prior.names]
    return kinds or ["images alone"]


_UNKNOWN = "not stated"


def _modality(config: RunConfig, run: Path) -> str:
    """Return what the run's images are, as far as the data tell."""
    likeness = read_likeness(RunFiles(run).images)
    if likeness is not None and likeness.modalities == ["CT"]:
        return "CT"
    return "MR" if config.data.name == "acdc" else _UNKNOWN


def _modality_tag(modality: str) -> str:
    """Return a tag by which model hubs find the bundle."""
    return "weakly-supervised" if modality == _UNKNOWN else modality


def _of_patients(patients: int | list[str] | None) -> str:
    count = len(patients) if isinstance(patients, list) else patients
    return "" if count is None else f" of {number_of(count, 'patient')}"


def _label_table(classes: Sequence[str]) -> str:
    """Return the labels with what short names stand for, where any is known."""
    rows = [["0", "background", ""], *([str(v), name, _meaning(name)] for v, name in enumerate(classes, 1))]
    if not any(row[2] for row in rows):
        return _table(["value", "label"], [row[:2] for row in rows])
    return _table(["value", "label", "name"], rows)


def _label_note(config: RunConfig) -> str:
    notes = (resolve(LABEL_NOTES, name)(config.data.target_classes) for name in LABEL_NOTES)
    found = [note for note in notes if note]
    return " ".join(found) or "Labels are numbered in the order of the training run's classes."


def _meaning(name: str) -> str:
    return known_codes().get(name.upper(), ("", ""))[1]


def _path(config: RunConfig) -> list[list[str]]:
    grid, rest = config.data.grid, config.inference.postprocess
    axis = grid.slice_axis
    turned = "axes stay as stored, slices lie along the third one; short-axis stacks are oblique, and turning them to "
    turned += "RAS could swap the slice axis"
    spacing = f"{grid.spacing_mm:g} mm in plane, linear; slice distance unchanged" if grid.spacing_mm else "none"
    low, high = grid.percentiles or (0, 100)
    fourth = "frames" if config.data.channels == 1 else "channels"
    cleaned = [f"{n} {u if isinstance(u, str) else ''}".replace("_", " ").strip() for n, u in rest if u]
    return [
        ["loading", f"NIfTI; the fourth axis of a file holds the {fourth}"],
        ["orientation", turned if axis == "stored" else f"turned to {AXIS_CODES[axis]}, {axis} slices"],
        ["intensity", f"percentiles {low:g} and {high:g} of each volume become 0 and 1, values beyond are clipped"],
        ["resampling", spacing],
        ["crop", f"centre, {grid.size[0]} x {grid.size[1]} pixels, padded with 0"],
        ["network", f"{config.inference.batch_slices} slices at a time{_views(config)}"],
        *_walk(config),
        *_along_stack(config),
        ["inverse", "probabilities resampled linearly to the image's grid; outside the crop: background"],
        ["uncertainty", f"entropy of the probabilities divided by log {len(config.data.target_classes) + 1}"],
        ["labels", "largest probability"],
        ["cleaning", ", ".join(cleaned) or "none"],
        ["saving", "shape, affine, units and frame spacing of the image"],
    ]


def _walk(config: RunConfig) -> list[list[str]]:
    walker = config.inference.walker
    if walker is None:
        return []
    text = f"where all classes together have {walker.background:g} to {walker.foreground:g}, the mean of the network's "
    weight = "" if walker.share == 0.5 else f" (weight {walker.share:g})"
    odds = "" if walker.background_odds == 1 else f"; the odds of the background times {walker.background_odds:g}"
    return [["unsure pixels", f"{text}probabilities and of a random walk's from the other pixels{weight}{odds}"]]


def _views(config: RunConfig) -> str:
    if not config.inference.tta.by_default:
        return ""
    mirrored, scales = chosen_views(config.inference.tta)
    sizes = ", ".join(f"{scale:g}" for scale in scales)
    return f"; mean of the probabilities at sizes of {sizes}{', plain and mirrored' if mirrored else ''}"


def _along_stack(config: RunConfig) -> list[list[str]]:
    sigma = config.inference.slice_smoothing
    text = f"probabilities averaged over neighbouring slices, a Gaussian with a standard deviation of {sigma:g} slices"
    return [["along the stack", text]] if sigma else []


def _training(config: RunConfig, step: int | None) -> str:
    lines = [
        f"{_data_source(config)}, split by patient ({config.data.split.kind}).",
        f"Supervision: {'; '.join(_supervision(config))}.",
        f"Method `{config.method.name}`, network `{config.network.backbone}`, "
        f"start weights `{_name(config.network.weights)}`.",
        f"{config.training.iterations} iterations of {config.training.batch_size} slices"
        + ("." if step is None else f"; the weights are those after iteration {step}."),
    ]
    return "\n".join(f"- {line}" for line in lines)


def _scores_text(scores: Mapping[str, float]) -> str:
    found = {name: value for name, value in scores.items() if name != "step"}
    if not found:
        return "The run holds no validation scores. Score the bundle on your own masks before you use it."
    names = {name: name.removeprefix("val_dice").lstrip("_") or "mean" for name in found}
    table = _table(list(names.values()), [[f"{value:.3f}" for value in found.values()]])
    return f"Mean 3D Dice of the run's validation cases after iteration {scores.get('step', 0):g}:\n\n{table}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _without_paths(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_paths(item) for item in value]
    return _name(value) if isinstance(value, str) else value


def _name(text: str) -> str:
    for kind in (PurePosixPath, PureWindowsPath):
        if kind(text).is_absolute():
            return kind(text).name
    return text
