from __future__ import annotations

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
