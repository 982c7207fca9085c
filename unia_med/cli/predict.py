"""`unia-med predict`: masks and uncertainty of images, with a trained run."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from unia_med.cli.options import add_device, new_command
from unia_med.errors import UserError

if TYPE_CHECKING:
    import torch

    from unia_med.config.schema import RunConfig
    from unia_med.data.io.channels import ChannelFiles
    from unia_med.data.io.dicom.series import DicomSeries
    from unia_med.data.io.frames import FrameSource
    from unia_med.inference.predictor import Predictor

EXAMPLE = """unia-med predict --model runs/acdc --input scan.nii.gz --output masks --uncertainty
unia-med predict --model runs/acdc --input ACDC --split val --output masks
unia-med predict --model runs/acdc --input DICOM_FOLDER --series 12 --output masks"""

DETAILS = """
Writes NAME_seg.nii.gz (uint8) and, with --uncertainty, NAME_uncertainty.nii.gz (float32, 0 certain to 1) for each
NAME.nii.gz, on its own grid; a 4D cine gives 4D results. A folder is searched with its sub-folders; files ending in
_gt, _scribble(s), _points, _blocks, _boxes, _seg, _pred or _uncertainty are no images, and X_4d is left out where its
frames X_frameNN lie beside it (name it as --input to predict it). Files of one name in several
sub-folders give results in sub-folders. A file that fails is named at the end, with exit code 1. Under torchrun each
process predicts its share of the images.

A folder without such volumes is searched for a DICOM series by content. Its slices are ordered by their place in the
patient and its phases by trigger time; FOLDER_seg.nii.gz is written, and a DICOM SEG, FOLDER_seg.dcm or, of a cine,
one per frame, FOLDER_frameNN_seg.dcm. Where there are several series, --series names one, and FOLDER_seriesN is the
name of the results. The name of the folder is all that results are named by; nothing of the patient is printed.

