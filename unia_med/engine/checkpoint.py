"""Checkpoints: tensors and plain values only, written so that no reader ever meets half a file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from unia_med.errors import UserError
from unia_med.files import write_atomically, zip_damage

FORMAT = 1  # raised when a stored key changes its meaning
_KINDS: dict[str, type] = {"ema": Mapping, "model": Mapping, "config": Mapping, "classes": list, "step": int}
_PLAIN = (str, int, float, bool, type(None))


def save_checkpoint(state: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint atomically.

    Args:
        state: nested dicts and lists of tensors, numbers, strings and None; anything else is a programming error,
            since it could not be loaded with `weights_only=True`.
        path: final place; its folder is made.
    """
    check_plain(state)
    write_atomically(path, lambda file: torch.save({"format": FORMAT, **state}, file))


def load_checkpoint(path: Path, keys: Iterable[str] = ("ema", "config", "classes", "step")) -> dict[str, Any]:
    """Read a checkpoint onto the CPU, refusing everything that is not tensors and plain values.

    Args:
        path: a file that `save_checkpoint` wrote.
        keys: entries the caller needs.

    Raises:
        UserError: when the file is missing, cut short, of another kind, or carries code.
    """
    if not path.is_file():
        raise UserError("there is no checkpoint here", path, "Name a folder that `unia-med train` wrote")
    state = _read(path)
    if not isinstance(state, dict) or "format" not in state:
        raise UserError("this is a torch file, but no unia_med checkpoint", path, "Name a file from RUN/checkpoints")
    if state["format"] != FORMAT:
        what = f"the checkpoint has format {state['format']}, this version reads {FORMAT}"
        raise UserError(what, path, "Use the version of unia_med that wrote it (RUN/environment.json names it)")
    missing = [key for key in keys if key not in state or not isinstance(state[key], _KINDS.get(key, object))]
    if missing:
        what = f"the checkpoint lacks {', '.join(missing)}, or holds something else there"
        raise UserError(what, path, "Name last.pt, or train again")
    return state


def require_own(state: Mapping[str, Any], metadata: Mapping[str, Any], path: Path) -> None:
    """Refuse to go on from the checkpoint of another run that was put in the place of a run's own.

    Args:
        state: of the checkpoint.
        metadata: what the run writes into its checkpoints; its classes and the seed in its config are compared.
        path: of the checkpoint, for the error.

    Raises:
        UserError: they differ.
    """
    for key, own, found in (
        ("classes", metadata.get("classes"), state.get("classes")),
        ("seed", (metadata.get("config") or {}).get("seed"), (state.get("config") or {}).get("seed")),
    ):
        if own not in (None, []) and found not in (None, []) and own != found:
            what = f"a checkpoint of another run: {key} {found}, this run has {own}"
            raise UserError(what, path, "Put back the run's own file, or train again with another --output")


def check_plain(value: Any, where: str = "state") -> None:
    """Make sure a value holds only what a weights-only load accepts.

    Args:
        value: nested dicts, lists and tuples.
        where: how the value is called in the error.

    Raises:
        TypeError: naming the place and type of the first foreign object.
    """
    if type(value) in _PLAIN or isinstance(value, Tensor):
        return
    if isinstance(value, Mapping):
        for key, item in value.items():
            check_plain(item, f"{where}[{key!r}]")
    elif isinstance(value, (list, tuple)):
        for position, item in enumerate(value):
            check_plain(item, f"{where}[{position}]")
    else:
        raise TypeError(f"{where} is a {type(value).__name__}: a checkpoint holds tensors and plain values only")


def load_weights(module: torch.nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    """Fill a module from a checkpoint entry, or say how the two differ.

    Args:
        module: built from the checkpoint's config.
        weights: its stored state.
        path: the file, for the error.
    """
    own = module.state_dict()
    differing = [k for k in own.keys() & weights.keys() if own[k].shape != getattr(weights[k], "shape", None)]
    strangers = sorted(map(str, own.keys() ^ weights.keys())) + sorted(differing)
    if strangers:
        what = f"{len(strangers)} entries do not fit the network of the config, first {strangers[0]}"
        raise UserError(what, path, "Use the config.yaml that lies in the checkpoint's run folder")
    module.load_state_dict(weights)


def _read(path: Path) -> Any:
    damage = zip_damage(path)
    if damage is not None:
        what = f"the checkpoint is damaged ({damage}); it was not loaded"
        raise UserError(what, path, "Use another checkpoint of the run, or copy the run again")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"the checkpoint cannot be read: {error.strerror}", path, "Check the file's rights") from error
    except Exception as error:  # torch names no common class: pickle, zip, EOF, key and runtime errors all occur
        what = "the checkpoint is damaged, cut short, or holds code instead of weights; it was not loaded"
        raise UserError(what, path, "Use another checkpoint of the run, or train again") from error
