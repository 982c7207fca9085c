"""NRRD and MetaImage volumes through SimpleITK, brought into NIfTI's conventions."""

from __future__ import annotations

import json
import logging
import math
import re
import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from unia_med.data.io.packed import unpacked_size
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.files import replacing

# ITK's patient axes point to left and posterior, NIfTI's to right and anterior.
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_COPY_AGAIN = "Copy the file again from its source, or leave it out"
_HEAD = 1 << 16
_MITK_GROUPS = "org.mitk.multilabel.segmentation.labelgroups"
_MOST_PACKED = {"gz": 1032, "bz": 1 << 20, "asc": 4, "txt": 4, "text": 4}
"""Bytes of voxels that a byte of a file can stand for at most, by the beginning of the encoding's name."""
_UNITS_MM = {
    **dict.fromkeys(("m", "meter", "meters", "metre", "metres"), 1000.0),
    **dict.fromkeys(("cm", "centimeter", "centimeters", "centimetre", "centimetres"), 10.0),
    **dict.fromkeys(("mm", "millimeter", "millimeters", "millimetre", "millimetres"), 1.0),
    **dict.fromkeys(("um", "\u00b5m", "\u03bcm", "micron", "microns", "micrometer", "micrometers"), 0.001),
    **dict.fromkeys(("in", "inch", "inches"), 25.4),
}
_LOG = logging.getLogger(__name__)


