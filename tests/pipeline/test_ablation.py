"""The ablation of UniA: what each row switches on, its measures, its tables, and what is not run again."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from unia_med import api
from unia_med.config.load import load_config
from unia_med.config.schema import RunConfig
from unia_med.data.structured.dataset import write_dataset
from unia_med.methods.base import Batch
from unia_med.methods.label_plan import LabelPlan, label_plan
from unia_med.methods.unia import UniA
from unia_med.pipeline import ablation
from unia_med.pipeline.ablation import Ablation, Task, rows, to_csv, to_markdown, within_to_markdown
from unia_med.pipeline.ablation_measures import MEASURES, WITHIN
from unia_med.run_files import RunFiles

CONFIGS = ("objects_tags.yaml", "lesions_tags.yaml", "acdc_cpu_tags.yaml")
TINY = {"network.weights": "none", "network.width": 32, "network.depth": 2, "network.uncertainty_width": 32}


def configs(name: str, **changes: Any) -> Iterator[RunConfig]:
    return (api.configured(name, {"data.root": "x", **row.settings, **changes}) for row in rows())


def last_plan(config: RunConfig) -> LabelPlan:
    return label_plan(config.method, config.training.iterations, config.training.iterations)


@pytest.mark.parametrize("name", CONFIGS)
def test_each_row_adds_what_its_name_says_and_nothing_else(name: str) -> None:
    found = [(config.method.mask, last_plan(config)) for config in configs(name)]
    base = {"classification", "auxiliary", "segmentation"}
    terms = [set(plan.weights) for _, plan in found]
    assert terms[0] - {"dense_energy"} == base  # of the decoder's learning, no module: in all rows or in none
    assert [sorted(now - before) for before, now in zip(terms, terms[1:], strict=False)] == [
        ["distribution"], [], [], [], [], ["affinity"], ["token_contrast"],
    ]  # fmt: skip
    masks = [mask for mask, _ in found]
    assert masks[:2] == ["off", "plain"] and set(masks[2:]) <= {"bias", "multiplicative"} and len(set(masks[2:])) == 1
    assert [plan.decoder for _, plan in found] == ["P1", "P1", "P1", "P2", "F", "F", "F", "F"]
    assert [plan.agreement for _, plan in found] == [False] * 5 + [True] * 3
    assert not any(config.prior.names for config in configs(name))


@pytest.mark.parametrize("name", CONFIGS[:2])
def test_the_last_row_is_the_shipped_recipe(name: str) -> None:
    assert list(configs(name))[-1] == load_config(name, ["data.root=x"])


def test_rows_differ_in_what_a_step_computes() -> None:
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 1, 48, 48, generator=generator)
    batch = Batch(images, torch.tensor([[1, 0, 1], [0, 1, 1], [0, 0, 0]], dtype=torch.int8))
    seen = []
    for config in configs("objects_tags", **TINY):
        torch.manual_seed(0)
        method = UniA(config)
        losses = method(batch, config.training.iterations)
        losses["loss"].backward()
        moved = [p.grad for p in method.network.affinity_head.parameters()]
        seen.append((losses["loss"].item(), losses["segmentation"], any(g is not None and g.any() for g in moved)))
    totals, segmentation, affinity_learns = zip(*seen, strict=True)
    assert all(a != b for a, b in zip(totals[:4], totals[1:5], strict=True))
    assert affinity_learns == (False,) * 6 + (True,) * 2
    assert segmentation[2] != segmentation[3] and totals[6] != totals[7]


def test_tables_hold_means_over_seeds() -> None:
    names = ("peak", "CAM", "labels", "prediction")
    scores = {("lesions", "A", seed): dict(zip(names, (1.0, 0.2, 0.4, value), strict=True))
              for seed, value in ((0, 0.5), (1, 0.75))}  # fmt: skip
    assert "| A | 1.000 | 0.200 | 0.400 | 0.625 | 0.500 / 0.750 |" in to_markdown(scores)
    table = list(csv.DictReader(to_csv(scores).splitlines()))
    assert [(row["task"], row["seed"], row["prediction"]) for row in table] == [
        ("lesions", "0", "0.5"), ("lesions", "1", "0.75"),
    ]  # fmt: skip


def test_what_is_seen_within_a_network_is_told_by_seed() -> None:
    scores = {
        ("lesions", "A", seed): dict.fromkeys(WITHIN, 0.5) | {"U": value} for seed, value in ((0, 0.9), (1, None))
    }
    head, *_, row = within_to_markdown(scores).strip().split("\n")
    assert "lesions" in head and [cell.strip() for cell in row.strip("|").split("|")] == [
        "A", *["0.500 / 0.500"] * 6, "0.900 / -", "0.500 / 0.500",
    ]  # fmt: skip
    assert within_to_markdown({}) == ""


def test_finished_rows_are_kept_and_the_budget_is_scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[Path, list[str]]] = []

    def train(config: str, run: Path, settings: list[str]) -> None:
        done.append((run, settings))
        RunFiles(run).checkpoints.mkdir(parents=True)
        RunFiles(run).best.touch()

    monkeypatch.setattr(ablation, "train_once", train)
    monkeypatch.setattr("unia_med.runs.Run.open", lambda run: run)
    monkeypatch.setattr(ablation, "measure", lambda run, as_one: dict.fromkeys(MEASURES, 0.5))
    task = Task("heart", "acdc_cpu_tags.yaml", as_one=True, settings={"training.iterations": 200})
    few = rows()[:2]
    kept = tmp_path / "scores" / "heart_CAM_baseline_seed0.json"
    kept.parent.mkdir()
    kept.write_text(json.dumps(dict.fromkeys(MEASURES, 0.25)))
    for _ in range(2):
        Ablation(tmp_path, 0.5, {"heart": tmp_path}).run([task], few, [0, 1])
    assert [run.name for run, _ in done] == [
        "heart_common_start_seed0", "heart_uncertainty_inference_seed0",
        "heart_common_start_seed1", "heart_CAM_baseline_seed1", "heart_uncertainty_inference_seed1",
    ]  # fmt: skip
    budgets = [next(text for text in settings if text.startswith("training.iterations")) for _, settings in done]
    assert [int(text.split("=")[1]) for text in budgets] == [25, 75, 25, 75, 75]  # of 0.5 * 200; the gate is at 0.25
    assert "seed=1" in done[3][1] and f"training.start_from={done[2][0]}" in done[3][1]
    assert "| CAM baseline | 0.375 |" in (tmp_path / "ablation.md").read_text()


def test_two_networks_are_looked_into_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def look(run: Path, as_one: bool) -> dict[str, float]:
        seen.append(run.name)
        return dict.fromkeys(WITHIN, 0.25 if as_one else 0.75)

    monkeypatch.setattr("unia_med.runs.Run.open", lambda run: run)
    monkeypatch.setattr(ablation, "measure_within", look)
    task = Task("heart", "acdc_cpu_tags.yaml", as_one=True)
    for row in rows():
        place = tmp_path / "scores" / f"{ablation.run_name(task, row, 0)}.json"
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(dict.fromkeys(MEASURES, 0.5)))
    for _ in range(2):
        Ablation(tmp_path, roots={"heart": tmp_path}).run([task], rows(), [0])
    assert seen == ["heart_mutual_complementing_seed0", "heart_token_contrast_seed0"]
    table = (tmp_path / "ablation.md").read_text()
    assert table.count("| 0.250 | 0.250 |") > 1 and "heart, within one network" in table


def test_seeds_side_by_side_end_in_the_same_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = [Task(name, "objects_tags.yaml") for name in ("one", "two")]
    for number, (task, row, seed) in enumerate((t, r, s) for t in tasks for r in rows()[:2] for s in (0, 1)):
        place = tmp_path / "scores" / f"{ablation.run_name(task, row, seed)}.json"
        place.parent.mkdir(exist_ok=True)
        place.write_text(json.dumps(dict.fromkeys(MEASURES, number / 8)))
    found = Ablation(tmp_path, roots={"one": tmp_path, "two": tmp_path})
    tables = []
    for at_once in (1, 2):
        found.run(tasks, rows()[:2], [0, 1], at_once)
        tables.append([(tmp_path / name).read_bytes() for name in ("ablation.md", "ablation.csv")])
    assert tables[0] == tables[1] and b"0.500 / 0.625" in tables[0][0]  # the first row of `two`
    assert "8 of 8 rows finished" in capsys.readouterr().out
    logs = {path.stem for path in (tmp_path / "logs").iterdir()}
    assert logs == {"one_seed0", "one_seed1", "two_seed0", "two_seed1"}


@pytest.mark.parametrize("name", CONFIGS[:2])
def test_after_the_common_start_a_row_stands_where_the_recipe_stands_after_its_gate(name: str, tmp_path: Path) -> None:
    recipe = api.configured(name, {"data.root": "x"})
    share, whole = recipe.method.gates.segmentation, recipe.training.iterations
    found = Ablation(tmp_path, roots={"task": tmp_path})
    task = Task("task", name)
    first, rest = found.budgets(task)
    assert first == share * whole and first + rest == whole
    RunFiles(found.output / "runs" / "task_common_start_seed0").checkpoints.mkdir(parents=True)
    RunFiles(found.output / "runs" / "task_common_start_seed0").best.touch()
    row = api.configured(name, found.settings(task, rows()[-1], 0))
    for step in range(0, rest, max(1, rest // 7)):
        assert label_plan(row.method, step, rest) == label_plan(recipe.method, first + step, whole), step


@pytest.mark.slow
def test_a_row_is_trained_and_measured(tmp_path: Path) -> None:
    settings = {**TINY, "training.batch_size": 2, "data.split": {"kind": "fractions", "fractions": [0.5, 0.5, 0.0]}}
    task = Task("objects", "objects_tags.yaml", lambda folder: write_dataset(folder, "objects", 2), settings=settings)
    found = Ablation(tmp_path, 0.01)
    found.run([task], rows()[-1:], [0])
    scores = found.scores(task, rows()[-1], 0)
    assert set(scores) == set(MEASURES) and all(0 <= value <= 1 for value in scores.values())
    place = tmp_path / "scores" / "objects_token_contrast_seed0_within.json"
    assert list(json.loads(place.read_text())) == list(WITHIN)
    assert "objects, within one network" in (tmp_path / "ablation.md").read_text()
    row = load_config(tmp_path / "runs/objects_token_contrast_seed0/config.yaml")
    assert row.training.start_from == str(tmp_path / "runs/objects_common_start_seed0")
