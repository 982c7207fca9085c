"""Statistics of tags, sparse labels and images, as plain numbers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unia_med.data.weak_labels.meaning import Background
from unia_med.data.weak_labels.tags import group_members, group_tags
from unia_med.inspection.case_facts import CaseFacts, LabelFacts
from unia_med.labels import TAG_ABSENT, TAG_PRESENT, TAG_UNKNOWN

if TYPE_CHECKING:
    from unia_med.config.schema import DataConfig
    from unia_med.inspection.faults import Walk

INSEPARABLE = 0.10
"""Below this share of slices with one class of a pair among those with either, tags do not separate the two."""


def describe(found: Walk, config: DataConfig) -> dict[str, Any]:
    """Return all statistics as plain types, keyed `cases`, `images`, `tags`, `labels` and `copies`.

    Args:
        found: The walked data set.
        config: The data part of the config.
    """
    training = [one for one in found.facts if found.parts.get(one.files.name) == "train"]
    tags = dict(found.tags)
    if config.groups:
        tags = {case: group_tags(rows, config.classes, config.groups) for case, rows in tags.items()}
    return {
        "cases": _counts(found),
        "images": image_statistics(found.facts),
        "tags": {
            **tag_statistics(list(tags.values()), config.target_classes),
            "whole_volumes": list(found.whole),
            "of_masks": learns_from_masks(config),
        },
        "labels": label_statistics(training, config),
        "copies": _copies(found.facts),
    }


def learns_from_masks(config: DataConfig) -> bool:
    """Return whether masks are learned from and no tags, so that what tags can separate does not matter."""
    return config.tags.source == "none" and any(source.kind == "masks" for source in config.labels)


def tag_statistics(tags: Sequence[np.ndarray], classes: Sequence[str]) -> dict[str, Any]:
    """Return counts of slices by tag, for each class and for each pair of classes.

    Args:
        tags: int8 (Z, T) per case.
        classes: The T classes.

    Example:
        >>> found = tag_statistics([np.array([[1, 1], [1, 1], [0, 0], [1, 0]])], ["A", "B"])
        >>> found["together"], found["effective_negatives"], found["pairs"][0]["apart"]
        ([[3, 2], [2, 2]], {'A': 0, 'B': 1}, 0.3333333333333333)
    """
    rows = np.concatenate(tags) if tags else np.zeros((0, len(classes)), np.int8)
    present, absent = rows == TAG_PRESENT, rows == TAG_ABSENT
    others = present.sum(1, keepdims=True) - present > 0
    named = dict(enumerate(classes))
    return {
        "slices": len(rows),
        "classes": list(classes),
        "present": {named[t]: int(n) for t, n in enumerate(present.sum(0))},
        "absent": {named[t]: int(n) for t, n in enumerate(absent.sum(0))},
        "unknown": {named[t]: int(n) for t, n in enumerate((rows == TAG_UNKNOWN).sum(0))},
        "empty_slices": int(absent.all(1).sum()) if len(rows) else 0,
        "untagged_slices": int((rows == TAG_UNKNOWN).all(1).sum()) if len(rows) else 0,
        "effective_negatives": {named[t]: int(n) for t, n in enumerate((absent & others).sum(0))},
        "together": (present.T.astype(np.int64) @ present.astype(np.int64)).tolist(),
        "pairs": [
            _pair(present, absent, a, b, classes) for a in range(len(classes)) for b in range(a + 1, len(classes))
        ],
    }


def _pair(present: np.ndarray, absent: np.ndarray, a: int, b: int, classes: Sequence[str]) -> dict[str, Any]:
    both = int((present[:, a] & present[:, b]).sum())
    only_a, only_b = int((present[:, a] & absent[:, b]).sum()), int((absent[:, a] & present[:, b]).sum())
    either = both + only_a + only_b
    apart = (only_a + only_b) / either if either else None
    return {
        "classes": [classes[a], classes[b]],
        "both": both,
        "only_first": only_a,
        "only_second": only_b,
        "apart": apart,
        "separable": apart is not None and apart >= INSEPARABLE,
    }


def label_statistics(training: Sequence[CaseFacts], config: DataConfig) -> list[dict[str, Any]]:
    """Return, per entry of `data.labels`, labelled pixels by class and where there are none.

    Args:
        training: Facts of the training cases.
        config: The data part of the config.
    """
    groups = config.groups or {name: [name] for name in config.classes}
    members = group_members(config.classes, groups)
    entries = []
    for position, source in enumerate(config.labels):
        entry: dict[str, Any] = {"kind": source.kind, "source": source.source}
        if source.source == "masks":
            masked = sum(one.files.mask is not None for one in training)
            entry |= {"training_cases": len(training), "cases": masked}
        if source.source == "files":
            facts = [one.labels[position] for one in training if position in one.labels]
            pixels = sum((fact.pixels for fact in facts), np.zeros(len(config.classes) + 1, np.int64))
            slices = sum(one.slices for one in training)
            entry |= {
                "fill": source.fill,
                "background_value": source.background_value,
                "cases": len(facts),
                "training_cases": len(training),
                "background_pixels": int(pixels[0]),
                "pixels": {
                    name: int(pixels[[m + 1 for m in group]].sum()) for name, group in zip(groups, members, strict=True)
                },
                "slices": slices,
                "slices_without_label": slices - sum(fact.slices for fact in facts),
                "cases_without_class": _lacking(facts, groups, members),
                "far_share": _far_share(facts),
                "far_mm": round(float(np.median([fact.far_mm for fact in facts])), 3) if facts else 0.0,
                "pieces": _pieces(facts, groups, members),
                "background_share": sum((f.background for f in facts if f.background), Background()).share,
            }
        entries.append(entry)
    return entries


def _lacking(
    facts: Sequence[LabelFacts], groups: Mapping[str, Any], members: Sequence[Sequence[int]]
) -> dict[str, int]:
    """Labelled cases in which a class is nowhere marked."""
    return {
        name: sum(not fact.pixels[[m + 1 for m in group]].any() for fact in facts)
        for name, group in zip(groups, members, strict=True)
    }


def _far_share(facts: Sequence[LabelFacts]) -> float:
    """Return the share of the pixels of annotated slices that lie far from any label; see `LabelFacts`."""
    far, pixels = (sum(fact.far[i] for fact in facts) for i in (0, 1))
    return far / pixels if pixels else 0.0


def _pieces(facts: Sequence[LabelFacts], groups: Mapping[str, Any], members: Sequence[Sequence[int]]) -> dict[str, int]:
    """Return how many connected pieces of each class were drawn, counted slice by slice; nothing for boxes."""
    counted = [fact.pieces for fact in facts if fact.pieces is not None]
    if not counted:
        return {}
    total = np.sum(counted, axis=0)
    return {name: int(total[list(group)].sum()) for name, group in zip(groups, members, strict=True)}


def image_statistics(facts: Sequence[CaseFacts]) -> dict[str, Any]:
    """Return smallest, median and largest size, spacing and intensity, and how the images are oriented.

    Spacing, extent and orientation are those of scans; without any, as in a set of pictures, they are missing.
    """
    sizes = [(one, one.shape, one.intensity) for one in facts if one.shape is not None and one.intensity is not None]
    if not sizes:
        return {}
    intensity = np.array([found for _, _, found in sizes])
    statistics = {
        "size": _spread(np.array([shape for _, shape, _ in sizes])),
        "slices": _spread(np.array([[one.slices] for one, _, _ in sizes])),
        "intensity": dict(zip(("p1", "p50", "p99"), (_triple(column) for column in intensity.T), strict=True)),
    }
    scans = [(one.orientation, shape, one.spacing_mm) for one, shape, _ in sizes if one.spacing_mm is not None]
    if not scans:
        return statistics
    return statistics | {
        "spacing_mm": _spread(np.array([spacing for _, _, spacing in scans])),
        "extent_mm": _spread(np.array([np.multiply(shape, spacing) for _, shape, spacing in scans])),
        "orientations": dict(Counter(orientation for orientation, _, _ in scans).most_common()),
    }


def _counts(found: Walk) -> dict[str, Any]:
    counts: dict[str, Any] = {"all": len(found.facts), "with_mask": sum(o.files.mask is not None for o in found.facts)}
    kept = [one for one in found.facts if found.parts.get(one.files.name) == "val"]
    counts["val_with_mask"] = sum(one.files.mask is not None for one in kept)
    patients: dict[str, set[str]] = defaultdict(set)
    for one in found.facts:
        patients[found.parts.get(one.files.name, "unused")].add(one.files.patient)
    counts["patients"] = {part: len(names) for part, names in patients.items()}
    parts = Counter(found.parts.get(one.files.name, "unused") for one in found.facts)
    return {**counts, "parts": dict(parts)}


def _copies(facts: Sequence[CaseFacts]) -> list[list[str]]:
    """Return groups of cases whose images hold the same voxels."""
    same: dict[str, list[str]] = defaultdict(list)
    for one in facts:
        if one.digest is not None:
            same[one.digest].append(one.files.name)
    return [names for names in same.values() if len(names) > 1]


def _spread(values: np.ndarray) -> list[dict[str, float]]:
    return [_triple(column) for column in values.T]


def _triple(column: np.ndarray) -> dict[str, float]:
    return {"min": float(column.min()), "median": float(np.median(column)), "max": float(column.max())}
