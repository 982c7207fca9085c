"""From YAML and `--set` to a validated configuration, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from unia_med.config.schema import RunConfig
from unia_med.config.shipped import find_config
from unia_med.errors import UserError, nearest


def load_config(name: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """The configuration in a file, or shipped under that name, with `key.sub=value` overrides applied.

    Args:
        name: A path, or the bare name of a shipped config (`acdc.yaml` or `acdc`).
        overrides: As typed after `--set`; values are read as YAML.

    Raises:
        UserError: For a missing file, YAML that is not plain data, an unknown key (with the nearest one), a bad value.
    """
    path = find_config(name)
    values = read_yaml(path)
    for override in overrides:
        _apply(values, override)
    return parse_config(values, path)


def parse_config(values: Mapping[str, Any], origin: str | Path) -> RunConfig:
    """Validates plain values; `origin` names their source in error messages."""
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(_explain(error), where=origin, remedy="correct the keys named above") from error


def read_yaml(path: Path) -> dict[str, Any]:
    """A mapping from a YAML file of plain data; tags that would build objects are refused."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        problem = " ".join(str(error).split())
        raise UserError(f"not plain YAML: {problem}", where=path, remedy="use keys, numbers, text and lists") from error
    if not isinstance(values, dict):
        raise UserError(f"holds {type(values).__name__}, not keys and values", where=path, remedy="write key: value")
    return values


def plain(config: BaseModel) -> dict[str, Any]:
    """A configuration as plain types, fit for YAML and checkpoints."""
    return config.model_dump(mode="json")


def dump_config(config: BaseModel, path: Path) -> None:
    """Writes every setting, defaults included: enough to repeat the run."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(yaml.safe_dump(plain(config), sort_keys=False), encoding="utf-8")
    temporary.replace(path)


def _apply(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise UserError(f"{override!r} is not key.sub=value", where="--set", remedy="e.g. --set training.iterations=100")
    try:
        value = text if _wants_text(key) else yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise UserError(f"{text!r} is not a YAML value", where=f"--set {key}", remedy="quote it") from error
    *parents, leaf = key.strip().split(".")
    node = values
    for name in parents:
        node = node.setdefault(name, {})
        if not isinstance(node, dict):
            raise UserError(f"{name} holds a value, not further keys", where=f"--set {key}", remedy="shorten the key")
    node[leaf] = value


def _wants_text(key: str) -> bool:
    """Paths stay text: a folder called 2024 is not a number."""
    return key.strip().rpartition(".")[2] in {"root", "path", "cache_dir", "weights"}


def _explain(error: ValidationError) -> str:
    return "; ".join(_explain_one(detail) for detail in error.errors())


def _explain_one(detail: Mapping[str, Any]) -> str:
    location = tuple(detail["loc"])
    path = ".".join(map(str, location)) or "configuration"
    if detail["type"] == "extra_forbidden":
        known = _keys_at(location[:-1])
        guess = nearest(str(location[-1]), known)
        hint = f", did you mean {guess!r}?" if guess else f"; known here: {', '.join(known)}"
        return f"unknown key {path}{hint}"
    message = detail["msg"].removeprefix("Value error, ")
    guess = None
    if detail["type"] == "literal_error":
        options = [part.strip(" '") for part in str(detail["ctx"]["expected"]).replace(" or ", ",").split(",")]
        guess = nearest(str(detail["input"]), options)
    return f"{path}: {message} (found {detail['input']!r}{f', did you mean {guess!r}?' if guess else ''})"


def _keys_at(location: tuple[Any, ...]) -> list[str]:
    model: Any = RunConfig
    for name in location:
        model = model.model_fields[name].annotation if name in getattr(model, "model_fields", {}) else None
    return list(getattr(model, "model_fields", {}))
