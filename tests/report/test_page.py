"""The page as a whole: complete, self-contained, and safe against what users write."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from torch import Tensor

from unia_med.build import build_dataset
from unia_med.cli.main import main
from unia_med.data.sample import CaseFiles
from unia_med.data.splits import split_cases
from unia_med.inference.predictor import Predictor
from unia_med.methods.base import Batch, Method, Prediction
from unia_med.metrics.calibration import expected_calibration_error
from unia_med.metrics.table import CaseScores
from unia_med.report.cases import Examination, choose_patients, examine, frames_of
from unia_med.report.flags import flagged
from unia_med.report.overview import measurement_table
from unia_med.report.page import ReportContents, render
from unia_med.report.quantities import PatientFindings, Quantity
from unia_med.report.run_folder import read_run
from unia_med.runs import Run

VOID = {"meta", "link", "input", "br"}


class Structure(HTMLParser):
    """Collects tags, links and headings; fails on elements that are closed in the wrong order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _viewer_data(page: str) -> dict:
    return json.loads(re.search(r'id="viewer-data">(.*?)</script>', page, re.S).group(1))


def test_the_command_writes_a_whole_page(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "page.html"
    assert main(["report", str(run_dir), "--output", str(output), "--device", "cpu"]) == 0
    assert str(output) in capsys.readouterr().out
    page = output.read_text()
    structure = Structure(page)
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    first, last = ["At a glance", "Cases to look at", "Slices", "Measurements", "Cases"], ["Uncertainty", "Settings"]
    assert headings == [*first, "Trained on", "Learning curves", "Label quality", *last]
    assert page.split('<section id="measurements"')[1].split("</section>")[0].count("<summary>patient013: ") == 1
    for tag, attributes in structure.seen:
        address = attributes.get("href") or attributes.get("src") or "#"
        assert address.startswith(("#", "data:")), f"{tag} loads {address}"
        if tag == "svg" and attributes.get("class") == "chart":
            assert attributes["aria-label"]
    assert "http" not in page.replace("http://www.w3.org", "")
    data = _viewer_data(page)
    assert [patient["title"] for patient in data["patients"]] == ["patient013"]
    frames = [frame["title"] for frame in data["patients"][0]["frames"]]
    assert frames == ["patient013_frame01, ED", "patient013_frame07, ES"]
    assert {"true mask", "prediction", "activation map", "training labels"} <= set(data["patients"][0]["labels"])
    assert data["patients"][0]["maps"] == ["uncertainty (entropy)", "uncertainty (UniA's U)"]
    assert "<h1>RV, MYO, LV in acdc</h1>" in page and "Synthetic" not in page
    prose = page.split('<section id="config"')[0]
    assert not any(jargon in prose for jargon in ("aux CAM", "aux_CAM", "fused", "package weights"))
    assert "2 training, 1 validation" in page and "fitted on 2 validation volumes" in page


def test_scores_are_those_of_evaluate(run_dir: Path, tiny_acdc: Path, tmp_path: Path) -> None:
    main(["report", str(run_dir), "--output", str(tmp_path / "page.html"), "--device", "cpu"])
    main(
        [
            "predict",
            "--model",
            str(run_dir),
            "--input",
            str(tiny_acdc),
            "--split",
            "val",
            "--output",
            str(tmp_path / "masks"),
            "--device",
            "cpu",
        ]
    )
    main(
        [
            "evaluate",
            "--predictions",
            str(tmp_path / "masks"),
            "--labels",
            str(tiny_acdc),
            "--split",
            "val",
            "--config",
            str(run_dir / "config.yaml"),
            "--output",
            str(tmp_path / "scores.json"),
        ]
    )
    expected = json.loads((tmp_path / "scores.json").read_text())["cases"]
    assert len(expected) == 2
    page = (tmp_path / "page.html").read_text()
    for scores in expected:
        row = re.search(rf'<th scope="row">{scores["case"]}.*?</tr>', page).group(0)
        shown = re.findall(r"</span></span>([\d.]+)", row)
        known = [value for value in scores["dice"].values() if value is not None]
        assert shown == [f"{np.mean(known):.3f}", *(f"{value:.3f}" for value in known)]


def test_without_data_the_page_says_so(run_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = run_dir / "config.yaml"
    config.write_text(re.sub(r"root: .*", "root: /nowhere/hearts", config.read_text()))
    assert main(["report", str(run_dir)]) == 0
    page = (run_dir / "report.html").read_text()
    assert "the data folder of the run, /nowhere/hearts, is not here" in page
    assert "viewer-data" not in page and "Slices</h2>" not in page
    assert "Temperature 1.500" in page
    assert "--data" in capsys.readouterr().out


def test_named_data_is_used_and_no_viewer_on_request(run_dir: Path, tiny_acdc: Path, tmp_path: Path) -> None:
    config = run_dir / "config.yaml"
    config.write_text(re.sub(r"root: .*", "root: /nowhere/hearts", config.read_text()))
    assert main(["report", str(run_dir), "--data", str(tiny_acdc), "--cases", "0", "--device", "cpu"]) == 0
    page = (run_dir / "report.html").read_text()
    assert "patient013_frame01" in page and "viewer-data" not in page


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: (run / "checkpoints" / "best.pt").unlink(), "no checkpoints/best.pt"),
        (lambda run: (run / "metrics.csv").unlink(), "metrics.csv: no such file"),
        (lambda run: (run / "calibration.json").write_text("{"), "no record of a calibration"),
    ],
)
def test_an_unfinished_run_is_an_error(
    run_dir: Path, spoil: object, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(run_dir)
    assert main(["report", str(run_dir)]) == 2
    assert message in capsys.readouterr().err
    assert not (run_dir / "report.html").exists()


@pytest.mark.parametrize("arguments", [["--output", "x.pdf"], ["--cases", "-1"], ["--data", "nowhere"]])
def test_wrong_arguments_are_named(run_dir: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(run_dir), *arguments]) == 2
    assert "error" in capsys.readouterr().err


