"""The words for what a run was trained on."""

from __future__ import annotations

from pathlib import Path

from unia_med.config.schema import RunConfig
from unia_med.report.facts import supervision, training_section
from unia_med.report.run_folder import read_run
from unia_med.runs import Run


def test_every_source_of_labels_is_named() -> None:
    labels = [
        {"kind": "scribbles", "patients": 5, "fill": "rule"},
        {"kind": "boxes", "source": "masks", "patients": ["patient001", "patient002"]},
        {"kind": "masks", "source": "masks"},
    ]
    config = RunConfig.model_validate({"data": {"tags": {"source": "none"}, "labels": labels}})
    assert supervision(config) == [
        "no tags",
        "scribbles of 5 patients from files, completed by rule",
        "boxes of 2 patients made from masks (research setting)",
        "full masks of the data set",
    ]
    expected = "slice tags, derived from the masks of the training patients (research setting)"
    assert supervision(RunConfig()) == [expected]


def test_the_temperature_says_where_it_is_from(run_dir: Path) -> None:
    def section() -> str:
        return training_section(read_run(run_dir, Run.open(run_dir).config), {"train": 2, "val": 1, "test": 0})

    assert "1.500, fitted on 2 validation volumes" in section()
    assert "2 training, 1 validation</dd>" in section()
    text = (run_dir / "config.yaml").read_text()
    (run_dir / "config.yaml").write_text(text.replace("temperature: null", "temperature: 3.0"))
    assert "3, set in the config" in section()
    (run_dir / "config.yaml").write_text(text)
    (run_dir / "calibration.json").unlink()
    assert "1, none was fitted" in section()