def read_itk(path: Path) -> Volume:
    """Return a volume in stored axis order (x first) with an RAS affine; geometry is not yet checked.

    Args:
        path: A file SimpleITK can read.
    """
    sitk = _simple_itk(path)
    read_itk_header(path)  # checked before memory is asked for
    _check_packed(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _unreadable(error, path) from error
    return volume_of(image, path)


def volume_of(image: Any, path: Path | None = None) -> Volume:
    """Return a SimpleITK image as a volume in stored axis order with an RAS affine; geometry is not yet checked.

    Args:
        image: of two to four dimensions; several numbers per voxel become an axis of channels, the last.
        path: where it comes from, for messages.
    """
    import SimpleITK

    view = SimpleITK.GetArrayViewFromImage(image)  # the slowest axis first, components last
    several = image.GetNumberOfComponentsPerPixel() > 1
    turned = np.moveaxis(view.T, 0, -1) if several else view.T
    # The one copy, in the order of the file: the view goes with the image.
    array = np.array(turned, np.float32 if view.dtype.kind == "f" else view.dtype, order="K")
    affine = _affine(image, path)
    header = None if several else _header(image, array, affine)
    return Volume(array, affine, header, path, axes="XYZC" if several and array.ndim == 4 else "")


def read_itk_header(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Return shape and RAS affine of a file without decoding its voxels.

    Args:
        path: A file SimpleITK can read.
    """
    reader = _simple_itk(path).ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise _unreadable(error, path) from error
    _check_real(reader.GetNumberOfComponents(), _simple_itk(path).GetPixelIDValueAsString(reader.GetPixelID()), path)
    size = tuple(reader.GetSize())
    _check_size(size, reader.GetNumberOfComponents(), path)
    return size, _affine(reader, path)


def _simple_itk(path: Path) -> Any:
    try:
        import SimpleITK
    except ImportError as error:
        raise UserError(
            "NRRD and MetaImage files need SimpleITK",
            where=path,
            remedy="Run: pip install SimpleITK, or convert to .nii.gz",
        ) from error
    return SimpleITK


def _unreadable(error: RuntimeError, path: Path) -> UserError:
    reason = str(error).strip().splitlines()[-1]
    return UserError(f"cannot be read ({reason})", where=path, remedy=_COPY_AGAIN)


def _check_real(components: int, kind: str, path: Path) -> None:
    if components != 1 or "complex" in kind:
        raise UserError(
            "several numbers per voxel (colour, vectors or complex), expected one real number",
            where=path,
            remedy="Convert it to a grey-value volume; store a cine, or channels, as its fourth axis",
        )


def _affine(image: Any, path: Path | None) -> np.ndarray:
    dimensions = image.GetDimension()
    affine = np.eye(4)
    count = min(3, dimensions)
    direction = np.asarray(image.GetDirection()).reshape(dimensions, dimensions)
    affine[:count, :count] = direction[:count, :count] * np.asarray(image.GetSpacing()[:count])
    affine[:count, 3] = image.GetOrigin()[:count]
    affine[:3] *= _unit_mm(path)
    return _LPS_TO_RAS @ affine


def _unit_mm(path: Path | None) -> float:
    """Return the unit of space that an NRRD or MetaImage header names, in mm; SimpleITK does not look at it."""
    if path is None:
        return 1.0
    fields = _fields(path)
    names = set(re.findall(r'"([^"]*)"', fields.get("space units", ""))) | {fields.get("distanceunits", "")}
    known = {name.strip().lower() for name in names} - {""}
    unit = ", ".join(sorted(known)) or "mm"
    if unit not in _UNITS_MM:
        _say_unknown(path, unit)
    return _UNITS_MM.get(unit, 1.0)


@lru_cache(maxsize=10_000)  # a file is opened several times, and reported once
def _say_unknown(path: Path, unit: str) -> None:
    _LOG.warning("%s: the unit of space %s is not known and is taken for mm", path, unit)


def _fields(path: Path) -> dict[str, str]:
    """Return the fields of an NRRD or MetaImage header by their names in small letters; nothing for other files."""
    with path.open("rb") as file:
        head = file.read(_HEAD).replace(b"\r\n", b"\n")
    if path.suffix.lower() in (".nrrd", ".nhdr"):
        text, separator = head.partition(b"\n\n")[0], ":"
    else:
        before, key, after = head.partition(b"ElementDataFile")
        text, separator = before + key + after.partition(b"\n")[0], "="
    try:
        lines = text.decode("utf-8").splitlines()
    except UnicodeDecodeError:
        lines = text.decode("latin-1").splitlines()
    pairs = (line.partition(separator) for line in lines)
    return {name.strip().lower(): value.lstrip("=").strip() for name, found, value in pairs if found}


def _check_size(size: Sequence[int], components: int, path: Path) -> None:
    """Refuse a header that claims more voxels than its file can hold, before memory is asked for."""
    fields = _fields(path)
    there = path.stat().st_size
    data = fields.get("data file", fields.get("datafile", fields.get("elementdatafile", "LOCAL")))
    if data.upper() != "LOCAL":
        if not (path.parent / data).is_file():  # a list or a pattern of files, or a fault that the reader names
            return
        there += (path.parent / data).stat().st_size
    encoding = fields.get("encoding", "gzip" if fields.get("compresseddata", "").lower() == "true" else "raw").lower()
    factor = next((most for name, most in _MOST_PACKED.items() if encoding.startswith(name)), 1)
    claimed = math.prod(size) * components
    if claimed > there * factor:  # at least a byte each
        what = f"its header claims {' x '.join(map(str, size))} voxels, its file has {there} bytes"
        raise UserError(f"{what}: cut off, or no such volume", where=path, remedy=_COPY_AGAIN)


def _check_packed(path: Path) -> None:
    """Refuse voxels whose gzip or zlib stream is damaged; SimpleITK goes on, and gives what memory held."""
    fields = _fields(path)
    zipped = fields.get("encoding", "").lower() in ("gz", "gzip") or fields.get("compresseddata", "").lower() == "true"
    data = fields.get("data file", fields.get("datafile", fields.get("elementdatafile", "LOCAL")))
    place = path if data.upper() == "LOCAL" else path.parent / data
    if not zipped or {"line skip", "lineskip", "byte skip", "byteskip"} & set(fields) or not place.is_file():
        return
    try:
        unpacked_size(place, _data_start(path) if place == path else 0)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"its compressed voxels are damaged ({error})", where=path, remedy=_COPY_AGAIN) from error


def _data_start(path: Path) -> int:
    """Return the number of bytes of the header of a file that holds its voxels, too."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    pattern = rb"\r?\n\r?\n" if path.suffix.lower() == ".nrrd" else rb"ElementDataFile[^\n]*\n"
    found = re.search(pattern, head)
    return found.end() if found else 0


def _header(image: Any, array: np.ndarray, affine: np.ndarray) -> nib.Nifti1Header | None:
    """Return a NIfTI header that keeps the frame spacing; None where NIfTI cannot store this array."""
    if array.ndim not in (2, 3, 4) or np.linalg.det(affine[:3, :3]) == 0:
        return None
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(array.shape)
    header.set_zooms(image.GetSpacing())
    header.set_xyzt_units("mm")
    header.set_sform(affine, code=1)
    header.set_qform(affine, code=1)
    return header


def write_labels(labels: np.ndarray, affine: np.ndarray, path: Path) -> None:
    """Write labels as NRRD or MetaImage; the file appears whole or not at all.

    Args:
        labels: uint8 (X, Y, Z).
        affine: 4x4, voxel indices to RAS millimetres, its axes at right angles.
        path: destination, `.nrrd` or `.mha`.
    """
    sitk = _simple_itk(path)
    image = sitk.GetImageFromArray(np.ascontiguousarray(labels.T))
    turned = _LPS_TO_RAS @ affine
    spacing = np.linalg.norm(turned[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((turned[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(turned[:3, 3].tolist())
    with replacing(path, path.suffix) as temporary:
        sitk.WriteImage(image, str(temporary), True)


def has_label_groups(path: Path) -> bool:
    """Return whether a `.nrrd` is a segmentation of MITK, which keeps names and groups of labels in its header."""
    if path.suffix.lower() != ".nrrd":
        return False
    with path.open("rb") as file:
        return _MITK_GROUPS.encode() in file.read(_HEAD)


def read_segments(path: Path) -> tuple[np.ndarray, np.ndarray, dict[int, str]]:
    """Return labels (X, Y, Z), RAS affine and names by value of a `.seg.nrrd` or of a segmentation of MITK.

    Overlapping segments lie in layers; of two that cover a voxel, the later one wins. In a file with layers, which
    repeat values, segments are numbered in their order, from 1.

    Args:
        path: the file, possibly cropped to what is drawn.
    """
    sitk = _simple_itk(path)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        _check_size(reader.GetSize(), reader.GetNumberOfComponents(), path)
        _check_packed(path)
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise _unreadable(error, path) from error
    array = sitk.GetArrayFromImage(image)
    layers = array[..., None] if image.GetNumberOfComponentsPerPixel() == 1 else array
    layers = np.transpose(layers, (2, 1, 0, 3))
    try:
        entries = _segment_entries(image) or _mitk_entries(image)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        remedy = "Save the segmentation again from its viewer"
        raise UserError(f"names of its segments cannot be read ({error})", where=path, remedy=remedy) from error
    if layers.shape[3] == 1:
        return np.ascontiguousarray(layers[..., 0]), _affine(image, path), {e[0]: e[2] for e in entries}
    labels = np.zeros(layers.shape[:3], np.uint16)
    names = {}
    for number, (value, layer, name) in enumerate(entries, start=1):
        labels[layers[..., layer] == value] = number
        names[number] = name
    return labels, _affine(image, path), names


def _mitk_entries(image: Any) -> list[tuple[int, int, str]]:
    """Return (value, layer, name) of each label of MITK; a group of labels is a layer."""
    if _MITK_GROUPS not in image.GetMetaDataKeys():
        return []
    groups = json.loads(image.GetMetaData(_MITK_GROUPS))
    return [
        (int(label["value"]), layer, str(label["name"]).strip())
        for layer, group in enumerate(groups)
        for label in group.get("labels") or []
    ]


def _segment_entries(image: Any) -> list[tuple[int, int, str]]:
    """Return (value, layer, name) of each segment, in the header's order."""
    keys = set(image.GetMetaDataKeys())
    entries = []
    for number in range(len(keys)):
        if f"Segment{number}_Name" not in keys:
            break
        stored = {part: f"Segment{number}_{part}" for part in ("LabelValue", "Layer", "Name")}
        read = {part: image.GetMetaData(key) for part, key in stored.items() if key in keys}
        entries.append((int(read.get("LabelValue", number + 1)), int(read.get("Layer", 0)), read["Name"].strip()))
    return entries
