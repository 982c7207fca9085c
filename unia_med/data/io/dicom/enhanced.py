"""Enhanced multi-frame objects (DICOM PS3.3, C.7.6.16): the place, time and scale of each frame in one file."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from unia_med.data.io.dicom.stack import Instance
from unia_med.data.io.dicom.values import number, vector


def enhanced_images(dataset: Any, whole: Instance) -> list[Instance]:
    """Return the frames of an enhanced object as images.

    Args:
        dataset: pydicom's, with its functional groups.
        whole: the header of the file as that of one image.
    """
    shared = dataset.get("SharedFunctionalGroupsSequence") or [None]
    frames = dataset.PerFrameFunctionalGroupsSequence
    return [_image((own, shared[0]), index, whole) for index, own in enumerate(frames)]


def _image(groups: tuple[Any, Any], index: int, whole: Instance) -> Instance:
    """Return one frame; attributes missing from its own functional groups are read from the shared ones."""
    measures = _group(groups, "PixelMeasuresSequence")
    scale = _group(groups, "PixelValueTransformationSequence")
    heart = _group(groups, "CardiacSynchronizationSequence")
    content = _group(groups, "FrameContentSequence")
    kind = _group(groups, "MRImageFrameTypeSequence") or _group(groups, "CTImageFrameTypeSequence")
    echo = _group(groups, "MREchoSequence")
    thickness = number(measures, "SliceThickness")
    return replace(
        whole,
        index=index,
        number=index + 1,
        position=vector(_group(groups, "PlanePositionSequence"), "ImagePositionPatient", 3),
        orientation=vector(_group(groups, "PlaneOrientationSequence"), "ImageOrientationPatient", 6),
        pixel_spacing_mm=vector(measures, "PixelSpacing", 2),
        slice_spacing_mm=number(measures, "SpacingBetweenSlices") or thickness,
        thickness_mm=thickness,
        trigger_ms=number(heart, "NominalCardiacTriggerDelayTime"),
        temporal_position=number(content, "TemporalPositionIndex"),
        contrast=(*map(str, kind.get("FrameType") or ()), str(echo.get("EffectiveEchoTime"))),
        slope=number(scale, "RescaleSlope") or 1.0,
        intercept=number(scale, "RescaleIntercept") or 0.0,
    )


def _group(groups: tuple[Any, Any], name: str) -> Any:
    """Return the only item of a functional group of a frame, or an empty one."""
    for place in groups:
        found = place.get(name) if place is not None else None
        if found:
            return found[0]
    return {}
