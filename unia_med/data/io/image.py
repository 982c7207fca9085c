"""Photographs and their masks: JPEG and PNG as volumes of one slice, row by row, so that nothing is turned."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unia_med.data.io.volume import Volume, VolumeInfo
from unia_med.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png")
_MASK_MODES = {"1", "L", "P"}
_COPY_AGAIN = "Copy the file again from its source, or leave it out"


def is_image(path: Path | str) -> bool:
    """Return whether a file is a photograph (or a mask of one) by its suffix.

    Example:
        >>> is_image("a/b.JPG"), is_image("b.nii.gz")
        (True, False)
    """
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def read_image(path: Path | str, channels: int = 3) -> Volume:
    """Return a photograph as uint8 (H, W, 1, C), or (H, W, 1) of one channel: axes X and Y are rows and columns.

    Pixels stay as they are stored: a camera's note to turn the picture (EXIF) is not followed, since masks and
    annotations of VOC and COCO do not follow it either. Of 16 bits the upper 8 are kept.

    Args:
        path: JPEG or PNG; grey, colour, palette or with transparency, which is dropped.
        channels: 3 for colour, grey images being repeated, or 1 for grey.
    """
    path = Path(path)
    with _opened(path) as image:
        array = _pixels(image, channels)
    array = array[:, :, None] if channels == 1 else array[:, :, None, :]
    return Volume(array, np.eye(4), path=path)


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
    """Return decodes an image and forgets it; of a JPEG only what it takes to find that data are missing.

    Raises:
        UserError: The file is missing, foreign, damaged or cut off.
    """
    with _opened(Path(path)) as image:
        image.draft("RGB", (image.width // 8, image.height // 8))
        image.load()


def read_mask(path: Path | str) -> Volume:
    """Return the label values of a mask PNG as uint8 (H, W, 1): palette indices or grey values, borders being 255.

    Args:
        path: PNG with a palette (`SegmentationClass`) or grey (`SegmentationClassAug`).
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise UserError("masks are PNG files; JPEG would change label values", where=path, remedy="Save it as PNG")
    with _opened(path) as image:
        if image.mode not in _MASK_MODES:
            remedy = "Save it with a palette or in grey, pixels being class numbers"
            raise UserError(f"a mask of mode {image.mode}, expected palette or grey", where=path, remedy=remedy)
        array = np.array(image).astype(np.uint8)
    return Volume(array[:, :, None], np.eye(4), path=path)


def write_mask(labels: np.ndarray, path: Path | str) -> None:
    """Write labels as a PNG with VOC's palette; the file appears whole or not at all.

    Args:
        labels: uint8 (H, W).
        path: Destination `.png`; its folder is made when missing.
    """
    from PIL import Image

    # Of mode P from the start: `putpalette` on a grey image makes it so without touching the indices.
    image = Image.fromarray(np.ascontiguousarray(labels, dtype=np.uint8))
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


@contextmanager
def _opened(path: Path) -> Iterator[Image]:
    """Return the file opened by pillow, with everything that reading it may raise told as a fault of the file."""
    from PIL import Image

    if not path.is_file():
        raise UserError("no such file", where=path, remedy="Check the path")
    try:
        with Image.open(path, formats=("JPEG", "PNG")) as image:
            yield image
    # Pillow raises all of these on foreign, damaged or cut-off files; the bomb is an image of 180 megapixels.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"cannot be decoded as JPEG or PNG ({error})", where=path, remedy=_COPY_AGAIN) from error


def _save(image: Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing_{os.getpid()}_{path.name}")
    try:
        image.save(temporary, format="PNG")
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"cannot be written ({error})", where=path, remedy="Free some space") from error
    finally:
        temporary.unlink(missing_ok=True)
