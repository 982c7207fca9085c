"""Label files of viewers and data sets are no images, under the names that these tools give them."""

import re
from pathlib import Path

import nibabel
import numpy as np
import pytest

from unia_med.data.io import label_names
from unia_med.data.io.label_names import is_label_name, split_labels
from unia_med.inference.inputs import find_images


@pytest.mark.parametrize(
    "label",
    ["label", "X-label", "X_mask", "X_gt", "X_seg", "X.seg", "Segmentation", "Segmentation-label", "X_Segmentation_1",
     "X_label_2", "labels", "X_dseg", "X_desc-brain_mask", "mask_liver", "X_pred", "X_uncertainty", "X_boxes", "aseg"],
)  # fmt: skip
def test_names_that_speak_of_labels(label):
    assert is_label_name(label)


@pytest.mark.parametrize("image", ["X", "image", "X_t1", "X_0000", "masked_t1", "p1_stroke", "lesion", "P1_roi"])
def test_names_of_images(image):
    assert not is_label_name(image)


def test_a_word_in_the_middle_counts_next_to_the_image():
    assert is_label_name("p1_mask_liver", ["p1"]) and is_label_name("p1_mask_liver", ["p1_0000"])
    assert is_label_name("p1_stroke", ["p1"]) and not is_label_name("p1_stroke", ["p2"])
    assert not is_label_name("p1_mask_removed", ["p1_mask_removed", "p2"])


def test_folders_of_labels():
    root = Path("set")
    files = [root / place / "a.nii.gz" for place in ("imagesTr", "labelsTr", "masks")]
    assert split_labels(files, root) == ([files[0]], files[1:])
    assert split_labels(files[1:], root) == (files[1:], [])  # nothing else is there: the user means these
    assert split_labels(files[1:2], root / "labelsTr") == (files[1:2], [])


def test_predict_passes_over_labels_and_says_how_many(tmp_path, caplog):
    caplog.set_level("INFO")
    blank = nibabel.Nifti1Image(np.zeros((2, 2, 2), np.uint8), np.eye(4))
    for name in ("scan1", "scan1-label", "scan2", "scan2_mask", "label", "scan3"):
        nibabel.save(blank, tmp_path / f"{name}.nii.gz")
    (tmp_path / "scan3.seg.nrrd").touch()
    assert list(find_images(tmp_path, None)) == ["scan1", "scan2", "scan3"]
    assert "found 3 images, left out 4: 4 named like labels or results" in caplog.text.replace("\n", " ")


def test_the_names_of_a_folder_are_taken_once_and_then_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compared one by one, ten thousand files took minutes."""
    taken: list[int] = []

    class Counted:
        def sub(self, new: str, name: str) -> str:
            taken.append(1)
            return re.sub(r"_\d{4}$", new, name)

    monkeypatch.setattr(label_names, "_CHANNEL", Counted())
    root = Path("data")
    images, masks = ([root / f"p{number}{end}.nii.gz" for number in range(50)] for end in ("", "_mask_liver"))
    assert split_labels([*images, *masks], root) == (sorted(images), sorted(masks))
    assert len(taken) == 100
