"""Predicts photographs with a trained run: label PNGs in VOC's palette, optionally after a dense CRF."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from unia_med.data.io.image import read_image, write_grey, write_mask
from unia_med.data.io.suffixes import IMAGE_SUFFIXES, is_image
from unia_med.errors import UserError

if TYPE_CHECKING:
    from unia_med.config.schema import CrfConfig
    from unia_med.inference.predictor import Predictor

NO_IMAGES = ("_seg", "_pred", "_uncertainty", "_gt")
"""Endings of results and masks, which are no images."""


class ImageSegmentation(NamedTuple):
    """What is predicted of a photograph, row by row as it is stored.

    Attributes:
        labels: uint8 (H, W), 0 background, 1..T the run's classes.
        uncertainty: float32 (H, W) in [0, 1], of the network's probabilities, before any CRF.
    """

    labels: np.ndarray
    uncertainty: np.ndarray


def find_photographs(path: Path) -> dict[str, Path]:
    """Images by name: a file, or the images that lie directly in a folder.

    Args:
        path: a JPEG or PNG, or a folder such as `JPEGImages`.

    Raises:
        UserError: there is none, or two would be written under one name.
    """
    if path.is_file():
        if not is_image(path):
            known = ", ".join(IMAGE_SUFFIXES)
            raise UserError("this run was trained on photographs", where=path, remedy=f"Give one of {known}")
        return {path.stem: path}
    if not path.is_dir():
        raise UserError("no such file or folder", where=path, remedy="Check --input")
    found: dict[str, Path] = {}
    for file in sorted(path.iterdir()):
        if not is_image(file) or file.name.startswith(".") or file.stem.endswith(NO_IMAGES):
            continue
        if file.stem in found:
            raise UserError(f"lies beside {found[file.stem].name}", where=file, remedy="Rename one of the two")
        found[file.stem] = file
    if not found:
        raise UserError("holds no JPEG or PNG", where=path, remedy="Name the folder in which the images lie themselves")
    return found


def result_files(output: Path, name: str, uncertainty: bool) -> Mapping[str, Path]:
    """Files that are written for an image: `labels`, and `uncertainty` where it is asked for."""
    files = {"labels": output / f"{name}_seg.png"}
    return {**files, "uncertainty": output / f"{name}_uncertainty.png"} if uncertainty else files


def segment_image(predictor: Predictor, path: Path, channels: int, crf: CrfConfig) -> ImageSegmentation:
    """Labels and uncertainty of a photograph in its own size.

    Args:
        predictor: of the run.
        path: of the image.
        channels: of the run's images, 3 or 1.
        crf: settings of the CRF; with 0 iterations the labels are the network's.
    """
    volume = read_image(path, channels)
    if not crf.iterations:
        found = predictor.predict_volume(volume)
        return ImageSegmentation(found.labels[:, :, 0], found.uncertainty[:, :, 0])
    import torch

    from unia_med.localise.dense_crf import CrfSettings, dense_crf

    detailed = predictor.predict_in_detail(volume)
    image = torch.from_numpy(volume.array[:, :, 0].reshape(*volume.shape[:2], channels)).permute(2, 0, 1) / 255
    probabilities = torch.from_numpy(np.ascontiguousarray(detailed.probabilities[:, :, :, 0]))
    settings = CrfSettings(**crf.model_dump())
    refined = dense_crf(image.to(predictor.device), probabilities.to(predictor.device), settings)
    own = predictor.settings.uncertainty == "network"
    doubt = detailed.network if own else detailed.entropy
    return ImageSegmentation(refined.argmax(0).to(torch.uint8).cpu().numpy(), doubt[:, :, 0])


def write_results(found: ImageSegmentation, files: Mapping[str, Path]) -> None:
    """Write what `result_files` names.

    Args:
        found: of the image.
        files: destination by kind.
    """
    write_mask(found.labels, files["labels"])
    if "uncertainty" in files:
        write_grey(found.uncertainty, files["uncertainty"])
