"""Every kind of DICOM object that is written, before dciodvfy and readers that nobody here wrote."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CLASSES = ("RV", "MYO", "LV", "scar")


def run(*command: str | Path, **options: Any) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=200, **options)
    return done.stdout + done.stderr


@pytest.mark.parametrize("source", ["written", "of_enhanced"])
def test_dciodvfy_finds_no_error(
    source: str, request: pytest.FixtureRequest, program: Callable[[str, str], str]
) -> None:
    dciodvfy, written = program("dciodvfy", "dicom3tools"), request.getfixturevalue(source)
    kinds = {
        "Segmentation": written.segs[0],
        "RTStructureSet": written.contours[0],
        "Comprehensive3DSR": written.report,
    }
    for kind, path in kinds.items():
        said = run(dciodvfy, path)
        assert kind in said
        assert not re.findall("(?m)^Error.*", said), path


def test_it_would_find_one(written: Any, program: Callable[[str, str], str], tmp_path: Path) -> None:
    import pydicom

    dciodvfy = program("dciodvfy", "dicom3tools")
    for path, name in ((written.contours[0], "StructureSetLabel"), (written.report, "CompletionFlag")):
        dataset = pydicom.dcmread(path)
        delattr(dataset, name)
        dataset.save_as(tmp_path / "broken.dcm")
        assert re.findall(f"(?m)^Error.*{name}", run(dciodvfy, tmp_path / "broken.dcm"))


def planes(written: Any, frame: int) -> dict[int, dict[int, np.ndarray]]:
    """Truth: planes (rows, columns) by class and slice."""
    labels = written.labels[frame]
    return {c: {z: (labels[:, :, z] == c).T for z in range(labels.shape[2])} for c in range(1, len(CLASSES) + 1)}


@pytest.mark.parametrize("source", ["written", "of_enhanced"])
@pytest.mark.parametrize("frame", [0, 1])
def test_simpleitk_reads_the_planes_of_a_segmentation(source: str, request: pytest.FixtureRequest, frame: int) -> None:
    """GDCM below SimpleITK unpacks the bits; where each plane lies is in the functional groups."""
    import SimpleITK as sitk

    pydicom = pytest.importorskip("pydicom")
    written = request.getfixturevalue(source)

    stored = sitk.GetArrayFromImage(sitk.ReadImage(str(written.segs[frame]))).astype(bool)
    groups = pydicom.dcmread(written.segs[frame], stop_before_pixels=True).PerFrameFunctionalGroupsSequence
    truth, to_voxels = planes(written, frame), np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ written.affine)
    assert len(stored) == len(groups) > 8
    seen = set()
    for plane, group in zip(stored, groups, strict=True):
        number = group.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        z = round(float((to_voxels @ [*map(float, group.PlanePositionSequence[0].ImagePositionPatient), 1])[2]))
        np.testing.assert_array_equal(plane, truth[number][z])
        seen.add((number, z))
    assert seen == {(c, z) for c, by_slice in truth.items() for z, plane in by_slice.items() if plane.any()}


def test_dcmjs_reads_all_three(written: Any) -> None:
    """The library below OHIF: segments and bits of a SEG, contours of an RTSTRUCT, numbers of an SR."""
    node = shutil.which("node")
    if node is None or "NODE_PATH" not in os.environ:
        pytest.skip("no dcmjs: npm install dcmjs in a folder, and set NODE_PATH to its node_modules")
    script = """
        const dcmjs = require('dcmjs'), fs = require('fs');
        const out = process.argv.slice(1).map(path => {
            const file = dcmjs.data.DicomMessage.readFile(fs.readFileSync(path).buffer);
            const set = dcmjs.data.DicomMetaDictionary.naturalizeDataset(file.dict);
            const list = x => x === undefined ? [] : Array.isArray(x) ? x : [x];
            const own = item => item.ValueType !== 'NUM' ? [] :
                [[list(item.ConceptNameCodeSequence)[0].CodeValue, +list(item.MeasuredValueSequence)[0].NumericValue]];
            const numbers = item => list(item.ContentSequence).flatMap(numbers).concat(own(item));
            const bits = set.Modality === 'SEG' ?
                Array.from(dcmjs.data.BitArray.unpack(list(set.PixelData)[0])).filter(x => x).length : 0;
            return {modality: set.Modality, bits, numbers: numbers(set),
                segments: list(set.SegmentSequence).map(s => s.SegmentLabel),
                contours: list(set.ROIContourSequence).map(r => list(r.ContourSequence).length)};
        });
        console.log(JSON.stringify(out));
    """
    done = subprocess.run(
        [node, "-e", script, *map(str, (written.segs[0], written.contours[0], written.report))],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    seg, contours, report = json.loads(done.stdout.strip().splitlines()[-1])
    assert (seg["modality"], contours["modality"], report["modality"]) == ("SEG", "RTSTRUCT", "SR")
    assert seg["segments"] == list(CLASSES) and seg["bits"] == int((written.labels[0] > 0).sum())
    assert contours["contours"] == [3, 3, 3, 3]
    voxel_ml = abs(np.linalg.det(written.affine[:3, :3])) / 1000
    full, empty = (float((labels == 3).sum() * voxel_ml) for labels in written.labels)
    found = dict(report["numbers"])
    assert found["8821-1"] == pytest.approx(full, abs=1e-3) and found["8823-7"] == pytest.approx(empty, abs=1e-3)


def test_dcmtk_reads_the_report(written: Any, program: Callable[[str, str], str]) -> None:
    said = run(program("dsrdump", "dcmtk"), written.report)
    voxel_ml = abs(np.linalg.det(written.affine[:3, :3])) / 1000
    full, empty = (float((labels == 3).sum() * voxel_ml) for labels in written.labels)
    ejected = f"{100 * (full - empty) / full:.3f}".rstrip("0").rstrip(".")
    assert re.search(rf'Cardiac ejection fraction".*="{re.escape(ejected)}"', said), said
    assert "Comprehensive 3D SR" in said and "E: " not in said
    assert len(re.findall("Referenced Segment", said)) == 6  # LV, RV and MYO at ED and ES


def test_simpleitk_fills_the_contours(written: Any) -> None:
    """Contours are drawn by pixel centres in the space of an image that SimpleITK read of the source files."""
    import pydicom
    import SimpleITK as sitk

    by_uid = {str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID): p for p in written.images.iterdir()}
    for frame, path in enumerate(written.contours):
        dataset, right, total = pydicom.dcmread(path), 0, 0
        for roi in dataset.ROIContourSequence:
            filled: dict[str, np.ndarray] = {}
            for contour in roi.ContourSequence:
                uid = str(contour.ContourImageSequence[0].ReferencedSOPInstanceUID)
                image = sitk.ReadImage(str(by_uid[uid]))
                points = np.array(contour.ContourData, float).reshape(-1, 3)
                pixels = np.array([image.TransformPhysicalPointToContinuousIndex(p.tolist()) for p in points])
                assert np.abs(pixels[:, 2]).max() < 1e-3
                size = image.GetSize()[:2]
                filled[uid] = filled.get(uid, np.zeros(size, bool)) ^ _inside(pixels[:, :2], size)
            for uid, plane in filled.items():
                z = _slice_of(by_uid[uid], written.affine)
                truth = written.labels[frame][:, :, z] == roi.ReferencedROINumber
                right, total = right + int((plane == truth)[truth | plane].sum()), total + int((truth | plane).sum())
        assert total == (written.labels[frame] > 0).sum() and right / total >= 0.99


def _inside(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    x, y = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    inside = np.zeros(size, bool)
    for (x0, y0), (x1, y1) in zip(points, np.roll(points, -1, 0), strict=True):
        if y0 != y1:
            inside ^= ((y0 > y) != (y1 > y)) & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
    return inside


def _slice_of(path: Path, affine: np.ndarray) -> int:
    import pydicom

    place = np.array(pydicom.dcmread(path, stop_before_pixels=True).ImagePositionPatient, float) * [-1, -1, 1]
    return round(float((np.linalg.inv(affine) @ [*place, 1])[2]))


def dcmqi(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"no {name}: pip install dcmqi")
    return found


@pytest.mark.parametrize("source", ["written", "of_enhanced"])
def test_dcmqi_reads_a_segmentation(source: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """The reader below 3D Slicer: labels and where they lie, by the centres of its voxels in millimetres."""
    import SimpleITK as sitk

    program, written = dcmqi("segimage2itkimage"), request.getfixturevalue(source)
    run(
        program,
        "--inputDICOM",
        written.segs[0],
        "--outputDirectory",
        tmp_path,
        "--mergeSegments",
        "-t",
        "nrrd",
        "-p",
        "m",
    )
    image = sitk.ReadImage(str(tmp_path / "m-1.nrrd"))
    array, truth = sitk.GetArrayFromImage(image).transpose(2, 1, 0), written.labels[0]
    assert (array > 0).sum() == (truth > 0).sum()
    to_voxels = np.linalg.inv(np.diag([-1.0, -1, 1, 1]) @ written.affine)
    for index in np.argwhere(array > 0).tolist():
        x, y, z = np.round(to_voxels @ [*image.TransformIndexToPhysicalPoint(index), 1])[:3].astype(int)
        assert truth[x, y, z] == array[tuple(index)]


@pytest.mark.parametrize("source", ["written", "of_enhanced"])
def test_dcmqi_reads_the_report(source: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    program, written = dcmqi("tid1500reader"), request.getfixturevalue(source)
    run(program, "--inputDICOM", written.report, "--outputMetadata", tmp_path / "sr.json")
    groups = json.loads((tmp_path / "sr.json").read_text())["Measurements"]
    by_label = {group["TrackingIdentifier"]: group for group in groups}
    voxel_ml = abs(np.linalg.det(written.affine[:3, :3])) / 1000
    volume = by_label["LV at ED"]["measurementItems"][0]
    assert float(volume["value"]) == pytest.approx((written.labels[0] == 3).sum() * voxel_ml, abs=1e-3)
    assert by_label["LV at ED"]["ReferencedSegment"] == 3 and by_label["LV at ED"]["timePoint"] == "End diastole"
    wall = by_label["AHA segment 10 (mid inferior) at ED"]
    assert wall["FindingSite"]["CodeValue"] == "264847005"
    (thickness,) = wall["measurementItems"]
    assert thickness["units"]["CodeValue"] == "mm" and 4 * 1.25 - 1 < float(thickness["value"]) < 4 * 1.4 + 1