def test_what_users_write_stays_text(run_dir: Path) -> None:
    hostile = '</script><img src=x onerror=alert(1)>"&'
    config = Run.open(run_dir).config
    data = config.data.model_copy(update={"classes": [hostile, "B"], "name": hostile})
    run = read_run(run_dir, config.model_copy(update={"data": data}))
    run.losses[hostile] = [(1, 1.0)]
    case = CaseScores(hostile, {hostile: 0.5, "B": 0.1}, {hostile: 1.0, "B": None}, {})
    case.asd.update(case.hd95)
    done = Examination("val", [case], {hostile: hostile})
    volume = {"title": hostile, "labels": [hostile], "maps": [], "frames": [{"title": hostile, "data": ""}]}
    page = render(ReportContents(run, hostile, examination=done, volumes=[volume]))
    Structure(page)
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert _viewer_data(page)["patients"][0]["title"] == hostile


def _scores(case: str, dice: list[float | None], hd95: list[float | None]) -> CaseScores:
    names = ("A", "B")
    table = [dict(zip(names, values, strict=True)) for values in (dice, hd95)]
    return CaseScores(case, *table, table[1])


def test_cases_to_look_at_and_why() -> None:
    cases = [
        _scores("missed", [0.9, 0.0], [3.0, None]),
        _scores("low", [0.69, 0.9], [3.0, 3.0]),
        _scores("far", [0.9, 0.71], [3.0, 21.0]),
        _scores("unsure", [0.9, 0.9], [3.0, 3.0]),
        _scores("good", [0.7, 0.9], [20.0, 3.0]),
        _scores("absent", [None, 0.9], [None, 3.0]),
    ]
    done = Examination("val", cases, {one.case: f"p_{one.case}" for one in cases}, {"unsure": 0.4, "good": 0.3})
    wide = Quantity("EF", "%", 40.0, 51.0, tolerance=10.0)
    done.findings["p_good"] = PatientFindings("", (wide, replace(wide, found=41.5)), ("EDV 5 ml",))
    found = {one.name: one.reasons for one in flagged(done, ["A", "B"])}
    assert found == {
        "missed": ("B missed or invented",),
        "low": ("A Dice 0.69",),
        "far": ("B border 21 mm off",),
        "unsure": ("the network is unsure (mean uncertainty 0.40)",),
        "p_good": ("EDV 5 ml", "EF 11 points too low"),
    }


