"""What is read from a run folder, and what is said when it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from unia_med.errors import UserError
from unia_med.report.run_folder import read_metrics, read_run
from unia_med.runs import Run


def test_tables_become_curves(run_dir: Path) -> None:
    run = read_run(run_dir, Run.open(run_dir).config)
    assert run.name == "first_run"
    assert run.scores == {"RV": [(10, 0.1), (20, 0.4)], "MYO": [(10, 0.2)], "LV": [(10, 0.3), (20, 0.6)]}
    assert run.losses == {"loss": [(10, 2.5), (20, 1.25)], "segmentation": [(10, 1.5), (20, 0.5)]}
    assert run.label_columns == ["CAM", "prediction"]
    assert run.config.inference.temperature == run.calibration.temperature == 1.5


def test_tensorboard_is_finer_and_a_repeated_step_counts_once(run_dir: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run_dir / "tensorboard")) as board:
        for step, value in ((5, 3.0), (10, 2.0), (10, 1.5)):
            board.add_scalar("train/loss", value, step)
            board.add_scalar("train/learning_rate", 0.1, step)
            board.add_scalar("validation/val_dice", 0.1, step)
    assert read_run(run_dir, Run.open(run_dir).config).losses == {"loss": [(5, 3.0), (10, 1.5)]}


def test_a_run_without_environment_or_calibration_is_read(run_dir: Path) -> None:
    (run_dir / "environment.json").write_text("{")
    (run_dir / "calibration.json").unlink()
    run = read_run(run_dir, Run.open(run_dir).config)
    assert run.environment == {} and run.calibration is None and run.config.inference.temperature is None
    (run_dir / "environment.json").write_text('{"packages": ["torch"], "python": "3.11"}')
    assert read_run(run_dir, Run.open(run_dir).config).environment == {"python": "3.11"}


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "no such file"), ("step,loss\n", "no row"), ("loss\n1\n", "no row"), ("step,loss\n1,much\n", "no table")],
)
def test_missing_or_broken_metrics_are_named(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(UserError, match=rf"metrics\.csv.*{message}"):
        read_metrics(tmp_path / "metrics.csv")
