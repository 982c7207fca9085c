"""A user id without an account: what MONAI and torch ask for at import is answered."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from unia_med.account import name_the_user

PROGRAM = """
import pwd
def unknown(uid): raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
import unia_med
import getpass, pathlib
print(getpass.getuser(), pathlib.Path.home())
import monai
"""


@pytest.mark.slow
def test_monai_can_be_imported_without_an_account() -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("LOGNAME", "USER", "LNAME", "USERNAME", "HOME")}
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == f"user{os.getuid()}"


def test_an_account_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: object())
    monkeypatch.delenv("LOGNAME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    name_the_user()
    assert "LOGNAME" not in os.environ and "HOME" not in os.environ
