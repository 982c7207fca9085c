"""What is read of a bundle without loading it, of this package and of other makers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from unia_med.errors import UserError
from unia_med.inference.bundle import Bundle, is_bundle

SPACING = {"_target_": "Spacingd", "keys": "image", "pixdim": [1.25, 1.25, -1.0]}
READER = {"_target_": "LoadImaged", "reader": {"_target_": "x.Reader", "endings": ["_flair", "_t1"]}}


def bundle(folder: Path, transforms: list[Any], channels: int = 2, modality: str | None = "MR") -> Bundle:
    image = {"num_channels": channels, **({} if modality is None else {"modality": modality})}
    names = {"0": "background", "2": "core", "1": "edema"}
    metadata = {"network_data_format": {"inputs": {"image": image}, "outputs": {"pred": {"channel_def": names}}}}
    inference = {"preprocessing": {"_target_": "Compose", "transforms": transforms}, "network_def": {"pixdim": [9.0]}}
    (folder / "configs").mkdir(parents=True)
    for name, content in (("metadata", metadata), ("inference", inference)):
        (folder / "configs" / f"{name}.json").write_text(json.dumps(content))
    return Bundle(folder)


@pytest.mark.parametrize("nested", [False, True], ids=["on top", "in a group"])
def test_spacing_and_files_of_channels_are_those_of_the_preprocessing(nested: bool, tmp_path: Path) -> None:
    steps: list[Any] = ["$a_function", {"_target_": "EnsureChannelFirstd"}, SPACING]
    found = bundle(tmp_path / "b", [READER, {"_target_": "Group", "transforms": steps} if nested else SPACING])
    assert found.spacing_mm == 1.25
    assert found.channel_files.channels == 2 and found.channel_files.endings == ("_flair", "_t1")
    assert found.classes == ("edema", "core")  # by value
    assert found.name == "b" and is_bundle(tmp_path / "b") and not is_bundle(tmp_path)


def test_what_a_bundle_does_not_say_is_left_open(tmp_path: Path) -> None:
    found = bundle(tmp_path / "b", [{"_target_": "LoadImaged"}], channels=1, modality=None)
    assert found.spacing_mm is None and found.ct is None and found.channel_files.endings == ()
    assert found.weights == {}
    with pytest.raises(UserError, match="does not say how its network was trained"):
        _ = found.config


def test_one_file_of_one_channel_needs_no_ending(tmp_path: Path) -> None:
    assert bundle(tmp_path / "b", [READER], channels=1).channel_files.endings == ()


@pytest.mark.parametrize(("modality", "ct"), [("CT", True), ("MR", False), ("mri", False), ("PET", None)])
def test_the_modality_is_that_of_the_metadata(modality: str, ct: bool | None, tmp_path: Path) -> None:
    assert bundle(tmp_path / "b", [], modality=modality).ct is ct
