"""Error messages: place, fault, remedy; and the nearest name."""

from __future__ import annotations

import pytest

from unia_med.errors import UserError, memory_checked, nearest, suggestion


@pytest.mark.parametrize(
    ("where", "remedy", "text"),
    [
        (None, None, "not found"),
        ("a.nii", None, "a.nii: not found"),
        ("a.nii", "Check --input", "a.nii: not found. Check --input"),
        (None, "Check --input", "not found. Check --input"),
    ],
)
def test_message(where: str | None, remedy: str | None, text: str) -> None:
    assert str(UserError("not found", where, remedy)) == text


def test_no_second_full_stop() -> None:
    assert str(UserError("It is empty.", remedy="Fill it")) == "It is empty. Fill it"


@pytest.mark.parametrize(
    ("name", "expected"), [("clases", "classes"), ("Classes", "classes"), ("scale", "scales"), ("zzz", None)]
)
def test_nearest(name: str, expected: str | None) -> None:
    assert nearest(name, ["classes", "scales", "seed"]) == expected


def test_suggestion_lists_all_names_even_without_a_near_one() -> None:
    assert suggestion("zzz", ["b", "a"]) == "Known: a, b"


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (MemoryError("Unable to allocate 3 GiB"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried 9 bytes"), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (RuntimeError("shapes differ"), False),
    ],
)
def test_an_allocation_that_fails_becomes_a_message_about_what_was_worked_on(error: Exception, short: bool) -> None:
    with pytest.raises(UserError if short else RuntimeError) as caught, memory_checked("a.nii.gz"):
        raise error
    if short:
        assert str(caught.value).startswith("a.nii.gz: not enough memory") and "more memory" in str(caught.value)
