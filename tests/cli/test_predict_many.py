"""`unia-med predict` over many volumes: going on after a stop, names in sub-folders, several processes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from unia_med.build import build_method
from unia_med.cli.main import main
from unia_med.config.load import dump_config, plain
from unia_med.config.schema import RunConfig
from unia_med.engine.checkpoint import save_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run folder of an untrained network."""
    return write_run(tmp_path / "run")


def write_run(folder: Path, **data: object) -> Path:
    config = RunConfig.model_validate(
        {
            "data": {"grid": {"spacing_mm": None, "size": [32, 32]}, **data},
            "network": {"backbone": "lite0", "weights": "none", "decoder_widths": [8, 8, 4, 4]},
            "method": {"name": "partial"},
        }
    )
    model = build_method(config).state_dict()
    state = {"model": model, "ema": model, "config": plain(config), "classes": config.data.target_classes, "step": 1}
    save_checkpoint(state, folder / "checkpoints" / "best.pt")
    dump_config(config, folder / "config.yaml")
    return folder


def write_image(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.random.default_rng(seed).normal(100, 20, (24, 20, 2)).astype(np.float32)
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 1.0, 5.0, 1.0])), path)


def test_finished_images_are_left_out(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abc":
        write_image(tmp_path / f"in/{name}.nii.gz")
    command = ["predict", "--model", str(run), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    (tmp_path / "out/b_seg.nii.gz").unlink()
    kept = {name: (tmp_path / f"out/{name}_seg.nii.gz").stat().st_mtime_ns for name in "ac"}
    capsys.readouterr()
    assert main([*command, "--skip-existing"]) == 0
    assert "3 of 3 images segmented (2 of them earlier)" in capsys.readouterr().out
    assert (tmp_path / "out/b_seg.nii.gz").is_file()
    assert kept == {name: (tmp_path / f"out/{name}_seg.nii.gz").stat().st_mtime_ns for name in "ac"}
    assert main([*command, "--skip-existing", "--uncertainty"]) == 0  # a result is missing, so none is finished
    assert len(list((tmp_path / "out").glob("*.nii.gz"))) == 6


def test_a_mask_that_is_removed_meanwhile_is_a_failure(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from unia_med.inference import batch

    for name in ("a", "b"):
        array = np.random.default_rng(0).integers(0, 90, (20, 24, 2)).astype(np.int16)
        (tmp_path / "in").mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / "in" / f"{name}.nii.gz")
    first = tmp_path / "out" / "a_seg.nii.gz"
    write = batch.write_case_record

    def remove_then_write(labels: Path, facts: object) -> None:
        if labels != first:
            first.unlink()
        write(labels, facts)

    monkeypatch.setattr(batch, "write_case_record", remove_then_write)
    call = ["predict", "--model", str(run), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main([*call, "--device", "cpu"]) == 1
    assert f"{first}: was written, and is gone" in capsys.readouterr().err


def test_one_name_in_two_folders_gives_two_results(run: Path, tmp_path: Path) -> None:
    for name in ("in/site1/scan", "in/site2/scan", "in/other"):
        write_image(tmp_path / f"{name}.nii.gz", seed=len(name))
    command = ["predict", "--model", str(run), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(command) == 0
    found = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.nii.gz"))
    assert found == ["other_seg.nii.gz", "site1/scan_seg.nii.gz", "site2/scan_seg.nii.gz"]


def test_records_of_the_cases_lie_next_to_their_masks(capsys: pytest.CaptureFixture[str]) -> None:
    from unia_med.inference.predictor import Segmentation
    from unia_med.inference.records import Tally

    labels = np.zeros((4, 3, 2, 2), np.uint8)
    labels[0, 0], labels[1, 1, 0] = 1, 2
    uncertainty = np.where(labels > 0, 0.5, 0.0).astype(np.float32)
    tally = Tally()
    frames = [Segmentation(labels[..., t], uncertainty[..., t]) for t in range(2)]
    assert [*tally.watched(frames)] == frames
    row = tally.row("x", ["A", "B"], voxel_ml=0.25)
    known = {"case": "x", "A_ml": 0.5, "B_ml": 0.25, "uncertainty_mean": 0.5, "uncertainty_p95": 0.5, "review": 1}
    assert row == {**known, "removed_share": None, "unlike_training": None}  # cells of frames that nothing compared


def test_files_of_channels_are_one_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = write_run(tmp_path / "run", channels=2, volumes={"channel_endings": ["_0000", "_0001"]})
    for name in ("a_0000", "a_0001", "b_0000"):
        write_image(tmp_path / f"in/{name}.nii.gz", seed=len(name))
    command = ["predict", "--model", str(run), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main(command) == 1
    assert "b_0001.nii.gz: no such file" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "out").glob("*.nii.gz")] == ["a_seg.nii.gz"]
    assert nib.load(tmp_path / "out/a_seg.nii.gz").shape == (24, 20, 2)


@pytest.mark.slow
def test_processes_share_the_images(run: Path, tmp_path: Path) -> None:
    for number in range(5):
        write_image(tmp_path / f"in/{number}.nii.gz", seed=number)
    (tmp_path / "in/broken.nii.gz").write_bytes(b"no image")
    command = ["-m", "unia_med.cli.main", "predict", "--model", str(run), "--input", str(tmp_path / "in")]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29617"]
    several = subprocess.run(
        [*launcher, *command, "--output", str(tmp_path / "two")], capture_output=True, text=True, check=False
    )
    assert several.stdout.count("5 of 6 images segmented") == 1 and several.returncode != 0, several.stderr
    assert "broken.nii.gz" in several.stderr
    assert main([*command[2:], "--output", str(tmp_path / "one")]) == 1
    for number in range(5):
        one, other = (nib.load(tmp_path / folder / f"{number}_seg.nii.gz") for folder in ("one", "two"))
        assert np.array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))


def test_shards_are_disjoint_join_into_one_summary_and_may_be_run_again(run: Path, tmp_path: Path) -> None:
    for number in range(5):
        write_image(tmp_path / f"in/case{number}.nii.gz", seed=number)
    command = ["predict", "--model", str(run), "--input", str(tmp_path / "in")]
    assert main([*command, "--output", str(tmp_path / "whole")]) == 0
    out = tmp_path / "parts"
    for shard, count in (("2/3", 2), ("3/3", 3), ("1/3", 5)):
        assert not (out / "summary.csv").exists()
        assert main([*command, "--output", str(out), "--shard", shard]) == 0
        assert len(list(out.glob("*_seg.nii.gz"))) == {2: 2, 3: 3, 5: 5}[count]
    table = (out / "summary.csv").read_text()
    assert table == (tmp_path / "whole/summary.csv").read_text()
    for path in (tmp_path / "whole").glob("*_seg.nii.gz"):
        assert np.array_equal(nib.load(path).dataobj, nib.load(out / path.name).dataobj)
    (out / "summary.csv").unlink()
    (out / "case1_seg.nii.gz").unlink()
    assert main([*command, "--output", str(out), "--shard", "2/3", "--skip-existing"]) == 0
    assert (out / "case1_seg.nii.gz").is_file() and (out / "summary.csv").read_text() == table


@pytest.mark.parametrize("text", ["0/3", "4/3", "1", "a/b", "1/0", "-1/3"])
def test_a_shard_that_is_none_is_refused(
    run: Path, tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_image(tmp_path / "in/a.nii.gz")
    command = ["predict", "--model", str(run), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    assert main([*command, f"--shard={text}"]) == 2
    assert "names no part" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_the_first_warnings_are_printed_and_the_others_counted(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first are printed; thousands of lines would be read by nobody. Those of each image lie next to its mask."""
    from unia_med.inference import batch

    monkeypatch.setattr("unia_med.cli.predict._WARNED", 2)
    judged, names = batch.judged, iter("abcde")

    def doubtful(*known: Any) -> Any:
        return replace(judged(*known), warnings=() if next(names) == "b" else ("first", "second"))

    monkeypatch.setattr(batch, "judged", doubtful)
    for name in "abcde":
        write_image(tmp_path / f"in/{name}.nii.gz")
    assert main(["predict", "--model", str(run), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "o")]) == 0
    said = [line for line in capsys.readouterr().err.splitlines() if "unia-med: warning" in line]
    assert said[:4] == [f"unia-med: warning: {name}: {text}" for name in "ac" for text in ("first", "second")]
    assert len(said) == 5 and "2 more images have warnings" in said[4] and "NAME_seg.json" in said[4]
    kept = {name: json.loads((tmp_path / f"o/{name}_seg.json").read_text())["warnings"] for name in "abcde"}
    assert kept == {name: [] if name == "b" else ["first", "second"] for name in "abcde"}
