"""Names a config may use, and the class behind each; nothing is imported until a name is resolved.

Adding a method is one file, one line here, one config and one test. From outside the package it is a file that the
config names, `method: {use: mine.py:MyMethod}`; or a name, `method: {name: custom, use: mine}`, of
`METHODS["mine"] = "my_module:MyMethod"` in Python or of an entry point of the group `unia_med.methods`.
"""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Mapping
from typing import Any

from unia_med.errors import UserError, suggestion

METHODS: dict[str, str] = {
    "partial": "unia_med.methods.partial:Partial",
    "unia": "unia_med.methods.unia:UniA",
    "cam": "unia_med.methods.cam:Cam",
    "affinitynet": "unia_med.methods.affinitynet:AffinityNet",
    "agmm": "unia_med.methods.agmm:Agmm",
    "aalr": "unia_med.methods.aalr:Aalr",
}
DATASETS: dict[str, str] = {
    "acdc": "unia_med.data.layouts.acdc:AcdcDataset",
    "volumes": "unia_med.data.layouts.volumes:VolumesDataset",
    "voc": "unia_med.data.layouts.voc:VocDataset",
    "coco": "unia_med.data.layouts.coco:CocoDataset",
}
CLASS_VALUES: dict[str, str] = {
    "acdc": "unia_med.data.layouts.class_values:ACDC",
    "coco": "unia_med.data.layouts.class_values:COCO",
    "voc": "unia_med.data.layouts.class_values:VOC",
}
"""Classes of layouts that have their own, with their values in the masks."""
BACKBONES: dict[str, str] = {
    "hybrid_lite0": "unia_med.nn.hybrid:HybridLite0",
    "lite0": "unia_med.nn.lite0:Lite0",
    "vit": "unia_med.nn.vit:TimmViT",
}
STEPS: dict[str, str] = {
    "labels": "unia_med.pipeline.steps:LabelStep",
    "train": "unia_med.pipeline.steps:TrainStep",
}
"""Steps of a recipe."""
PRIORS: dict[str, str] = {
    "phantom": "unia_med.cardiac.phantom.prior:PhantomPrior",
    "ring": "unia_med.cardiac.ring.prior:RingPrior",
}
"""Anatomical priors (`unia_med.priors.base`); from outside the package, entry points of the group `unia_med.priors`."""

SHAPES: dict[str, str] = {"heart": "unia_med.cardiac.shape:ShortAxisShape"}
"""What is known of the shape of classes when weak labels are completed (`unia_med.data.weak_labels.shape`)."""

CODES: dict[str, str] = {"heart": "unia_med.cardiac.terms:CODES"}
"""SNOMED CT codes and meanings by class name in capitals, for DICOM and the card of a bundle."""
LABEL_NOTES: dict[str, str] = {"heart": "unia_med.cardiac.terms:label_note"}
"""Functions from class names in label order to a note for the card of a bundle, or None."""

STACKS: dict[str, str] = {"heart": "unia_med.cardiac.stack:stack_kind"}
"""Functions from class names in label order to the slices that their model expects in a study (`data.io.dicom.kind`),
or None."""

MEASUREMENTS: dict[str, str] = {"heart": "unia_med.cardiac.results:measure_results"}
"""Functions that measure what `predict` wrote into a folder: (folder, classes) to lines for the user."""

REPORT_SECTIONS: dict[str, str] = {"heart": "unia_med.cardiac.section:heart_section"}
"""Functions that measure a patient's masks for the report: (patient, predicted, true, classes), their folder or None,
and frame numbers that the user names, by event, to a `report.quantities.PatientFindings`."""


def with_installed(kind_table: Mapping[str, str], group: str) -> dict[str, str]:
    """Return a table together with what installed packages offer as entry points; names of the table win.

    Args:
        kind_table: one of the tables of this module.
        group: of entry points, such as `unia_med.methods`.
    """
    points = _entry_points(tuple(sys.path)).select(group=group)
    return {point.name: point.value for point in points} | dict(kind_table)


@functools.cache
def _entry_points(path: tuple[str, ...]) -> importlib.metadata.EntryPoints | importlib.metadata.SelectableGroups:
    """Return what the packages on the import path offer; looking into each of them takes tens of milliseconds."""
    return importlib.metadata.entry_points()


def resolve(kind_table: Mapping[str, str], name: str, kind: str = "name") -> Any:
    """Import the object that a name stands for.

    Args:
        kind_table: one of the tables of this module, name -> "module:Class".
        name: the name as written in a config.
        kind: what the name names, for the error message.

    Raises:
        UserError: the name is in no table; the message holds the nearest one.

    Example:
        >>> resolve({"ordered": "collections:OrderedDict"}, "ordered").__name__
        'OrderedDict'
    """
    if name not in kind_table:
        raise UserError(f"unknown {kind} '{name}'", remedy=suggestion(name, kind_table))
    module, _, attribute = kind_table[name].partition(":")
    return getattr(importlib.import_module(module), attribute)
