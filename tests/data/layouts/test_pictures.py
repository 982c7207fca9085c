"""PNG, JPEG and TIFF under the layout `volumes`: intensities, masks, weak labels, and sets that contradict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from unia_med.build import build_dataset
from unia_med.config.schema import DataConfig, RunConfig
from unia_med.data.slices.dataset import build_slices
from unia_med.data.weak_labels.case_tags import load_tags
from unia_med.data.weak_labels.load import load_weak_labels
from unia_med.errors import UserError
from unia_med.labels import IGNORE

SIZE = (30, 44)
RAMP = np.linspace(0, 1, SIZE[0] * SIZE[1]).reshape(SIZE)
MASK = np.zeros(SIZE, np.uint8)
MASK[5:12, 6:20], MASK[15:25, 8:30] = 1, 2


def save(array: np.ndarray, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def config(root: Path, **changes: Any) -> DataConfig:
    grid = {"size": list(SIZE), "percentiles": [0, 100], **changes.pop("grid", {})}
    return DataConfig(**{"name": "volumes", "root": root, "classes": ["A", "B"], "grid": grid, **changes})


def image_of(data: DataConfig) -> np.ndarray:
    dataset = build_dataset(data)
    return build_slices(dataset, dataset.cases(), data)[0]["image"].numpy()


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "TIFF"])
def test_a_folder_of_pictures_is_in_pixels_by_itself(tmp_path: Path, suffix: str) -> None:
    save((RAMP * 255).astype(np.uint8), tmp_path / "site" / f"x.{suffix}")
    save(MASK, tmp_path / "site" / "x_gt.png")
    data = config(tmp_path, grid={"spacing_mm": 1.875})  # as a template has it
    assert (data.grid.units, data.grid.spacing_mm, data.grid.resize) == ("pixels", None, "stretch")
    dataset = build_dataset(data)
    (case,) = dataset.cases()
    assert case.name == "site/x" and dataset.slice_counts([case]) == {"site/x": 1}
    assert np.array_equal(dataset.labels(case)[:, :, 0], MASK)
    assert dataset.evaluation_case(case).volume.shape == (*SIZE, 1)
    assert load_tags(dataset, [case], data)["site/x"].tolist() == [[1, 1]]
    assert np.abs(image_of(data)[0] - RAMP).max() < 0.02


def test_sixteen_bits_keep_what_eight_would_lose(tmp_path: Path) -> None:
    """All intensities within one step of the upper 8 bits."""
    save((256 * 40 + RAMP * 255).astype(np.uint16), tmp_path / "x.png")
    save((256 * 40 + RAMP * 255).astype(np.uint16), tmp_path / "y.tif")
    data = config(tmp_path, tags={"source": "none"})
    dataset = build_dataset(data)
    slices = build_slices(dataset, dataset.cases(), data)
    for index in range(2):
        assert np.abs(slices[index]["image"][0].numpy() - RAMP).max() < 0.01


def test_colours_are_channels_and_nothing_is_dropped_in_silence(tmp_path: Path) -> None:
    colours = np.stack([RAMP * 255, 255 - RAMP * 255, RAMP * 100], -1).astype(np.uint8)
    save(colours, tmp_path / "x.png")
    plain = {"tags": {"source": "none"}}
    found = image_of(config(tmp_path, channels=3, **plain))
    assert found.shape == (3, *SIZE) and np.abs(found[1] - (1 - RAMP)).max() < 0.01
    with pytest.raises(UserError, match=r"3 colours, expected 1 channel.*data.channels=3"):
        image_of(config(tmp_path, **plain))
    save(np.repeat((RAMP * 255).astype(np.uint8)[..., None], 3, 2), tmp_path / "x.png")
    assert np.abs(image_of(config(tmp_path, **plain))[0] - RAMP).max() < 0.01  # grey, stored as colour
    with pytest.raises(UserError, match="channels"):
        image_of(config(tmp_path, channels=2, **plain))


def test_channels_in_files_of_their_own(tmp_path: Path) -> None:
    for ending, array in (("_0000", RAMP), ("_0001", 1 - RAMP)):
        save((array * 255).astype(np.uint8), tmp_path / f"x{ending}.png")
    volumes = {"channel_endings": ["_0000", "_0001"]}
    found = image_of(config(tmp_path, channels=2, volumes=volumes, tags={"source": "none"}))
    assert found.shape == (2, *SIZE) and np.abs(found[1] - (1 - RAMP)).max() < 0.01


def test_scans_and_pictures_in_one_tree(tmp_path: Path) -> None:
    save((RAMP * 255).astype(np.uint8), tmp_path / "pictures" / "x.png")
    (tmp_path / "scans").mkdir()
    nib.save(nib.Nifti1Image(RAMP[:, :, None].astype(np.float32), np.diag([2, 2, 5, 1])), tmp_path / "scans" / "y.nii")
    data = config(tmp_path, grid={"spacing_mm": 1.5})
    assert data.grid.units == "mm"
    with pytest.raises(UserError, match=r"x.png.*no millimetres.*data.grid.units=pixels"):
        build_dataset(data).cases()
    only_scans = config(tmp_path, volumes={"images": "**/*.nii"})
    assert [case.name for case in build_dataset(only_scans).cases()] == ["scans/y"]
    together = config(tmp_path, grid={"units": "pixels"}, tags={"source": "none"})
    dataset = build_dataset(together)
    assert [case.name for case in dataset.cases()] == ["pictures/x", "scans/y"]
    slices = build_slices(dataset, dataset.cases(), together)
    assert np.abs(slices[0]["image"].numpy() - slices[1]["image"].numpy()).max() < 0.01


def test_masks_of_0_and_255_want_their_value_named(tmp_path: Path) -> None:
    save((RAMP * 255).astype(np.uint8), tmp_path / "x.png")
    save(np.where(MASK == 1, 255, 0).astype(np.uint8), tmp_path / "x_gt.png")
    dataset = build_dataset(config(tmp_path, classes=["LUNG"]))
    with pytest.raises(UserError, match=r"0 and 255 alone.*class_values: \[255\]"):
        dataset.labels(dataset.cases()[0])
    dataset = build_dataset(config(tmp_path, classes=["LUNG"], class_values=[255]))
    assert np.array_equal(dataset.labels(dataset.cases()[0])[:, :, 0], MASK == 1)
    save(np.where(MASK == 2, 255, MASK).astype(np.uint8), tmp_path / "x_gt.png")
    dataset = build_dataset(config(tmp_path, classes=["LUNG"]))
    assert np.array_equal(dataset.labels(dataset.cases()[0])[:, :, 0] == IGNORE, MASK == 2)


def test_masks_of_another_size_are_refused(tmp_path: Path) -> None:
    save((RAMP * 255).astype(np.uint8), tmp_path / "x.png")
    save(MASK[:20], tmp_path / "x_gt.png")
    with pytest.raises(UserError, match=r"shape \(20, 44, 1\), expected \(30, 44, 1\).*same size in pixels"):
        build_dataset(config(tmp_path)).cases()


def test_tags_and_scribbles_of_pictures(tmp_path: Path) -> None:
    save((RAMP * 255).astype(np.uint8), tmp_path / "x.jpg")
    drawn = np.full(SIZE, 3, np.uint8)
    drawn[7, 8:14], drawn[2, 2:30] = 1, 0
    save(drawn, tmp_path / "x_scribbles.png")
    (tmp_path / "tags.csv").write_text("image,slice,A,B\nx.jpg,0,1,0\n")
    labels = [{"kind": "scribbles", "source": "files", "background_value": 0, "ignore_value": 3, "fill": "none"}]
    data = config(tmp_path, tags={"source": "csv", "path": "tags.csv"}, labels=labels)
    dataset = build_dataset(data)
    assert load_tags(dataset, dataset.cases(), data)["x"].tolist() == [[1, 0]]
    found = load_weak_labels(dataset, dataset.cases(), data, 0)
    assert found is not None
    expected = np.full(SIZE, IGNORE, np.uint8)
    expected[7, 8:14], expected[2, 2:30] = 1, 0
    assert np.array_equal(found["x"][0], expected)


def test_units_that_contradict_the_rest() -> None:
    with pytest.raises(ValueError, match="slice_axis stored"):
        RunConfig(data={"name": "volumes", "classes": ["A"], "grid": {"units": "pixels", "slice_axis": "axial"}})
    with pytest.raises(ValueError, match="units must be pixels"):
        RunConfig(data={"name": "voc", "grid": {"units": "mm"}})
    assert RunConfig(data={"name": "volumes", "classes": ["A"]}).data.grid.units == "mm"
