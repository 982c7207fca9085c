"""Photographs and their masks: JPEG, PNG and TIFF as volumes of one slice, row by row, so that nothing is turned."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.io.suffixes import MASK_IMAGE_SUFFIXES
from unia_med.data.io.volume import Volume, VolumeInfo
from unia_med.errors import UserError
from unia_med.files import replacing

if TYPE_CHECKING:
    from PIL.Image import Image

_MASK_MODES = {"1", "L", "P"}
_GREY_MODES = {"L", "F", "I", "I;16", "I;16B", "I;16L"}
_FORMATS = ("JPEG", "PNG", "TIFF")
_COPY_AGAIN = "Copy the file again from its source, or leave it out"


def read_picture(path: Path) -> Volume:
    """Return a picture as it is stored: (H, W, 1) of grey values, 8 or 16 bits or float, or (H, W, 1, 3) of colours.

    Axes X and Y are rows and columns, a pixel counts as 1 mm. Transparency is dropped, a palette becomes its colours.

    Args:
        path: JPEG, PNG or TIFF of one page.
    """
    with _opened(path) as image:
        array = np.array(image if image.mode in _GREY_MODES else image.convert(_plain_mode(image)))
    if array.ndim == 2:
        return Volume(array[:, :, None], np.eye(4), path=path)
    return Volume(array[:, :, None, :], np.eye(4), path=path, axes="XYZC")


def read_picture_header(path: Path) -> tuple[tuple[int, ...], np.ndarray]:
    """Return the shape that `read_picture` gives, and the identity, without decoding any pixel.

    Args:
        path: JPEG, PNG or TIFF of one page.
    """
    with _opened(path) as image:
        (width, height), grey = image.size, image.mode in _GREY_MODES or _plain_mode(image) == "L"
    return ((height, width, 1) if grey else (height, width, 1, 3)), np.eye(4)


def has_palette(path: Path) -> bool:
    """Return whether a picture's pixels are numbers of a palette, as in VOC's masks, by its header.

    Args:
        path: JPEG, PNG or TIFF of one page.
    """
    with _opened(path) as image:
        return bool(image.mode == "P")


def read_image(path: Path | str, channels: int = 3) -> Volume:
    """Return a photograph as uint8 (H, W, 1, C), or (H, W, 1) of one channel: axes X and Y are rows and columns.

    Pixels stay as they are stored: a camera's note to turn the picture (EXIF) is not followed, since masks and
    annotations of VOC and COCO do not follow it either. Of 16 bits the upper 8 are kept.

    Args:
        path: JPEG, PNG or TIFF; grey, colour, palette or with transparency, which is dropped.
        channels: 3 for colour, grey images being repeated, or 1 for grey.
    """
    path = Path(path)
    with _opened(path) as image:
        array = _pixels(image, channels)
    if channels == 1:
        return Volume(array[:, :, None], np.eye(4), path=path)
    return Volume(array[:, :, None, :], np.eye(4), path=path, axes="XYZC")


def read_image_header(path: Path | str, channels: int = 3) -> VolumeInfo:
    """Return shape (H, W, 1, C), or (H, W, 1) of one channel, and the identity, without decoding any pixel.

    Args:
        path: As in `read_image`.
        channels: As in `read_image`.
    """
    path = Path(path)
    with _opened(path) as image:
        width, height = image.size
    shape = (height, width, 1) if channels == 1 else (height, width, 1, channels)
    return VolumeInfo(shape, np.eye(4), path)


def check_decodes(path: Path | str) -> None:
    """Decode an image to check it; of a JPEG only as much as shows whether data are missing.

    Raises:
        UserError: The file is missing, foreign, damaged or cut off.
    """
    with _opened(Path(path)) as image:
        image.draft("RGB", (image.width // 8, image.height // 8))
        image.load()


def read_mask(path: Path | str) -> Volume:
    """Return the label values of a mask as uint8 (H, W, 1): palette indices or grey values, VOC's borders being 255.

    Args:
        path: PNG or TIFF with a palette (`SegmentationClass`) or grey (`SegmentationClassAug`), also where the grey is
            stored as equal red, green and blue; transparency is dropped.

    Raises:
        UserError: The file is none of these, has several colours, or a value beyond 255.
    """
    path = Path(path)
    if path.suffix.lower() not in MASK_IMAGE_SUFFIXES:
        raise UserError(
            "masks are PNG or TIFF files; JPEG would change label values", where=path, remedy="Save it as PNG"
        )
    with _opened(path) as image:
        plain = image.mode in _MASK_MODES | _GREY_MODES
        array = np.array(image) if plain else _grey_of_colours(image, path)
    labels = array.astype(np.uint8)
    if not np.array_equal(labels, array):
        found = f"label values from {array.min():g} to {array.max():g}, expected whole numbers from 0 to 255"
        raise UserError(found, where=path, remedy="Save it with the class numbers as grey values")
    return Volume(labels[:, :, None], np.eye(4), path=path)


def write_mask(labels: np.ndarray, path: Path | str, palette: bool = True) -> None:
    """Write labels as a PNG with VOC's palette; the file appears whole or not at all.

    Args:
        labels: uint8 (H, W).
        path: Destination `.png` (or `.tif`); its folder is made when missing.
        palette: False: grey values.
    """
    from PIL import Image

    # Of mode P from the start: `putpalette` on a grey image makes it so without touching the indices.
    image = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8))
    if palette:
        image.putpalette(voc_palette().ravel().tolist())
    _save(image, Path(path))


def write_grey(values: np.ndarray, path: Path | str) -> None:
    """Write numbers in [0, 1] as a grey PNG of 8 bits, 1 being white.

    Args:
        values: float (H, W).
        path: As for `write_mask`.
    """
    from PIL import Image

    _save(Image.fromarray(np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)), Path(path))


def voc_palette() -> np.ndarray:
    """Return uint8 (256, 3), the colours of PASCAL VOC: the bits of an index, spread over red, green and blue.

    Example:
        >>> voc_palette()[[0, 1, 15, 255]].tolist()
        [[0, 0, 0], [128, 0, 0], [192, 128, 128], [224, 224, 192]]
    """
    index = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= ((index >> channel & 1) << (7 - bit)).astype(np.uint8)
        index = index >> 3
    return colours


def _pixels(image: Image, channels: int) -> np.ndarray:
    if image.mode.startswith("I"):
        grey = (np.array(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return grey if channels == 1 else np.repeat(grey[:, :, None], channels, axis=2)
    return np.array(image.convert("L" if channels == 1 else "RGB"))


def _grey_of_colours(image: Image, path: Path) -> np.ndarray:
    """Return the grey values of a picture whose red, green and blue are equal, as paint programs save masks.

    The colours of VOC's palette give its indices: `predict` and `next` write them, and a program may drop the palette.
    """
    colours = np.array(image.convert("RGB"))
    if (colours != colours[..., :1]).any():
        index = {tuple(colour): number for number, colour in enumerate(voc_palette().tolist())}
        found, places = np.unique(colours.reshape(-1, 3), axis=0, return_inverse=True)
        values = [index.get(tuple(colour)) for colour in found.tolist()]
        if all(value is not None for value in values):
            return np.array(values, np.uint8)[places].reshape(colours.shape[:2])
        count = len(found)
        remedy = "Save it with a palette or in grey, pixels being class numbers, or name the config of `unia-med init`"
        raise UserError(f"a mask in {count} colours, expected palette or grey", where=path, remedy=remedy)
    return np.asarray(colours[..., 0])


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """Yield the file opened by pillow; any error while reading becomes a fault of the file."""
    from PIL import Image

    if not path.is_file():
        raise UserError("no such file", where=path, remedy="Check the path")
    try:
        with Image.open(path, formats=_FORMATS) as image:
            _check_pages(image, path)
            yield image
    # Pillow raises all of these on foreign, damaged or cut-off files; the bomb is an image of 180 megapixels.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot be decoded as JPEG, PNG or TIFF ({error})", where=path, remedy=_COPY_AGAIN) from error


def _check_pages(image: Image, path: Path) -> None:
    pages = getattr(image, "n_frames", 1)
    if pages > 1:
        remedy = "Save each page as a picture of its own, or the stack as NIfTI with its spacing"
        raise UserError(f"a file of {pages} pages, expected one picture", where=path, remedy=remedy)


def _plain_mode(image: Image) -> str:
    """Return "L" for pictures without colour, else "RGB"."""
    return "L" if image.mode in ("1", "LA", "La") else "RGB"


def _save(image: Image, path: Path) -> None:
    with replacing(path, path.suffix) as temporary:
        image.save(temporary, format="TIFF" if path.suffix.lower().startswith(".tif") else "PNG")
