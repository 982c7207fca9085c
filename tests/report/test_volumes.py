"""Volumes for the viewer: what comes out is what went in, and a page stays small."""

from __future__ import annotations

import base64
import zlib
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from unia_med.labels import IGNORE
from unia_med.report.volumes import LEAST_SLICES, MOST_PIXELS, Layers, pack


def _layers(shape: tuple[int, int, int], codes: tuple[str, str, str] = ("L", "P", "S"), noise: bool = False) -> Layers:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 4, shape).astype(np.uint8) if noise else np.zeros(shape, np.uint8)
    labels[0, 0, 0] = labels[-1, -1, -1] = 1  # no cropping
    cam = labels.copy()
    cam[1, 2, 0] = IGNORE
    ramp = np.linspace(0, 1, int(np.prod(shape))).reshape(shape)
    doubt = generator.random(shape) if noise else ramp
    marked = {"true mask": labels, "prediction": labels, "CAM": cam}
    signs = [1 if code in "RAS" else -1 for code in codes]
    affine = np.diag([signs[0] * 1.5, signs[1] * 3.0, signs[2] * 8.0, 1.0])
    return Layers("case1, ED", ramp * 700 - 50, marked, {"uncertainty": doubt}, (1.5, 3.0, 8.0), codes, affine)


def _decoded(packed: dict, frame: int = 0) -> np.ndarray:
    """(layers, Z, H, W)."""
    raw = zlib.decompress(base64.b64decode(packed["frames"][frame]["data"]))
    count = 1 + len(packed["labels"]) + len(packed["maps"])
    shape = (count, len(packed["slices"]), packed["height"], packed["width"])
    return np.frombuffer(raw, np.uint8).reshape(shape)


def test_voxels_survive_and_rows_run_down() -> None:
    layers = _layers((7, 5, 3))
    packed = pack("patient", [layers, layers], 10**6)
    assert (packed["width"], packed["height"], packed["depth"], packed["slices"]) == (7, 5, 3, [1, 2, 3])
    assert packed["aspect"] == 2.0 and packed["note"] == "" and len(packed["frames"]) == 2
    decoded = _decoded(packed, 1)
    np.testing.assert_array_equal(decoded[3], layers.labels["CAM"].transpose(2, 1, 0))
    low, high = packed["ranges"][0]
    ramp = layers.maps["uncertainty"].transpose(2, 1, 0)
    np.testing.assert_allclose(decoded[4] / 255 * (high - low) + low, ramp.clip(low, high), atol=0.5 / 255)
    assert decoded[0].min() == 0 and decoded[0].max() == 255


def test_the_patients_left_is_on_the_right_and_front_above() -> None:
    straight, turned = (_decoded(pack("p", [_layers((7, 5, 2), codes)], 10**6)) for codes in ("LPS", "RAS"))
    np.testing.assert_array_equal(turned, straight[:, :, ::-1, ::-1])
    for codes in ("LPS", "RAS"):
        sides = pack("p", [_layers((7, 5, 2), codes)], 10**6)["sides"]
        assert sides == {"left": "R", "right": "L", "top": "A", "bottom": "P"}


def test_letters_of_an_oblique_slice_are_those_of_its_axes() -> None:
    """Rows run to the left and a little to the back, columns to the feet, as in a slice turned by 40 degrees."""
    turn = np.deg2rad(40)
    across, down = np.array([-np.cos(turn), -np.sin(turn), 0]), np.array([0.0, 0.0, -1.0])
    affine = np.eye(4)
    affine[:3, :3] = np.stack([across * 2, down * 2, np.cross(across, down) * 8], 1)
    codes = nibabel.aff2axcodes(affine)
    layers = replace(_layers((7, 5, 2)), affine=affine, codes=codes)
    assert pack("p", [layers], 10**6)["sides"] == {"left": "RA", "right": "LP", "top": "H", "bottom": "F"}


def test_a_map_of_little_spread_fills_its_colours_and_keeps_its_numbers() -> None:
    layers = _layers((7, 5, 3))
    narrow = 0.2 + 0.001 * layers.maps["uncertainty"]
    packed = pack("p", [replace(layers, maps={"U": narrow})], 10**6)
    low, high = packed["ranges"][0]
    assert (low, high) == pytest.approx((0.2, 0.201), abs=2e-6)
    assert (_decoded(packed)[4].min(), _decoded(packed)[4].max()) == (0, 255)


def test_frames_share_one_window_and_the_pixel_knows_its_size() -> None:
    layers = _layers((700, 20, 2))
    brighter = replace(layers, image=layers.image * 2)
    packed = pack("p", [layers, brighter], 10**7)
    assert packed["window"][1] == pytest.approx(np.percentile(brighter.image, 99.5))
    assert packed["pixel"] == 3 * 1.5 and packed["unit"] == "mm"
    first, second = (_decoded(packed, frame)[0] for frame in (0, 1))
    assert first.max() < 140 < second.max()


def test_cropped_to_the_structures_and_their_margin() -> None:
    layers = _layers((200, 100, 2))
    for labels in layers.labels.values():
        labels[...] = 0
        labels[100, 50, 1] = 1
    packed = pack("p", [layers], 10**6)
    assert packed["width"] == 1 + 2 * int(np.ceil(25 / 1.5)) and packed["height"] == 1 + 2 * int(np.ceil(25 / 3.0))
    assert packed["slices"] == [1, 2]  # all of them, so that missed slices can be seen


def test_a_thousand_slices_are_thinned_and_it_says_so() -> None:
    packed = pack("p", [_layers((40, 30, 1000))], 10**7)
    assert packed["depth"] == 1000 and len(packed["slices"]) == 64
    assert packed["slices"][0] == 1 and packed["slices"][-1] == 1000
    assert np.ptp(np.diff(packed["slices"])) <= 1
    assert packed["note"] == "64 of 1000 slices are here, evenly spread"
    assert _decoded(packed).shape[1] == 64


def test_large_slices_and_many_frames_are_thinned_too() -> None:
    packed = pack("p", [_layers((700, 20, 2))] * 30, 10**7)
    assert packed["width"] <= MOST_PIXELS and len(packed["frames"]) == 12
    assert "12 of 30 frames" in packed["note"] and "one pixel of 3" in packed["note"]


def test_the_limit_holds_for_noise_which_cannot_be_compressed() -> None:
    layers = _layers((60, 60, 40), noise=True)
    full = pack("p", [layers], 10**8)
    limit = sum(len(frame["data"]) for frame in full["frames"]) // 3
    small = pack("p", [layers], limit)
    assert sum(len(frame["data"]) for frame in small["frames"]) <= limit
    assert LEAST_SLICES <= len(small["slices"]) < 40 and "of 40 slices" in small["note"]


def test_an_image_of_one_intensity_can_be_shown() -> None:
    layers = _layers((6, 6, 1))
    flat = Layers(layers.title, np.full((6, 6, 1), 7.0), layers.labels, layers.maps, (1.0, 1.0, 1.0), ("L", "P", "S"))
    assert _decoded(pack("p", [flat], 10**6))[0].max() == pytest.approx(0)
