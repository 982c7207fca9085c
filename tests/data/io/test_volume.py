from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unia_med.data.io.volume import Volume


def test_spacing_of_an_oblique_affine() -> None:
    turn = np.array([[0.6, -0.8, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    affine = np.eye(4)
    affine[:3, :3] = turn * [1.25, 1.5, -9.0]
    assert Volume(np.zeros((3, 4, 5)), affine).spacing_mm == pytest.approx((1.25, 1.5, 9.0))


def test_frames_share_memory_and_are_3d() -> None:
    cine = Volume(np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5), np.eye(4))
    frame = cine.frame(3)
    assert (cine.frames, cine.slices, frame.frames, frame.shape) == (5, 4, 1, (2, 3, 4))
    np.testing.assert_array_equal(frame.array, cine.array[..., 3])
    assert np.shares_memory(frame.array, cine.array)
    assert frame.frame(0) is frame


@pytest.mark.parametrize("index", [-1, 5])
def test_frames_outside_are_refused(index: int) -> None:
    with pytest.raises(IndexError, match="of a volume with 5"):
        Volume(np.zeros((2, 3, 4, 5)), np.eye(4)).frame(index)


def test_channels_and_frames_are_axes_of_their_own() -> None:
    both = Volume(np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6), np.eye(4), axes="XYZCT")
    assert (both.channels, both.frames) == (5, 6)
    one = both.frame(4)
    assert one.axes == "XYZC" and np.array_equal(one.array, both.array[..., 4])
    assert one.channel(2).axes == "XYZ" and np.array_equal(one.channel(2).array, both.array[..., 2, 4])
    photograph = Volume(np.zeros((3, 4, 1, 3)), np.eye(4), axes="XYZC")
    assert photograph.frames == 1 and photograph.frame(0) is photograph
    with pytest.raises(ValueError, match="axes 'XYZC' for an array of shape"):
        Volume(np.zeros((3, 4, 5)), np.eye(4), axes="XYZC")
    with pytest.raises(IndexError, match="channel 3 of a volume with 3"):
        photograph.channel(3)


def test_what_a_volume_says_of_itself() -> None:
    cine = Volume(np.zeros((8, 6, 3, 5), np.int16), np.diag([1.25, 1.25, 10, 1]), path=Path("a/scan.nii.gz"))
    assert repr(cine) == "Volume(8 x 6 x 3 voxels of 1.25 x 1.25 x 10 mm, 5 frames, int16, a/scan.nii.gz)"
