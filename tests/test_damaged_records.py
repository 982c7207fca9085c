"""Files that the commands read back: damage of any kind is named with the file and a remedy, or the file is a help."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from unia_med.bundle.card import read_scores
from unia_med.cardiac.table import phases_in_table
from unia_med.config.load import read_yaml
from unia_med.data.io.dataset_json import read_dataset_json
from unia_med.engine.calibration import read_calibration
from unia_med.engine.data_record import check_record
from unia_med.errors import UserError
from unia_med.evaluation.labels import classes_next_to
from unia_med.inference.bundle import Bundle, _parser
from unia_med.inference.likeness import Likeness, read_likeness
from unia_med.inference.records import check_folder_records
from unia_med.pipeline.runner import read_record
from unia_med.report.masks import _origin, _rows
from unia_med.report.run_folder import _environment
from unia_med.run_files import read_fold_count, read_metrics, read_names
from unia_med.runs import Run
from unia_med.sources import trained_source


def _steps(path: Path) -> object:
    (path.parent / "metadata.json").write_text("{}", encoding="utf-8")
    return _parser(path.parents[1], "cpu")


READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    "labelled": ("labelled.json", read_names),
    "folds": ("folds.json", read_fold_count),
    "folds of a run": ("folds.json", lambda path: Run(path.parent).folds),
    "metrics": ("metrics.csv", read_metrics),
    "scores of a card": ("metrics.csv", lambda path: read_scores(path, 3)),
    "summary": ("summary.csv", lambda path: check_folder_records(path.parent)),
    "summary of a report": ("summary.csv", lambda path: _rows(path.parent)),
    "record of a mask": ("a_seg.json", lambda path: _origin(path.parent, "a")),
    "indices": ("indices.csv", lambda path: phases_in_table("a", path.parent)),
    "calibration": ("calibration.json", lambda path: read_calibration(path.parent)),
    "data": ("data.json", lambda path: check_record(path, {"a": "0"})),
    "classes": ("classes.json", lambda path: classes_next_to(path.parent)),
    "nnU-Net": ("dataset.json", lambda path: read_dataset_json(path.parent)),
    "bundle": ("configs/metadata.json", lambda path: Bundle(path.parents[1])),
    "steps of a bundle": ("configs/inference.json", _steps),
    "training images": ("training_images.json", read_likeness),
    "environment": ("environment.json", _environment),
    "stage": (".stages/a.json", lambda path: read_record(path.parents[1], "a")),
}

HELPS = {"training images", "environment", "stage"}
"""What is left out where it cannot be read."""

DAMAGE = {
    "empty": b"",
    "zeros": bytes(50),
    "no text": b"\xff\xfe\x00\x9f",
    "cut off": b'{"a": {"b": [1, ',
    "a list": b"[1, 2, [3]]\n",
    "nested": b'{"a": {"b": [[1]]}, "folds": [2], "temperature": {"x": 1}, "vectors": [["a"]], "limit": "x"}\n',
    "deep": b"[" * 100_000,
    "another table": b'step,"x\ny\n\n',
    "ragged": b"case,a\nx,1,2,3\n",
    "no numbers": b"step,val_dice\n3,abc\n",
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("reader", READERS)
def test_damage_is_named_with_its_file(reader: str, damage: str, tmp_path: Path) -> None:
    name, read = READERS[reader]
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(DAMAGE[damage])
    try:
        found = read(path)
    except UserError as error:
        assert reader not in HELPS and name.rpartition("/")[2] in str(error) and error.remedy
        return
    assert reader in HELPS or not found or damage in ("nested", "no numbers", "ragged", "another table")


def test_a_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text(json.dumps({"1": "LIVER"}), encoding="utf-8-sig")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "A": 1}}), encoding="utf-8-sig")
    scheme, known = classes_next_to(tmp_path), read_dataset_json(tmp_path)
    assert scheme is not None and scheme.names == ("LIVER",)
    assert known is not None and known.names == {1: "A"}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "cp1252"])
def test_text_in_the_encodings_of_windows(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes("# Größe\ndata: {name: acdc, classes: [Größe]}\n".encode(encoding))
    assert read_yaml(tmp_path / "c.yaml")["data"]["classes"] == ["Größe"]
    (tmp_path / "classes.json").write_bytes('{"1": "Größe"}'.encode(encoding))
    scheme = classes_next_to(tmp_path)
    assert scheme is not None and scheme.names == ("Größe",)
    (tmp_path / "metrics.csv").write_bytes("step,loss\n2,0.5\n".encode("utf-8-sig"))
    assert read_metrics(tmp_path / "metrics.csv") == [{"step": 2, "loss": 0.5}]


@pytest.mark.parametrize("left", ["metadata.json", "inference.json"])
def test_a_bundle_that_lacks_a_config_is_no_run(left: str, tmp_path: Path) -> None:
    (tmp_path / "configs").mkdir()
    formats = {"inputs": {"image": {"num_channels": 1}}, "outputs": {"pred": {"channel_def": {"1": "A"}}}}
    (tmp_path / "configs" / left).write_text(json.dumps({"network_data_format": formats}))
    with pytest.raises(UserError, match="metadata.json" if left == "inference.json" else "inference.json"):
        trained_source(tmp_path).predictor()


def test_what_is_whole_comes_back(tmp_path: Path) -> None:
    known = Likeness([[0.5, 1.0]] * 6, 2.0, [[1, 1, 5], [2, 2, 8]], ["CT"], [], {"A": [1.0, 2.0]}, 0.4, 0.2, "x")
    known.write(tmp_path / "a.json")
    assert read_likeness(tmp_path / "a.json") == known
