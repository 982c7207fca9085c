"""Fills the templates of a bundle, which lie in `pipelines/bundle` and are shipped with the package."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from unia_med.config.shipped import shipped_folder
from unia_med.errors import UserError

_PLACE = re.compile(r"\{\{(\w+)\}\}")


def template(name: str) -> str:
    """Return the text of a template.

    Args:
        name: path within `pipelines/bundle`.
    """
    folder = shipped_folder("pipelines")
    if folder is None or not (folder / "bundle" / name).is_file():
        raise UserError(f"the template {name} of this installation is missing", remedy="Install unia-med again")
    return (folder / "bundle" / name).read_text(encoding="utf-8")


def filled_text(text: str, values: Mapping[str, Any]) -> str:
    """Return a text with every `{{name}}` replaced.

    Args:
        text: template.
        values: by name; one that the text asks for and that is missing is an error.

    >>> filled_text("{{count}} classes", {"count": 4})
    '4 classes'
    """
    return _PLACE.sub(lambda match: str(values[match[1]]), text)


def filled_json(text: str, values: Mapping[str, Any]) -> str:
    """Return a JSON text whose strings are filled; a string that is one placeholder takes the value itself.

    An element of a list whose value is None is left out.

    Args:
        text: template.
        values: by name.

    >>> print(filled_json('["{{size}}", "n{{size}}", "{{none}}"]', {"size": 3, "none": None}), end="")
    [
        3,
        "n3"
    ]
    """
    return json.dumps(_filled(json.loads(text), values), indent=4) + "\n"


def _filled(node: Any, values: Mapping[str, Any]) -> Any:
    if isinstance(node, dict):
        return {key: _filled(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [item for item in (_filled(child, values) for child in node) if item is not None]
    if not isinstance(node, str):
        return node
    whole = _PLACE.fullmatch(node)
    if whole is None:
        return filled_text(node, values)
    value = values[whole[1]]
    return _filled(value, values) if isinstance(value, dict) else value
