"""From config to objects: devices and data folders that exist, and those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from unia_med.build import build_dataset, resolve_device
from unia_med.config.schema import DataConfig
from unia_med.errors import UserError


def test_cpu_is_always_there() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:x", "cpu:0", "cuda:-1", "", "mps"])
def test_unknown_device(text: str) -> None:
    with pytest.raises(UserError, match="--device: unknown device"):
        resolve_device(text)


def test_cuda_device_that_is_not_there() -> None:
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(UserError, match=f"no device {missing}; CUDA devices here: {torch.cuda.device_count()}"):
        resolve_device(missing)


def test_no_data_folder() -> None:
    with pytest.raises(UserError, match="data.root: no data folder given.*--set data.root=DIR"):
        build_dataset(DataConfig())


def test_data_folder_missing_or_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        build_dataset(DataConfig(root=tmp_path / "none"))
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(UserError, match="is a file"):
        build_dataset(DataConfig(root=file))
