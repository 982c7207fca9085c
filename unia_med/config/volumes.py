"""Settings of the data set `volumes`: where images, masks and weak labels of one's own data lie."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from unia_med.config.section import Section
from unia_med.config.weak_labels import LabelKind

_PICTURES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
_SCANS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


class VolumesConfig(Section):
    """Own volumes or pictures: a folder searched by patterns, or a table with one row per image.

    In patterns `{folder}` stands for the image's folder below `data.root` and `{name}` for its file name without
    suffix (and without `channel_endings`). Patterns have no suffix: any of the known ones fits.
    """

    table: Path | None = None
    """CSV below `data.root` with the column `image` and, as wanted, `mask`, `patient`, `split` (train, val, test) and
    a column per kind of weak label (`scribbles`, `points`, `boxes`, `blocks`, `masks`); paths are relative to
    `data.root`. The tags may be in the same file. Null: `images` says which files there are."""
    unlisted: Literal["error", "ignore"] = "error"
    """What a volume is that fits `images` but has no row in the table."""
    images: str = "**/*"
    """Glob pattern of the images below `data.root`; masks and weak labels of other images are left out."""
    masks: str = "{folder}/{name}_gt"
    """Where the mask of an image lies, if it has one; `labelsTr/{name}` for nnU-Net's folders."""
    labels: dict[LabelKind, str] = {}
    """Where weak labels of an image lie, by kind; kinds not named lie next to it with the endings of `data.labels`,
    such as `{folder}/{name}_scribbles`. `masks`: masks to learn from that do not validate, as those with pixels that
    are not annotated; else those of `masks` above."""
    patient: str | None = None
    """Regular expression that finds the patient in a case's name, in its first group if it has one; null: every case
    is a patient of its own. A column `patient` of the table wins."""
    other_values: list[Annotated[int, Field(ge=1, le=255)]] = []
    """Values in masks that are no class of `data.classes` and count as background."""
    channel_endings: list[str] = []
    """Endings of the files that make up one image of several channels, as `[_0000, _0001]` in nnU-Net's folders; empty:
    an image is one file, its channels, if several, being the fourth axis."""

    @field_validator("patient")
    @classmethod
    def _is_an_expression(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"{value!r} is no regular expression ({error})") from None
        return value

    @field_validator("masks", "labels")
    @classmethod
    def _names_the_image(cls, value: str | dict[str, str]) -> str | dict[str, str]:
        for pattern in [value] if isinstance(value, str) else value.values():
            if "{name}" not in pattern:
                raise ValueError(f"{pattern!r} lacks {{name}}, so every image would have the same file")
        return value


def picture_grid(values: Mapping[str, Any]) -> Any:
    """Return the grid of own data as written, with the defaults of pictures where the data are pictures.

    They are where `units` says `pixels`, or where it says nothing and the data folder holds pictures and no scan. Then
    there are no millimetres, whatever a template says, and images of any size are stretched to one.

    Args:
        values: The data part of a config as written.
    """
    grid = values.get("grid") or {}
    if not isinstance(grid, Mapping):
        return grid
    units = grid.get("units") or ("pixels" if holds_pictures_alone(values.get("root")) else "mm")
    if units != "pixels":
        return grid
    return {"resize": "stretch", **grid, "units": "pixels", "spacing_mm": None}


def holds_pictures_alone(root: Any) -> bool:
    """Return whether a folder holds PNG, JPEG or TIFF files and no file of a volume.

    Args:
        root: Folder, as written; None or what is no folder holds nothing.
    """
    if not isinstance(root, str | Path) or not Path(root).is_dir():
        return False
    found, seen = False, set()
    for folder, folders, names in os.walk(root, followlinks=True):
        place = os.path.realpath(folder)
        if place in seen:  # links may lead in circles
            folders.clear()
            continue
        seen.add(place)
        for name in names:
            if name.startswith("."):
                continue
            if name.lower().endswith(_SCANS):
                return False
            found = found or name.lower().endswith(_PICTURES)
    return found
