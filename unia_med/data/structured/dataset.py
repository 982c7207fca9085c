"""Writes synthetic volumes with tags that can separate their classes, in the layout of the data set `volumes`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np

from unia_med.data.structured import lesions, objects
from unia_med.data.structured.body import Body, draw_body
from unia_med.data.structured.fields import add_noise
from unia_med.data.weak_labels.tags import tags_from_mask, write_tags_csv
from unia_med.errors import UserError, suggestion
from unia_med.files import filled_folder
from unia_med.progress import tracked

SPACING_MM = (1.5, 1.5, 6.0)
MAX_VOLUMES = 999
_BIAS, _NOISE = 0.15, (0.015, 0.03)
_DESCRIPTION = b"synthetic image, unia-med phantom"  # so that nobody takes a file for that of a patient
_SCALE = 1000  # of the stored whole numbers

Draw = Callable[[np.random.Generator, Body], tuple[np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Kind:
    """One sort of data set: its classes, and what is drawn into a body."""

    classes: tuple[str, ...]
    draw: Draw


KINDS = {
    "objects": Kind(objects.CLASSES, objects.draw_objects),
    "lesions": Kind(lesions.CLASSES, lesions.draw_lesions),
}


def draw_volume(kind: str, seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return image (X, Y, Z) int16 and mask (X, Y, Z) uint8 of volume `index` (from 0) of the data set with `seed`."""
    rng = np.random.default_rng((seed, list(KINDS).index(kind), index))
    image, mask = KINDS[kind].draw(rng, draw_body(rng))
    noisy = add_noise(rng, image, _BIAS, rng.uniform(*_NOISE))
    return np.round(np.moveaxis(noisy, 0, -1) * _SCALE).astype(np.int16), np.moveaxis(mask, 0, -1)


def write_dataset(output: Path, kind: str, patients: int = 20, seed: int = 0) -> dict[str, np.ndarray]:
    """Write `NAME.nii.gz`, its mask `NAME_gt.nii.gz`, and `tags.csv`; return the tags (Z, T) by name.

    Args:
        output: A new or an empty folder.
        kind: A name of `KINDS`.
        patients: How many volumes, 1 to 999. A volume is the same for any number.
        seed: Of the data set.
    """
    _check(kind, patients, seed)
    classes, tags = KINDS[kind].classes, {}
    with filled_folder(Path(output)) as folder:
        for index in tracked(range(patients), "writing patients", patients):
            name = f"{kind}{index + 1:03d}"
            image, mask = draw_volume(kind, seed, index)
            _save(image, folder / f"{name}.nii.gz")
            _save(mask, folder / f"{name}_gt.nii.gz")
            tags[name] = tags_from_mask(mask, range(1, len(classes) + 1))
        write_tags_csv(folder / "tags.csv", tags, classes)
    return tags


def _save(array: np.ndarray, path: Path) -> None:
    image = nibabel.Nifti1Image(array, np.diag([*SPACING_MM, 1.0]))
    image.header.set_xyzt_units("mm")
    image.header["descrip"] = _DESCRIPTION
    nibabel.save(image, path)


def _check(kind: str, patients: int, seed: int) -> None:
    if kind not in KINDS:
        raise UserError(f"no kind '{kind}'", remedy=suggestion(kind, KINDS))
    if not 1 <= patients <= MAX_VOLUMES:
        raise UserError(f"cannot write {patients} volumes", remedy=f"ask for 1 to {MAX_VOLUMES}")
    if seed < 0:
        raise UserError(f"the seed {seed} is negative", remedy="use 0 or a positive whole number")
