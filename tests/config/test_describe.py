"""Every setting is listed, with its true default and range, and described."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from unia_med.config.describe import all_settings, find_settings
from unia_med.config.load import plain
from unia_med.config.markdown import MARK, config_facts, generated_part, rewrite
from unia_med.config.schema import RunConfig
from unia_med.config.shipped import shipped_configs
from unia_med.errors import UserError

SETTINGS = all_settings()
UNIONS = ("data.labels[]", "prior.proposals.", "prior.walker.", "inference.walker.", "training.cuda.", "method.")
"""Keys that a default config does not have as such."""


def _leaves(values: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= _leaves(value, f"{prefix}.{key}" if prefix else key)
    return found


def test_every_leaf_of_the_default_config_is_listed_with_its_value() -> None:
    listed = {item.key: yaml.safe_load(item.default) for item in SETTINGS if item.owner in ("", "unia")}
    expected = {key: value for key, value in _leaves(plain(RunConfig())).items() if key != "prior.ring"}  # has none
    assert {key: listed[key] for key in expected} == expected
    extra = set(listed) - set(expected)
    assert all(key.startswith(UNIONS[:5]) for key in extra), extra


@pytest.mark.parametrize("item", SETTINGS, ids=lambda item: f"{item.owner}:{item.key}")
def test_every_setting_says_what_it_does(item: Any) -> None:
    assert len(item.meaning) > 10
    assert item.key and item.kind and item.default


@pytest.mark.parametrize("key", ["training.clip_norm", "augment.shear", "training.iterations"])
def test_the_range_is_the_one_that_is_enforced(key: str) -> None:
    words = next(item.limits for item in SETTINGS if item.key == key).split()
    section, name = key.split(".")
    for word, number in zip(words[::2], words[1::2], strict=True):
        step = {"from": -1, "above": 0, "to": 1, "below": 0}[word]
        with pytest.raises(ValidationError):
            RunConfig.model_validate({section: {name: float(number) + step}})


def test_a_union_is_listed_by_member_and_a_nested_default_wins() -> None:
    found = {item.owner: item for item in find_settings("method.weights.segmentation")}
    assert set(found) == {"unia", "agmm", "aalr"}
    assert float(found["unia"].default) == 0.15 and float(found["aalr"].default) == 1.0


def test_a_key_narrows_and_a_last_part_is_enough() -> None:
    assert {item.key for item in find_settings("data.split")} >= {"data.split.kind", "data.split.folds"}
    assert all(item.key.startswith("data.split.") for item in find_settings("data.split"))
    assert [item.key for item in find_settings("clip_norm")] == ["training.clip_norm"]
    assert [item.key for item in find_settings("data.labels.kind")] == ["data.labels[].kind"]


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("trainin", "training"), ("training.clip", "training.clip_norm"), ("data.splt.kind", "data.split.kind")],
)
def test_a_typo_gets_the_nearest_key(key: str, nearest: str) -> None:
    with pytest.raises(UserError, match=f"Did you mean '{nearest}'"):
        find_settings(key)


@pytest.mark.parametrize("path", shipped_configs() + shipped_configs("pipelines"), ids=lambda path: path.stem)
def test_every_shipped_config_says_what_it_is(path: Path) -> None:
    facts = config_facts(path)
    assert set(facts) == {"About", "Learns from", "Needs", "Time"}
    assert all(len(text) > 5 for text in facts.values())


def test_rewriting_keeps_what_is_above_the_mark(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(f"# Own\n\n{MARK}\n\nold")
    rewrite(path)
    assert path.read_text() == f"# Own\n\n{generated_part()}"
    with pytest.raises(UserError, match="no such file"):
        rewrite(tmp_path / "missing.md")
