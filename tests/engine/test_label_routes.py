"""Whole short runs on weak labels: self-training by agreement resumes bit by bit, masks reach no other run."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

from unia_med.config.load import parse_config
from unia_med.config.schema import RunConfig
from unia_med.data.checks import DataFault
from unia_med.data.sample import CaseFiles
from unia_med.engine import session
from unia_med.engine.checkpoint import load_checkpoint
from unia_med.methods.base import Batch
from unia_med.methods.partial import Partial
from unia_med.runs import Run


def _config(root: Path, source: dict[str, object], **training: object) -> RunConfig:
    values = {"iterations": 6, "batch_size": 4, "validate_every": 100, "checkpoint_every": 100, "ema": 0.5, **training}
    return parse_config(
        {
            "data": {
                "root": str(root),
                "grid": {"spacing_mm": None, "size": [32, 32]},
                "labels": [{"source": "masks", **source}],
                "tags": {"source": "labels"},
            },
            "network": {"backbone": "lite0", "weights": "none", "decoder_widths": [8, 8, 8, 4]},
            "method": {"name": "partial"},
            "prior": {"rounds": 2, "trust": "agreement", "scales": [1.0]},
            "training": values,
        }
    )


def _weights(run: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(run / "checkpoints" / "last.pt", ("model",))["model"]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [1, 4])
def test_a_run_stopped_in_either_round_ends_like_the_whole(
    stop: int, tiny_acdc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(tiny_acdc, {"kind": "scribbles", "fill": "walker"})
    assert session.train(config, tmp_path / "whole", device="cpu") == 0
    losses = Partial.losses

    def stopping(self: Partial, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        if step == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return losses(self, batch, step)

    monkeypatch.setattr(Partial, "losses", stopping)
    assert session.train(config, tmp_path / "parts", device="cpu") != 0
    monkeypatch.setattr(Partial, "losses", losses)
    assert session.train(config, tmp_path / "parts", resume=True, device="cpu") == 0
    whole, parts = _weights(tmp_path / "whole"), _weights(tmp_path / "parts")
    assert all(torch.equal(value, parts[name]) for name, value in whole.items())
    assert (tmp_path / "parts" / "labels" / "round_2.npy").is_file()


def test_later_rounds_learn_the_annotations_as_drawn(
    tiny_acdc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[int, tuple[float, bool]] = {}
    losses = Partial.losses

    def watching(self: Partial, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        seen[step] = (float((batch.labels != 255).float().mean()), batch.scores is not None)
        return losses(self, batch, step)

    monkeypatch.setattr(Partial, "losses", watching)
    config = _config(tiny_acdc, {"kind": "scribbles", "fill": "walker"})
    session.train(config, tmp_path / "run", device="cpu")
    (tmp_path / "run" / "config.yaml").unlink()  # as in a teacher's folder
    assert Run.open(tmp_path / "run").config.data == config.data
    assert all(not scored and share > 0.5 for share, scored in (seen[step] for step in range(3)))
    assert all(scored and share < 0.4 for share, scored in (seen[step] for step in range(3, 6)))


def test_no_mask_is_read_for_training_where_labels_and_tags_are_files(
    tiny_acdc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unia_med.data.io.nifti import write_like
    from unia_med.data.io.read import read_volume
    from unia_med.data.layouts.acdc import AcdcDataset

    for path in sorted(tiny_acdc.rglob("*_gt.nii.gz")):
        volume = read_volume(path)
        drawn = np.where(np.indices(volume.array.shape).sum(0) % 5 == 0, volume.array, 4).astype(np.uint8)
        write_like(drawn, volume, path.with_name(path.name.replace("_gt", "_scribble")))
    read: list[str] = []
    read_mask = AcdcDataset._labels

    def watching(self: AcdcDataset, case: CaseFiles, faults: list[DataFault]) -> np.ndarray:
        read.append(case.patient)
        return read_mask(self, case, faults)

    monkeypatch.setattr(AcdcDataset, "_labels", watching)  # the one place where masks are read
    config = _config(tiny_acdc, {"kind": "scribbles", "source": "files", "fill": "walker"})
    session.train(config, tmp_path / "run", device="cpu")
    assert set(read) == {"patient013"}  # validation