A run on photographs (data sets voc and coco) takes JPEG and PNG files, or the folder in which they lie themselves, and
writes NAME_seg.png with VOC's palette and, with --uncertainty, NAME_uncertainty.png in grey. For a dense CRF set
inference.crf.iterations in the run's config.yaml to 10."""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the command.

    Args:
        subparsers: of the main parser.
    """
    summary = "Segment NIfTI, NRRD or MetaImage volumes, 3D or 4D, or a DICOM series."
    parser = new_command(subparsers, "predict", summary, EXAMPLE)
    parser.description = f"{parser.description}\n{DETAILS}"
    parser.add_argument("--model", type=Path, required=True, metavar="RUN", help="run folder of `unia-med train`")
    parser.add_argument(
        "--input", type=Path, required=True, metavar="PATH", help="an image, or a folder of images or of DICOM"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the results")
    parser.add_argument("--series", metavar="NUMBER|UID", help="which series of a DICOM folder with several")
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
        help="write an uncertainty volume beside each mask: the entropy of the class probabilities, or the method's "
        "own map; alone, what the run's inference.uncertainty says",
    )
    parser.add_argument(
        "--skip-existing", action="store_true", help="leave out images whose results are there, to go on after a stop"
    )
    parser.add_argument("--tta", action="store_true", help="average over several views of each slice: slower")
    parser.add_argument("--no-postprocess", action="store_true", help="masks as the network gives them")
    add_device(parser)


def run(args: argparse.Namespace) -> int:
    """Predict and return the exit code: 0, 1 when some images failed, 2 when all did.

    Args:
        args: parsed command line.

    Raises:
        UserError: bad arguments, no image, no usable run. Nothing is written then.
    """
    from unia_med import distributed
    from unia_med.build import resolve_device
    from unia_med.runs import Run

    if args.output.exists() and not args.output.is_dir():
        raise UserError("is a file, expected a folder", where=args.output, remedy="Choose another --output")
    photographs = _run_on_photographs(args.model)
    images = {} if photographs else _images(args)
    Run.open(args.model).checkpoint  # noqa: B018
    device = distributed.device_of_this_process(resolve_device(args.device))
    if photographs:
        from unia_med.cli import predict_images

        with distributed.process_group(device):
            return predict_images.run(args, photographs, device)
    with distributed.process_group(device):
        # Shared out before any is left out: processes that start apart would see different results already there.
        mine = dict(distributed.share(list(images.items())))
        waiting = {name: image for name, image in mine.items() if not (args.skip_existing and _is_done(name, args))}
        failures = _unreadable(waiting, args)
        readable = {name: path for name, path in waiting.items() if name not in failures}
        if readable:
            failures |= _predict_all(_load(args, device), readable, args)
        everywhere = distributed.gather([(failures, len(mine) - len(waiting))])
        # All together, since torchrun ends the other processes when one of them ends with an exit code.
        distributed.barrier()
        failures = {name: reason for failed, _ in everywhere for name, reason in failed.items()}
        return _report(images, failures, sum(count for _, count in everywhere), args)


def _run_on_photographs(run: Path) -> RunConfig | None:
    """Return the config of a run on photographs; None for any other."""
    if not (run / "config.yaml").is_file():
        return None
    from unia_med.runs import Run

    config = Run.open(run).config
    return config if config.data.of_images else None


def _is_done(name: str, args: argparse.Namespace) -> bool:
    from unia_med.inference.inputs import results

    return all(file.is_file() for file in results(args.output, name, bool(args.uncertainty)).values())


def _images(args: argparse.Namespace) -> dict[str, Path | DicomSeries]:
    from unia_med.inference.inputs import by_name, find_inputs

    if args.split and args.series:
        raise UserError("--split and --series contradict each other", where="--series", remedy="Leave one out")
    if args.split is None:
        found = find_inputs(args.input, args.output, args.series)
        files = _channel_files(args)
        if not files.endings:
            return found
        paths = [image for image in found.values() if isinstance(image, Path)]
        return dict(by_name((name, path) for path in paths if (name := files.name(path)) is not None))
    from unia_med.build import build_dataset
    from unia_med.data.splits import split_cases
    from unia_med.runs import Run

    config = Run.open(args.model).config
    dataset = build_dataset(config.data.model_copy(update={"root": args.input}))
    cases = split_cases(dataset.cases(), config.data.split, config.seed)[args.split]
    if not cases:
        raise UserError(f"the run's split leaves no {args.split} case", where=args.input, remedy="Leave out --split")
    return dict(by_name((case.name, case.image) for case in cases))


def _channel_files(args: argparse.Namespace) -> ChannelFiles:
    """How the run's images store their channels; one channel, where the run has no config (of an older version)."""
    from unia_med.data.io.channels import ChannelFiles
    from unia_med.runs import Run

    if not (args.model / "config.yaml").is_file():
        return ChannelFiles()
    return ChannelFiles.of(Run.open(args.model).config.data)


def _unreadable(images: Mapping[str, Path | DicomSeries], args: argparse.Namespace) -> dict[str, str]:
    """Reasons of the images whose header is already wrong: known before the weights are loaded."""
    from unia_med.data.io.read import read_header

    failures: dict[str, str] = {}
    files = _channel_files(args)
    for name, image in images.items():
        try:
            if isinstance(image, Path):
                read_header(image) if files.channels == 1 else files.header(image)
            else:
                _prepare_dicom(image, files.channels)
        except UserError as error:
            failures[name] = str(error)
    return failures


def _prepare_dicom(series: DicomSeries, channels: int) -> None:
    from unia_med.data.io.dicom.seg import import_highdicom

    if channels > 1:
        remedy = "Convert the series to NIfTI, with the channels as the fourth axis or as one file each"
        raise UserError(f"a DICOM series, but the run reads {channels} channels", where=series.path, remedy=remedy)
    import_highdicom(series.path)
    frames = f" of {series.frames} frames" if series.frames > 1 else ""
    print(f"{series.path}: {' x '.join(map(str, series.shape[:3]))} voxels{frames}")
    for note in series.stack.notes:
        print(f"unia-med: note: {series.path}: {note}", file=sys.stderr)


