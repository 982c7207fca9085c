"""One walk for all commands: links, loops, pairs, and what is passed over."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unia_med.data.io.walk import (
    CLOSED,
    DANGLING,
    HIDDEN,
    LOOP,
    NO_FILE,
    NO_HEADER,
    UNREAD,
    LeftOut,
    find_volumes,
    glob_matcher,
    walk,
)


def _touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


def test_links_to_folders_are_followed_and_loops_end(tmp_path: Path) -> None:
    data, outside = tmp_path / "data", tmp_path / "outside"
    _touch(data, "a/1.nii.gz", "b/2.nii.gz")
    _touch(outside, "deep/3.nii.gz")
    (data / "linked").symlink_to(outside)
    (data / "a" / "up").symlink_to(data)
    (outside / "deep" / "round").symlink_to(outside / "deep")
    left = LeftOut()
    found = [path.relative_to(data).as_posix() for path in find_volumes(data, left)]
    assert found == ["a/1.nii.gz", "b/2.nii.gz", "linked/deep/3.nii.gz"]
    assert left.by_reason == {LOOP: [data / "a" / "up", data / "linked" / "deep" / "round"]}


def test_a_folder_that_is_linked_twice_is_searched_once_by_its_true_path(tmp_path: Path) -> None:
    _touch(tmp_path, "site/1.nii.gz")
    (tmp_path / "before").symlink_to(tmp_path / "site")
    assert walk(tmp_path) == [tmp_path / "site" / "1.nii.gz"]


def test_a_link_to_a_file_is_a_file_and_a_dangling_one_is_counted(tmp_path: Path) -> None:
    _touch(tmp_path, "store/1.nii.gz", "data/notes.txt")
    (tmp_path / "data" / "x.nii.gz").symlink_to(tmp_path / "store" / "1.nii.gz")
    (tmp_path / "data" / "y.nii.gz").symlink_to(tmp_path / "store" / "2.nii.gz")
    (tmp_path / "data" / "z.txt").symlink_to(tmp_path / "store" / "none")
    left = LeftOut()
    assert find_volumes(tmp_path / "data", left) == [tmp_path / "data" / "x.nii.gz"]
    assert left.by_reason == {DANGLING: [tmp_path / "data" / "y.nii.gz"]}
    (tmp_path / "data" / "site2").symlink_to(tmp_path / "drive" / "site2")  # perhaps a folder with images
    (tmp_path / "data" / "more.txt").symlink_to(tmp_path / "nowhere")
    found = LeftOut()
    find_volumes(tmp_path / "data", found)
    assert found.by_reason == {DANGLING: [tmp_path / "data" / "site2", tmp_path / "data" / "y.nii.gz"]}


def test_pipes_are_no_images_and_what_a_closed_folder_hides_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _touch(tmp_path, "1.nii.gz", "2.nii.gz")
    os.mkfifo(tmp_path / "pipe.nii.gz")  # whoever opens it waits for ever
    os.mkfifo(tmp_path / "pipe")
    stat = Path.stat

    def refusing(path: Path, **options: bool) -> os.stat_result:
        if path.name == "2.nii.gz":  # as a link into a folder of another user
            raise PermissionError(13, "Permission denied")
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", refusing)
    left = LeftOut()
    assert find_volumes(tmp_path, left) == [tmp_path / "1.nii.gz"]
    assert left.by_reason == {CLOSED: [tmp_path / "2.nii.gz"], NO_FILE: [tmp_path / "pipe.nii.gz"]}


def test_a_pair_is_one_volume_and_other_formats_are_told(tmp_path: Path) -> None:
    _touch(tmp_path, "p.hdr", "p.img", "q.HDR", "q.IMG", "r.hdr.gz", "r.img.gz", "alone.img", "s.mgz", "t.nii.bz2")
    _touch(tmp_path, "._hidden.nii.gz", "readme.txt", ".DS_Store")
    left = LeftOut()
    found = [path.name for path in find_volumes(tmp_path, left)]
    assert found == ["p.hdr", "q.HDR", "r.hdr.gz", "s.mgz"]
    assert {why: [path.name for path in paths] for why, paths in left.by_reason.items()} == {
        HIDDEN: ["._hidden.nii.gz"],
        NO_HEADER: ["alone.img"],
        UNREAD: ["t.nii.bz2"],
    }


def test_a_closed_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _touch(tmp_path, "open/1.nii.gz", "closed/2.nii.gz")
    scandir = os.scandir

    def refusing(folder: Path) -> object:
        if folder.name == "closed":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    left = LeftOut()
    assert find_volumes(tmp_path, left) == [tmp_path / "open" / "1.nii.gz"]
    assert left.by_reason == {CLOSED: [tmp_path / "closed"]}


def test_the_line_names_a_few_and_counts_all() -> None:
    left = LeftOut()
    for number in range(5):
        left.add(Path(f"x{number}"), "hidden")
    left.add(Path("y"), "linked to nothing")
    expected = "found 1 mask, left out 6: 5 hidden (x0, x1, x2, ...); 1 linked to nothing (y)"
    assert left.line(1, "mask") == expected


@pytest.mark.parametrize(
    ("pattern", "fitting", "other"),
    [
        ("**/*", ["a", "x/a", "x/y/a"], []),
        ("*", ["a"], ["x/a"]),
        ("images/**", ["images/a", "images/x/a"], ["a", "images2/a"]),
        ("site?/[ab]*.nii", ["site1/a.nii", "site2/bc.nii"], ["site12/a.nii", "site1/c.nii", "site1/x/a.nii"]),
        ("[!a]*/x.nii", ["b/x.nii"], ["a/x.nii"]),
        ("a.b/*", ["a.b/c"], ["aXb/c"]),
    ],
)
def test_patterns_fit_as_in_pathlib(tmp_path: Path, pattern: str, fitting: list[str], other: list[str]) -> None:
    fits = glob_matcher(pattern)
    assert [name for name in [*fitting, *other] if fits(name)] == fitting
    for number, name in enumerate([*fitting, *other]):
        folder = tmp_path / str(number)
        _touch(folder, name)
        found = [path for path in folder.glob(pattern if not pattern.endswith("**") else f"{pattern}/*")]
        assert (folder / name in found) == (name in fitting)
