"""Configs as earlier versions wrote them into run folders: settings that have since become constants.

A config that holds such a setting with the value of the constant means the same today, and is read. One with another
value describes a run that this version cannot repeat, and is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FORMAT = 2
"""Version of the settings, as written into run folders; 1 is that of unia_med 0.1, which wrote none."""

_UNREAD: tuple[Any, ...] = ()
"""In place of values: nothing ever read the setting, so that any value means the same."""

_SCORE_THRESHOLDS: dict[str, tuple[Any, ...]] = {
    "thresholds.high": (0.55,),
    "thresholds.low": (0.45,),
    "thresholds.background": (0.4,),
    "thresholds": ({},),  # what is left of the section
}

_OF_METHODS: dict[str, dict[str, tuple[Any, ...]]] = {
    "unia": {
        "affinity_power": (2,),
        "affinity_steps": (1,),
        "affinity_temperature": (0.5,),
        "bounded": (True,),
        "cam_minimum_range": (0.0,),
        "doubled_features": (False,),
        "draw_samples": (False,),
        "par.dilations": ([1, 2, 4, 8, 12, 24],),
        "par.iterations": (10,),
        "par": ({},),
        "samples": (50,),
        "shared_head": (False,),
        "token_purity": (0.6,),
    },
    "agmm": {
        "balance_until": (None,),
        "borrow_centres": (False,),
        "channels": (64,),
        "dense_energy_grid": _UNREAD,
        "minimum_variance": (0.001,),
        "seeds.erosion_cells": (1,),
        "seeds.high": (0.4,),
        "seeds.low": (0.05,),
        "seeds.runner_up": (0.8,),
        "self_grad": ("both",),
        "self_start": (0.0,),
        **_SCORE_THRESHOLDS,
        "weights.dense_energy": (0.0,),
    },
    "aalr": {
        "affinity.gate": (0.2,),
        "affinity.hinge": ("ordered",),
        "affinity.margin": (3.0,),
        "channels": (64,),
        "grow_above": (0.9,),
        "online.background": (0.7,),
        "online.background_power": (16.0,),
        "online.dilations": ([1, 2, 4, 8],),
        "online.foreground": (0.6,),
        "online.iterations": (10,),
        "online.least": (0.2,),
        "reassign.bank": (0.9,),
        "reassign.replace": (0.9,),
        **_SCORE_THRESHOLDS,
    },
    "affinitynet": {
        "cam.confident": _UNREAD,
        "cam.name": _UNREAD,
        "cam.stride": (8,),
        "cam.width": (128,),
        "confident.background_score": (0.05,),
        "confident.dilations": ([1, 2],),
        "confident.foreground_score": (0.3,),
        "walk.evaluation": ("auto", "dense", "stencil"),
        "walk.log2_steps": (8,),
        "walk.radius": (5.0,),
    },
    "cam": {
        "confident.background_score": (0.05,),
        "confident.dilations": ([1, 2],),
        "confident.foreground_score": (0.3,),
        "stride": (8,),
        "width": (128,),
    },
}
"""By method: dotted key below `method` and the values that mean what the constant does."""

_POOLED = {"aalr": "", "affinitynet": "cam.", "cam": ""}
"""Methods whose dropout follows from their pooling, with the section of both."""

_PUBLISHED_UNIA: dict[str, tuple[Any, ...]] = {
    "affinity_power": (1,),
    "doubled_features": (True,),
    "draw_samples": (True,),
    "shared_head": (True,),
    "token_purity": (0.0,),
}
"""What the preset `published` fixes instead."""

_REMOVED: dict[str, tuple[Any, ...]] = {
    "data.coco.crowd": ("ignore",),
    "data.coco.other_values": ([],),
    "data.labels.complete.hull_margin_px": (2,),
    "data.labels.make.background_blocks": (1,),
    "data.labels.make.wobble": (0.25,),
    "data.voc.annotations": ("Annotations",),
    "data.voc.images": ("JPEGImages",),
    "data.voc.lists": ("ImageSets/Segmentation",),
    "data.voc.other_values": ([],),
    "inference.crf.smoothness_weight": (1.0,),
    "inference.crf.smoothness_px": (1.0,),
    "inference.crf.appearance_weight": (4.0,),
    "inference.crf.appearance_px": (121.0,),
    "inference.crf.appearance_colour": (5.0,),
    "inference.crf.stride": (8,),
    "network.heads": (4,),
    "prior.ring.motion": (True,),
    "prior.ring.weight": (0.3,),
    "training.channels_last": (True,),
}


def under_todays_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without settings that are constants today.

    Args:
        values: The whole config, as read from a file or a checkpoint.

    Raises:
        ValueError: A removed setting has another value than the constant, or the config is of a later version.
    """
    version = values.get("version", FORMAT)
    if isinstance(version, int) and version > FORMAT:
        raise ValueError(
            f"its settings have version {version}, this unia_med reads up to {FORMAT}; install the unia_med that wrote "
            "them (environment.json names it)"
        )
    cleaned: dict[str, Any] = dict(values)
    for key, allowed in _removed(values).items():
        cleaned = _without(cleaned, key.split("."), allowed, key)
    return cleaned | ({"version": FORMAT} if "version" in values else {})


def _removed(values: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    method = values.get("method")
    if not isinstance(method, Mapping):
        return _REMOVED
    name = method.get("name", "unia")
    table = dict(_OF_METHODS.get(name, {})) if isinstance(name, str) else {}
    if name == "unia" and method.get("preset") == "published":
        table |= _PUBLISHED_UNIA
    if name == "agmm" and method.get("preset") == "released":
        table["channels"] = (256,)
    if name in _POOLED:
        section = _POOLED[name]
        mean = _at(method, f"{section}pooling") == "mean"
        table[f"{section}dropout"] = (0.5,) if mean else (0.0,)
    return _REMOVED | {f"method.{key}": allowed for key, allowed in table.items()}


def _at(values: Mapping[str, Any], dotted: str) -> Any:
    """Return the value at a dotted key, or None."""
    found: Any = values
    for key in dotted.split("."):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found


def _without(values: dict[str, Any], keys: list[str], allowed: tuple[Any, ...], path: str) -> dict[str, Any]:
    """Return nested values without one key; nothing given is changed in place."""
    first, *rest = keys
    if first not in values:
        return values
    if rest:
        inner = values[first]
        if isinstance(inner, list):  # of sections, as `data.labels`
            parts = [_without(dict(one), rest, allowed, path) if isinstance(one, Mapping) else one for one in inner]
            return {**values, first: parts}
        return {**values, first: _without(dict(inner), rest, allowed, path)} if isinstance(inner, Mapping) else values
    if allowed and not any(
        type(values[first]) is not bool and values[first] == value or values[first] is value for value in allowed
    ):
        fixed = " or ".join(str(value) for value in allowed)
        raise ValueError(
            f"{path} is no setting since version {FORMAT} of the settings: it is {fixed}, not {values[first]}. Remove "
            "the key, or use unia_med 0.1 for a run that was trained with it"
        )
    return {key: value for key, value in values.items() if key != first}
