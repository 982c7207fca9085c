"""Weights are looked for on this machine, and a missing file is told before anything starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import unia_med
from unia_med.build import check_weights
from unia_med.config.load import load_config
from unia_med.config.schema import NetworkConfig
from unia_med.engine.session import run_training
from unia_med.errors import UserError
from unia_med.nn.weights import cached_weights

REPOSITORY = "timm/vit_small_patch16_224.augreg_in21k_ft_in1k"


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Empty caches, and a socket that fails at once and is noticed."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))

    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path


def test_missing_weights_are_told_with_the_command_that_fetches_them(no_network: Path) -> None:
    with pytest.raises(UserError, match=f"hf download {REPOSITORY} model.safetensors"):
        cached_weights("vit_small_patch16_224")
    with pytest.raises(UserError, match="hf download"):
        check_weights(NetworkConfig(backbone="vit", weights="timm", decoder="largefov"))


def test_a_cached_download_is_found_in_both_caches(no_network: Path) -> None:
    commit, hub = "a" * 40, no_network / "hub" / f"models--{REPOSITORY.replace('/', '--')}"
    (hub / "snapshots" / commit).mkdir(parents=True)
    (hub / "refs").mkdir()
    (hub / "refs" / "main").write_text(commit)
    file = hub / "snapshots" / commit / "model.safetensors"
    file.write_bytes(b"")
    assert cached_weights("vit_small_patch16_224") == file
    file.unlink()
    torch_cache = no_network / "torch" / "hub" / "checkpoints"
    torch_cache.mkdir(parents=True)
    (torch_cache / "deit_base_patch16_224-b5f2ef4d.pth").write_bytes(b"")
    assert cached_weights("deit_base_patch16_224").parent == torch_cache


@pytest.mark.parametrize("weights", ["timm", "missing.pth"])
def test_a_run_that_cannot_start_leaves_no_folder(no_network: Path, tiny_acdc: Path, weights: str) -> None:
    config = load_config("acdc_vit.yaml", [f"data.root={tiny_acdc}", f"network.weights={weights}"])
    with pytest.raises(UserError, match="network.weights"):
        run_training(config, no_network / "run", device="cpu")
    assert not (no_network / "run").exists()


def test_packaged_weights_and_none_need_no_file() -> None:
    check_weights(NetworkConfig(weights="package"))
    check_weights(NetworkConfig(weights="none"))


@pytest.mark.slow
def test_the_command_says_it_in_one_line_and_never_waits(tiny_acdc: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unia_med.cli.main", "train", "--config", "acdc_vit.yaml", "--output"]
    command += [str(tmp_path / "run"), "--set", f"data.root={tiny_acdc}"]
    environment = {**os.environ, "PYTHONPATH": str(Path(unia_med.__file__).parents[1]), "HF_HOME": str(tmp_path)}
    environment |= {"TORCH_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=120)
    assert done.returncode == 2 and "hf download" in done.stderr and not (tmp_path / "run").exists()