def test_errors_of_all_patients_are_in_the_table() -> None:
    scores = [_scores(name, [0.9, 0.9], [1.0, 1.0]) for name in ("a", "b")]
    done = Examination("val", scores, {"a": "a", "b": "b"})
    for patient, (value, true) in {"a": (50.0, 60.0), "b": (70.0, 66.0)}.items():
        done.findings[patient] = PatientFindings("", (Quantity("EF", "%", value, true, 5.0),))
    table = measurement_table(done, ["b"])
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr.*?</tr>", table)]
    assert rows[1:3] == [["mean error of 2", "7.0"], ["bias", "-3.0"]]
    assert rows[3] == ["a", "50.0 <small>-10.0 ⚑</small>"]
    assert rows[4][0].startswith("b <a") and rows[4][1] == "70.0 <small>+4.0</small>"


def test_synthetic_images_are_called_so(run_dir: Path, tiny_acdc: Path) -> None:
    for path in tiny_acdc.rglob("patient013_frame??.nii.gz"):
        image = nibabel.load(path)
        image.header["descrip"] = b"synthetic heart, unia-med phantom"
        nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), image.affine, image.header), path)
    assert main(["report", str(run_dir), "--device", "cpu", "--cases", "0"]) == 0
    assert "<strong>Synthetic data:</strong>" in (run_dir / "report.html").read_text()


def test_patients_from_worst_to_best() -> None:
    values = {"a1": 0.9, "a2": 0.3, "b1": 0.5, "b2": 0.6, "c1": 0.8, "d1": None, "e1": 0.95}
    scores = [CaseScores(case, {"LV": value}, {}, {}) for case, value in values.items()]
    scores.sort(key=lambda one: 2.0 if one.dice["LV"] is None else one.dice["LV"])
    done = Examination("val", scores, {case: case[0] for case in values})
    assert choose_patients(done, 3) == ["a", "c", "d"]
    assert choose_patients(done, 1) == ["a"]
    assert choose_patients(done, 99) == ["a", "b", "c", "e", "d"]
    assert choose_patients(done, 0) == []
    cases = [CaseFiles(name, name[0], Path("x"), frame=frame) for name, frame in (("a2", 12), ("b1", 1), ("a1", 1))]
    assert [case.name for case in frames_of(cases, "a")] == ["a1", "a2"]


class ByIntensity(Method):
    """Classes by their intensities in the tiny data set; unsure in between."""

    def losses(self, batch: Batch, step: int) -> dict[str, Tensor]:
        return {}

    def predict(self, images: Tensor) -> Prediction:
        means = torch.tensor([0.35, 0.88, 0.1, 0.97]).view(1, 4, 1, 1)
        return Prediction((-40 * (images - means) ** 2).softmax(1), 0 * images[:, 0])


def test_calibration_is_that_of_the_probabilities(run_dir: Path) -> None:
    """Over whole volumes, by a plain loop over bins; near the structures there are fewer voxels."""
    config = Run.open(run_dir).config
    dataset, predictor = build_dataset(config.data), Predictor(ByIntensity(), config)
    cases = split_cases(dataset.cases(), config.data.split, config.seed)["val"]
    done = examine(predictor, config, dataset, cases, "val")
    confidences, hits = [], []
    for case in cases:
        found = dataset.evaluation_case(case)
        probabilities = predictor.predict_in_detail(found.volume).probabilities
        confidences.append(probabilities.max(0).ravel())
        hits.append((probabilities.argmax(0) == found.labels).ravel())
    confidence, hit = np.concatenate(confidences), np.concatenate(hits)
    gaps = [
        abs(confidence[inside].sum() - hit[inside].sum())
        for m in range(15)
        if (inside := (np.ceil(confidence * 15) - 1 == m)).any()
    ]
    assert len(gaps) > 5
    assert expected_calibration_error(done.whole) == pytest.approx(sum(gaps) / len(hit), rel=1e-5)
    assert done.entropy_whole.wrong == (~hit).sum() > 0
    assert done.near.count.sum() < done.whole.count.sum() == len(hit)
    assert done.entropy_whole.fractions()[2] > 0.2
    assert done.network_whole.fractions() == pytest.approx([0.01, 0.05, 0.1])  # a map without content finds by chance
