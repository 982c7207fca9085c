"""Pairs labels with images, and groups files that are the channels of one image."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from unia_med.data.io.label_names import WORDS, tokens
from unia_med.data.io.suffixes import label_stem, volume_stem
from unia_med.project.found import Found

_FILLER = {word for words in WORDS.values() for word in words} | {
    "image", "images", "img", "imgs", "scan", "scans", "imagestr", "imagests", "volume", "raw", "data", "orig", "anat",
    "jpegimages",
}  # fmt: skip


@dataclass
class Pairs:
    """Images and their labels.

    Attributes:
        images: first file of each image.
        labels: label files of each image.
        channel_endings: endings of the files of one image, empty where an image is one file.
        unpaired: label files that belong to no image.
    """

    images: list[Path]
    labels: dict[Path, list[Path]] = field(default_factory=dict)
    channel_endings: list[str] = field(default_factory=list)
    unpaired: list[Path] = field(default_factory=list)


def pair(found: Found, root: Path) -> Pairs:
    """Return the pairs of a folder: by name, by folder, by the numbers in names.

    Args:
        found: what lies there.
        root: the folder.
    """
    images = [path for path in found.images if "imagests" not in path.relative_to(root).as_posix().casefold()]
    endings = channel_endings(images)
    firsts = [path for path in images if not endings or volume_stem(path).endswith(endings[0])]
    pairs = Pairs(firsts, defaultdict(list), endings)
    for label, owner in owners(found.labels, pairs, root).items():
        if owner is None:
            pairs.unpaired.append(label)
        else:
            pairs.labels[owner].append(label)
    return pairs


def owners(labels: Iterable[Path], pairs: Pairs, root: Path) -> dict[Path, Path | None]:
    """Return the image of each label file; None where there is none.

    Args:
        labels: paths.
        pairs: with the images of the folder.
        root: the folder.
    """
    by_key: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for image in pairs.images:
        by_key[_key(image, root, pairs.channel_endings)].append(image)
        by_folder[image if image.is_dir() else image.parent].append(image)
    return {label: _owner(label, root, pairs.channel_endings, by_key, by_folder, pairs.images) for label in labels}


def channel_endings(images: Sequence[Path]) -> list[str]:
    """Return the endings of the files that make up one image each, as nnU-Net's `_0000`; empty where there are none.

    Example:
        >>> channel_endings([Path(f"a_{c}.nii") for c in ("0000", "0001")] + [Path("b_0000.nii"), Path("b_0001.nii")])
        ['_0000', '_0001']
        >>> channel_endings([Path("p1_t1.nii"), Path("p1_flair.nii"), Path("p2_t1.nii"), Path("p2_flair.nii")])
        ['_flair', '_t1']
        >>> channel_endings([Path("p1_frame01.nii"), Path("p1_frame02.nii")])
        []
        >>> channel_endings([Path(f"{site}/scan_{number}.nii") for site in "AB" for number in (1, 2)])
        []
    """
    split = [re.fullmatch(r"(.+?)([_\-][A-Za-z0-9]+)", volume_stem(path)) for path in images]
    if not images or not all(split):
        return []
    groups: dict[tuple[Path, str], set[str]] = defaultdict(set)
    for path, match in zip(images, split, strict=True):
        if match is not None:
            groups[path.parent, match[1]].add(match[2])
    sets = Counter(frozenset(endings) for endings in groups.values())
    (common, _), *others = sets.most_common()
    # Numbers alone may as well count patients or time points; nnU-Net counts channels from _0000, of several images.
    numbered = "_0000" in common and all(re.fullmatch(r"_\d{4}", ending) for ending in common)
    numbered = numbered and (len(groups) > 1 or len(common) == 1)
    named = len(groups) > 1 and len(common) > 1
    named = named and all(re.search("[A-Za-z]", end) and not re.search(r"\d{2,}", end) for end in common)
    return sorted(common) if not others and (numbered or named) else []


def _owner(
    label: Path,
    root: Path,
    endings: Sequence[str],
    by_key: Mapping[tuple[str, ...], list[Path]],
    by_folder: Mapping[Path, list[Path]],
    images: Sequence[Path],
) -> Path | None:
    same = by_key.get(_key(label, root, endings), []) or _of_subject(label, images)
    if len(same) == 1:
        return same[0]
    near = [image for image in same if image.parent == label.parent]
    if len(near) == 1:
        return near[0]
    for folder in label.parents:  # the only image of the folder that holds both
        if folder == root or not folder.is_relative_to(root):
            break
        inside = [image for image in images if image.is_relative_to(folder)]
        if len(inside) == 1:
            return inside[0]
    here = by_folder.get(label.parent, [])
    if label.parent == root and len(images) == 1:
        return images[0]
    begins = [image for image in here or images if label_stem(label).startswith(_bare(image, endings))]
    if begins:
        return max(begins, key=lambda image: len(_bare(image, endings)))
    numbers = re.findall(r"\d+", label_stem(label))
    alike = [image for image in images if numbers and re.findall(r"\d+", _bare(image, endings)) == numbers]
    return alike[0] if len(alike) == 1 else None


def _of_subject(label: Path, images: Sequence[Path]) -> list[Path]:
    """Return the images of a label of BIDS: of its subject, and of its session, run, ... where both name them."""
    own = _entities(label)
    if "sub" not in own:
        return []
    named = [(image, _entities(image)) for image in images]
    return [image for image, its in named if "sub" in its and all(its.get(key, own[key]) == own[key] for key in own)]


def _entities(path: Path) -> dict[str, str]:
    """Return what a BIDS name says of the scan, such as sub-01_ses-2_T1w, without what it says of the labels."""
    found = dict(re.findall(r"(?:^|_)([a-z]+)-([A-Za-z0-9]+)", label_stem(path)))
    return {key: value for key, value in found.items() if key in ("sub", "ses", "run", "acq", "dir", "echo")}


def _bare(image: Path, endings: Sequence[str]) -> str:
    stem = image.name if image.is_dir() else volume_stem(image)
    return stem.removesuffix(endings[0]) if endings else stem


def _key(path: Path, root: Path, endings: Sequence[str]) -> tuple[str, ...]:
    """Return the words of a path without those that say image or label."""
    stem = path.name if path.is_dir() else label_stem(path)
    if endings and stem.endswith(endings[0]):
        stem = stem.removesuffix(endings[0])
    spoken = [word for part in (*path.relative_to(root).parent.parts, stem) for word in tokens(part)]
    # The folder of a case may be repeated in the file's name.
    return tuple(dict.fromkeys(word for word in spoken if word not in _FILLER))
