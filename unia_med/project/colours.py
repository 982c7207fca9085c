"""Masks in colours, as CVAT and paint programs save them: a class per colour."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from unia_med.data.io.image import read_picture
from unia_med.data.io.label_file import LabelFile, is_background_name
from unia_med.errors import UserError
from unia_med.files import decoded

MOST_COLOURS = 32
"""Colours of a mask; a photograph, or a mask with blurred edges, has hundreds."""

_LINE = re.compile(r"^\s*([^#:]+?)\s*:\s*(\d+)\s*,\s*(\d+)\s*,\s*(\d+)\s*(?::.*)?$")
_BLACK = 0


def colour_names(texts: Iterable[Path]) -> dict[int, str]:
    """Return the names of colours, packed as 0xRRGGBB, of the first file that says some: lines `liver:250,50,83`.

    Args:
        texts: small text files, such as the `labelmap.txt` of CVAT.
    """
    for path in texts:
        try:
            lines = decoded(path.read_bytes()).splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        found = [_LINE.match(line) for line in lines if line.strip() and not line.lstrip().startswith("#")]
        if found and all(found):
            return {_packed([int(m[2]), int(m[3]), int(m[4])]): m[1] for m in found if m}
    return {}


def numbered_colours(
    paths: Sequence[Path], names: dict[int, str]
) -> tuple[dict[Path, LabelFile], dict[Path, str], dict[int, str]]:
    """Return masks in colours with a number per colour, those that are none with the reason, and the colours' names.

    Background, 0, is the colour of that name, else black, else the colour of most pixels; the others are numbered in
    the order in which `names` has them, then by their red, green and blue.

    Args:
        paths: PNG or TIFF.
        names: of `colour_names`.
    """
    pictures: dict[Path, np.ndarray] = {}
    refused: dict[Path, str] = {}
    counts: Counter[int] = Counter()
    for path in paths:
        try:
            packed = _packed_pixels(path)
        except UserError as error:
            refused[path] = error.what
            continue
        colours, pixels = np.unique(packed, return_counts=True)
        if len(colours) > MOST_COLOURS:
            refused[path] = f"a mask in more than {MOST_COLOURS} colours: save it with class numbers as grey values"
            continue
        pictures[path] = packed
        counts.update(dict(zip(colours.tolist(), pixels.tolist(), strict=True)))
    background = next((colour for colour, name in names.items() if is_background_name(name)), None)
    if background is None and counts:
        background = _BLACK if _BLACK in counts else counts.most_common(1)[0][0]
    order = [colour for colour in dict.fromkeys([*names, *sorted(counts)]) if colour != background]
    values = {colour: number for number, colour in enumerate(order, start=1)}
    said = {number: names.get(colour, f"colour_{colour:06x}") for colour, number in values.items()}
    files = {
        path: LabelFile(_numbered(packed, values)[:, :, None], np.eye(4), path, said)
        for path, packed in pictures.items()
    }
    return files, refused, said


def _packed_pixels(path: Path) -> np.ndarray:
    """Return the pixels of a picture as 0xRRGGBB, (H, W)."""
    array = read_picture(path).array
    colours = np.repeat(array[..., None], 3, -1) if array.ndim == 3 else array
    return np.asarray(_packed(np.moveaxis(colours[:, :, 0].astype(np.int64), -1, 0)))


def _numbered(packed: np.ndarray, values: Mapping[int, int]) -> np.ndarray:
    colours, places = np.unique(packed, return_inverse=True)
    numbers = np.array([values.get(colour, 0) for colour in colours.tolist()], np.int64)
    return numbers[places.reshape(packed.shape)]


def _packed(colour: Sequence[int] | np.ndarray) -> int:
    red, green, blue = colour
    return (red << 16) | (green << 8) | blue
