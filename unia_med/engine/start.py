"""Starts a training from the weights of another model: classes are matched by name, new ones stay random."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from unia_med.config.schema import RunConfig
from unia_med.errors import UserError
from unia_med.methods.base import Method
from unia_med.run_files import RunFiles

ReadStart = Callable[[str], tuple[Mapping[str, Tensor], Sequence[str]]]
"""Reads what `training.start_from` names: weights, and class names without background."""

_LOG = logging.getLogger(__name__)
_LEAST_SHARE = 0.5  # of the numbers of a network that must be found, for the start to be worth its name
_WHOLE_SHARE = 0.95  # and for its predictions to be worth learning from: all but a head for tags, as a rule


def begin(
    method: Method,
    config: RunConfig,
    output: Path,
    read: ReadStart | None,
    build: Callable[[RunConfig], Method],
    teaches: bool = False,
) -> None:
    """Fill a method with the weights that `training.start_from` names, unless the run goes on from a state of its own.

    Args:
        method: as built from `config`.
        config: of the run.
        output: its folder.
        read: reads a model.
        build: as in `start_from`.
        teaches: as in `start_from`.

    Raises:
        UserError: as `start_from`, or nothing reads the model.
    """
    source = config.training.start_from
    if source is None or RunFiles(output).last.is_file():
        return
    if read is None:
        remedy = "Train by `unia-med train` or unia_med.train, which read it"
        raise UserError("the weights to start from were not handed over", "training.start_from", remedy)
    start_from(method, *read(source), config, build, source, teaches)


def start_from(
    method: Method,
    weights: Mapping[str, Tensor],
    classes: Sequence[str],
    config: RunConfig,
    build: Callable[[RunConfig], Method],
    where: Path | str,
    teaches: bool = False,
) -> None:
    """Fill a method, in place, with the weights of a model of the same network, whatever its classes were.

    Rows that stand for a class are taken from the class of that name; those of classes that the model did not know,
    and all that has no counterpart, stay as they are.

    Args:
        method: as built from `config`.
        weights: state of the other model.
        classes: its class names without background, in label order.
        config: of the run that starts.
        build: makes a method of a config; used to see which parts depend on the number of classes.
        where: the model, for messages.
        teaches: the method labels the first round with these weights, as the teacher of a prior would.

    Raises:
        UserError: less than half of the network is found there, or not all that a teacher needs.
    """
    state = method.state_dict()
    own = config.data.target_classes
    by_class = _class_axes(state, config, build)
    taken: dict[str, Tensor] = {}
    for name, value in state.items():
        other = weights.get(name)
        if other is None:
            continue
        if name in by_class:
            merged = _matched(value, other, by_class[name], own, classes)
            taken |= {} if merged is None else {name: merged}
        elif other.shape == value.shape:
            taken[name] = other
    share = sum(state[name].numel() for name in taken) / max(1, sum(value.numel() for value in state.values()))
    if share < _LEAST_SHARE:
        what = f"only {100 * share:.0f} % of this network's weights are found there: it is another network"
        remedy = "Set network and method as in the config of that model, or train without --from"
        raise UserError(what, where=where, remedy=remedy)
    known = [name for name in own if name in classes]
    fresh = [name for name in own if name not in classes]
    other_shape = any(name in weights and name not in taken for name in state)
    if teaches and (share < _WHOLE_SHARE or other_shape or fresh):
        what = f"does not know {', '.join(fresh)}" if fresh else "has another network, or a part of this one alone"
        what = f"{what}, and with this prior the model to start from labels the first round: its labels would be noise"
        remedy = "Set network as in the config of that model, or leave out prior.names or --from"
        raise UserError(what, where=where, remedy=remedy)
    method.load_state_dict({**state, **taken})
    _LOG.info(
        "starts from %s: %.0f %% of the weights; classes known there: %s; new: %s",
        where,
        100 * share,
        ", ".join(known) or "none",
        ", ".join(fresh) or "none",
    )


def _class_axes(
    state: Mapping[str, Tensor], config: RunConfig, build: Callable[[RunConfig], Method]
) -> dict[str, list[int]]:
    """Return the axes of each tensor whose size follows the number of classes, found by adding one class."""
    network = config.network.model_copy(update={"weights": "none"})
    classes = [*config.data.target_classes, "one class more"]
    data = config.data.model_copy(update={"classes": classes, "groups": None, "class_values": None})
    with torch.random.fork_rng():
        larger = build(config.model_copy(update={"network": network, "data": data})).state_dict()
    axes = {}
    for name, value in state.items():
        if name in larger and larger[name].shape != value.shape:
            pairs = zip(value.shape, larger[name].shape, strict=True)
            axes[name] = [axis for axis, (one, other) in enumerate(pairs) if one != other]
    return axes


def _matched(
    value: Tensor, other: Tensor, axes: Sequence[int], own: Sequence[str], classes: Sequence[str]
) -> Tensor | None:
    """Return a tensor with the rows of the classes that both know; None where the sizes do not fit."""
    merged, index_own, index_other = value.clone(), [], []
    if value.dim() != other.dim():
        return None
    for axis in range(value.dim()):
        if axis not in axes:
            if value.shape[axis] != other.shape[axis]:
                return None
            rows = (list(range(value.shape[axis])),) * 2
        else:
            offset = value.shape[axis] - len(own)
            if offset not in (0, 1) or other.shape[axis] != len(classes) + offset:
                return None
            pairs = [(0, 0)] * offset
            pairs += [(i + offset, list(classes).index(name) + offset) for i, name in enumerate(own) if name in classes]
            rows = ([mine for mine, _ in pairs], [theirs for _, theirs in pairs])
        index_own.append(torch.tensor(rows[0], dtype=torch.long))
        index_other.append(torch.tensor(rows[1], dtype=torch.long))
    if value.dim() == 0:
        return other.clone()
    merged[_grid(index_own)] = other[_grid(index_other)].to(merged.dtype)
    return merged


def _grid(indices: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return torch.meshgrid(*indices, indexing="ij")
