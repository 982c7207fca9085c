"""Files appear whole or not at all, damage is noticed, and places that cannot be written are known before work."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from unia_med.errors import UserError
from unia_med.files import (
    content_digest,
    decoded,
    replacing,
    require_writable,
    write_json,
    write_text,
    writing_in,
    zip_damage,
)


def test_one_flipped_bit_anywhere_in_the_tensors_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"w": torch.arange(3000.0), "b": torch.ones(50)}, path)
    assert zip_damage(path) is None
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        parts = [item for item in archive.infolist() if "/data/" in item.filename]
    for seed in range(20):
        rng = np.random.default_rng(seed)
        part = parts[rng.integers(len(parts))]
        head = whole[part.header_offset : part.header_offset + 30]
        start = part.header_offset + 30 + sum(int.from_bytes(head[at : at + 2], "little") for at in (26, 28))
        damaged = bytearray(whole)
        damaged[start + int(rng.integers(part.file_size))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bytes(damaged))
        assert zip_damage(path) is not None


def test_digest_tells_files_of_one_size_and_time_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"13")
    (tmp_path / "c").write_bytes(b"12")
    digests = [content_digest(tmp_path / name) for name in "abc"]
    assert digests[0] == digests[2] != digests[1]


def test_places_that_cannot_be_written_are_refused_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    require_writable(tmp_path / "new" / "deep", folder=True)
    require_writable(tmp_path / "new" / "table.csv", folder=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
    for path, folder, word in (
        (tmp_path / "file", True, "is a file, expected a folder"),
        (tmp_path, False, "is a folder, expected a file"),
        (tmp_path / "file" / "x", True, "where a folder is needed"),
        (tmp_path / "file" / "x.csv", False, "where a folder is needed"),
    ):
        with pytest.raises(UserError, match=word):
            require_writable(path, folder)

    def refused(**_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("unia_med.files.tempfile.TemporaryFile", refused)
    with pytest.raises(UserError, match="cannot be written: Read-only file system"):
        require_writable(tmp_path / "new", folder=True)


def test_an_error_leaves_the_old_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "old")
    with pytest.raises(ValueError, match="NaN|Out of range"):
        write_json(tmp_path / "a.json", float("nan"))
    with pytest.raises(KeyError), replacing(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise KeyError
    with pytest.raises(UserError, match="No space left"), replacing(tmp_path / "a.json"):
        raise OSError(28, "No space left on device")
    assert (tmp_path / "a.json").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_that_torch_hides_is_reported_with_the_place(tmp_path: Path) -> None:
    def hidden() -> None:
        try:
            raise OSError(28, "No space left on device")
        finally:
            raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0")

    with pytest.raises(UserError, match="a.pt: cannot be written: No space left"), replacing(tmp_path / "a.pt"):
        hidden()
    with pytest.raises(UserError, match="bundle: cannot be written: No space left"), writing_in(tmp_path / "bundle"):
        hidden()
    with pytest.raises(RuntimeError, match="of its own"), writing_in(tmp_path / "bundle"):
        raise RuntimeError("of its own")
    assert not list(tmp_path.iterdir())


def test_what_a_killed_process_left_goes_with_the_next_file_and_what_others_write_stays(tmp_path: Path) -> None:
    program = "import os, sys; from pathlib import Path; from unia_med.files import replacing\n"
    program += "with replacing(Path(sys.argv[1]) / 'a.txt') as part: os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    assert killed.returncode == -9 and left.name.startswith(".writing_")
    with replacing(tmp_path / "new" / "b.txt"):  # another folder is looked at when it is written to
        assert left.exists()
    with replacing(tmp_path / "b.txt") as part:
        assert not left.exists() and part.exists()
        folder = tmp_path / "shared"
        folder.mkdir()
        alive = folder / part.name
        elsewhere = folder / ".writing_another-computer_1_x"
        for file in (alive, elsewhere):
            file.touch()
        write_text(folder / "c.txt", "c")
        assert alive.exists() and elsewhere.exists()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_that_two_programs_set_is_no_letter(encoding: str) -> None:
    assert decoded("\ufeffimage".encode("utf-8" if encoding == "utf-8" else encoding)) == "image"
