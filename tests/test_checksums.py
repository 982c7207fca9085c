"""Checksums of a folder: checked by the system's own program, and every change is noticed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from unia_med.checksums import changed_files, write_sums


@pytest.fixture
def record(tmp_path: Path) -> Path:
    (tmp_path / "sub dir").mkdir()
    (tmp_path / "sub dir" / "a.py").write_text("x = 1\n")
    (tmp_path / "b").write_bytes(b"")
    write_sums(tmp_path, tmp_path / "SUMS")
    return tmp_path / "SUMS"


def test_they_are_those_of_sha256(record: Path) -> None:
    # The checksum of nothing is published; sha256sum checks the others.
    assert "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b\n" in record.read_text()
    if shutil.which("sha256sum"):
        done = subprocess.run(
            ["sha256sum", "-c", "SUMS"], cwd=record.parent, capture_output=True, text=True, check=True
        )
        assert done.stdout == "b: OK\nsub dir/a.py: OK\n"


def test_every_change_is_noticed(record: Path) -> None:
    folder = record.parent
    assert changed_files(folder, record) == []
    (folder / "new").write_text("not noted")
    assert changed_files(folder, record) == []
    (folder / "sub dir" / "a.py").write_text("x = 2\n")
    (folder / "b").unlink()
    assert changed_files(folder, record) == [folder / "b", folder / "sub dir" / "a.py"]


def test_a_folder_without_a_record_and_one_with_a_damaged_one(record: Path) -> None:
    assert changed_files(record.parent, record.parent / "none") == []
    record.write_bytes(b"\xff\xfe nothing")
    assert changed_files(record.parent, record) == [record]
    record.write_text("one word\n")
    assert changed_files(record.parent, record) == [record]
