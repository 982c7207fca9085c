"""Settings that every prior with synthetic slices has: how many there are, and how a teacher is trained on them."""

from __future__ import annotations

from pydantic import Field

from unia_med.config.section import Section


class TeacherConfig(Section):
    """A teacher trained on synthetic slices alone."""

    slices: int = Field(5000, ge=1)
    """Synthetic slices, drawn once; about 6 ms each."""
    iterations: int = Field(900, ge=1)
    """Training iterations of the teacher."""
    batch_size: int = Field(12, ge=1)
    """Synthetic slices per iteration."""
    learning_rate: float = Field(1.5e-3, gt=0)
    """Peak rate of the teacher's training."""
