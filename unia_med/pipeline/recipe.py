"""From a recipe file and `--set` to checked stages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unia_med.config.load import apply_override, read_yaml
from unia_med.config.pipeline import RecipeConfig, StageConfig
from unia_med.config.shipped import find_config
from unia_med.errors import UserError, suggestion
from unia_med.registry import STEPS, resolve

_STAGES = "stages"


@dataclass(frozen=True)
class Recipe:
    """A checked recipe.

    Attributes:
        origin: The file, for messages.
        shared: Settings that every stage starts from.
        stages: In order; `settings` are those of the file with `--set stages.NAME.key=value` applied.
        overrides: `--set key=value` for all stages; they win over the file.
    """

    origin: Path
    shared: Mapping[str, Any]
    stages: list[StageConfig]
    overrides: list[str]


def load_recipe(name: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read and check a recipe.

    Args:
        name: A YAML file, or the bare name of a shipped recipe.
        overrides: `key.sub=value` for all trainings, `stages.NAME.key.sub=value` for one stage.

    Raises:
        UserError: A key, step or stage that does not exist; the message holds the nearest one.
    """
    path = Path(name)
    if not path.exists() and path.parent == Path("pipelines"):
        path = Path(path.name)  # the name by which the documentation calls a shipped recipe, from any folder
    path = find_config(path, kind="pipelines")
    config = _parsed(read_yaml(path), path)
    for stage in config.stages:
        resolve(STEPS, stage.step, f"step of stage '{stage.name}'")
    overrides = list(overrides)
    for text in overrides:
        _apply_to_stage(config.stages, text)
    shared = [text for text in overrides if not text.startswith(f"{_STAGES}.")]
    return Recipe(path, config.config, config.stages, shared)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested settings with others laid over them; lists and values are replaced whole.

    Example:
        >>> merged({"a": {"b": 1, "c": [2]}}, {"a": {"c": [3]}})
        {'a': {'b': 1, 'c': [3]}}
    """
    result = dict(base)
    for key, value in over.items():
        earlier = result.get(key)
        if isinstance(earlier, Mapping) and isinstance(value, Mapping):
            result[key] = merged(earlier, value)
        else:
            result[key] = value
    return result


def put(values: Mapping[str, Any], key: str, value: Any) -> dict[str, Any]:
    """`values` with the setting at a dotted key replaced.

    Example:
        >>> put({"a": {"b": 1}}, "a.c", 2)
        {'a': {'b': 1, 'c': 2}}
    """
    for name in reversed(key.split(".")):
        value = {name: value}
    return merged(values, value)


def _parsed(values: Mapping[str, Any], path: Path) -> RecipeConfig:
    try:
        return RecipeConfig.model_validate(dict(values))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in fault["loc"]) or "the whole recipe"
        remedy = None
        if fault["type"] == "extra_forbidden":
            model = RecipeConfig if len(fault["loc"]) == 1 else StageConfig
            remedy = suggestion(str(fault["loc"][-1]), model.model_fields)
        what = "unknown key" if remedy else fault["msg"].removeprefix("Value error, ")
        raise UserError(what, where=f"{path}: {where}", remedy=remedy) from None


def _apply_to_stage(stages: list[StageConfig], text: str) -> None:
    """Put `stages.NAME.key=value` into the settings of the stage that it names."""
    keys = text.partition("=")[0].split(".")
    if keys[0] != _STAGES:
        return
    by_name = {stage.name: stage for stage in stages}
    if len(keys) < 3:
        raise UserError("names no setting of a stage", f"--set {text}", "Write stages.NAME.key=value")
    if keys[1] not in by_name:
        raise UserError(f"unknown stage '{keys[1]}'", f"--set {text}", suggestion(keys[1], by_name))
    apply_override(by_name[keys[1]].settings, text.split(".", 2)[2])
