"""`unia-med predict` for runs on photographs: NAME_seg.png of every NAME.jpg or NAME.png."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.errors import UserError

if TYPE_CHECKING:
    import torch

    from unia_med.config.schema import RunConfig


def run(args: argparse.Namespace, config: RunConfig, device: torch.device) -> int:
    """Predict and return the exit code: 0, 1 when some images failed, 2 when all did.

    Args:
        args: parsed command line of `predict`.
        config: of the run.
        device: of this process, within its group.
    """
    from unia_med import distributed
    from unia_med.inference.prediction_images import result_files

    images = _images(args, config)
    mine = dict(distributed.share(list(images.items())))
    results = {name: result_files(args.output, name, bool(args.uncertainty)) for name in mine}
    written = {name for name, files in results.items() if all(file.is_file() for file in files.values())}
    done = written if args.skip_existing else set()
    failures = _predict_all({name: path for name, path in mine.items() if name not in done}, args, config, device)
    everywhere = distributed.gather([(failures, len(done))])
    distributed.barrier()
    failures = {name: reason for failed, _ in everywhere for name, reason in failed.items()}
    return _report(len(images), failures, sum(count for _, count in everywhere), args.output)


def _images(args: argparse.Namespace, config: RunConfig) -> dict[str, Path]:
    from unia_med.inference.prediction_images import find_photographs

    if args.series:
        raise UserError("this run was trained on photographs, not on DICOM", where="--series", remedy="Leave it out")
    if args.split is None:
        return find_photographs(args.input)
    from unia_med.build import build_dataset
    from unia_med.data.splits import split_cases

    dataset = build_dataset(config.data.model_copy(update={"root": args.input}))
    cases = split_cases(dataset.cases(), config.data.split, config.seed)[args.split]
    if not cases:
        raise UserError(f"the run's split leaves no {args.split} image", where=args.input, remedy="Leave out --split")
    return {case.name: case.image for case in cases}


def _predict_all(
    images: Mapping[str, Path], args: argparse.Namespace, config: RunConfig, device: torch.device
) -> dict[str, str]:
    """Reasons of the images that failed, by name; all others are written."""
    from rich.progress import track

    from unia_med.distributed import is_main
    from unia_med.inference.prediction_images import result_files, segment_image, write_results
    from unia_med.runs import Run

    failures: dict[str, str] = {}
    if not images:
        return failures
    kind = args.uncertainty if isinstance(args.uncertainty, str) else None
    predictor = Run.open(args.model).predictor(
        device, tta=args.tta, postprocess=not args.no_postprocess, uncertainty=kind
    )
    quiet = not (sys.stdout.isatty() and is_main())
    for name, path in track(images.items(), "predicting", disable=quiet, transient=True):
        try:
            found = segment_image(predictor, path, config.data.channels, config.inference.crf)
            write_results(found, result_files(args.output, name, bool(args.uncertainty)))
        except UserError as error:
            failures[name] = str(error) if error.where else f"{path}: {error}"
        except Exception as error:  # one image must not cost the others their results
            if args.debug:
                raise
            failures[name] = f"{path}: {type(error).__name__}: {error}. Run this image alone with --debug"
    return failures


def _report(count: int, failures: Mapping[str, str], skipped: int, output: Path) -> int:
    from unia_med.distributed import is_main

    written = count - len(failures)
    if is_main() and written:
        earlier = f" ({skipped} of them earlier)" if skipped else ""
        print(f"{written} of {count} images segmented{earlier}, results in {output}")
    if is_main() and failures:
        lines = [f"unia-med: error: {len(failures)} of {count} images failed:", *(f"  {r}" for r in failures.values())]
        print("\n".join(lines), file=sys.stderr)
    return (1 if written else 2) if failures else 0
