"""Every setting with type, default, range and meaning, read from the pydantic models."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BaseModel, JsonValue
from pydantic.fields import FieldInfo

from unia_med.config.schema import RunConfig
from unia_med.config.section import Section
from unia_med.errors import UserError, nearest

_NAMES = {
    bool: "yes or no",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    Any: "any value",
    JsonValue: "any value",
}
_LIMITS = ((Ge, "ge", "from {}"), (Gt, "gt", "above {}"), (Le, "le", "to {}"), (Lt, "lt", "below {}"))


@dataclass(frozen=True)
class Setting:
    """One leaf of a config.

    Attributes:
        key: Dotted path, as for `--set`; `[]` follows the name of a list of sections.
        owner: Value of `name` with which the setting exists, such as a method's; empty for all.
        kind: Type in words, or the values that it may have.
        limits: Range in words; empty without one.
        default: As YAML.
        meaning: What it does.
    """

    key: str
    owner: str
    kind: str
    limits: str
    default: str
    meaning: str


def all_settings() -> list[Setting]:
    """Return every setting of a run, in the order of the models."""
    return list(_of_model(RunConfig, None, "", ""))


def find_settings(key: str) -> list[Setting]:
    """Return the settings at or below a dotted key; a last part alone, such as `clip_norm`, is enough.

    Args:
        key: As for `--set`; empty gives all.

    Raises:
        UserError: nothing has this key; the message holds the nearest one.
    """
    settings = all_settings()
    plain = key.replace("[]", "").strip(".")
    found = [item for item in settings if not plain or _begins(_bare(item.key), plain)]
    found = found or [item for item in settings if f".{_bare(item.key)}".endswith(f".{plain}")]
    if found:
        return found
    keys = {part for item in settings for part in _parents(_bare(item.key))}
    likely = nearest(plain, keys) or nearest(plain.rpartition(".")[2], {part.rpartition(".")[2] for part in keys})
    sections = ", ".join(dict.fromkeys(item.key.partition(".")[0] for item in settings))
    remedy = f"Did you mean '{likely}'? " if likely else ""
    raise UserError("no setting has this key", where=key, remedy=f"{remedy}Sections: {sections}")


def _bare(key: str) -> str:
    return key.replace("[]", "")


def _begins(key: str, start: str) -> bool:
    return key == start or key.startswith(f"{start}.")


def _parents(key: str) -> Iterator[str]:
    parts = key.split(".")
    return (".".join(parts[: count + 1]) for count in range(len(parts)))


def _of_model(model: type[BaseModel], instance: Any, prefix: str, owner: str) -> Iterator[Setting]:
    """Yield the settings of a section; defaults come from an instance where the parent's default is one."""
    meanings = _meanings(model)
    for name, field in model.model_fields.items():
        default = getattr(instance, name) if instance is not None else field.get_default(call_default_factory=True)
        if name == "name" and get_origin(field.annotation) is Literal:
            meanings[name] = inspect.getdoc(model) or ""
        field = FieldInfo.merge_field_infos(field, description=meanings.get(name, field.description))
        yield from _of_field(field, default, f"{prefix}{name}", owner)


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return the string below each field of a section, by the field's name; those of a derived class win."""
    classes = [kind for kind in reversed(model.__mro__) if issubclass(kind, Section)]
    return {name: text for kind in classes for name, text in _strings_below(kind).items()}


@functools.cache
def _strings_below(kind: type) -> dict[str, str]:
    """Return the strings below the fields that a class itself declares, as its source has them."""
    try:
        source = textwrap.dedent(inspect.getsource(kind))
    except (OSError, TypeError):  # made by a call, as the model of all priors is
        return {}
    tree = ast.parse(source).body[0]
    return {
        field.target.id: below.value.value
        for field, below in pairwise(getattr(tree, "body", []))
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant) and isinstance(below.value.value, str)
    }


def _of_field(field: FieldInfo, default: Any, key: str, owner: str) -> Iterator[Setting]:
    models = list(_models(field.annotation))
    is_list = any(get_origin(kind) is list for kind in _members(field.annotation))
    if not models:
        yield _leaf(field, default, key, owner)
        return
    if is_list or not isinstance(default, BaseModel):
        # The list or the absent section is a value of its own, and its parts are settings, too.
        yield _leaf(field, default, key, owner)
    for model in models:
        name = _chosen_by(model) if len(models) > 1 else owner
        value = default if type(default) is model else None
        yield from _of_model(model, value, f"{key}[]." if is_list else f"{key}.", name)


def _leaf(field: FieldInfo, default: Any, key: str, owner: str) -> Setting:
    limits = [*_limits(field.metadata), *_inner_limits(field.annotation)]
    meaning = _sentence(" ".join(inspect.cleandoc(field.description or "").split()))
    kind, limits = _kind(field.annotation), list(dict.fromkeys(limits))
    return Setting(key, owner, kind, " ".join(limits), _default(field, default), meaning)


def _sentence(text: str) -> str:
    text = text if text.endswith((".", "...")) or not text else f"{text}."
    return f"{text[:1].upper()}{text[1:]}"


def _default(field: FieldInfo, value: Any) -> str:
    if field.is_required():
        return "needed"
    plain = _plain(value)
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return str(value) if isinstance(value, Path) else value


def _members(annotation: Any) -> list[Any]:
    """Return the members of a union, or the annotation itself."""
    if get_origin(annotation) is Annotated:
        return _members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [inner for member in get_args(annotation) for inner in _members(member)]
    return [annotation]


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the sections that a setting holds, by themselves or in a list."""
    for kind in _members(annotation):
        inner = get_args(kind)[0] if get_origin(kind) is list else kind
        if inspect.isclass(inner) and get_origin(inner) is None and issubclass(inner, BaseModel):
            yield inner


def _chosen_by(model: type[BaseModel]) -> str:
    """Return the value of `name` that selects a member of a union."""
    return str(get_args(model.model_fields["name"].annotation)[0])


def _kind(annotation: Any) -> str:
    """Return a type in words."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _kind(inner[0])
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(kind) for kind in inner))
    if origin is Literal:
        return " or ".join(str(value) for value in inner)
    if origin is tuple and Ellipsis not in inner:
        return f"list of {len(inner)}: {_kind(inner[0])}"
    if origin in (list, tuple):
        return f"list: {_kind(inner[0])}"
    if origin is dict:
        return f"mapping: {_kind(inner[0])} to {_kind(inner[1])}"
    if annotation is type(None):
        return "null"
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return "section"
    return _NAMES[annotation]


def _inner_limits(annotation: Any) -> Iterator[str]:
    """Yield the ranges written inside a type, such as that of a list's entries."""
    if get_origin(annotation) is Annotated:
        yield from _limits(annotation.__metadata__)
    for inner in get_args(annotation):
        yield from _inner_limits(inner)


def _limits(metadata: Sequence[Any]) -> Iterator[str]:
    for item in metadata:
        # `Field(ge=0)` inside `Annotated` keeps its own list; outside, pydantic has unfolded it already.
        if isinstance(item, FieldInfo):
            yield from _limits(item.metadata)
        for kind, attribute, text in _LIMITS:
            if isinstance(item, kind):
                yield text.format(f"{getattr(item, attribute):.10g}")
        if isinstance(item, MinLen):
            yield f"at least {item.min_length} entry"
