"""Networks converted to ONNX, kept from one call to the next: converting takes 10 to 20 s.

They lie in the folder `converted` of `$UNIA_MED_CACHE`, or of `unia_med` in `$XDG_CACHE_HOME` or `~/.cache`. The folder
may be deleted at any time. A name is a digest of all that decides what is computed: weights, structure, settings, the
size of slices, the code of this package and of the method, and the versions of what converts.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel
from torch import nn

from unia_med.errors import UserError
from unia_med.files import write_atomically

_KEPT = 20
"""Models that stay in the folder, the ones used last."""

_PLAIN = (bool, int, float, str, bytes, type(None), torch.Size)
_DIGEST = hashlib.sha256().digest_size
_PACKAGE = Path(__file__).resolve().parents[1]
_TORCH = Path(torch.__file__).resolve().parent
_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return where converted models lie; it need not exist."""
    if own := os.environ.get("UNIA_MED_CACHE"):
        return Path(own).expanduser() / "converted"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "unia_med" / "converted"


def name_of(network: nn.Module, size: tuple[int, ...]) -> str:
    """Return the name under which a converted network is kept.

    Args:
        network: whose forward pass is converted.
        size: (C, H, W) of slices.
    """
    digest = hashlib.sha256(_code_digest())
    for text in (*_versions(), repr(size), *_structure(network)):
        digest.update(text.encode() + b"\0")
    for name, value in chain(network.named_parameters(), network.named_buffers()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def read_model(name: str) -> bytes | None:
    """Return a model that was kept; None where there is none, or one that is damaged.

    Args:
        name: of `name_of`.
    """
    path = cache_folder() / f"{name}.onnx"
    try:
        content = path.read_bytes()
    except OSError:
        return None
    with suppress(OSError):  # of another user
        os.utime(path)  # used just now
    model = content[_DIGEST:]
    if content[:_DIGEST] != hashlib.sha256(model).digest():
        _log.info("%s is damaged; the network is converted again", path)
        return None
    return model


def keep_model(name: str, model: bytes) -> None:
    """Keep a model; where the folder cannot be written, nothing is kept.

    Args:
        name: of `name_of`.
        model: its bytes.
    """
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / f"{name}.onnx", lambda file: file.write(hashlib.sha256(model).digest() + model))
        kept = sorted(folder.glob("*.onnx"), key=lambda path: path.stat().st_mtime)
        for path in kept[:-_KEPT]:
            path.unlink(missing_ok=True)
    except (OSError, UserError) as error:
        _log.debug("no converted model is kept in %s: %s", folder, error)


def _structure(network: nn.Module) -> Iterator[str]:
    """Yield what a network is besides its weights: classes, their sources, and the values of their attributes."""
    sources: set[str] = set()
    for name, module in network.named_modules():
        kind = type(module)
        yield f"{name} {kind.__module__}.{kind.__qualname__}"
        for key, value in sorted(vars(module).items()):
            yield f"{key} {_text_of(value)}"
        sources.add(inspect.getsourcefile(kind) or "")
    for path in (Path(source).resolve() for source in sorted(sources - {""})):
        if _PACKAGE not in path.parents and path.is_file() and _TORCH not in path.parents:
            yield hashlib.sha256(path.read_bytes()).hexdigest()


def _text_of(value: Any) -> str:
    """Return a text that equal settings share in every process; of other objects, the type."""
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, BaseModel):
        return json.dumps(value.model_dump(mode="json"), sort_keys=True)
    if isinstance(value, (list, tuple)):
        return f"({', '.join(_text_of(item) for item in value)})"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text_of(item)}' for key, item in value.items())}}}"
    return f"{type(value).__module__}.{type(value).__qualname__}"


@cache
def _code_digest() -> bytes:
    digest = hashlib.sha256()
    for path in sorted(_PACKAGE.glob("**/*.py")):
        digest.update(path.read_bytes())
    return digest.digest()


def _versions() -> Iterator[str]:
    for package in ("torch", "onnx", "onnxscript"):
        yield f"{package} {importlib.metadata.version(package)}"
