"""Run folders of earlier versions are read where they mean the same today, and refused where they do not."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from unia_med.config.load import load_config, parse_config, plain
from unia_med.config.older import FORMAT
from unia_med.config.schema import RunConfig
from unia_med.errors import UserError

OLD: list[dict[str, Any]] = [
    {"method": {"name": "unia", "samples": 50, "bounded": True, "shared_head": False, "par": {"iterations": 10}}},
    {"method": {"preset": "published", "shared_head": True, "token_purity": 0.0, "samples": 50}},
    {"method": {"name": "agmm", "seeds": {"use": False, "high": 0.4}, "self_start": 0.0}},
    {"method": {"name": "aalr", "online": {"use": False, "dilations": [1, 2, 4, 8]}, "affinity": {"hinge": "ordered"}}},
    {"method": {"name": "affinitynet", "walk": {"evaluation": "dense"}}},
    {"method": {"name": "unia", "par": {"dilations": [1, 2, 4, 8, 12, 24]}}},
    {"method": {"name": "agmm", "preset": "released", "channels": 256, "dense_energy_grid": 8}},
    {"method": {"name": "agmm", "thresholds": {"high": 0.55, "low": 0.45, "background": 0.4}, "borrow_centres": False}},
    {"method": {"name": "aalr", "pooling": "mean", "dropout": 0.5, "reassign": {"bank": 0.9}}},
    {"method": {"name": "cam", "dropout": 0.0, "width": 128, "confident": {"dilations": [1, 2]}}},
    {"method": {"name": "affinitynet", "cam": {"name": "cam", "stride": 8, "confident": {"refine": "par"}}}},
    {"data": {"labels": [{"kind": "scribbles", "make": {"wobble": 0.25}}, {"complete": {"hull_margin_px": 2}}]}},
    {"data": {"name": "voc", "voc": {"images": "JPEGImages", "other_values": []}}, "network": {"heads": 4}},
    {"prior": {"ring": {"motion": True, "weight": 0.3}}, "training": {"channels_last": True}},
    {"inference": {"crf": {"iterations": 0, "stride": 8, "appearance_px": 121.0}}},
]


@pytest.mark.parametrize("values", OLD, ids=str)
def test_a_removed_setting_with_the_value_of_the_constant_is_read(values: dict[str, Any]) -> None:
    copy = yaml.safe_load(yaml.safe_dump(values))
    config = parse_config(values)
    assert values == copy
    assert config.version == FORMAT
    assert parse_config(plain(config)) == config


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"method": {"name": "unia", "samples": 51}}, "method.samples"),
        ({"method": {"shared_head": True}}, "method.shared_head"),
        ({"method": {"preset": "published", "shared_head": False}}, "method.shared_head"),
        ({"method": {"name": "aalr", "reassign": {"replace": 0.8}}}, "method.reassign.replace"),
        ({"method": {"name": "agmm", "channels": 256}}, "method.channels"),
        ({"method": {"name": "cam", "pooling": "mean", "dropout": 0.0}}, "method.dropout"),
        ({"method": {"name": "affinitynet", "walk": {"radius": 4}}}, "method.walk.radius"),
        ({"inference": {"crf": {"stride": 4}}}, "inference.crf.stride"),
        ({"data": {"labels": [{"make": {"points": 1}}, {"make": {"wobble": 0}}]}}, "data.labels.make.wobble"),
    ],
    ids=str,
)
def test_another_value_is_refused_with_the_version_and_the_remedy(values: dict[str, Any], key: str) -> None:
    with pytest.raises(UserError, match=rf"{key} is no setting since version {FORMAT}.*unia_med 0\.1"):
        parse_config(values)


def test_a_setting_of_another_method_stays_an_unknown_key() -> None:
    with pytest.raises(UserError, match="unknown key"):
        parse_config({"method": {"name": "agmm", "token_purity": 0.6}})


def test_the_version_is_written_and_a_later_one_is_refused() -> None:
    assert plain(RunConfig())["version"] == FORMAT
    assert parse_config({"version": 1}).version == FORMAT
    with pytest.raises(UserError, match=f"version {FORMAT + 1}, this unia_med reads up to {FORMAT}"):
        parse_config({"version": FORMAT + 1})


def test_shipped_configs_need_no_version() -> None:
    assert load_config("acdc_cpu").version == FORMAT
