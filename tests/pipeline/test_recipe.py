"""Reading recipes: what is refused, and how `--set` reaches one stage or all."""

from __future__ import annotations

from pathlib import Path

import pytest

from unia_med.config.shipped import shipped_configs
from unia_med.errors import UserError
from unia_med.pipeline.recipe import load_recipe, merged
from unia_med.pipeline.runner import run_recipe

RECIPE = """
config: {seed: 3, training: {iterations: 9}}
stages:
  - name: first
    step: train
    settings: {method: {name: cam}, training: {iterations: 5}}
  - name: second
    step: labels
    reads: {run: first}
    settings: {column: CAM}
"""


def _written(folder: Path, text: str = RECIPE) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("stages:", "stagse:", "stages"),
        ("settings: {column", "setings: {column", "settings"),
        ("step: labels", "step: label", "Did you mean 'labels'"),
        ("{run: first}", "{run: frist}", "reads 'frist'"),
        ("name: second", "name: first", "two stages"),
        ("name: second", "name: Se cond", "pattern"),
    ],
)
def test_faults_are_named_with_the_nearest_known(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        load_recipe(_written(tmp_path, RECIPE.replace(old, new)))
    assert "recipe.yaml" in str(error.value) or "stage" in str(error.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("{name: cam}", "{name: cam, poling: max}", "method.poling.*Did you mean 'pooling'"),
        ("{column: CAM}", "{colum: CAM}", "Did you mean 'column'"),
        ("{seed: 3", "{sed: 3", "Did you mean 'seed'"),
    ],
)
def test_a_fault_in_any_stage_shows_before_anything_runs(tmp_path: Path, old: str, new: str, message: str) -> None:
    recipe = load_recipe(_written(tmp_path, RECIPE.replace(old, new)))
    with pytest.raises(UserError, match=message):
        run_recipe(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("given", "message"), [([], "no data folder"), (["data.root=nowhere"], "does not exist")])
def test_a_missing_data_folder_leaves_nothing_behind(tmp_path: Path, given: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        run_recipe(load_recipe(_written(tmp_path, RECIPE), given), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_set_reaches_one_stage_or_all(tmp_path: Path) -> None:
    path = _written(tmp_path)
    recipe = load_recipe(path, ["stages.first.training.iterations=7", "data.root=hearts"])
    assert recipe.stages[0].settings["training"] == {"iterations": 7}
    assert recipe.stages[0].settings["method"] == {"name": "cam"}
    assert recipe.overrides == ["data.root=hearts"]
    with pytest.raises(UserError, match="Did you mean 'first'"):
        load_recipe(path, ["stages.fist.seed=1"])
    with pytest.raises(UserError, match="stages.NAME.key"):
        load_recipe(path, ["stages.first=1"])


def test_merging_leaves_its_arguments_alone() -> None:
    base = {"a": {"b": 1}, "c": [1, 2]}
    assert merged(base, {"a": {"d": 2}, "c": [3]}) == {"a": {"b": 1, "d": 2}, "c": [3]}
    assert base == {"a": {"b": 1}, "c": [1, 2]}


def test_shipped_recipes_are_found_by_every_name_the_documentation_uses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {path.name for path in shipped_configs("pipelines")}
    assert {"affinitynet_acdc.yaml", "affinitynet_phantom.yaml"} <= names
    for name in names:
        recipes = [load_recipe(form) for form in (name, name.removesuffix(".yaml"), f"pipelines/{name}")]
        assert len({recipe.origin for recipe in recipes}) == 1
