"""Pretrained weights on this machine: nothing is downloaded unasked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unia_med.errors import UserError
from unia_med.nn.torchvision_compat import ensure_torchvision_operators

_FILES = ("model.safetensors", "pytorch_model.bin")


def cached_weights(model: str) -> Path:
    """Return the file of a timm model's published weights in this machine's caches; the network is not asked.

    Args:
        model: timm's name, with or without the tag of the weights.

    Raises:
        UserError: they are not there; the message holds the command that fetches them on another machine.
    """
    ensure_torchvision_operators()
    import timm

    config: Any = timm.get_pretrained_cfg(model)
    repository = f"timm/{config.architecture}.{config.tag}" if config.tag else f"timm/{config.architecture}"
    if config.hf_hub_id and not str(config.hf_hub_id).endswith("/"):
        repository = str(config.hf_hub_id)
    found = _in_hub_cache(repository) or _in_torch_cache(str(config.url or ""))
    if found is None:
        raise UserError(
            f"the weights of '{model}' are not on this machine, and nothing is downloaded unasked",
            "network.weights",
            f"Run `hf download {repository} {_FILES[0]}` where there is a connection; it prints the file: copy it here "
            "and add --set network.weights=FILE. To start from random weights: --set network.weights=none",
        )
    return found


def _in_hub_cache(repository: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    paths = (try_to_load_from_cache(repository, name) for name in _FILES)
    return next((Path(path) for path in paths if isinstance(path, str)), None)


def _in_torch_cache(url: str) -> Path | None:
    from torch.hub import get_dir

    path = Path(get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return path if url and path.is_file() else None
