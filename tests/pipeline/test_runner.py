"""Which stages run, which are skipped and which go on, with steps that only write a line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from unia_med.config.pipeline import StageConfig
from unia_med.errors import UserError
from unia_med.pipeline import runner
from unia_med.pipeline.recipe import Recipe, put
from unia_med.pipeline.runner import files_digest, read_record, run_recipe
from unia_med.pipeline.steps import Step

RAN: list[str] = []


class NoteStep(Step):
    """Write its text and what it read; a text of `stop` is interrupted once, a data file counts as input."""

    def __init__(
        self, settings: Mapping[str, Any], shared: Mapping[str, Any], overrides: Sequence[str], where: str
    ) -> None:
        self.settings, self.data = dict(settings), shared.get("data")

    def described(self) -> dict[str, Any]:
        return self.settings

    def inputs(self) -> list[Path]:
        return [Path(self.data)] if self.data else []

    def check(self) -> None:
        return

    def run(self, folder: Path, device: str) -> int:
        RAN.append(folder.name)
        folder.mkdir(parents=True, exist_ok=True)
        begun = (folder / "begun").exists()
        (folder / "begun").touch()
        if self.settings["text"] == "stop" and not begun:
            return 130
        (folder / "note.txt").write_text(str(self.settings), encoding="utf-8")
        return 0

    def is_complete(self, folder: Path) -> bool:
        return (folder / "note.txt").is_file()

    @staticmethod
    def fill(values: Mapping[str, Any], key: str, folder: str, earlier: Step) -> dict[str, Any]:
        return put(values, key, folder)


@pytest.fixture(autouse=True)
def note_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    RAN.clear()
    monkeypatch.setattr(runner, "resolve", lambda table, name, kind: NoteStep)


def _recipe(first: str = "a", second: str = "b", side: str = "c", third: str = "d", data: str | None = None) -> Recipe:
    stages = [
        StageConfig(name="first", step="note", settings={"text": first}),
        StageConfig(name="second", step="note", settings={"text": second}, reads={"from": "first"}),
        StageConfig(name="side", step="note", settings={"text": side}),
        StageConfig(name="third", step="note", settings={"text": third}, reads={"from": "second"}),
    ]
    return Recipe(Path("recipe.yaml"), {"data": data}, stages, [])


def _ran(recipe: Recipe, output: Path) -> list[str]:
    RAN.clear()
    assert run_recipe(recipe, output) == 0
    return list(RAN)


def test_finished_unchanged_stages_are_skipped(tmp_path: Path) -> None:
    assert _ran(_recipe(), tmp_path / "out") == ["first", "second", "side", "third"]
    assert _ran(_recipe(), tmp_path / "out") == []
    assert str(tmp_path / "out" / "first") in (tmp_path / "out" / "second" / "note.txt").read_text()


def test_a_changed_stage_and_all_that_read_it_run_again(tmp_path: Path) -> None:
    _ran(_recipe(), tmp_path)
    assert _ran(_recipe(second="changed"), tmp_path) == ["second", "third"]
    assert _ran(_recipe(first="changed", second="changed"), tmp_path) == ["first", "second", "third"]
    assert _ran(_recipe(first="changed", second="changed"), tmp_path) == []


def test_an_interrupted_stage_goes_on_in_its_folder(tmp_path: Path) -> None:
    recipe = _recipe(second="stop")
    assert run_recipe(recipe, tmp_path) == 130
    assert RAN == ["first", "second"]
    assert read_record(tmp_path, "second").finished is None
    assert _ran(recipe, tmp_path) == ["second", "side", "third"]  # NoteStep ends only where its folder was kept


def test_an_unfinished_stage_with_other_settings_starts_anew(tmp_path: Path) -> None:
    assert run_recipe(_recipe(second="stop"), tmp_path) == 130
    (tmp_path / "second" / "old").touch()
    _ran(_recipe(second="b"), tmp_path)
    assert not (tmp_path / "second" / "old").exists()


def test_a_lost_output_is_made_again_and_so_is_what_read_it(tmp_path: Path) -> None:
    _ran(_recipe(), tmp_path)
    (tmp_path / "second" / "note.txt").unlink()
    assert _ran(_recipe(), tmp_path) == ["second", "third"]


def test_changed_files_count(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "x").write_text("1")
    _ran(_recipe(data=str(data)), tmp_path / "out")
    assert _ran(_recipe(data=str(data)), tmp_path / "out") == []
    times = (data / "x").stat()
    (data / "x").write_text("2")
    os.utime(data / "x", ns=(times.st_atime_ns, times.st_mtime_ns))  # a corrected file of the same size and time
    assert _ran(_recipe(data=str(data)), tmp_path / "out") == ["first", "second", "side", "third"]


def test_another_version_runs_everything_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _ran(_recipe(), tmp_path)
    monkeypatch.setattr(runner, "__version__", "999")
    assert len(_ran(_recipe(), tmp_path)) == 4


def test_a_moved_pipeline_stays_finished(tmp_path: Path) -> None:
    _ran(_recipe(), tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    assert _ran(_recipe(), tmp_path / "there") == []


def test_foreign_folders_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "thesis.tex").touch()
    with pytest.raises(UserError, match="not made by a pipeline"):
        run_recipe(_recipe(), tmp_path)
    assert (tmp_path / "first" / "thesis.tex").exists()


def test_a_damaged_record_is_named_where_its_stage_left_something(tmp_path: Path) -> None:
    _ran(_recipe(), tmp_path)
    record = tmp_path / "records" / "side.json"
    record.write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="is damaged") as caught:
        run_recipe(_recipe(), tmp_path)
    assert caught.value.where == record and str(tmp_path / "side") in str(caught.value)
    assert (tmp_path / "side" / "note.txt").exists()


def test_a_damaged_record_means_running_again(tmp_path: Path) -> None:
    _ran(_recipe(), tmp_path)
    (tmp_path / "records" / "side.json").write_text("{", encoding="utf-8")
    (tmp_path / "side" / "note.txt").unlink()
    (tmp_path / "side" / "begun").unlink()
    assert _ran(_recipe(), tmp_path) == ["side"]


def test_the_digest_sees_names_and_contents_and_not_times(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    before = files_digest([tmp_path])
    os.utime(tmp_path / "a", (0, 0))
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    assert files_digest([tmp_path]) == before
    (tmp_path / "b").write_text("")
    assert files_digest([tmp_path]) != before
    (tmp_path / "b").unlink()
    (tmp_path / "a").write_text("2")  # of the same size
    os.utime(tmp_path / "a", (0, 0))
    assert files_digest([tmp_path]) != before
