"""What each module of UniA does: trains it with one more switched on from row to row, without an anatomical prior.

    python examples/ablation.py --output ablation
    python examples/ablation.py --output ablation --acdc ACDC --tasks heart --seeds 0
    python examples/ablation.py --output quick --tasks objects --seeds 0 --scale 0.1

Tasks: `objects` and `lesions`, synthetic volumes whose slice tags can separate the classes (`unia-med phantom --kind`),
and `heart`, ACDC with merged classes. Without a GPU two seeds of a task or more are trained at the same time, one per
core, and `logs/` in the output folder says how far each is. Run it again to go on after an interruption; what is
finished is kept. `ablation.md` and `ablation.csv` in the output folder are rewritten after each row. Two networks are
looked into, too: what each rule makes of the same maps, what affinity knows of classes, and uncertainty of errors.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
from pathlib import Path

from unia_med.data.structured.dataset import write_dataset
from unia_med.errors import UserError
from unia_med.pipeline.ablation import Ablation, Task, rows

HEART = {  # no self-training and a plain prediction: a row shows what its modules do
    "prior.rounds": 1,
    "prior.proposals": None,
    "inference.walker": None,
    "inference.slice_smoothing": 0.0,
    "inference.tta.by_default": False,
    "inference.tta.scales": [1.0],
}
TASKS = {
    "objects": Task("objects", "objects_tags.yaml", functools.partial(write_dataset, kind="objects", patients=50)),
    "lesions": Task("lesions", "lesions_tags.yaml", functools.partial(write_dataset, kind="lesions", patients=60)),
    "heart": Task("heart", "acdc_cpu_tags.yaml", as_one=True, settings={**HEART, "training.iterations": 300}),
}


def at_the_same_time(pieces: int) -> int:
    """Return how many pieces of work this machine does best at the same time."""
    import torch

    return 1 if torch.cuda.is_available() else min(pieces, os.cpu_count() or 1)


def main(arguments: list[str] | None = None) -> int:
    """Run the ablation and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of data, runs and tables")
    parser.add_argument("--acdc", type=Path, metavar="ROOT", help="the ACDC folder; without it the heart is left out")
    parser.add_argument("--tasks", nargs="+", choices=TASKS, help="default: all whose data are at hand")
    numbers = range(1, len(rows()) + 1)
    listing = ", ".join(f"{number} {row.name}" for number, row in zip(numbers, rows(), strict=True))
    parser.add_argument("--rows", nargs="+", type=int, choices=numbers, default=list(numbers), help=listing)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--scale", type=float, default=1.0, metavar="X", help="factor on all budgets")
    default = "seeds of tasks that are worked on at the same time; default: one per core, one with CUDA"
    parser.add_argument("--at-once", type=int, metavar="N", help=default)
    args = parser.parse_args(arguments)
    names = args.tasks or [name for name in TASKS if name != "heart" or args.acdc]
    try:
        if args.at_once is not None and args.at_once < 1:
            raise UserError(f"{args.at_once} is too few", "--at-once", "Give 1 or more")
        if "heart" in names and args.acdc is None:
            raise UserError("the task heart needs data", where="--tasks", remedy="Give the ACDC folder with --acdc")
        ablation = Ablation(args.output, args.scale, {"heart": args.acdc})
        wanted = [rows()[number - 1] for number in args.rows]
        at_once = args.at_once or at_the_same_time(len(names) * len(args.seeds))
        ablation.run([TASKS[name] for name in names], wanted, args.seeds, at_once)
    except UserError as error:
        print(f"ablation: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ablation: interrupted; run it again to go on", file=sys.stderr)
        return 130
    print((args.output / "ablation.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
