"""Classes of a prior and of a run, compared by name."""

from __future__ import annotations

import numpy as np
import pytest

from unia_med.config.load import parse_config
from unia_med.config.prior import labels_named
from unia_med.config.schema import DataConfig
from unia_med.errors import UserError
from unia_med.priors.base import shares
from unia_med.priors.classes import ClassMap
from unia_med.registry import PRIORS, resolve

KNOWN = ("RV", "MYO", "LV")


def _map(classes: list[str], groups: dict[str, list[str]] | None = None) -> ClassMap:
    return ClassMap.between(KNOWN, DataConfig(classes=classes, groups=groups))


@pytest.mark.parametrize(
    ("classes", "groups", "table"),
    [
        (["RV", "MYO", "LV"], None, [0, 1, 2, 3]),
        (["lv", "Myo", "RV"], None, [0, 3, 2, 1]),
        (["MYO", "LV"], None, [0, 0, 1, 2]),
        (["LV", "MYO", "RV"], {"WHOLE": ["MYO", "LV"], "RV": ["RV"]}, [0, 2, 1, 1]),
        (["LV", "MYO", "RV"], {"HEART": ["MYO", "LV", "RV"]}, [0, 1, 1, 1]),
    ],
)
def test_labels_go_to_the_class_of_the_same_name(
    classes: list[str], groups: dict[str, list[str]] | None, table: list[int]
) -> None:
    assert _map(classes, groups).table.tolist() == table


def test_scores_of_merged_and_left_out_classes_still_sum_to_one() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(4), (2, 5, 5)).transpose(0, 3, 1, 2)
    merged = _map(["LV", "MYO", "RV"], {"RV": ["RV"], "WHOLE": ["MYO", "LV"]}).scores(scores)
    np.testing.assert_allclose(merged, np.stack([scores[:, 0], scores[:, 1], scores[:, 2] + scores[:, 3]], 1))
    fewer = _map(["LV"]).scores(scores)
    np.testing.assert_allclose(fewer, np.stack([scores[:, :3].sum(1), scores[:, 3]], 1))
    same = _map(["RV", "MYO", "LV"])
    assert same.scores(scores) is scores
    swapped = _map(["LV", "MYO", "RV"]).scores(scores)
    np.testing.assert_array_equal(swapped, scores[:, [0, 3, 2, 1]])


def test_tags_go_back_to_the_prior() -> None:
    swapped = _map(["LV", "MYO", "RV"]).tags(np.array([[1, 0, -1]], np.int8))
    assert swapped.tolist() == [[-1, 0, 1]] and swapped.dtype == np.int8
    merged = _map(["RV", "MYO", "LV"], {"WHOLE": ["MYO", "LV"], "RV": ["RV"]})
    assert merged.tags(np.array([[1, 1], [0, 0]], np.int8)).tolist() == [[1, -1, -1], [0, 0, 0]]
    assert _map(["LV"]).tags(np.array([[1]], np.int8)).tolist() == [[-1, -1, 1]]


@pytest.mark.parametrize("name", sorted(PRIORS))
@pytest.mark.parametrize("classes", [["LIVER", "SPLEEN"], ["RV", "MYO", "LV", "SCAR"], ["left ventricle"]])
def test_a_prior_that_does_not_know_a_class_is_refused_with_the_config(name: str, classes: list[str]) -> None:
    values = {"data": {"name": "volumes", "classes": classes}, "prior": {"names": [name]}}
    with pytest.raises(UserError) as refusal:
        parse_config(values)
    text = str(refusal.value)
    foreign = [one for one in classes if one not in KNOWN]
    assert all(part in text for part in ("prior.names", name, *foreign, *resolve(PRIORS, name).classes, "data.classes"))


def test_known_classes_are_taken_in_any_order_and_case() -> None:
    parse_config({"data": {"name": "volumes", "classes": ["lv", "rv"]}, "prior": {"names": ["phantom", "ring"]}})


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"prior": {"names": ["phantm"]}}, ("prior.names", "phantm", "phantom")),
        ({"prior": {"names": ["ring", "ring"]}}, ("prior.names", "more than once")),
        ({"prior": {"one_piece": ["LIVER"]}}, ("prior.one_piece", "LIVER", "RV, MYO, LV")),
        ({"prior": {"phantom": {"slices": 0}}}, ("prior.phantom.slices", "0")),
        ({"prior": {"ring": {"wieght": 0.5}}}, ("prior.ring.wieght", "weight")),
        ({"inference": {"postprocess": {"largest_component": ["LUNG"]}}}, ("largest_component", "LUNG")),
    ],
)
def test_faults_are_named_by_key(values: dict[str, object], parts: tuple[str, ...]) -> None:
    with pytest.raises(UserError) as refusal:
        parse_config(values)
    assert all(part in str(refusal.value) for part in parts), str(refusal.value)


def test_a_merged_class_is_named_by_itself_or_by_all_its_members() -> None:
    data = DataConfig(classes=["RV", "MYO", "LV"], groups={"RV": ["RV"], "MYO_LV": ["MYO", "LV"]})
    assert labels_named(["RV", "LV"], data) == (1,)
    assert labels_named(["rv", "lv", "myo"], data) == (1, 2)
    assert labels_named(["MYO_LV"], data) == (2,)


def test_shares_of_a_mean() -> None:
    ring, phantom = (resolve(PRIORS, name) for name in ("ring", "phantom"))
    pair = [phantom(phantom.settings_type()), ring(ring.settings_type(weight=0.25))]
    assert shares(pair) == [0.75, 0.25]
    assert shares(pair[:1]) == shares(pair[1:]) == [1.0]
    assert shares([pair[1], pair[1]]) == [0.5, 0.5]
    assert shares([pair[0], pair[1], pair[0]]) == [0.375, 0.25, 0.375]  # the rest in equal parts
    light, heavy = (ring(ring.settings_type(weight=weight)) for weight in (0.2, 0.6))
    assert shares([light, heavy]) == pytest.approx([0.25, 0.75])
    assert shares([light, heavy, pair[0]]) == pytest.approx([0.2, 0.6, 0.2])
    assert shares([heavy, heavy, pair[0]]) == pytest.approx([0.5, 0.5, 0.0])  # nothing is left for the third
    nothing = ring(ring.settings_type(weight=0.0))
    assert shares([nothing]) == [1.0] and shares([nothing, nothing]) == [0.5, 0.5]
    assert shares([nothing, pair[0]]) == [0.0, 1.0]
