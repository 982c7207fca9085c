"""`--ed` and `--es`: frames of a cine that a reader calls end diastole and end systole."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from unia_med.errors import UserError

PHASES = ("ED", "ES")


def add_phases(parser: argparse.ArgumentParser) -> None:
    """Declare both options.

    Args:
        parser: of a command.
    """
    for phase in PHASES:
        parser.add_argument(
            f"--{phase.lower()}",
            action="append",
            default=[],
            metavar="[CASE=]FRAME",
            help=f"frame at {phase}, from 1, of all cases or of one; may be repeated",
        )


def parse_frames(texts: Sequence[str], option: str) -> tuple[int | None, dict[str, int]]:
    """Return the frame of all cases, or None, and frames by case.

    Args:
        texts: `FRAME` or `CASE=FRAME`; the last of each wins.
        option: where they were given, for the message.

    Example:
        >>> parse_frames(["1", "p3=12"], "--ed")
        (1, {'p3': 12})
    """
    everywhere, by_case = None, {}
    for text in texts:
        case, _, number = text.rpartition("=")
        if not number.strip().isdigit() or int(number) == 0 or text.startswith("="):
            remedy = f"For example {option} 1, or {option} patient003=12"
            raise UserError(f"{text!r} is neither FRAME nor CASE=FRAME, frames counting from 1", option, remedy)
        if case:
            by_case[case.strip()] = int(number)
        else:
            everywhere = int(number)
    return everywhere, by_case


@dataclass(frozen=True)
class StatedPhases:
    """What `--ed` and `--es` say.

    Attributes:
        everywhere: frame of all cases, by phase.
        by_case: frames of one case, by phase.
    """

    everywhere: Mapping[str, int] = field(default_factory=dict)
    by_case: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @classmethod
    def read(cls, args: argparse.Namespace) -> StatedPhases:
        """Return those of a command line.

        Args:
            args: with what `add_phases` declares.
        """
        found = {phase: parse_frames(getattr(args, phase.lower()), f"--{phase.lower()}") for phase in PHASES}
        everywhere = {phase: number for phase, (number, _) in found.items() if number is not None}
        return cls(everywhere, {phase: by_case for phase, (_, by_case) in found.items()})

    def of(self, case: str) -> dict[str, int]:
        """Return the frame numbers of a case by phase.

        Args:
            case: its name.
        """
        own = {phase: frames[case] for phase, frames in self.by_case.items() if case in frames}
        return {**self.everywhere, **own}

    def foreign(self, cases: Iterable[str]) -> UserError | None:
        """Return the fault that a case was named which is not there, or None.

        Args:
            cases: that are there.
        """
        known = list(cases)
        for phase, frames in self.by_case.items():
            if unknown := sorted(set(frames) - set(known)):
                remedy = f"The cases are {', '.join(known[:5])}{', ...' if len(known) > 5 else ''}"
                return UserError(f"there is no case {', '.join(unknown)}", f"--{phase.lower()}", remedy)
        return None