def _load(args: argparse.Namespace, device: torch.device) -> Predictor:
    from unia_med.runs import Run

    kind = args.uncertainty if isinstance(args.uncertainty, str) else None
    return Run.open(args.model).predictor(device, tta=args.tta, postprocess=not args.no_postprocess, uncertainty=kind)


def _predict_all(
    predictor: Predictor, images: Mapping[str, Path | DicomSeries], args: argparse.Namespace
) -> dict[str, str]:
    """Reasons of the images that failed, by name; all others are written."""
    from rich.progress import track

    from unia_med.distributed import is_main

    failures: dict[str, str] = {}
    quiet = not (sys.stdout.isatty() and is_main())
    for name, image in track(images.items(), "predicting", disable=quiet, transient=True):
        path = image if isinstance(image, Path) else image.path
        try:
            _predict_one(predictor, name, image, args)
        except UserError as error:
            failures[name] = str(error) if error.where else f"{path}: {error}"
        except Exception as error:  # one image must not cost the others their results
            if args.debug:
                raise
            # Messages about DICOM may quote the patient's data.
            said = f": {error}" if isinstance(image, Path) else ""
            failures[name] = f"{path}: {type(error).__name__}{said}. Run this image alone with --debug"
    return failures


def _predict_one(predictor: Predictor, name: str, image: Path | DicomSeries, args: argparse.Namespace) -> None:
    from unia_med.data.io.nifti import write_like
    from unia_med.data.io.volume import Volume
    from unia_med.inference.inputs import results

    files = results(args.output, name, bool(args.uncertainty))
    source = predictor.open(image) if isinstance(image, Path) else image
    if not isinstance(source, Volume):
        _predict_frames(predictor, source, files, args.output)
        return
    found = predictor.predict_volume(source)
    for kind, file in files.items():
        write_like(getattr(found, kind), source, file)


def _predict_frames(predictor: Predictor, source: FrameSource, files: Mapping[str, Path], output: Path) -> None:
    """Predict and write frame by frame, so that memory does not grow with the number of frames."""
    import numpy as np

    from unia_med.data.io.dicom.seg import SegWriter, seg_names
    from unia_med.data.io.dicom.series import DicomSeries
    from unia_med.data.io.frames import FrameWriter, iterate_frames

    types = {"labels": np.uint8, "uncertainty": np.float32}
    with ExitStack() as stack:
        writers = {kind: stack.enter_context(FrameWriter(source, types[kind], file)) for kind, file in files.items()}
        is_dicom = isinstance(source, DicomSeries)
        objects = stack.enter_context(SegWriter(source, predictor.classes)) if is_dicom else None
        for index, found in enumerate(predictor.predict_frames(iterate_frames(source))):
            for kind, writer in writers.items():
                writer.write(getattr(found, kind))
            if objects is not None:
                objects.write(index, found.labels, output / seg_names(source)[index])


def _report(
    images: Mapping[str, Path | DicomSeries], failures: Mapping[str, str], skipped: int, args: argparse.Namespace
) -> int:
    """Return the exit code; the first process also tells what happened."""
    from unia_med.distributed import is_main
    from unia_med.inference.inputs import results

    written = len(images) - len(failures)
    code = (1 if written else 2) if failures else 0
    if not is_main():
        return code
    if written:
        earlier = f" ({skipped} of them earlier)" if skipped else ""
        print(f"{written} of {len(images)} images segmented{earlier}, results in {args.output}")
    if not failures:
        return 0
    lines = [f"unia-med: error: {len(failures)} of {len(images)} images failed:"]
    for name, reason in failures.items():
        lines.append(f"  {reason}")
        old = [file for file in results(args.output, name, bool(args.uncertainty)).values() if file.exists()]
        lines += [f"    {file} is from an earlier run" for file in old]
    print("\n".join(lines), file=sys.stderr)
    return code
