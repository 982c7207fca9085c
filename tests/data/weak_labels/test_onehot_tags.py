"""One-hot tag lists: read as numpy wrote them, and never trusted."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from unia_med.data.sample import CaseFiles
from unia_med.data.weak_labels.onehot_tags import read_onehot_tags
from unia_med.errors import UserError

CLASSES = ["cat", "dog", "cow"]


def _cases(*names: str) -> list[CaseFiles]:
    return [CaseFiles(name, name, Path(f"{name}.jpg")) for name in names]


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.uint8, np.int64, bool])
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_the_published_dictionary_is_read(tmp_path: Path, kind: type, protocol: int) -> None:
    path = tmp_path / "cls_labels_onehot.npy"
    entries = {"2007_000032": np.array([1, 0, 1], kind), "2007_000033": np.array([0, 0, 1], kind)}
    # As numpy.save, which chooses the protocol by its version.
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        pickle.dump(np.array(entries, dtype=object), file, protocol=protocol)
    tags = read_onehot_tags(path, _cases("2007_000033", "2007_000032"), CLASSES)
    assert {name: rows.tolist() for name, rows in tags.items()} == {
        "2007_000032": [[1, 0, 1]],
        "2007_000033": [[0, 0, 1]],
    }
    assert tags["2007_000032"].dtype == np.int8


def test_numpy_save_itself_and_integer_names(tmp_path: Path) -> None:
    path = tmp_path / "labels.npy"
    np.save(path, {2007000032: np.array([0.0, 1.0, 0.0]), 42: np.array([1.0, 0.0, 0.0])}, allow_pickle=True)
    tags = read_onehot_tags(path, _cases("2007_000032", "COCO_val2014_000000000042"), CLASSES)
    assert [rows.tolist() for rows in tags.values()] == [[[0, 1, 0]], [[1, 0, 0]]]


def test_npz_and_json_are_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "tags.npz", a=np.array([1, 0, 0]), b=np.array([0, 1, 1]))
    (tmp_path / "tags.json").write_text(json.dumps({"a": [1, 0, 0], "b": [0, 1, 1]}))
    for name in ("tags.npz", "tags.json"):
        tags = read_onehot_tags(tmp_path / name, _cases("a", "b"), CLASSES)
        assert tags["a"].tolist() == [[1, 0, 0]] and tags["b"].tolist() == [[0, 1, 1]]


class _Hostile:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


def test_code_in_the_file_is_not_run(tmp_path: Path) -> None:
    path, marker = tmp_path / "evil.npy", tmp_path / "was_here"
    np.save(path, {"a": _Hostile(marker)}, allow_pickle=True)
    with pytest.raises(UserError, match=r"asks for posix.mkdir.*savez"):
        read_onehot_tags(path, _cases("a"), CLASSES)
    assert not marker.exists()


def test_all_faults_are_told_together(tmp_path: Path) -> None:
    path = tmp_path / "tags.json"
    path.write_text(json.dumps({"a": [1, 0], "b": [0, 2, 0], "c": "cat"}))
    with pytest.raises(UserError) as told:
        read_onehot_tags(path, _cases("a", "b", "c", "d"), CLASSES)
    assert "4 faults" in str(told.value) and "no entry for d" in str(told.value) and "for b: [0 2 0]" in str(told.value)


@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00", b"not a list at all"])
def test_damaged_files_are_named(tmp_path: Path, content: bytes) -> None:
    for suffix in (".npy", ".npz", ".json"):
        path = tmp_path / f"tags{suffix}"
        path.write_bytes(content)
        with pytest.raises(UserError, match=path.name):
            read_onehot_tags(path, _cases("a"), CLASSES)


def test_a_plain_matrix_names_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "matrix.npy", np.zeros((4, 3)))
    with pytest.raises(UserError, match="names no images"):
        read_onehot_tags(tmp_path / "matrix.npy", _cases("a"), CLASSES)


@pytest.mark.parametrize(
    "entry", ["[[1, 0], [1]]", "[" * 3000 + "]" * 3000, "[1e999, 0, 1]", "{}", "null", '[1, "0", 1]']
)
def test_ragged_and_deep_lists_are_faults(tmp_path: Path, entry: str) -> None:
    (tmp_path / "tags.json").write_text(f'{{"a": {entry}}}')
    with pytest.raises(UserError, match="tags.json"):
        read_onehot_tags(tmp_path / "tags.json", [CaseFiles("a", "a", Path("a.jpg"))], ["x", "y", "z"])


@pytest.mark.parametrize("byte", [b"(", b"\0", b"'", b"9"])
def test_a_damaged_head_is_a_fault_of_the_file(tmp_path: Path, byte: bytes) -> None:
    path = tmp_path / "tags.npy"
    np.save(path, {"a": np.array([1, 0, 1])}, allow_pickle=True)
    whole = path.read_bytes()
    for place in range(8, 80):  # numpy's reader raises a TokenError at some
        path.write_bytes(whole[:place] + byte + whole[place + 1 :])
        try:
            read_onehot_tags(path, _cases("a"), ["x", "y", "z"])
        except UserError as error:
            assert path.name in str(error)  # noqa: PT017
