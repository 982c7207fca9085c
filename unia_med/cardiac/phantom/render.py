"""From a synthetic patient to arrays: image and label map of any frame of the heart beat, and the true volumes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from unia_med.cardiac.phantom.anatomy import LV, MYO, RV, HeartFields, rasterise
from unia_med.cardiac.phantom.chest import paint_chest
from unia_med.cardiac.phantom.heart import heart_slice, in_pixels, left_ventricle
from unia_med.cardiac.phantom.patients import Patient, contraction_at
from unia_med.cardiac.phantom.tissue import Tissue, acquire, paint_heart
from unia_med.data.structured.fields import smooth_field

HEART_BOX_MM = 105.0
"""Half side of the square round the LV centre in which the heart is drawn."""
MIN_POOL_MM2 = 40.0
"""Smaller cross-sections of a pool are not labelled: nobody would annotate them."""
SUBSLICES = (-0.35, 0.0, 0.35)
"""Depths, in slice thicknesses, whose mean is the image: partial volume through the slice."""

Box = tuple[slice, slice]


def _box(patient: Patient, index: int) -> Box:
    half = HEART_BOX_MM / patient.scan.spacing_mm[0]
    bounds = zip(patient.scan.centres[index], patient.scan.shape, strict=True)
    rows, columns = (slice(max(0, int(c - half)), min(size, int(c + half) + 1)) for c, size in bounds)
    return rows, columns


def _fields(patient: Patient, index: int, depth: float, contraction: float, box: Box) -> HeartFields:
    row, column = patient.scan.centres[index]
    shape = heart_slice(patient.heart, depth, contraction)
    drawn = in_pixels(shape, patient.scan.spacing_mm[0], (row - box[0].start, column - box[1].start))
    return rasterise(drawn, (box[0].stop - box[0].start, box[1].stop - box[1].start))


def _slice_labels(patient: Patient, index: int, contraction: float) -> np.ndarray:
    depth = patient.scan.depths[index]
    box = _box(patient, index)
    labels = np.zeros(patient.scan.shape, np.uint8)
    drawn = _fields(patient, index, depth, contraction, box).labels()
    lv = left_ventricle(patient.heart, contraction)
    if depth < lv.base:  # an atrium: not part of the annotation
        drawn[drawn != RV] = 0
    area = patient.scan.spacing_mm[0] ** 2
    if (drawn == RV).sum() * area < MIN_POOL_MM2:
        drawn[drawn == RV] = 0
    if (drawn == MYO).sum() * area < MIN_POOL_MM2:
        drawn[(drawn == MYO) | (drawn == LV)] = 0
    labels[box] = drawn
    return labels


def frame_labels(patient: Patient, frame: int) -> np.ndarray:
    """Label map (X, Y, Z) uint8 of a frame counted from 1: 0 background, 1 RV, 2 MYO, 3 LV."""
    contraction = contraction_at(patient, frame)
    slices = [_slice_labels(patient, index, contraction) for index in range(len(patient.scan.depths))]
    return np.stack(slices, axis=-1)


def _slice_tissue(tissue: Tissue, level: float) -> Tissue:
    """Papillary muscles stand out in the middle third and end towards base and apex."""
    strength = float(np.exp(-(((level - 0.5) / 0.3) ** 2)))
    spots = tuple((angle, distance, radius, dark * strength) for angle, distance, radius, dark in tissue.papillary)
    return replace(tissue, papillary=spots)


def _paint(patient: Patient, index: int, contraction: float, background: np.ndarray) -> np.ndarray:
    box = _box(patient, index)
    lv = left_ventricle(patient.heart, contraction)
    painted = []
    for offset in SUBSLICES:
        depth = patient.scan.depths[index] + offset * patient.scan.thickness_mm
        # One stream for all sub-slices and frames: the texture of a slice stays, only the shapes move.
        rng = np.random.default_rng((patient.noise_seed, 1, index))
        fields = _fields(patient, index, depth, contraction, box)
        tissue = _slice_tissue(patient.tissue, lv.level(depth))
        radius = max(lv.radii(depth)[0] / patient.scan.spacing_mm[0], 1.0)
        painted.append(paint_heart(background[box], fields, tissue, radius, rng))
    image = background.copy()
    image[box] = np.mean(painted, axis=0)
    return image


def surroundings(patient: Patient) -> np.ndarray:
    """Return the chest without the heart (X, Y, Z) float32 in [0, 1]; the same in all frames."""
    scan, length = patient.scan, patient.heart.length
    middle = tuple(np.mean(scan.centres, axis=0))
    slices = [
        paint_chest(patient.chest, depth / length, scan.shape, scan.spacing_mm[0], middle) for depth in scan.depths
    ]
    return np.stack(slices, axis=-1)


def _coil(patient: Patient) -> np.ndarray:
    """Return the coil's sensitivity (X, Y, Z), smooth in all three directions and the same in all frames."""
    rng = np.random.default_rng((patient.noise_seed, 2))
    first, second = smooth_field(rng, patient.scan.shape, 3, 2)
    angles = np.linspace(0, 0.25 * np.pi, len(patient.scan.depths), dtype=np.float32)
    field = first[..., None] * np.cos(angles) + second[..., None] * np.sin(angles)
    return np.exp(patient.scan.scanner.bias * field)


def frame_image(patient: Patient, frame: int, chest: np.ndarray | None = None) -> np.ndarray:
    """Image (X, Y, Z) int16 of a frame counted from 1, in the scanner's arbitrary units.

    Args:
        patient: The patient.
        frame: From 1 (end diastole).
        chest: `surroundings(patient)` when it is at hand, to save drawing it for every frame.
    """
    chest = surroundings(patient) if chest is None else chest
    contraction, coil = contraction_at(patient, frame), _coil(patient)
    scanner = replace(patient.scan.scanner, bias=0.0)
    slices = []
    for index in range(len(patient.scan.depths)):
        rng = np.random.default_rng((patient.noise_seed, 3, frame, index))
        image = _paint(patient, index, contraction, chest[..., index]) * coil[..., index]
        slices.append(acquire(image, scanner, rng))
    return np.round(np.stack(slices, axis=-1) * patient.scan.scale).astype(np.int16)


def true_volumes_ml(patient: Patient) -> dict[str, dict[str, float]]:
    """Volumes in ml of RV, MYO and LV at "ED" and "ES", counted on the label maps that are written."""
    voxel = float(np.prod(patient.scan.spacing_mm)) / 1000
    volumes = {}
    for phase, frame in (("ED", 1), ("ES", patient.es_frame)):
        labels = frame_labels(patient, frame)
        names = (("RV", RV), ("MYO", MYO), ("LV", LV))
        volumes[phase] = {name: float((labels == value).sum()) * voxel for name, value in names}
    return volumes
