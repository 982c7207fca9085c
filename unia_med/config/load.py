"""Reads YAML and `--set` into a checked `RunConfig`, and writes it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from unia_med.config.custom import FILE_MARK
from unia_med.config.schema import MethodConfig, RunConfig
from unia_med.config.shipped import find_config
from unia_med.errors import UserError, suggestion
from unia_med.files import decoded, write_text

_LOG = logging.getLogger(__name__)

MAX_BYTES = 1 << 20
"""A config is a page of text; anything larger is a wrong file."""


class _PlainLoader(yaml.SafeLoader):
    """Safe YAML without aliases (no inheritance, no expansion bombs) and without repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            mark = event.start_mark if isinstance(event.start_mark, yaml.error.Mark) else None
            raise yaml.constructor.ConstructorError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            name = str(key.value)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{name}' is given twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)


def load_config(name: str | Path, overrides: Iterable[str] = ()) -> RunConfig:
    """Read and check a config.

    Args:
        name: a YAML file, or the bare name of a shipped config (`acdc.yaml` or `acdc`).
        overrides: `key.sub=value` texts, as given to `--set`; they win over the file.

    Raises:
        UserError: naming every faulty key by its dotted path.
    """
    values = read_config(find_config(name))
    apply_overrides(values, overrides)
    return parse_config(values, name)


def apply_overrides(values: dict[str, Any], texts: Iterable[str]) -> None:
    """Put several `a.b=value` into nested values, in place; see `put_setting`.

    Args:
        values: as read from YAML.
        texts: as given to `--set`.
    """
    # A method that is exchanged comes first: settings of the new one must not be dropped with the old ones.
    for text in sorted(texts, key=lambda text: text.partition("=")[0].strip() != "method.name"):
        apply_override(values, text)


def _method_name(values: Mapping[str, Any]) -> str | None:
    method = values.get("method")
    return str(method.get("name", "unia")) if isinstance(method, dict) else None


def _drop_settings_of(before: str | None, values: dict[str, Any]) -> None:
    """Drop, in place, the settings of the earlier method, and report them in one line."""
    method, name = values["method"], _method_name(values)
    model = next((kind for kind in _alternatives(MethodConfig) if _is_model(kind) and _is_called(kind, name)), None)
    if model is None:
        return
    kept, dropped = _known_part(method, model)
    values["method"] = kept
    if dropped:
        _LOG.info("method.name %s in place of %s: settings of %s are dropped: %s", name, before, before, dropped)


def _known_part(given: Mapping[str, Any], model: type[BaseModel], prefix: str = "") -> tuple[dict[str, Any], str]:
    """Return the settings that a model knows, and the names of the others."""
    kept: dict[str, Any] = {}
    dropped: list[str] = []
    for key, value in given.items():
        field = model.model_fields.get(key)
        inner = [kind for kind in _alternatives(field.annotation) if _is_model(kind)] if field else []
        if field is None:
            dropped.append(f"{prefix}{key}")
        elif inner and isinstance(value, dict):
            kept[key], names = _known_part(value, inner[0], f"{prefix}{key}.")
            dropped += [names] if names else []
        else:
            kept[key] = value
    return {key: value for key, value in kept.items() if value != {}}, ", ".join(dropped)


def parse_config(values: Mapping[str, Any], origin: str | Path | None = None) -> RunConfig:
    """Return a checked config from plain values, such as those inside a checkpoint.

    Args:
        values: nested mappings, as read from YAML.
        origin: the file they come from, for the error message.
    """
    try:
        return RunConfig.model_validate(dict(values))
    except ValidationError as error:
        raise _as_user_error(error, origin) from None


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file of plain data; tags that would build objects are refused.

    Args:
        path: the file.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError("larger than 1 MiB, so not a config", where=path)
        values = yaml.load(decoded(path.read_bytes()), Loader=_PlainLoader)
    except OSError as error:
        raise UserError(
            f"cannot be read ({error.strerror})", where=path, remedy="Check the rights of the file and its folder"
        ) from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        remedy = "A config holds plain values only: keys, text, numbers, lists"
        raise UserError(f"not valid YAML: {_one_line(error)}", where=path, remedy=remedy) from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UserError(f"holds a {type(values).__name__}, expected keys with values", where=path)
    return values


def read_config(path: Path) -> dict[str, Any]:
    """Return the values of a config file; the file of a method of one's own, relative to its folder, as a full path.

    Args:
        path: the YAML file.

    Raises:
        UserError: it is no YAML, or empty.
    """
    values = read_yaml(path)
    if not values:
        raise UserError("is empty: it holds no setting", where=path, remedy="Name a config, such as acdc.yaml")
    method = values.get("method")
    use = method.get("use") if isinstance(method, dict) else None
    if isinstance(method, dict) and isinstance(use, str) and FILE_MARK in use and not use.startswith("~"):
        values["method"] = {"name": "custom", **method, "use": str(path.resolve().parent / use)}
    return values


def plain(config: BaseModel) -> dict[str, Any]:
    """Return a config as plain types, fit for YAML and checkpoints.

    Args:
        config: the whole or a part.
    """
    return config.model_dump(mode="json")


def dump_config(config: BaseModel, path: str | Path) -> None:
    """Write every setting, defaults included; `load_config` of the file gives an equal config.

    Args:
        config: what to write.
        path: the file; it appears whole or not at all.
    """
    text = yaml.safe_dump(plain(config), sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
    write_text(Path(path), text)


def apply_override(values: dict[str, Any], text: str) -> None:
    """Put one `a.b=value` into nested values, in place; mappings on the way are copied first.

    Args:
        values: as read from YAML.
        text: as given to `--set`.
    """
    dotted, equals, raw = text.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"'{text}' is not of the form key.sub=value", where="--set")
    put_setting(values, ".".join(keys), _parse_value(keys, raw.strip(), text), f"--set {text}")


