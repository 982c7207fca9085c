"""Names of labels and results next to images: one rule for `predict`, `inspect`, `train` and `init`."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Set
from pathlib import Path, PurePath

from unia_med.data.io.suffixes import is_segmentation, label_stem

WORDS = {
    "scribbles": ("scribble", "scribbles", "stroke", "strokes", "seed", "seeds"),
    "points": ("point", "points", "click", "clicks", "landmarks"),
    "boxes": ("box", "boxes", "bbox", "bboxes"),
    "masks": ("gt", "mask", "masks", "truth", "groundtruth", "manual", "dseg"),
    "": ("label", "labels", "labelmap", "seg", "segmentation", "segmentations", "annotation", "annotations", "annot",
         "roi", "rois", "lesion", "lesions", "contours", "labelstr", "labelsts", "segmentationclass"),
}  # fmt: skip
"""Words in file and folder names that speak of labels, by the kind they tell; of the last, only the content tells."""

LABEL_WORDS = frozenset(word for words in WORDS.values() for word in words)

_RESULTS = {"pred", "prediction", "predictions", "uncertainty", "probseg", "aseg", "aparc", "block", "blocks"}
_UNSURE = {"stroke", "strokes", "seed", "seeds", "point", "manual", "lesion", "lesions", "contours", "roi", "box"}
"""Words that the name of an image may end with, too: of a patient with a stroke, say."""

_SURE = (LABEL_WORDS | _RESULTS) - _UNSURE
_FOLDERS = {
    *("label", "labels", "labelstr", "labelsts", "labelmaps", "mask", "masks", "gt", "groundtruth"),
    *("segmentation", "segmentations", "annotation", "annotations", "scribbles", "points", "boxes"),
    *("segmentationclass", "segmentationobject", "seg", "segs", "annot"),
}
_TOKEN = re.compile(r"[^\W_]+")
_CHANNEL = re.compile(r"_\d{4}$")

NAMED = "named like labels or results"
"""Why a file is left out; messages give their number, not their names."""


def tokens(text: str) -> list[str]:
    """Return the words of a name in small letters.

    Example:
        >>> tokens("Case12_T1-label")
        ['case12', 't1', 'label']
    """
    return [part.casefold() for part in _TOKEN.findall(text)]


def without_label_word(stem: str) -> str:
    """Return a name without a last word that says that it is one of labels, as `X_mask` of the image `X`.

    Example:
        >>> without_label_word("scan 1-label"), without_label_word("site/im_0_mask"), without_label_word("p1_stroke")
        ('scan 1', 'site/im_0', 'p1_stroke')
    """
    found = re.fullmatch(r"(.*[^\W_])[\W_]+([^\W_]+)", stem)
    return found[1] if found and found[2].casefold() in LABEL_WORDS - _UNSURE else stem


def is_label_name(stem: str, others: Collection[str] = ()) -> bool:
    """Return whether a file is one of labels or a result by its name.

    It is, where its last word says so, with or without a number. Where another word says so, or one that an image may
    bear as well, it is if what stands before that word is the name of another file.

    Args:
        stem: name without suffix.
        others: names of the files next to it.

    Example:
        >>> [is_label_name(name) for name in ("label", "X-label", "X_mask2", "X Segmentation", "X_t1", "p1_stroke")]
        [True, True, True, True, False, False]
        >>> [is_label_name(name, ["p1"]) for name in ("p1_stroke", "p1_mask_liver", "p2_mask_liver")]
        [True, True, False]
    """
    return _speaks_of_labels(stem, _with_and_without_channel(others))


def _with_and_without_channel(names: Iterable[str]) -> set[str]:
    return {name for other in names for name in (other, _CHANNEL.sub("", other))}


def _speaks_of_labels(stem: str, known: Set[str]) -> bool:
    """`is_label_name`, with what other files are called; looked up, since a folder may hold ten thousand."""
    found = [(match.start(), match[0].casefold().rstrip("0123456789") or match[0]) for match in _TOKEN.finditer(stem)]
    if not found:
        return False
    numbered = len(found) > 1 and found[-1][1].isdigit()
    if found[-1][1] in _SURE or (numbered and found[-2][1] in _SURE) or (found[0][1] in _SURE and len(found) == 2):
        return True
    return any(
        word in LABEL_WORDS | _RESULTS and stem[:start].rstrip("_-. +") in known for start, word in found if start
    )


def split_labels(paths: Iterable[Path], root: Path) -> tuple[list[Path], list[Path]]:
    """Return the files that can be images by their names, and those that are labels or results.

    Files in a folder that is called as labels are, such as nnU-Net's `labelsTr`, are labels, if there are others.

    Args:
        paths: files below a folder, of all kinds that can be images or labels.
        root: the folder that is searched.
    """
    by_folder: dict[PurePath, list[Path]] = {}
    for path in paths:
        by_folder.setdefault(path.parent, []).append(path)
    images: list[Path] = []
    labels: list[Path] = []
    for files in by_folder.values():
        known = _with_and_without_channel(label_stem(path) for path in files)
        for path in files:
            named = is_segmentation(path) or _speaks_of_labels(label_stem(path), known)
            (labels if named else images).append(path)
    outside = [path for path in images if not _in_label_folder(path, root)]
    inside = [path for path in images if outside and _in_label_folder(path, root)]
    return sorted(outside or images), sorted([*labels, *inside])


def in_label_folders(paths: Iterable[Path], root: Path) -> list[Path]:
    """Return the files in folders that are called as labels are, such as `labelsTr`, if there are others; else all.

    Args:
        paths: files of labels, and perhaps of images, below a folder.
        root: the folder that is searched.
    """
    files = list(paths)
    return [path for path in files if _in_label_folder(path, root)] or files


def _in_label_folder(path: Path, root: Path) -> bool:
    folders = path.parent.relative_to(root).parts if path.is_relative_to(root) else ()
    return any(folder.casefold() in _FOLDERS for folder in folders)
