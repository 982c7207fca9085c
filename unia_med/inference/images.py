"""Images as Python objects, read for the predictor; results are returned as the same kind."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nibabel as nib
import numpy as np

from unia_med.data.io.geometry import check_geometry
from unia_med.data.io.nifti import result_header, stored_voxels
from unia_med.data.io.nifti_file import in_mm, trimmed
from unia_med.data.io.suffixes import volume_stem
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.files import at_home

if TYPE_CHECKING:
    from unia_med.data.io.channels import ChannelFiles
    from unia_med.data.io.dicom.kind import StackKind
    from unia_med.data.io.frames import FrameSource

_CALLS = (
    'Call model("scan.nii.gz"), model(nibabel_image), model(simpleitk_image), or, with an array, '
    "model(array, spacing_mm=(1.5, 1.5, 8.0))"
)
_ARRAY_CALL = "Call model(array, spacing_mm=(1.5, 1.5, 8.0)) with the distances of voxels along the array's axes"


@dataclass(frozen=True)
class GivenImage:
    """An image as it was given.

    Attributes:
        source: its voxels, frame by frame.
        name: of its results.
        give_back: from a result in the source's shape, without channels, to the kind that was given.
    """

    source: FrameSource
    name: str
    give_back: Callable[[np.ndarray], Any]


def read_given(
    image: Any,
    open_path: Callable[[Path], FrameSource],
    files: ChannelFiles,
    *,
    spacing_mm: Sequence[float] | None = None,
    in_pixels: bool = False,
    series: str | None = None,
    kind: StackKind | None = None,
) -> GivenImage:
    """Return an image of any kind that `unia_med.load` describes.

    Args:
        image: a path, nibabel image, SimpleITK image, `Volume`, numpy array, or a source of frames.
        open_path: reads a file.
        files: how many channels the network reads, and how files store them.
        spacing_mm: of an array, along its axes; of a slice, two numbers will do.
        in_pixels: the network learned from pictures without millimetres, so that an array needs no spacing.
        series: number or UID, where a path is a DICOM folder with several.
        kind: what is expected of a stack, by which one of several is chosen.

    Raises:
        UserError: this is no image, or one that the network cannot read; the message shows the right call.
    """
    if spacing_mm is not None and not isinstance(image, np.ndarray):
        what = f"spacing_mm is for arrays; a {type(image).__name__} brings its own"
        raise UserError(what, where="spacing_mm", remedy="Leave it out")
    if isinstance(image, (str, os.PathLike)):
        return _from_path(at_home(image), open_path, files, series, kind)
    if isinstance(image, np.ndarray):
        return _from_array(image, spacing_mm, files.channels, in_pixels)
    if isinstance(image, nib.spatialimages.SpatialImage):
        return _from_nibabel(image, files.channels)
    if isinstance(image, Volume):
        return _from_volume(image, files.channels)
    if _is_simple_itk(image):
        return _from_simple_itk(image, files.channels)
    if all(hasattr(image, name) for name in ("frames", "frame", "affine", "shape")):  # a series, or an opened cine
        return GivenImage(image, _name(image), lambda array: Volume(array, image.affine, image.header))
    several = "; for several images, unia_med.predict(model, [image, another])" if isinstance(image, Iterable) else ""
    raise UserError(f"no image, but of the type {type(image).__name__}", where="model(...)", remedy=_CALLS + several)


def _from_path(
    path: Path,
    open_path: Callable[[Path], FrameSource],
    files: ChannelFiles,
    series: str | None,
    kind: StackKind | None,
) -> GivenImage:
    source: FrameSource
    if path.is_dir():
        source = _series_in(path, series, kind)
    else:
        if series is not None:
            raise UserError(
                "is a single file", where=path, remedy="Leave out series, or give the folder of DICOM files"
            )
        source = open_path(path)
    check_channels(source, files.channels, path)
    name = _name(source) if path.is_dir() else files.name(path) or volume_stem(path)
    return GivenImage(source, name, lambda array: Volume(array, source.affine, source.header))


def _series_in(folder: Path, series: str | None, kind: StackKind | None) -> FrameSource:
    from unia_med.data.io.dicom.scan import has_dicom
    from unia_med.data.io.dicom.series import find_series

    if series is None and not has_dicom(folder):
        remedy = f'For all images in a folder: for case in unia_med.predict(model, "{folder}")'
        raise UserError("a folder without a DICOM series, expected one image", where=folder, remedy=remedy)
    return find_series(folder, series, kind)


def _from_volume(volume: Volume, channels: int) -> GivenImage:
    source = _with_channels(_checked(volume, "the volume"), channels, "the volume")
    return GivenImage(source, _name(volume), lambda array: Volume(array, volume.affine, volume.header))


def _from_nibabel(image: Any, channels: int) -> GivenImage:
    kind = np.dtype(image.get_data_dtype())
    if kind.names is not None or kind.kind == "c":
        found = "colours" if kind.names is not None else "complex numbers"
        raise UserError(f"a nibabel image of {found}, expected one real number per voxel", remedy="Take the magnitude")
    if not isinstance(image, nib.Nifti1Pair):
        image = nib.Nifti1Image.from_image(image)
    path = Path(image.get_filename()) if image.get_filename() else None
    array = stored_voxels(image.dataobj, path or Path("the nibabel image"))
    array = array.reshape(trimmed((*array.shape, 1)[: max(3, array.ndim)]))
    affine = in_mm(np.asarray(image.affine, np.float64), image.header)
    volume = _checked(Volume(array, affine, image.header, path), "the nibabel image")
    source = _with_channels(volume, channels, "the nibabel image")

    def give_back(found: np.ndarray) -> Any:
        found = found.reshape(image.shape) if channels == 1 else found
        result = type(image)(found, image.affine, result_header(found.dtype, found.shape, volume))
        result.set_data_dtype(found.dtype)
        return result

    return GivenImage(source, _name(volume), give_back)


def _from_simple_itk(image: Any, channels: int) -> GivenImage:
    import SimpleITK

    from unia_med.data.io.itk import volume_of

    if "complex" in image.GetPixelIDTypeAsString():
        what = "a SimpleITK image of complex numbers, expected real ones"
        raise UserError(what, remedy="Take the magnitude, with SimpleITK.ComplexToModulus")
    if not 2 <= image.GetDimension() <= 4:
        raise UserError(f"a SimpleITK image of {image.GetDimension()} dimensions, expected 2, 3 or 4", remedy=_CALLS)
    volume = volume_of(image)
    flat = image.GetDimension() == 2
    if flat:
        several = volume.array.ndim == 3
        array = volume.array[:, :, None]
        volume = Volume(array, volume.affine, volume.header, axes="XYZC" if several else "XYZ")
    source = _with_channels(_checked(volume, "the SimpleITK image"), channels, "the SimpleITK image")

    def give_back(found: np.ndarray) -> Any:
        result = SimpleITK.GetImageFromArray((found[:, :, 0] if flat else found).T, isVector=False)
        if result.GetDimension() == image.GetDimension():
            result.CopyInformation(image)
        else:  # the fourth dimension was channels, of which a mask has none
            result.CopyInformation(image[..., 0])
        return result

    return GivenImage(source, "image", give_back)


def _from_array(array: np.ndarray, spacing_mm: Sequence[float] | None, channels: int, in_pixels: bool) -> GivenImage:
    where = "the array"
    if array.dtype.kind not in "buif":
        what = f"an array of {array.dtype}, expected whole or real numbers"
        remedy = "Take numpy.abs of it" if array.dtype.kind == "c" else _ARRAY_CALL
        raise UserError(what, where=where, remedy=remedy)
    voxels, flat = _as_voxels(array, channels)
    if spacing_mm is None and not in_pixels:
        what = "an array says nothing of its spacing, which the network needs"
        raise UserError(what, where="spacing_mm", remedy=_ARRAY_CALL)
    affine = np.diag([*_spacing(spacing_mm, flat), 1.0])
    volume = _with_channels(_checked(Volume(voxels, affine), where), channels, where)
    return GivenImage(volume, "image", lambda found: found[:, :, 0] if flat else found)


def _as_voxels(array: np.ndarray, channels: int) -> tuple[np.ndarray, bool]:
    """(X, Y, Z), with a fourth axis of time or channels or without, and whether a slice was given."""
    flat = array.ndim == 2 or (channels > 1 and array.ndim == 3 and array.shape[2] == channels)
    if array.ndim not in (2, 3, 4):
        what = f"an array of {array.ndim} dimensions {array.shape}"
        remedy = f"Give (x, y), (x, y, slice) or (x, y, slice, {'channel' if channels > 1 else 'time'}). {_ARRAY_CALL}"
        raise UserError(what, where="the array", remedy=remedy)
    voxels = array[:, :, None] if flat else array
    if array.dtype.kind == "f":
        with np.errstate(over="ignore"):  # past float32 becomes infinite, which is refused
            return voxels.astype(np.float32), flat
    return voxels.astype(np.uint8) if array.dtype.kind == "b" else np.ascontiguousarray(voxels), flat


def _spacing(given: Sequence[float] | None, flat: bool) -> tuple[float, float, float]:
    if given is None:
        return 1.0, 1.0, 1.0
    try:
        found = [float(value) for value in given]
    except (TypeError, ValueError):
        found = []
    if flat and len(found) == 2:
        found.append(1.0)
    if len(found) != 3 or not all(np.isfinite(found)) or min(found) <= 0:
        what = f"{given!r}, expected {'two or ' if flat else ''}three distances in mm, above 0"
        raise UserError(what, where="spacing_mm", remedy=_ARRAY_CALL)
    return found[0], found[1], found[2]


def _checked(volume: Volume, where: str) -> Volume:
    """Return the volume, its shape, geometry and voxels being usable."""
    if volume.array.ndim not in (3, 4) or 0 in volume.shape:
        what = f"shape {volume.shape}, expected (x, y, slice) with or without a fourth axis, none of them empty"
        raise UserError(what, where=where, remedy=_CALLS)
    if volume.array.dtype.kind not in "buif":
        raise UserError(f"voxels of {volume.array.dtype}, expected whole or real numbers", where=where, remedy=_CALLS)
    check_geometry(volume.shape, np.asarray(volume.affine, np.float64), volume.path or Path(where))
    if volume.array.dtype.kind == "f" and not np.isfinite(volume.array).all():
        bad = int((~np.isfinite(volume.array)).sum())
        what = f"{bad} of {volume.array.size} voxels are NaN or infinite"
        raise UserError(what, where=where, remedy="Call model(numpy.nan_to_num(array), spacing_mm=(1.5, 1.5, 8.0))")
    return volume


def _with_channels(volume: Volume, channels: int, where: str) -> Volume:
    """Return the volume with a fourth axis read as channels where the network reads several."""
    found = volume.with_channels() if channels > 1 else volume
    check_channels(found, channels, Path(where))
    return found


def check_channels(source: FrameSource, channels: int, where: Path) -> None:
    """Refuse an image whose channels are not those that the network reads.

    Args:
        source: the image.
        channels: that the network reads.
        where: for the message.
    """
    found = source.channels if isinstance(source, Volume) else 1
    if found == channels:
        return
    what = f"an image of {_channels(found)}, the network reads {_channels(channels)}"
    if channels == 1:
        remedy = "Give one of them; frames of a cine are the fourth axis of an image of one number per voxel"
    elif found == 1 and not isinstance(source, Volume):
        remedy = "Convert the series to NIfTI, with the channels as the fourth axis or as one file each"
    else:
        remedy = f"Give the channels as the last axis, (x, y, slice, {channels})"
    raise UserError(what, where=where, remedy=remedy)


def _channels(count: int) -> str:
    return f"{count} channel{'' if count == 1 else 's'}"


def _is_simple_itk(image: Any) -> bool:
    # By name: the package need not be imported to know that something else is none of its images.
    return type(image).__module__.split(".")[0] == "SimpleITK" and hasattr(image, "GetDirection")


def _name(source: Any) -> str:
    if getattr(source, "name", None):
        return str(source.name)
    path = getattr(source, "path", None)
    return volume_stem(path) if path is not None else "image"
