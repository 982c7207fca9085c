"""Notes on stderr: each once where it would follow itself, and again with the next command."""

from __future__ import annotations

import pytest

from unia_med.notes import LOGGER, show_notes


def test_a_note_does_not_follow_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for messages in (("a", "a", "b", "a"), ("a",)):
        show_notes()
        for message in messages:
            LOGGER.info(message)
    assert capsys.readouterr().err.splitlines() == [f"unia-med: note: {text}" for text in ("a", "b", "a", "a")]
