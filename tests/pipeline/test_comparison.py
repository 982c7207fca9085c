"""The comparison of configs: what is run, what is not run again, and the numbers of its tables."""

from __future__ import annotations

import csv
import importlib.util
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unia_med import api
from unia_med.cli.main import build_parser
from unia_med.config.shipped import shipped_configs
from unia_med.engine.interrupt import Interrupted
from unia_med.errors import UserError
from unia_med.evaluation.evaluate import Evaluation
from unia_med.inference.batch import Case
from unia_med.pipeline import runner
from unia_med.pipeline.comparison import Comparison, Entry, Result, compare, patient_means, select, to_csv, to_markdown
from unia_med.pipeline.recipe import Recipe

FULL = Entry("full", "acdc_cpu_full.yaml", "masks")
UNIA = Entry("unia", "acdc_cpu.yaml", "tags", "phantom")
PRIOR = Entry("phantom_alone", "unia", "none", "phantom", part="prior")
ENTRIES = (FULL, UNIA, PRIOR)


class Recorder:
    """Stands in for the verbs: writes what they would, and scores 0.5 everywhere."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, interrupted: str = "", fails: str = "") -> None:
        self.calls: list[tuple[str, Path, dict[str, Any]]] = []
        self.interrupted, self.fails = interrupted, fails
        for verb in ("train", "predict", "evaluate"):
            monkeypatch.setattr(api, verb, getattr(self, verb))
        monkeypatch.setattr(runner, "run_recipe", self.recipe)

    def train(self, config: str, output: Path, *, set: Sequence[str], resume: bool) -> None:  # noqa: A002
        self.calls.append(("train", output, {"settings": _settings(set), "resume": resume}))
        output.mkdir(parents=True, exist_ok=True)
        (output / "config.yaml").write_text("seed: 0")
        if self.interrupted == "train":
            raise Interrupted(3, 2)

    def recipe(self, recipe: Recipe, output: Path) -> int:
        self.calls.append(("recipe", output, {"recipe": recipe}))
        return 130 if self.interrupted == "recipe" else 0

    def predict(self, model: Path, images: Path, output: Path, *, split: str) -> Iterator[Case]:
        self.calls.append(("predict", output, {"model": model, "split": split}))
        error = UserError("cannot be read") if self.fails == "predict" else None
        return iter([Case("patient013_frame01", images, (), error=error)])

    def evaluate(self, predictions: Path, labels: Path, *, config: Path, split: str) -> Evaluation:
        self.calls.append(("evaluate", predictions, {"config": config, "split": split}))
        dice = {"RV": 0.5, "MYO": 0.5, "LV": 0.5}
        cases = [{"case": f"patient0{p}_frame01", "dice": dice} for p in (13, 14)]
        return Evaluation({"classes": list(dice), "cases": cases})

    def named(self, verb: str) -> list[tuple[Path, dict[str, Any]]]:
        return [(output, more) for name, output, more in self.calls if name == verb]


def _settings(texts: Sequence[str]) -> dict[str, str]:
    return dict(text.split("=", 1) for text in texts)


def test_every_row_is_trained_once_with_a_reference_of_equal_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    verbs = Recorder(monkeypatch)
    comparison = Comparison(tmp_path / "data", tmp_path, scale=0.1)
    compare(comparison, ENTRIES, [UNIA, PRIOR], [0, 1])
    runs = [output.name for output, _ in verbs.named("train")]
    # UniA has 60 iterations and its teacher 60: references of 120 and, for the teacher alone, of 60.
    assert runs == ["unia_seed0", "unia_seed1", *(f"full_{n}_seed{s}" for n in (120, 60) for s in (0, 1))]
    unia, full = (verbs.named("train")[index][1]["settings"] for index in (1, 2))
    assert unia["seed"] == "1" and unia["training.iterations"] == "60" and unia["prior.phantom.iterations"] == "60"
    assert full["training.iterations"] == "120" and full["data.root"] == str(tmp_path / "data")
    assert not any("prior" in key for key in full)
    teacher = [more["model"] for output, more in verbs.named("predict") if output.name == "phantom_alone_seed0"]
    assert teacher == [tmp_path / "runs" / "unia_seed0" / "prior"]
    assert {more["split"] for _, more in verbs.named("predict") + verbs.named("evaluate")} == {"val"}
    before = len(verbs.calls)
    compare(comparison, ENTRIES, [UNIA, PRIOR], [0, 1])
    assert len(verbs.calls) == before


def test_a_run_that_starts_from_a_model_trains_no_teacher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    verbs = Recorder(monkeypatch)
    adapted = Entry("adapted", "acdc_images_only.yaml", "images")
    compare(Comparison(tmp_path / "data", tmp_path, scale=0.1), (FULL, adapted), [adapted], [0])
    settings = verbs.named("train")[0][1]["settings"]
    assert settings["training.iterations"] == "60" and "prior.phantom.iterations" not in settings
    assert [output.name for output, _ in verbs.named("train")] == ["adapted_seed0", "full_60_seed0"]


def test_an_interrupted_run_is_resumed_and_a_failed_case_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Recorder(monkeypatch, interrupted="train")
    with pytest.raises(KeyboardInterrupt):
        compare(Comparison(tmp_path, tmp_path), ENTRIES, [FULL], [0])
    Recorder(monkeypatch, fails="predict")
    with pytest.raises(UserError, match="1 case could not be predicted:\n  patient013_frame01: cannot be read"):
        compare(Comparison(tmp_path, tmp_path), ENTRIES, [FULL], [0])
    verbs = Recorder(monkeypatch)
    compare(Comparison(tmp_path, tmp_path), ENTRIES, [FULL], [0])
    assert verbs.named("train")[0][1]["resume"]
    Recorder(monkeypatch, interrupted="recipe")
    recipe = Entry("psa", "affinitynet_acdc.yaml", "tags", recipe=True, part="segmentation")
    with pytest.raises(KeyboardInterrupt):
        compare(Comparison(tmp_path, tmp_path), [FULL, recipe], [recipe], [0])


def test_a_recipe_is_run_as_a_pipeline_and_its_stages_are_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Entry("psa", "affinitynet_acdc.yaml", "tags", recipe=True, part="segmentation")
    alone = Entry("cam_alone", "psa", "tags", part="classifier")
    for stage in ("segmentation", "classifier"):
        (tmp_path / "runs" / "psa_seed0" / stage).mkdir(parents=True)
        (tmp_path / "runs" / "psa_seed0" / stage / "config.yaml").write_text("seed: 0")
    verbs = Recorder(monkeypatch)
    comparison = Comparison(tmp_path, tmp_path, scale=0.1)
    entries = {entry.name: entry for entry in (FULL, recipe, alone)}
    # 250, 200 and 500 iterations
    assert comparison.result(recipe, 0, entries).iterations == 25 + 20 + 50
    assert comparison.result(alone, 0, entries).iterations == 25
    assert [call[0] for call in verbs.calls] == ["recipe", "predict", "evaluate", "predict", "evaluate"]
    run = verbs.named("recipe")[0][1]["recipe"]
    (affinity,) = (stage for stage in run.stages if stage.name == "affinity")
    assert affinity.settings["training"]["iterations"] == 20
    assert [more["model"].name for _, more in verbs.named("predict")] == ["segmentation", "classifier"]
    # What is printed is a command that the command line takes, and does the same.
    printed = [shlex.split(line)[1:] for line in capsys.readouterr().out.splitlines() if line.startswith("unia-med")]
    assert [build_parser().parse_args(words).run.__module__.split(".")[-1] for words in printed] == [
        *("pipeline", "predict", "evaluate", "predict", "evaluate")
    ]


def _result(entry: Entry, seed: int, dice: list[list[float]]) -> Result:
    return Result(entry, seed, 100, np.array(dice), ("RV", "LV"))


def test_the_tables_hold_means_deviations_and_ratios() -> None:
    results = [_result(UNIA, 0, [[0.2, 0.8], [0.6, np.nan]]), _result(UNIA, 1, [[0.5, 0.7], [0.7, 0.9]])]
    references = {100: [_result(FULL, 0, [[0.8, 0.8]]), _result(FULL, 1, [[1.0, 1.0]])]}
    # seed 0: RV .4 +- .2, LV .8 +- 0, mean .6; seed 1: RV .6 +- .1, LV .8 +- .1, mean .7; full .8 and 1
    row = to_markdown(results, references, ["RV", "LV"]).splitlines()[2]
    assert row == "| unia | tags | phantom | 100 | 0.500 ± 0.150 | 0.800 ± 0.050 | **0.650** | 0.600 / 0.700 | 0.722 |"
    rows = list(csv.DictReader(to_csv(results, references, ["RV", "LV"]).splitlines()))
    assert float(rows[0]["RV std"]) == pytest.approx(0.2) and float(rows[1]["mean"]) == pytest.approx(0.7)
    assert [float(row["of full"]) for row in rows] == pytest.approx([0.75, 0.7])


def test_merged_classes_have_no_ratio() -> None:
    merged = Result(UNIA, 0, 100, np.array([[0.5]]), ("heart",))
    text = to_markdown([merged], {100: [_result(FULL, 0, [[0.8, 0.8]])]}, ["RV", "heart"])
    assert text.splitlines()[2].endswith("| - | 0.500 ± 0.000 | **0.500** | 0.500 | - |")


def test_patients_count_once_whatever_the_number_of_their_volumes() -> None:
    values = {"p1_frame01": 0.2, "p1_frame09": None, "p2_frame01": 0.4, "p2_frame07": 0.8, "p3_frame01": None}
    means = patient_means([{"case": case, "dice": {"RV": value}} for case, value in values.items()], ["RV"])
    np.testing.assert_allclose(means, [[0.2], [0.6], [np.nan]])


def test_unknown_rows_are_refused_with_the_nearest() -> None:
    assert select(ENTRIES, None) == list(ENTRIES) and select(ENTRIES, ["unia"]) == [UNIA]
    with pytest.raises(UserError, match="'unja'.*unia"):
        select(ENTRIES, ["unja"])


def test_the_rows_of_the_example_name_shipped_configs_or_other_rows() -> None:
    path = Path(__file__).parents[2] / "examples" / "compare_methods.py"
    spec = importlib.util.spec_from_file_location("compare_methods", path)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    configs = {p.name for p in shipped_configs()} | {p.name for p in shipped_configs("pipelines")}
    names = {entry.name for entry in example.ENTRIES}
    assert len(names) == len(example.ENTRIES)
    for entry in example.ENTRIES:
        assert entry.config in (names if entry.part and not entry.recipe else configs), entry.name
