"""Figures of summary.csv are those of the voxels, however they are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unia_med.distributed import Piece
from unia_med.inference.predictor import Segmentation
from unia_med.inference.records import Tally, write_folder_records


def test_counts_mean_and_percentile_are_those_of_all_voxels_of_all_frames() -> None:
    rng = np.random.default_rng(3)
    frames = [
        Segmentation(rng.integers(0, 3, (9, 8, 4)).astype(np.uint8), rng.random((9, 8, 4)).astype(np.float32))
        for _ in range(3)
    ]
    tally = Tally()
    assert list(tally.watched(frames)) == frames
    row = tally.row("a", ["X", "Y"], 0.5)
    labels, doubt = (np.concatenate([np.ravel(frame[part]) for frame in frames]) for part in (0, 1))
    volumes = [round(0.5 * float(np.mean([np.sum(frame.labels == value) for frame in frames])), 3) for value in (1, 2)]
    assert [row["X_ml"], row["Y_ml"]] == pytest.approx(volumes, abs=1e-3)  # the mean over the frames
    inside = doubt[labels > 0]
    assert row["uncertainty_mean"] == pytest.approx(inside.mean(), abs=3e-4)  # half precision
    assert row["uncertainty_p95"] == pytest.approx(np.percentile(inside, 95), abs=6e-4)
    assert row["review"] == 1


def test_nothing_found_and_nothing_known_have_no_uncertainty() -> None:
    nothing = Segmentation(np.zeros((2, 2, 1), np.uint8), np.zeros((2, 2, 1), np.float32))
    unknown = Segmentation(np.ones((2, 2, 1), np.uint8), np.full((2, 2, 1), np.nan, np.float32))
    for frame in (nothing, unknown):
        tally = Tally()
        list(tally.watched([frame]))
        row = tally.row("a", ["X"], None)
        assert (row["uncertainty_mean"], row["uncertainty_p95"], row["review"]) == (None, None, 1)


def test_a_name_like_a_formula_is_text_in_the_summary_of_all_parts(tmp_path: Path) -> None:
    name = "=HYPERLINK(1)"
    rows = [Tally().row(name, ["X"], None), Tally().row("b", ["X"], None)]
    write_folder_records(tmp_path, ["X"], rows)
    for index in (0, 1):
        write_folder_records(tmp_path, ["X"], rows[index : index + 1], Piece(index, 2))
    write_folder_records(tmp_path, ["X"], rows[:1])
    text = (tmp_path / "summary.csv").read_text()
    assert [line.split(",")[0] for line in text.splitlines()] == ["case", f"'{name}", "b"]
