"""Repairs attributes of patient and study, so that an object derived from them is valid.

Values are changed in memory, for the copy in the derived object; no value gets into a message.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

_DATES = ("PatientBirthDate", "StudyDate")
_TIMES = ("StudyTime",)
_MAY_BE_EMPTY = ("PatientID", "PatientName", "PatientSex", "AccessionNumber", "StudyID", *_DATES, *_TIMES)
"""Type 2 in the standard (may be empty, must be there), yet often left out by anonymisation; highdicom reads them."""

_SEXES = {"M": "M", "F": "F", "O": "O", "MALE": "M", "FEMALE": "F", "OTHER": "O", "W": "F"}
_UNICODE = "ISO_IR 192"
_WHOLE_DATE = re.compile(r"(\d{4})\D?(\d{2})\D?(\d{2})")
_WHOLE_TIME = re.compile(r"([01]\d|2[0-3])\D?([0-5]\d)?\D?([0-5]\d)?(\.\d{1,6})?")

_TEXTS, _CONTROL = ("PN", "LO", "SH", "CS", "AS", "DA", "TM", "UI"), re.compile(r"[\x00-\x1f]")
_TAG = re.compile(r"\(([0-9a-fA-F]{4}), ?([0-9a-fA-F]{4})\)")
_AGE, _DECIMAL = re.compile(r"\d{3}[DWMY]"), re.compile(r" *[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)? *")
_OPTIONAL = {"PatientAge": _AGE, "PatientSize": _DECIMAL, "PatientWeight": _DECIMAL}


def repaired(dataset: Any) -> Any:
    """Return a source image with the attributes that a derived object copies, each of a valid value or empty.

    Args:
        dataset: pydicom's, without pixels; it is changed.
    """
    _decode(dataset)
    for name in _MAY_BE_EMPTY:
        if name not in dataset:
            setattr(dataset, name, "")
    _tidy_texts(dataset)
    dataset.PatientSex = _SEXES.get(_text(dataset, "PatientSex").upper(), "")
    for name in _DATES:
        setattr(dataset, name, _date(_text(dataset, name)))
    for name in _TIMES:
        setattr(dataset, name, _time(_text(dataset, name)))
    for name, valid in _OPTIONAL.items():
        if name in dataset and not valid.fullmatch(_text(dataset, name)):
            delattr(dataset, name)
    return dataset


def culprit(error: BaseException) -> str | None:
    """Return the attribute that a library's error is about, by keyword; None where it names no attribute.

    Args:
        error: its text may quote values, which are left out.
    """
    from pydicom.datadict import keyword_for_tag, tag_for_keyword

    if numbers := _TAG.search(str(error)):
        return keyword_for_tag(int("".join(numbers.groups()), 16)) or None
    words = re.findall(r"[A-Z][A-Za-z]+", str(error))
    names = (word.removesuffix("Values") for word in words)
    return next((name for name in names if len(name) > 4 and tag_for_keyword(name) is not None), None)


def _decode(dataset: Any) -> None:
    """Bring all text to Unicode; an empty or unknown character set is taken for Latin 1, which reads every byte."""
    from pydicom.charset import python_encoding

    stated = dataset.get("SpecificCharacterSet")
    names = [stated] if isinstance(stated, str) else list(stated or ())
    if not names or any(str(name) not in python_encoding for name in names if name):
        dataset.SpecificCharacterSet = "ISO_IR 100"
    elif not any(names):
        dataset.SpecificCharacterSet = "ISO_IR 100"
    _drop_unreadable(dataset)
    try:
        dataset.decode()
    except (LookupError, UnicodeError, ValueError):
        dataset.SpecificCharacterSet = "ISO_IR 100"
        dataset.decode()
    dataset.SpecificCharacterSet = _UNICODE


def _drop_unreadable(dataset: Any) -> None:
    """Delete attributes whose bytes are no value of their type, such as a number of two bytes where it takes eight."""
    for tag in list(dataset.keys()):
        try:
            element = dataset[tag]
            for item in element.value if element.VR == "SQ" else ():
                list(item.iterall())
        except Exception:  # pydicom raises whatever it likes
            del dataset[tag]


def _tidy_texts(dataset: Any) -> None:
    """Leave one value where several are not allowed, the first, and no control characters."""
    from pydicom.datadict import dictionary_has_tag, dictionary_VM

    for element in dataset:
        if element.VR not in _TEXTS or not dictionary_has_tag(element.tag):
            continue
        several = not isinstance(element.value, str) and element.VM > 1
        if several and dictionary_VM(element.tag) == "1":
            element.value = element.value[0]
        if element.VM == 1 and _CONTROL.search(str(element.value)):
            element.value = _CONTROL.sub("", str(element.value))


def _text(dataset: Any, name: str) -> str:
    element = dataset.get_item(name)
    value = getattr(element, "value", None)
    if isinstance(value, bytes):
        value = value.decode("latin-1")
    return str(value or "").strip(" \0")


def _date(text: str) -> str:
    found = _WHOLE_DATE.fullmatch(text)
    digits = "".join(found.groups()) if found else ""
    try:
        datetime.strptime(digits, "%Y%m%d")
    except ValueError:  # no date, or one that no calendar has
        return ""
    return digits


def _time(text: str) -> str:
    found = _WHOLE_TIME.fullmatch(text)
    return "".join(part or "" for part in found.groups()) if found else ""
