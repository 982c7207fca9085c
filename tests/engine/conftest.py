"""The tiny training of `tiny_run.py`, for tests in this process and in others."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch

import unia_med

PROGRAM = Path(__file__).with_name("tiny_run.py")


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The module itself: `TinyMethod`, `TinySlices`, `settings` and `tiny_trainer`."""
    spec = importlib.util.spec_from_file_location("engine_tiny_run", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run_program() -> Callable[..., subprocess.CompletedProcess]:
    """Run the module as a program of its own: run folder, signal, step, settings as JSON."""

    def run(*arguments: object) -> subprocess.CompletedProcess:
        paths = [str(Path(unia_med.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
        # Sums depend on how many threads share them, so bit-equality needs as many as this process has.
        threads = str(torch.get_num_threads())
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "OMP_NUM_THREADS": threads}
        command = [sys.executable, str(PROGRAM), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run
