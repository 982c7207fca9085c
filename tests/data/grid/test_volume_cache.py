from __future__ import annotations

import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from unia_med.config.schema import DataConfig, GridConfig
from unia_med.data.grid.cache import Decode, DiskCache, MemoryCache
from unia_med.data.grid.transforms import place_image
from unia_med.data.io.read import read_volume
from unia_med.data.layouts.acdc import AcdcDataset
from unia_med.data.sample import CaseFiles
from unia_med.errors import UserError

GRID = GridConfig(spacing_mm=None, size=(32, 32))


class Counting:
    """Decodes and remembers what was decoded."""

    def __init__(self, grid: GridConfig = GRID) -> None:
        self.cases: list[str] = []
        self._decode = Decode(grid)

    def __call__(self, case: CaseFiles) -> dict:
        self.cases.append(case.name)
        return self._decode(case)


@pytest.fixture
def cases(tiny_acdc: Path) -> list[CaseFiles]:
    return AcdcDataset(DataConfig(root=tiny_acdc)).cases()[:3]


def expected(case: CaseFiles) -> torch.Tensor:
    return place_image(read_volume(case.image), GRID).slices


def test_both_caches_hold_what_preprocessing_gives(cases: list[CaseFiles], tmp_path: Path) -> None:
    for cache in (MemoryCache(cases, GRID), MemoryCache(cases, GRID, 2), DiskCache(cases, GRID, tmp_path / "c")):
        for position, case in enumerate(cases):
            truth = expected(case)
            assert cache.count(position) == 4
            torch.testing.assert_close(cache.slices(position).float(), truth, atol=5e-4, rtol=0)
            assert torch.equal(cache.slice(position, 2), cache.slices(position)[2].float())
            assert cache.slice(position, 2).dtype == torch.float32