def put_setting(values: dict[str, Any], dotted: str, value: Any, where: str = "set") -> None:
    """Put one value into nested values, in place; mappings on the way are copied first.

    Another `method.name` drops the settings of the earlier method.

    Args:
        values: as read from YAML.
        dotted: name of the setting, `data.grid.size`.
        value: plain value, or a path.
        where: who says so, for messages.
    """
    keys = str(dotted).split(".")
    level, before = values, _method_name(values)
    for depth, key in enumerate(keys[:-1], start=1):
        inner = level.get(key)
        if not isinstance(inner, dict | None):
            raise UserError(f"'{'.'.join(keys[:depth])}' is a value, it has no key below it", where=where)
        level[key] = dict(inner or {})
        level = level[key]
    level[keys[-1]] = value
    if keys == ["method", "name"] and before not in (None, value):
        _drop_settings_of(before, values)


def _parse_value(keys: Sequence[str], raw: str, text: str) -> Any:
    wants_text = _takes_text(keys)
    try:
        value = yaml.load(raw, Loader=_PlainLoader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        if wants_text:
            return raw
        raise UserError(f"not valid YAML: {_one_line(error)}", where=f"--set {text}") from None
    # A folder called 2024, no or 2024-01-31 is text, whatever YAML makes of it.
    return raw if wants_text and value is not None and not isinstance(value, str) else value


def _takes_text(keys: Sequence[str]) -> bool:
    """Whether the field at a dotted path holds one text or path; an unknown path does not."""
    models: list[Any] = [RunConfig]
    kinds: list[Any] = []
    for key in keys:
        fields = [model.model_fields[key] for model in models if key in model.model_fields]
        kinds = [kind for field in fields for kind in _alternatives(field.annotation)]
        models = [kind for kind in kinds if _is_model(kind)]
    return any(kind in (str, Path) or isinstance(kind, str) for kind in kinds)


def _alternatives(annotation: Any) -> list[Any]:
    """Return the members of a union, the values of a literal, else the annotation itself."""
    members = get_args(annotation)
    if not members or get_origin(annotation) in (list, tuple, dict):
        return [annotation]
    return [inner for member in members for inner in _alternatives(member)]


def _is_model(kind: Any) -> bool:
    # Python 3.10 calls list[int] a type and then refuses it in issubclass.
    return get_origin(kind) is None and isinstance(kind, type) and issubclass(kind, BaseModel)


def differences(mine: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Dotted names of the settings in which two configs differ.

    Args:
        mine: nested plain values.
        other: the same.
        prefix: of the names.

    Example:
        >>> list(differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}}))
        ['a.c']
    """
    for key in sorted(mine.keys() | other.keys()):
        a, b = mine.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from differences(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}"


def _as_user_error(error: ValidationError, origin: str | Path | None) -> UserError:
    faults = [_describe(fault) for fault in error.errors(include_url=False)]
    if len(faults) == 1:
        path, what, remedy = faults[0]
        return UserError(what, where=f"{origin}: {path}" if origin else path, remedy=remedy)
    lines = [f"\n  {UserError(what, path, remedy)}" for path, what, remedy in faults]
    return UserError(f"{len(faults)} faults{''.join(lines)}", where=origin)


def _describe(fault: Mapping[str, Any]) -> tuple[str, str, str | None]:
    """Return the dotted path, what is wrong and how to fix it."""
    names, known = _follow(fault["loc"])
    path = ".".join(names) or "the whole config"
    if fault["type"] == "extra_forbidden":
        return path, "unknown key", suggestion(names[-1], known)
    what = fault["msg"].removeprefix("Value error, ")
    if fault["type"] == "union_tag_invalid":
        context = fault["ctx"]
        nearest = _quoted_suggestion(context["tag"], context["expected_tags"])
        return f"{path}.name", f"unknown value {context['tag']!r}", nearest
    if fault["type"] == "literal_error":
        return path, f"unknown value {fault['input']!r}", _quoted_suggestion(fault["input"], fault["ctx"]["expected"])
    if fault["type"] == "value_error" or isinstance(fault["input"], dict | list):
        return path, what, None
    return path, f"{what}, not {fault['input']!r}", None


def _quoted_suggestion(given: Any, expected: str) -> str:
    """Return a remedy from pydantic's listing of what it expected, such as "'a', 'b' or 'c'"."""
    options = [part.strip(" '") for part in expected.replace(" or ", ",").split(",")]
    return suggestion(str(given), options)


def _follow(location: Sequence[Any]) -> tuple[list[str], list[str]]:
    """Return the dotted names of a fault, and the keys known where it lies."""
    models: list[Any] = [RunConfig]
    known: list[str] = []
    names: list[str] = []
    for part in location:
        chosen = [model for model in models if len(models) > 1 and _is_called(model, part)]
        if chosen:  # pydantic names the chosen member of a union, which the user did not write
            models = chosen
            continue
        names.append(str(part))
        known = [name for model in models for name in model.model_fields]
        fields = [model.model_fields[part] for model in models if part in model.model_fields]
        models = [kind for field in fields for kind in _alternatives(field.annotation) if _is_model(kind)]
    return names, known


def _is_called(model: type[BaseModel], name: Any) -> bool:
    """Whether a model is the member of a union that this `name` chooses."""
    return "name" in model.model_fields and name in get_args(model.model_fields["name"].annotation)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
