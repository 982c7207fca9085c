"""Multi-frame objects (DICOM PS3.3, C.7.6.16 and C.7.6.6): the place, time and scale of each frame in one file."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np

from unia_med.data.io.dicom.stack import Instance
from unia_med.data.io.dicom.values import directions, number, stated, vector

_ONE_IMAGE = "1.2.840.10008.5.1.4.1.1.4"  # MR Image Storage
_OF_FRAMES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "NumberOfFrames", "PixelData")


def enhanced_images(dataset: Any, whole: Instance) -> list[Instance]:
    """Return the frames of an enhanced object as images.

    Args:
        dataset: pydicom's, with its functional groups.
        whole: the header of the file as that of one image.
    """
    shared = dataset.get("SharedFunctionalGroupsSequence") or [None]
    frames = dataset.PerFrameFunctionalGroupsSequence
    numbers = _numbers(frames)
    return [_image((own, shared[0]), index, replace(whole, number=numbers[index])) for index, own in enumerate(frames)]


def timed_images(dataset: Any, whole: Instance) -> list[Instance]:
    """Return the frames of a classic multi-frame image of one place, a cine, as images.

    Args:
        dataset: pydicom's.
        whole: the header of the file as that of one image.

    Returns:
        The file as one image where its header gives no time to frames: they may be anything.
    """
    steps = vector(dataset, "FrameTimeVector", whole.frames)
    step = number(dataset, "FrameTime") or _step_of_rate(dataset)
    if whole.position is None or (steps is None and not step):
        return [whole]
    since = np.cumsum(steps) if steps is not None else np.arange(whole.frames) * (step or 0.0)
    start = whole.trigger_ms or 0.0
    return [
        replace(whole, index=index, number=index + 1, trigger_ms=start + float(since[index]))
        for index in range(whole.frames)
    ]


def _step_of_rate(dataset: Any) -> float | None:
    """Return ms from frame to frame where a header gives frames per second."""
    rate = number(dataset, "CineRate") or number(dataset, "RecommendedDisplayFrameRate")
    return 1000 / rate if rate and rate > 0 else None


def _numbers(frames: Any) -> list[int]:
    """Return numbers of frames by their dimensions, among which time is, or else in the order of the file."""
    values = [stated(_group((frame, None), "FrameContentSequence"), "DimensionIndexValues") for frame in frames]
    places = [tuple(value) if isinstance(value, Sequence) else () for value in values]
    if len({len(place) for place in places}) > 1 or len(set(places)) < len(places):
        return list(range(1, len(places) + 1))
    rank = {place: number for number, place in enumerate(sorted(places), start=1)}
    return [rank[place] for place in places]


def one_image(dataset: Any) -> Any:
    """Return the header of an enhanced object as that of a file of one image, without place and frames.

    Libraries that derive objects match several source files by their order, but frames of a file by their place alone,
    which all phases of a cine share.

    Args:
        dataset: pydicom's, without pixels; it is not changed.
    """
    import pydicom

    kept = pydicom.Dataset()
    for element in dataset:
        if element.keyword not in _OF_FRAMES and not element.keyword.startswith("Dimension"):
            kept[element.tag] = deepcopy(element)
    kept.SOPClassUID = _ONE_IMAGE
    return kept


def _image(groups: tuple[Any, Any], index: int, whole: Instance) -> Instance:
    """Return one frame; attributes missing from its own functional groups are read from the shared ones."""
    measures = _group(groups, "PixelMeasuresSequence")
    scale = _group(groups, "PixelValueTransformationSequence")
    heart = _group(groups, "CardiacSynchronizationSequence")
    content = _group(groups, "FrameContentSequence")
    kind = _group(groups, "MRImageFrameTypeSequence") or _group(groups, "CTImageFrameTypeSequence")
    echo = _group(groups, "MREchoSequence")
    before = _group(groups, "UnassignedPerFrameConvertedAttributesSequence")  # of files of one image each
    thickness = number(measures, "SliceThickness")
    types = tuple(map(str, kind.get("FrameType") or ()))
    return replace(
        whole,
        index=index,
        image_type=types or whole.image_type,
        position=vector(_group(groups, "PlanePositionSequence"), "ImagePositionPatient", 3),
        orientation=directions(_group(groups, "PlaneOrientationSequence")),
        pixel_spacing_mm=vector(measures, "PixelSpacing", 2),
        slice_spacing_mm=number(measures, "SpacingBetweenSlices") or thickness,
        thickness_mm=thickness,
        trigger_ms=_first_number(
            (heart, "NominalCardiacTriggerDelayTime"), (heart, "ActualCardiacTriggerDelayTime"), (before, "TriggerTime")
        ),
        temporal_position=number(content, "TemporalPositionIndex"),
        contrast=(*types, str(echo.get("EffectiveEchoTime"))),
        slope=number(scale, "RescaleSlope") or 1.0,
        intercept=number(scale, "RescaleIntercept") or 0.0,
    )


def _first_number(*places: tuple[Any, str]) -> float | None:
    found = (number(group, name) for group, name in places)
    return next((value for value in found if value is not None), None)


def _group(groups: tuple[Any, Any], name: str) -> Any:
    """Return the only item of a functional group of a frame, or an empty one."""
    for place in groups:
        found = place.get(name) if place is not None else None
        if found:
            return found[0]
    return {}
