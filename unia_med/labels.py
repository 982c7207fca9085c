"""The label values that the whole package shares; foreign codes are converted where a file is read."""

from __future__ import annotations

BACKGROUND = 0
"""Label of everything that is no class."""

IGNORE = 255
"""Label of a pixel about which nothing is known; it takes part in no loss and no metric."""

TAG_ABSENT = 0
"""Tag of a class that does not occur in the slice."""

TAG_PRESENT = 1
"""Tag of a class that occurs in the slice."""

TAG_UNKNOWN = -1
"""Tag of a class that was not looked for; losses skip it."""
