"""Builds objects from a resolved config: the only place where a name becomes an object."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.config.custom import FILE_MARK, CustomConfig
from unia_med.config.data import SYNTHETIC
from unia_med.config.schema import DataConfig, NetworkConfig, RunConfig
from unia_med.errors import UserError
from unia_med.files import content_digest
from unia_med.registry import DATASETS, METHODS, resolve, with_installed

if TYPE_CHECKING:
    import torch

    from unia_med.data.dataset import CaseDataset
    from unia_med.methods.base import Method


def build_dataset(config: DataConfig) -> CaseDataset:
    """Return the data set that `data.name` stands for, reading from `data.root`.

    Args:
        config: the data part of a run's config.

    Raises:
        UserError: no folder is named, or it does not exist.
    """
    check_root(config)
    return resolve(DATASETS, config.name, "data.name")(config)


def check_root(config: DataConfig) -> None:
    """Refuse a config without its folder of data, before anything slow is imported.

    Args:
        config: the data part of a run's config.

    Raises:
        UserError: no folder is named, or it does not exist.
    """
    if config.name == SYNTHETIC:
        return
    if config.root is None:
        raise UserError("no data folder given", where="data.root", remedy="Add --set data.root=DIR")
    if not config.root.is_dir():
        found = "is a file" if config.root.exists() else "does not exist"
        raise UserError(
            f"the data folder {found}", where=f"data.root {config.root}", remedy="Correct --set data.root=DIR"
        )


def build_method(config: RunConfig) -> Method:
    """Return the method that `method.name` stands for, with its network, on the CPU.

    Args:
        config: the whole config; a method reads its own part, the network's and the classes.
    """
    if config.method.name == "custom" and FILE_MARK in config.method.use:
        return _class_in_file(config.method)(config)
    if config.method.name == "custom":
        return resolve(with_installed(METHODS, "unia_med.methods"), config.method.use, "method.use")(config)
    return resolve(METHODS, config.method.name, "method.name")(config)


def with_digest(config: RunConfig) -> RunConfig:
    """Return a config that remembers the content of the file in which a method of one's own lies.

    Args:
        config: of any run.

    Raises:
        UserError: the file does not exist, or is not the one that the config remembers.
    """
    method = config.method
    if method.name != "custom" or FILE_MARK not in method.use:
        return config
    return config.model_copy(update={"method": method.model_copy(update={"digest": _checked_digest(method)})})


def method_file(config: CustomConfig) -> Path:
    """Return the file of a method of one's own, whose `use` names one.

    Args:
        config: the method's settings.
    """
    return Path(config.use.rpartition(":")[0]).expanduser().resolve()


def _class_in_file(config: CustomConfig) -> type[Method]:
    """Run the file that the user's own config or run names, and return the class in it."""
    from unia_med.methods.base import Method

    path, name = method_file(config), config.use.rpartition(":")[2]
    module_name = f"unia_med_method_{_checked_digest(config)}"
    if module_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None and spec.loader is not None  # a .py file always has a loader
        sys.modules[module_name] = module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except Exception as error:  # the file may raise whatever it likes
            del sys.modules[module_name]
            what = f"cannot be imported ({type(error).__name__}: {error})"
            raise UserError(what, where=path, remedy=f"Try it alone: python {path}") from error
    found = getattr(sys.modules[module_name], name, None)
    if not (isinstance(found, type) and issubclass(found, Method)):
        own = [key for key, value in vars(sys.modules[module_name]).items() if _is_method(value, module_name)]
        what = f"holds no class {name} that is a unia_med.methods.base.Method"
        raise UserError(what, where=path, remedy=f"Its methods: {', '.join(own) or 'none'}")
    return found


def _is_method(value: object, module: str) -> bool:
    from unia_med.methods.base import Method

    return isinstance(value, type) and issubclass(value, Method) and value.__module__ == module


def _checked_digest(config: CustomConfig) -> str:
    path = method_file(config)
    if not path.is_file():
        remedy = "Name it relative to the config file, as file.py:Class"
        raise UserError(f"no such file: {path}", where=f"method.use {config.use}", remedy=remedy)
    found = content_digest(path)
    if config.digest not in (None, found):
        remedy = "Put back the file with which the run was trained"
        raise UserError("is not the file that the run was trained with", where=path, remedy=remedy)
    return found


def check_weights(config: NetworkConfig) -> None:
    """Make sure that the pretrained weights of a network are on this machine, before anything else is done.

    Args:
        config: backbone and weights.

    Raises:
        UserError: a file, a package or a cached download is missing, and what to do about it.
    """
    from unia_med.nn.lite0 import find_packaged_weights
    from unia_med.nn.weights import cached_weights

    if config.weights == "timm" and config.backbone == "vit":
        cached_weights(config.model)
    elif config.weights == "package":
        find_packaged_weights()
    elif config.weights not in ("none", "timm") and not Path(config.weights).is_file():
        known = "'timm', 'none'" if config.backbone == "vit" else "'package', 'none'"
        raise UserError("no such weights file", f"network.weights {config.weights}", f"Give a file, or {known}")


def resolve_device(text: str = "auto") -> torch.device:
    """Return the device that a user asked for.

    Args:
        text: `auto` (CUDA where there is one), `cpu`, `cuda` or `cuda:N`.

    Raises:
        UserError: another text, or a device that this machine does not have.
    """
    import torch

    if text == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind, colon, number = text.partition(":")
    if kind not in ("cpu", "cuda") or (colon and (kind == "cpu" or not number.isdigit())):
        raise UserError(f"unknown device '{text}'", where="--device", remedy="Use auto, cpu, cuda or cuda:N")
    if kind == "cuda" and int(number or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise UserError(f"no device {text}; CUDA devices here: {count}", where="--device", remedy="Use auto or cpu")
    return torch.device(text)
