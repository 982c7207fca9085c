"""What is said of an image at which a program stumbles that did not expect it."""

from __future__ import annotations

from pathlib import Path

from unia_med.data.io.dicom.series import DicomSeries
from unia_med.inference.batch import _said


def test_messages_about_dicom_are_withheld_since_they_may_quote_the_patient() -> None:
    fault = ValueError("invalid value 'Doe^John'")
    of_file, of_series = (str(_said(fault, image, "here")) for image in (Path("scan.nii"), object.__new__(DicomSeries)))
    assert "Doe" in of_file and of_file.startswith("here: ValueError: invalid value")
    assert "Doe" not in of_series and of_series.startswith("here: ValueError.")
