"""`unia-med predict`: masks and uncertainty of images, with a trained run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

from unia_med.cli.options import add_device, new_command
from unia_med.errors import UserError

if TYPE_CHECKING:
    from unia_med.inference.batch import Case, Predictions

EXAMPLE = """unia-med predict --model runs/acdc --input scan.nii.gz --output masks --uncertainty
unia-med predict --model runs/acdc --input ACDC --split val --output masks
unia-med predict --model runs/a runs/b cardiac-sax --input scans --output masks
unia-med predict --model runs/acdc --input DICOM_FOLDER --series 12 --output masks"""

_WARNED = 20
"""Images whose warnings are printed; of further ones, how many there are."""

DETAILS = """
Writes NAME_seg.nii.gz (uint8) and, with --uncertainty, NAME_uncertainty.nii.gz (float32, 0 certain to 1) for each
NAME.nii.gz, on its own grid; a 4D cine gives 4D results. Next to them: summary.csv (per case the volume of each class
in ml, of a cine the mean over its frames, mean and 95th percentile of the uncertainty inside the mask, the share of the
mask that post-processing removed, how unlike the training images the image is, 1 being the farthest of those, and 1
under review where a person should look), classes.json (names of the labels, which NIfTI masks carry in their headers,
too) and per case NAME_seg.json (version, model, its hash and classes, settings, sources, warnings).
A folder is searched with its sub-folders; files named like labels or results (X_gt, X-label, X_mask, label,
X.seg.nrrd, labelsTr/X, X_seg, X_uncertainty, ...) are no images, and X_4d is left out where its frames X_frameNN lie
next to it (name it as --input to predict it). Files of one name in several sub-folders give results in sub-folders.
A file that fails is named at the end, with exit code 1. Under torchrun each process predicts its share of the images.

DICOM is found by content, whatever the files are called; of several patients each study is a case. Slices are ordered
by their place in the patient and phases by trigger time. FOLDER_seg.nii.gz is written, and a DICOM SEG, FOLDER_seg.dcm
or, of a cine, one per frame, FOLDER_frameNN_seg.dcm; with --rtstruct also contours, FOLDER_rtstruct.dcm. Of a whole
heart study a heart model takes the short-axis cine, by geometry and phases, and says why; --series names another one.
FOLDER_seriesN is the name of the results then. Results are named by the folder, so do not call it after the patient;
nothing of the patient is printed.

A heart model also leaves indices.csv (volumes, EF, mass; see `unia-med cardiac`) and, of DICOM, FOLDER_sr.dcm, a DICOM
SR that points to the SEG and the images. Of DICOM there is report.html, too: a page to look at the masks.

