"""Names that come from users' tables and files, made fit for paths and for tables."""

from __future__ import annotations

import re
import unicodedata

_DRIVE = re.compile(r"^([A-Za-z]):(/*)")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def number_of(count: int, noun: str) -> str:
    """Return a number with its noun, whose plural ends in s: messages say neither "1 cases" nor "case(s)".

    Args:
        count: 0 or more.
        noun: in the singular; of several words the last one takes the s.

    Example:
        >>> number_of(1, "training slice"), number_of(0, "case")
        ('1 training slice', '0 cases')
    """
    return f"{count} {noun}{'' if count == 1 else 's'}"


def safe_name(name: str) -> str:
    r"""Return a case's name as a relative path that stays inside any folder it is joined to.

    Args:
        name: any text; what is safe already comes back as it is.

    Example:
        >>> safe_name("site1/scan 7"), safe_name("/data/../../x"), safe_name("C:\\temp\\a"), safe_name("a\nb")
        ('site1/scan 7', 'data/x', 'temp/a', 'a_b')
    """
    text = _DRIVE.sub(lambda found: "" if found[2] else f"{found[1]}_", name.replace("\\", "/"))
    text = "".join("_" if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp") else letter for letter in text)
    return "/".join(part for part in text.split("/") if part.strip() not in ("", ".", "..")) or "case"


def spreadsheet_text(text: str) -> str:
    """Return a cell of a CSV so that no spreadsheet takes it for a formula: with an apostrophe before = + - and @.

    Args:
        text: a name; numbers are not to be passed.

    Example:
        >>> spreadsheet_text("=cmd|' /C calc'!A0"), spreadsheet_text("patient-1")
        ("'=cmd|' /C calc'!A0", 'patient-1')
    """
    return f"'{text}" if text.startswith(_FORMULA) else text


def without_apostrophe(text: str) -> str:
    """Return a cell as `spreadsheet_text` was given it.

    Example:
        >>> without_apostrophe("'=a"), without_apostrophe("'a")
        ('=a', "'a")
    """
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text
