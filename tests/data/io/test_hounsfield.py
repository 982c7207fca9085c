"""CT and other images are known apart by their values or their header, and a model that learned the other is named."""

from __future__ import annotations

import weakref
from pathlib import Path

import numpy as np
import pytest

from unia_med.data.io.hounsfield import compared, looks_like_ct
from unia_med.data.io.volume import Volume


def ct() -> np.ndarray:
    body = np.full((40, 40, 4), -1024.0, np.float32)
    body[10:30, 10:30] = 40
    return body


def mr() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 1400, (40, 40, 4)).astype(np.int16)


def test_a_frame_is_not_kept_after_it_was_looked_at() -> None:
    frames = compared((Volume(mr(), np.eye(4)) for _ in range(2)), True, None)
    first = next(frames)
    voxels = weakref.ref(first.array)
    del first
    assert voxels() is None


@pytest.mark.parametrize(
    ("array", "known"),
    [
        (ct(), True),
        (ct().astype(np.int16), True),
        (ct() + 1024, True),  # stored without its intercept, from 0
        ((ct() + 1000).clip(0).astype(np.uint16), True),
        (np.where(ct() < 0, -3024, np.where(mr() < 700, -1000, ct())), True),  # padded outside of the field of view
        (mr(), False),
        (mr() - 700, False),
        (mr() * 3 - 2100, False),  # with a sign, far below 0
        (mr().astype(np.float32) * 1.5 - 1024, False),
        (np.where(ct() < 0, -400, mr() / 7 - 100), False),  # normalised, a background of -400
        (np.where(ct() < 0, 0, mr() / 2 + 100), False),  # a body of 100 to 800 before a background of 0
        (np.full((9, 9, 1), -1000), False),  # nothing but air, or a constant
        (np.where(np.arange(1600).reshape(40, 40, 1) == 5, -2000, 30), False),  # one odd voxel
    ],
)
def test_air_makes_a_ct(array: np.ndarray, known: bool) -> None:
    assert looks_like_ct(array) == known


@pytest.mark.parametrize(
    ("array", "modality", "learned", "note"),
    [
        (ct(), "", False, "a.nii.gz: CT by its values, down to -1024"),
        (ct(), "CT", False, "CT by its header"),
        (ct() + 1024, "CT", False, "CT by its header"),
        (ct() + 1024, "", False, "a.nii.gz: CT by its values, down to 0"),
        (ct() + 1024, "", True, "a CT in which water is about 1024, so without its intercept of -1024"),
        (mr(), "", True, "no CT by its values, down to 0"),
        (mr(), "MR", True, "MR by its header"),
        (ct(), "", True, None),
        (mr(), "", False, None),
        (mr(), "MR", False, None),
        (mr(), "PT", False, "PT by its header; look whether the model learned from such images"),
        (mr(), "PT", True, "PT by its header; the model learned from CT"),
        (ct(), "MR", False, None),  # stored with a sign, far below 0
        (ct(), "OT", False, "CT by its values"),  # a secondary capture says nothing of the kind
        (ct(), "OT", True, None),
        (ct(), "", None, None),
    ],
)
def test_the_other_kind_is_noted_once(
    array: np.ndarray, modality: str, learned: bool | None, note: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    frames = [Volume(array, np.eye(4))] * 2
    with caplog.at_level("WARNING", "unia_med"):
        assert list(compared(frames, learned, Path("a.nii.gz"), modality)) == frames
    said = [record.getMessage() for record in caplog.records]
    assert said == [] if note is None else len(said) == 1 and note in said[0]