def test_memory_cache_decodes_once(cases: list[CaseFiles], monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[Path] = []
    import unia_med.data.io.channels as module

    monkeypatch.setattr(module, "read_volume", lambda path: reads.append(path) or read_volume(path))
    cache = MemoryCache(cases, GRID)
    for _ in range(3):
        [cache.slice(position, z) for position in range(3) for z in range(4)]
    assert reads == [case.image for case in cases]


@pytest.mark.parametrize("kind", ["memory", "disk"])
def test_changing_a_slice_leaves_the_cache_alone(kind: str, cases: list[CaseFiles], tmp_path: Path) -> None:
    cache = MemoryCache(cases, GRID) if kind == "memory" else DiskCache(cases, GRID, tmp_path / "c")
    before = cache.slice(0, 1).clone()
    cache.slice(0, 1).mul_(0)
    assert torch.equal(cache.slice(0, 1), before) and before.any()


def test_disk_cache_decodes_once_over_runs(cases: list[CaseFiles], tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    DiskCache(cases, GRID, tmp_path / "c", first)
    DiskCache(cases, GRID, tmp_path / "c", second)
    assert first.cases == [case.name for case in cases] and second.cases == []
    assert len(list((tmp_path / "c").iterdir())) == 3


def test_changed_content_of_the_same_size_is_decoded_again(cases: list[CaseFiles], tmp_path: Path) -> None:
    old = DiskCache(cases, GRID, tmp_path / "c").slices(0)
    image = nib.load(cases[0].image)
    flipped = np.asanyarray(image.dataobj)[::-1].copy()
    nib.save(nib.Nifti1Image(flipped, image.affine), cases[0].image)
    again = Counting()
    new = DiskCache(cases, GRID, tmp_path / "c", again).slices(0)
    assert again.cases == [cases[0].name]
    assert not torch.equal(old, new)
    torch.testing.assert_close(new.float(), expected(cases[0]), atol=5e-4, rtol=0)


def test_content_alone_makes_a_file_stale(cases: list[CaseFiles], tmp_path: Path) -> None:
    DiskCache(cases, GRID, tmp_path / "c")
    status = cases[0].image.stat()
    os.utime(cases[0].image, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000))
    status, whole = cases[1].image.stat(), bytearray(cases[1].image.read_bytes())
    whole[4] ^= 1  # the time in the head of a gzip file: as many bytes, the same voxels
    cases[1].image.write_bytes(bytes(whole))
    os.utime(cases[1].image, ns=(status.st_atime_ns, status.st_mtime_ns))
    again = Counting()
    DiskCache(cases, GRID, tmp_path / "c", again)
    assert again.cases == [cases[1].name]


@pytest.mark.parametrize("place", [0.3, 0.6, 0.999])
def test_a_flipped_bit_in_the_cache_is_noticed(place: float, cases: list[CaseFiles], tmp_path: Path) -> None:
    DiskCache(cases, GRID, tmp_path / "c")
    victim = next((tmp_path / "c").glob(f"{cases[0].name}_*"))
    damaged = bytearray(victim.read_bytes())
    damaged[int(place * len(damaged))] ^= 8
    victim.write_bytes(bytes(damaged))
    again = Counting()
    cache = DiskCache(cases, GRID, tmp_path / "c", again)
    assert again.cases == [cases[0].name]
    torch.testing.assert_close(cache.slices(0).float(), expected(cases[0]), atol=5e-4, rtol=0)


@pytest.mark.parametrize(
    "change", [{"spacing_mm": 2.0}, {"size": (32, 16)}, {"percentiles": (2, 99)}, {"percentiles": (1, 98)}]
)
def test_other_settings_are_other_files(change: dict, cases: list[CaseFiles], tmp_path: Path) -> None:
    DiskCache(cases, GRID, tmp_path / "c")
    grid = GridConfig(**{**GRID.model_dump(), **change})
    again = Counting(grid)
    cache = DiskCache(cases, grid, tmp_path / "c", again)
    assert len(again.cases) == 3 and tuple(cache.slice(0, 0).shape) == (1, *grid.size)


def test_same_case_name_in_two_data_sets_is_kept_apart(cases: list[CaseFiles], tmp_path: Path) -> None:
    twins = []
    for number in (0, 1):  # of one size and one time, as archives unpack them
        image = nib.load(cases[number].image)
        path = tmp_path / str(number) / "image.nii"
        path.parent.mkdir()
        nib.save(nib.Nifti1Image(np.asanyarray(image.dataobj), image.affine), path)
        os.utime(path, ns=(10**18, 10**18))
        twins.append(CaseFiles("patient001_frame01", "patient001", path))
    one, other = (DiskCache([twin], GRID, tmp_path / "c").slices(0) for twin in twins)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("content", [b"", b"half a file", None])
def test_damaged_cache_files_are_made_again(content: bytes | None, cases: list[CaseFiles], tmp_path: Path) -> None:
    DiskCache(cases, GRID, tmp_path / "c")
    victim = next((tmp_path / "c").glob(f"{cases[0].name}_*"))
    victim.write_bytes(victim.read_bytes()[:500] if content is None else content)
    again = Counting()
    cache = DiskCache(cases, GRID, tmp_path / "c", again)
    assert again.cases == [cases[0].name]
    torch.testing.assert_close(cache.slices(0).float(), expected(cases[0]), atol=5e-4, rtol=0)


def test_failed_write_leaves_no_file(cases: list[CaseFiles], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object, array: object, **_: object) -> None:
        file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="No space left.*data.cache_dir"):
        DiskCache(cases, GRID, tmp_path / "c")
    assert list((tmp_path / "c").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_named(cases: list[CaseFiles], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="data.cache_dir"):
        DiskCache(cases, GRID, tmp_path / "file" / "c")


@pytest.mark.parametrize("kind", ["memory", "threads", "disk"])
def test_all_unusable_images_are_told_at_once(kind: str, cases: list[CaseFiles], tmp_path: Path) -> None:
    cases[0].image.write_bytes(b"no image")
    cases[2].image.unlink()
    with pytest.raises(UserError) as caught:
        if kind == "disk":
            DiskCache(cases, GRID, tmp_path / "c")
        else:
            MemoryCache(cases, GRID, 2 if kind == "threads" else 0)
    text = str(caught.value)
    assert "2 faults" in text and str(cases[0].image) in text and str(cases[2].image) in text
