"""JPEG and PNG as volumes of one slice: upright, in 8 bits, faults told by name."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from PIL import Image

from unia_med.config.schema import DataConfig
from unia_med.data.grid.transforms import from_slices, place_image, place_labels, to_slices
from unia_med.data.io.channels import ChannelFiles
from unia_med.data.io.image import check_decodes, read_image, read_image_header, read_mask, voc_palette, write_mask
from unia_med.data.io.read import read_header, read_volume
from unia_med.data.io.volume import Volume
from unia_med.errors import UserError
from unia_med.inference.reassemble import plane_map
from unia_med.labels import IGNORE

COLOURS = np.random.default_rng(0).integers(0, 256, (20, 36, 3)).astype(np.uint8)


def test_rows_stay_rows_and_colours_stay_in_order(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    volume = ChannelFiles(3).read(tmp_path / "a.png")
    assert volume.shape == ChannelFiles(3).header(tmp_path / "a.png").shape == (20, 36, 1, 3)
    assert np.array_equal(volume.array[:, :, 0], COLOURS)
    assert volume.spacing_mm == (1, 1, 1)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1", "I;16"])
def test_every_kind_of_image_becomes_colour_or_grey(tmp_path: Path, mode: str) -> None:
    grey = COLOURS[:, :, 0]
    suffix = ".jpg" if mode == "CMYK" else ".png"
    if mode == "I;16":
        image = Image.fromarray(grey.astype(np.uint16) * 256)
    else:
        image = Image.fromarray(grey if mode == "L" else COLOURS).convert(mode)
    path = tmp_path / f"a{suffix}"
    image.save(path)
    assert read_image(path).array.shape == (20, 36, 1, 3) and read_image(path).array.dtype == np.uint8
    assert read_image(path, channels=1).array.shape == read_image_header(path, 1).shape == (20, 36, 1)
    if mode in ("L", "I;16"):
        assert np.array_equal(read_image(path).array[:, :, 0, 2], grey)


def test_masks_keep_their_indices(tmp_path: Path) -> None:
    labels = np.random.default_rng(1).choice([0, 1, 15, 20, 255], (9, 14)).astype(np.uint8)
    write_mask(labels, tmp_path / "deep" / "a_seg.png")
    with Image.open(tmp_path / "deep" / "a_seg.png") as image:
        assert image.mode == "P"
        # Colours that every tool for VOC knows: aeroplane, person, tvmonitor, border.
        assert image.getpalette()[3:6] == [128, 0, 0] and image.getpalette()[45:48] == [192, 128, 128]
        assert image.getpalette()[60:63] == [0, 64, 128] and image.getpalette()[765:768] == [224, 224, 192]
    assert np.array_equal(read_mask(tmp_path / "deep" / "a_seg.png").array[:, :, 0], labels)
    assert len({tuple(colour) for colour in voc_palette().tolist()}) == 256
    Image.fromarray(labels).save(tmp_path / "grey.png")
    assert np.array_equal(read_mask(tmp_path / "grey.png").array[:, :, 0], labels)


def test_what_is_no_mask_is_refused(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="in [0-9]+ colours.*class numbers"):
        read_mask(tmp_path / "a.png")
    with pytest.raises(UserError, match="JPEG would change"):
        read_mask(tmp_path / "a.jpg")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_grey_that_is_stored_as_colours_is_read_as_grey(tmp_path: Path, mode: str) -> None:
    values = np.random.default_rng(0).choice([0, 127, 255], (6, 5)).astype(np.uint8)
    Image.fromarray(values).convert(mode).save(tmp_path / "a.png")
    assert np.array_equal(read_mask(tmp_path / "a.png").array[:, :, 0], values)


def test_colours_of_the_written_palette_are_its_indices(tmp_path: Path) -> None:
    """A program that opens a mask and saves it may turn its palette into colours."""
    labels = np.random.default_rng(0).choice([0, 1, 2, 255], (6, 5)).astype(np.uint8)
    write_mask(labels, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        image.convert("RGB").save(tmp_path / "b.png")
    assert np.array_equal(read_mask(tmp_path / "b.png").array[:, :, 0], labels)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    smooth = np.repeat(np.arange(0, 240, 2, dtype=np.uint8)[None], 90, 0)
    Image.fromarray(np.stack([smooth] * 3, 2)).save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    check_decodes(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (tmp_path / "text.jpg").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut.jpg", "text.jpg", "empty.png"):
        for read in (read_image, check_decodes):
            with pytest.raises(UserError, match=f"{name}: cannot be decoded"):
                read(tmp_path / name)
    with pytest.raises(UserError, match="no such file"):
        read_image(tmp_path / "absent.jpg")


def test_stretched_to_the_grid_and_back(monai_chain: ModuleType) -> None:
    grid = DataConfig(name="voc", grid={"size": [32, 48]}).grid
    rows, columns = np.meshgrid(np.arange(64), np.arange(72), indexing="ij")
    picture = np.stack([2 * rows, 3 * columns, np.full_like(rows, 255)], 2).astype(np.uint8)
    slices, placement = place_image(Volume(picture[:, :, None], np.eye(4), axes="XYZC"), grid)
    image = from_slices(slices)
    assert image.shape == (3, 32, 48, 1)
    # Of a ramp the pixel (r, c) shows the middle of its 2 x 1.5 source pixels; smoothing changes only the rim.
    expected_rows = 2 * (2 * np.arange(32) + 0.5) / 255
    np.testing.assert_allclose(image[0, 2:-2, 20, 0], expected_rows[2:-2], atol=1e-3)
    np.testing.assert_allclose(image[1, 10, 2:-2, 0], 3 * (1.5 * np.arange(48) + 0.25)[2:-2] / 255, atol=1e-3)
    assert float(image[2].min()) > 1 - 1e-5
    probabilities = torch.randn(4, 32, 48, 1, generator=torch.Generator().manual_seed(0)).softmax(0)
    back = plane_map(placement)(to_slices(probabilities))
    chain = monai_chain.image_chain(grid)
    seen = chain({"image": monai_chain.as_meta(Volume(picture[:, :, None], np.eye(4), axes="XYZC"))})["image"]
    torch.testing.assert_close(back, to_slices(monai_chain.restore(probabilities, seen, chain)), atol=1e-5, rtol=0)
    assert back.shape == (1, 4, 64, 72)


def test_labels_are_placed_where_the_image_is() -> None:
    grid = DataConfig(name="voc", grid={"size": [32, 32]}).grid
    mask = np.zeros((64, 96, 1), np.uint8)
    mask[16:32, 48:72] = 5
    mask[40:48, :] = IGNORE
    placed = place_labels(Volume(mask, np.eye(4)), grid)
    expected = np.zeros((1, 32, 32), np.uint8)
    expected[0, 8:16, 16:24] = 5
    expected[0, 20:24] = IGNORE
    assert np.array_equal(placed, expected)


@pytest.mark.parametrize(
    ("suffix", "stored", "axes"),
    [
        (".png", np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000, "XYZ"),
        (".tif", np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000, "XYZ"),
        (".TIFF", np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "XYZ"),
        (".png", np.arange(12, dtype=np.uint8).reshape(3, 4), "XYZ"),
        (".png", np.arange(36, dtype=np.uint8).reshape(3, 4, 3), "XYZC"),
    ],
)
def test_pictures_are_read_as_they_are_stored(tmp_path: Path, suffix: str, stored: np.ndarray, axes: str) -> None:
    path = tmp_path / f"x{suffix}"
    Image.fromarray(stored).save(path)
    volume, header = read_volume(path), read_header(path)
    assert volume.axes == axes and volume.array.dtype == stored.dtype
    assert np.array_equal(volume.array[:, :, 0], stored) and header.shape == volume.shape
    assert np.array_equal(volume.affine, np.eye(4)) and np.array_equal(header.affine, np.eye(4))


def test_a_file_of_many_pages_is_refused(tmp_path: Path) -> None:
    pages = [Image.fromarray(np.full((3, 4), value, np.uint8)) for value in range(3)]
    pages[0].save(tmp_path / "stack.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UserError, match=r"stack\.tif: a file of 3 pages, expected one picture"):
        read_volume(tmp_path / "stack.tif")
