"""Advice from statistics: what to expect of these labels, and what would help."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from unia_med.config.prior import priors_that_know
from unia_med.data.weak_labels.meaning import DRAWN_KINDS
from unia_med.inspection.statistics import learns_from_masks
from unia_med.names import number_of

if TYPE_CHECKING:
    from unia_med.config.schema import RunConfig

_FEW_SLICES = 10
_FEW_PATIENTS = 5
_SPACING_RATIO = 1.5  # largest over smallest pixel size that one network still sees as one scale
_FAR = 0.3  # share of pixels far from any label that is worth a word
_SHOWN = 3  # names of cases in a sentence
_SCARCE = 0.1  # share of background below which completing it is worth a word


def advise(report: dict[str, Any], config: RunConfig) -> list[str]:
    """Return advice, the most important first; empty where nothing stands out.

    Args:
        report: What `describe` gives.
        config: The run that is planned.
    """
    dense = learns_from_masks(config.data)
    return [
        *_nothing(config),
        *([] if dense else _separation(report["tags"], config)),
        *([] if dense else _whole_volumes(report["tags"], config)),
        *([] if dense else _tags(report["tags"], config.data.tags.source)),
        *_labels(report["labels"], config, "mm" if report["images"].get("spacing_mm") else "pixels"),
        *_patients(report["cases"]),
        *_copies(report["copies"]),
        *_images(report["images"], config),
    ]


def _nothing(config: RunConfig) -> Iterator[str]:
    tags = config.data.tags.source
    if not config.data.labels and not config.prior.names and tags in ("none", "labels"):
        yield (
            "There is nothing to learn from: this config names no labels on pixels (data.labels) and no tags "
            "(data.tags). Draw scribbles, points, boxes or masks, or write a table of tags, and call `unia-med init` "
            "again."
        )


def _separation(tags: dict[str, Any], config: RunConfig) -> Iterator[str]:
    pairs = [pair for pair in tags["pairs"] if pair["apart"] is not None and not pair["separable"]]
    for pair in pairs:
        first, second = pair["classes"]
        apart = pair["only_first"] + pair["only_second"]
        either = apart + pair["both"]
        yield (
            f"Slice tags cannot separate {first} and {second}: of {either} slices that show either, only {apart} "
            f"({_percent(pair['apart'])}) are known to show one without the other. From tags alone, a network cannot "
            f"learn where one ends and the other begins. What helps: {_remedies(first, second, config)}."
        )


def _remedies(first: str, second: str, config: RunConfig) -> str:
    kept = [name for name in config.data.target_classes if name not in (first, second)]
    groups = ", ".join([*(f"{name}: [{name}]" for name in kept), f"{first}_{second}: [{first}, {second}]"])
    options = [f"merge them (data.groups: {{{groups}}})"]
    if config.prior.names:
        options.append(f"the anatomical prior, which this config has switched on (prior.names: {config.prior.names})")
    elif fitting := priors_that_know(config.data.target_classes):
        options.append(f"an anatomical prior that knows these classes (prior.names: one of {', '.join(fitting)})")
    if config.data.labels:
        options.append("the labels on pixels that this config reads (data.labels)")
    else:
        options.append("scribbles, points or boxes in a few patients (data.labels), in addition to the tags of all")
    return ", or ".join((", ".join(options[:-1]), options[-1])) if len(options) > 1 else options[0]


def _whole_volumes(tags: dict[str, Any], config: RunConfig) -> Iterator[str]:
    """Yield what tags without a slice teach, and the rows that would teach more."""
    whole = tags["whole_volumes"]
    if not whole:
        return
    names, first = config.data.classes, whole[0]
    table = config.data.tags.path.name if config.data.tags.path else "the table of tags"
    row = ",".join([first, "0", "1", *["0"] * (len(names) - 1)])
    yield (
        f"{table} names no slice of {number_of(len(whole), 'training volume')} ({_some(whole)}). For the whole "
        "volume, 0 says that no slice shows the class; 1 says that some slice does, not which one, and a network that "
        "learns from slices learns nothing from it. Tags of slices teach more: give the table a column slice, and a "
        "row for each slice that you look at, in a few volumes first. The head is then "
        f"image,slice,{','.join(names)}, and a row {row} says that slice 0 (the first along the stored axis) shows "
        f"{names[0]}{' and nothing else' if len(names) > 1 else ''}. Or draw scribbles, points or boxes in a few "
        "volumes."
    )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _tags(tags: dict[str, Any], source: str) -> Iterator[str]:
    total = tags["slices"]
    if not total and source in ("labels", "none"):
        return
    if not total:
        yield "There are no tags to look at: fix the faults above, or train with labels on pixels (data.labels)."
        return
    for name in tags["classes"]:
        present, absent, unknown = (tags[kind][name] for kind in ("present", "absent", "unknown"))
        if unknown == total:
            yield f"Nothing is known of {name}: no slice has a tag for it."
        elif not present:
            yield f"No slice is known to show {name}, so it cannot be learnt from tags."
        elif present < _FEW_SLICES:
            yield f"{name} is tagged in only {number_of(present, 'slice')}; expect little of it, or annotate more."
        elif not absent:
            yield f"No slice is known to lack {name}: its tags carry no contrast. Tag slices without it as 0."
        elif tags["effective_negatives"][name] < _FEW_SLICES and len(tags["classes"]) > 1:
            negatives = tags["effective_negatives"][name]
            yield (
                f"{name} is absent in {number_of(negatives, 'slice') if negatives else 'no slice'} with another class. "
                "Slices that are empty altogether are easy, so they teach little about where it is."
            )
    if tags["untagged_slices"] > total / 2 and not tags["whole_volumes"]:
        yield (
            f"{tags['untagged_slices']} of {total} slices have no tag at all: add rows for them (column slice), or "
            "labels on pixels in some of them (data.labels)."
        )


def _labels(entries: list[dict[str, Any]], config: RunConfig, unit: str) -> Iterator[str]:
    for entry in entries:
        yield from _by_intensity(entry)
        kind = entry["kind"]
        if entry["source"] != "files":
            count = entry["training_cases"]
            if 0 < entry["cases"] < count:
                lacking = f"{count - entry['cases']} of {count} training cases"
                yield f"{lacking} without a mask teach nothing yet; `unia-med next` chooses what to annotate."
            continue
        if not entry["cases"]:
            yield f"No training case has {kind}."
            continue
        missing = [name for name, pixels in entry["pixels"].items() if not pixels]
        if missing:
            yield f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} never marked by the {kind}."
        if not entry["background_pixels"] and kind != "boxes":
            mark = (
                "Draw some with a value of its own, and set background_value to it in data.labels"
                if entry["background_value"] is None
                else f"Mark some background (value {entry['background_value']})"
            )
            yield (
                f"Background is never marked by the {kind}: a network that calls everything a class makes no mistake. "
                f"{mark}; strokes close to the structures teach most."
            )
        yield from _coverage(entry, unit)
        if entry["slices_without_label"] > entry["slices"] / 2 and not config.training.labelled_share:
            yield (
                f"{entry['slices_without_label']} of {entry['slices']} training slices have no {kind}; set "
                "training.labelled_share, so that every batch holds some that have."
            )


def _by_intensity(entry: dict[str, Any]) -> Iterator[str]:
    """Yield what came of completing labels by intensity in a few cases."""
    tried = entry.get("by_intensity")
    if not tried or not tried["cases"]:
        return
    count = len(tried["cases"])
    for pair in tried["alike"]:
        one, other = pair["classes"]
        yield (
            f"fill: intensity cannot separate {one} and {other} in {pair['cases']} of {number_of(count, 'case')} "
            "tried: their intensities are alike at the labels, so pixels between them stay without a label. Draw "
            "scribbles and complete them by walks along edges (fill: walker), or as drawn (fill: rule)."
        )
    yield (
        f"fill: intensity labels {_percent(1 - tried['open_share'])} of the open pixels of {_some(tried['cases'])}; "
        "the others stay without a label."
    )


def _coverage(entry: dict[str, Any], unit: str) -> Iterator[str]:
    """Yield what the place of the labels means for what a network can learn from them."""
    kind, cases = entry["kind"], entry["cases"]
    some = {name: cases - lacking for name, lacking in entry["cases_without_class"].items() if 0 < lacking < cases}
    for name, drawn in some.items():
        yield f"{name} is drawn in {drawn} of {cases} annotated cases. " + (
            "In the others the masks say that it is not there; if it was not drawn there, separate them by patients."
            if kind == "masks"
            else "In the others it counts as unknown; if it is not there, set marks_every_class: true in data.labels."
        )
    if entry["fill"] != "none":
        return
    if kind in DRAWN_KINDS and entry["far_share"] > _FAR:
        yield (
            f"{_percent(entry['far_share'])} of the pixels of annotated slices lie far from any of the {kind}, "
            f"more than {entry['far_mm']:.3g} {unit} (a tenth of the slice's side): nothing says what is there, and a "
            "network may call it anything. Mark background there too, or complete it from the background that is drawn "
            "(fill: rule)."
        )
    if kind in DRAWN_KINDS and 0 < entry["background_share"] < _SCARCE:
        yield (
            f"Background is {100 * entry['background_share']:.1f} % of the pixels of annotated slices. If it is a loop "
            "or points round the structures, fill: rule makes background of all that lies beyond."
        )


def _patients(cases: dict[str, Any]) -> Iterator[str]:
    patients = cases["patients"]
    if patients.get("train", 0) < _FEW_PATIENTS:
        trained = patients.get("train", 0)
        verb = "trains" if trained == 1 else "train"
        yield f"Only {number_of(trained, 'patient')} {verb}; results will depend on which."
    if not patients.get("val") and cases["with_mask"]:
        yield "No patient validates, so a run has no score (data.split)."
    elif patients.get("val") and not cases["val_with_mask"]:
        yield (
            "No validation case has a mask, so a run has no score, and the labels of these cases teach nothing. Give "
            "all cases to the training (data.split: {kind: fractions, fractions: [1, 0, 0]}), or draw masks of these."
        )


def _copies(copies: list[list[str]]) -> Iterator[str]:
    if copies:
        names = " and ".join(copies[0][:2])
        yield f"{number_of(len(copies), 'image')} with more than one copy, such as {names}: keep one of each."


def _images(images: dict[str, Any], config: RunConfig) -> Iterator[str]:
    grid = config.data.grid
    if not images or grid.units == "pixels" or "spacing_mm" not in images:
        return
    sides = images["spacing_mm"][:2]
    ratio = max(side["max"] for side in sides) / min(side["min"] for side in sides)
    if grid.spacing_mm is None and ratio > _SPACING_RATIO:
        middle = sorted(side["median"] for side in sides)[0]
        yield (
            f"Pixel sizes differ {ratio:.1f}-fold, so a structure has many sizes in pixels: set "
            f"data.grid.spacing_mm, e.g. {middle:.2g}."
        )
    if len(images["orientations"]) > 1 and grid.slice_axis == "stored":
        shown = ", ".join(f"{codes} ({count})" for codes, count in images["orientations"].items())
        yield f"Images are stored in several orientations: {shown}. Set data.grid.slice_axis to turn them alike."
    if grid.slice_axis == "stored" and images["slices"][0]["median"] > 1:
        gaps = [side["median"] for side in images["spacing_mm"]]
        if max(gaps[:2]) > _SPACING_RATIO * gaps[2]:
            yield (
                f"Slices are cut along the third stored axis, which has the finest spacing ({gaps[2]:.2g} mm against "
                f"{max(gaps[:2]):.2g} mm): that may not be the plane in which it was scanned (data.grid.slice_axis)."
            )
    if grid.spacing_mm is not None:
        sees = [size * grid.spacing_mm for size in grid.size]
        extents = [side["median"] for side in images["extent_mm"][:2]]
        if grid.slice_axis == "stored" and any(extent > 1.5 * seen for extent, seen in zip(extents, sees, strict=True)):
            yield (
                f"The network sees the central {sees[0]:.0f} x {sees[1]:.0f} mm of images of {extents[0]:.0f} x "
                f"{extents[1]:.0f} mm (medians): make sure that nothing wanted lies outside (data.grid)."
            )


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
