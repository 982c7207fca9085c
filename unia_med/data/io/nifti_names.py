"""Names of labels inside a NIfTI file: JSON in a header extension of the kind "comment", which other programs skip."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nibabel as nib

from unia_med.data.io.nifti_file import READ_ERRORS
from unia_med.data.io.suffixes import NIFTI_SUFFIXES, volume_suffix

_COMMENT = 6  # NIFTI_ECODE_COMMENT: plain text
_KEY = "label_names"


def add_names(header: Any, names: Mapping[int, str]) -> None:
    """Put the names of labels into a header, as `{"label_names": {"1": "LIVER"}}`.

    Args:
        header: NIfTI header of the labels.
        names: name by label value; nothing is written where there are none.
    """
    if names:
        text = json.dumps({_KEY: {str(value): name for value, name in sorted(names.items())}}, ensure_ascii=False)
        header.extensions.append(nib.nifti1.Nifti1Extension(_COMMENT, text.encode()))


def names_in(path: Path) -> dict[int, str]:
    """Return the names that `add_names` put into a file; none of other files, and of those without any.

    Args:
        path: any file.
    """
    if volume_suffix(path) not in NIFTI_SUFFIXES:
        return {}
    try:
        extensions = nib.load(path).header.extensions  # type: ignore[attr-defined]  # of NIfTI headers alone
        texts = [bytes(one.get_content()) for one in extensions if one.get_code() == _COMMENT]
    except (*READ_ERRORS, AttributeError):
        return {}
    return next((found for found in map(_names, texts) if found), {})


def _names(text: bytes) -> dict[int, str]:
    try:
        found = json.loads(text.rstrip(b"\0").decode())[_KEY]
        return {int(value): str(name) for value, name in found.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