A run on pictures (data.grid.units: pixels, as with voc and coco) takes JPEG, PNG and TIFF files, too, also next to
volumes; of a picture it writes NAME_seg.png with VOC's palette and, with --uncertainty, NAME_uncertainty.png in grey.
For a dense CRF set inference.crf.iterations in the run's config.yaml to 10."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    summary = "Segment NIfTI, NRRD or MetaImage volumes, 3D or 4D, or a DICOM series."
    parser = new_command(subparsers, "predict", summary, EXAMPLE)
    parser.description = f"{parser.description}\n{DETAILS}"
    parser.add_argument(
        "--model",
        required=True,
        nargs="+",
        metavar="RUN",
        help="run folder of `unia-med train`, folder of a MONAI bundle, or name of a shipped model; of several, and of "
        "the folds of a run, the class probabilities are averaged",
    )
    parser.add_argument(
        "--input", type=Path, required=True, metavar="PATH", help="an image, or a folder of images or of DICOM"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument(
        "--series",
        metavar="NUMBER|UID",
        help="which series of a DICOM folder with several, or which make one stack: 40-51,60",
    )
    parser.add_argument(
        "--split",
        choices=("train", "val", "test"),
        help="--input is a data set as in the run's config; predict only this part of it",
    )
    parser.add_argument(
        "--uncertainty",
        nargs="?",
        const=True,  # a text would be checked against the choices
        choices=("entropy", "network"),
        help="write an uncertainty volume next to each mask: the entropy of the class probabilities, or the method's "
        "own map; alone, what the run's inference.uncertainty says",
    )
    parser.add_argument(
        "--skip-existing", action="store_true", help="leave out images whose results are there, to go on after a stop"
    )
    parser.add_argument(
        "--names",
        choices=("seg", "nnunet"),
        default="seg",
        help="seg: NAME_seg.nii.gz (default); nnunet: as nnU-Net calls labels, NAME without its channel's number and "
        "with the ending of dataset.json, else of the image; uncertainty goes into a folder of that name",
    )
    parser.add_argument(
        "--shard",
        metavar="I/N",
        help="predict the I-th of N disjoint parts of the images, as a job array does; each may be run again, and "
        "summary.csv appears with the last",
    )
    parser.add_argument(
        "--tta",
        action=argparse.BooleanOptionalAction,
        help="average over several views of each slice, which is slower, or do not; without either as the run's "
        "inference.tta.by_default says",
    )
    parser.add_argument("--no-postprocess", action="store_true", help="masks as the network gives them")
    parser.add_argument(
        "--runtime",
        choices=("torch", "onnx", "openvino"),
        default="torch",
        help="what computes the network (default: torch); onnx and openvino, extras of these names, compute on the CPU "
        "and convert the network at its first use, which takes 10 to 20 s, and keep it in ~/.cache/unia_med/converted, "
        "or in converted/ of $UNIA_MED_CACHE (delete the folder to clear it)",
    )
    parser.add_argument("--rtstruct", action="store_true", help="write DICOM RTSTRUCT (contours) next to each SEG")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Predict and return the exit code: 0, 1 when some images failed, 2 when all did.

    Args:
        args: parsed command line.

    Raises:
        UserError: bad arguments, no image, no usable run. Nothing is written then.
    """
    from unia_med import api, distributed
    from unia_med.build import resolve_device

    where = "cpu" if args.device == "auto" and args.runtime != "torch" else args.device
    device = distributed.device_of_this_process(resolve_device(where))
    with distributed.process_group(device):
        cases = api.predict(
            args.model,
            args.input,
            args.output,
            split=args.split,
            series=args.series,
            uncertainty=args.uncertainty or False,
            skip_existing=args.skip_existing,
            shard=args.shard,
            tta=args.tta,
            postprocess=not args.no_postprocess,
            names=args.names,
            rtstruct=args.rtstruct,
            device=str(device),
            runtime=args.runtime,
        )
        _announce(cases)
        mine = _all_of(cases, args.debug)
        everywhere = distributed.gather([_Outcome.of(mine)])
        # All together, since torchrun ends the other processes when one of them ends with an exit code.
        distributed.barrier()
        if args.shard and distributed.is_main():
            print(f"part {args.shard} of {len(cases.images)} images")
        code = _report(sum(outcome.cases for outcome in everywhere), everywhere, args.output)
        if code != 2 and distributed.is_main():
            _measure(args.output, cases)
            _show(args.output, cases, args.debug)
        return code


def _all_of(cases: Predictions, debug: bool) -> list[Case]:
    """Return the cases of this process, predicted; with --debug, also say where the time went."""
    from unia_med.memory import MIDDLING, kept_memory
    from unia_med.stopwatch import timed

    with kept_memory(MIDDLING), timed() if debug else nullcontext() as watch:
        mine = list(_looked_at(cases, debug))
    if debug:
        print(f"unia-med: {watch}", file=sys.stderr)
    return mine


class _Outcome(NamedTuple):
    """Counts and messages of the cases of one process.

    Attributes:
        failures: reason and files of the cases that failed.
        skipped: how many were left out.
        cases: how many it had.
    """

    failures: list[tuple[str, list[Path]]]
    skipped: int
    cases: int

    @classmethod
    def of(cls, cases: Iterable[Case]) -> _Outcome:
        """Return the outcome of the cases of this process."""
        seen = list(cases)
        failures = [(str(error), list(case.files.values())) for case in seen if (error := case.error or _gone(case))]
        return cls(failures, sum(case.skipped for case in seen), len(seen))


def _gone(case: Case) -> UserError | None:
    """Return the fault that a mask is not there any more, as where its folder was removed meanwhile."""
    mask = case.files.get("labels")
    if mask is None or mask.exists():
        return None
    return UserError("was written, and is gone", mask, "Predict again, and leave the folder alone until the end")


def _announce(cases: Predictions) -> None:
    """Print which DICOM series were found, since their folders do not show it."""
    for name, image in cases.images.items():
        stack = getattr(image, "stack", None)
        if stack is None:
            continue
        called = name if len(cases.images) > 1 else image.path  # several studies share the path of their folder
        frames = f" of {image.frames} frames" if image.frames > 1 else ""
        print(f"{called}: {' x '.join(map(str, image.shape[:3]))} voxels{frames}")
        for note in stack.notes:
            print(f"unia-med: note: {called}: {note}", file=sys.stderr)


def _measure(output: Path, cases: Predictions) -> None:
    """Measure the masks with all that is known of their classes, such as cardiac indices."""
    from unia_med.registry import MEASUREMENTS, resolve, with_installed

    tables = with_installed(MEASUREMENTS, "unia_med.measurements")
    for name in tables:
        for line in resolve(tables, name)(output, cases.classes):
            print(f"unia-med: {line}" if line.startswith("note: ") else line, file=_stream(line))


def _show(output: Path, cases: Predictions, debug: bool) -> None:
    """Write a page about the DICOM series among the images; a fault of it costs no mask."""
    from unia_med.data.io.dicom.series import DicomSeries

    series = {name: image for name, image in cases.images.items() if isinstance(image, DicomSeries)}
    if not series:
        return
    from unia_med.report.masks import report_masks

    try:
        if report_masks(output, series, cases.classes, output / "report.html"):
            print(f"look at {output / 'report.html'}")
    except Exception as error:  # messages about DICOM may quote the patient's data
        if debug:
            raise
        print(f"unia-med: note: {output}: no report.html is written ({type(error).__name__})", file=sys.stderr)


def _stream(line: str) -> TextIO:
    return sys.stderr if line.startswith("note: ") else sys.stdout


def _tracked(cases: Predictions) -> Iterable[Case]:
    from unia_med.distributed import is_main
    from unia_med.progress import tracked

    return tracked(cases, "predicting", len(cases), quiet=not is_main())


def _looked_at(cases: Predictions, debug: bool) -> Iterator[Case]:
    """Yield the cases, and print the warnings of the first; with --debug, an unexpected error ends the command."""
    warned = 0
    for case in _tracked(cases):
        if debug and case.unforeseen:
            raise case.unforeseen
        warned += bool(case.warnings)
        for warning in case.warnings if warned <= _WARNED else ():
            print(f"unia-med: warning: {case.name}: {warning}", file=sys.stderr)
        yield case
    if warned > _WARNED:
        print(f"unia-med: warning: {warned - _WARNED} more images have warnings: see NAME_seg.json", file=sys.stderr)


def _report(count: int, everywhere: Sequence[_Outcome], output: Path) -> int:
    """Return the exit code; the first process also says what happened."""
    from unia_med.distributed import is_main

    failures = [failure for outcome in everywhere for failure in outcome.failures]
    skipped, written = sum(outcome.skipped for outcome in everywhere), count - len(failures)
    if is_main() and written:
        earlier = f" ({skipped} of them earlier)" if skipped else ""
        print(f"{written} of {count} images segmented{earlier}, results in {output}")
    if is_main() and failures:
        lines = [f"unia-med: error: {len(failures)} of {count} images failed:"]
        for reason, files in failures:
            lines += [f"  {reason}", *(f"    {file} is from an earlier run" for file in files if file.exists())]
        print("\n".join(lines), file=sys.stderr)
    return (1 if written else 2) if failures else 0
