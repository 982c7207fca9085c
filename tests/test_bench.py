"""Benchmarks: both forms agree, the ratio is plain over used, unknown names are refused before anything runs."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from unia_med.bench import pixels, table
from unia_med.bench.table import BENCHMARKS, as_json, run_benchmarks
from unia_med.bench.timing import Benchmark, Timing, agreement_of, time_benchmark
from unia_med.cli.main import main
from unia_med.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    "name",
    [
        "pixel_refine",
        "affinity_pairs",
        "affinity_loss",
        "sinkhorn",
        "bfloat16",
        "percentiles",
        "hd95",
        "activation_maps",
        "validation",
    ],
)
def test_forms_agree(name: str) -> None:
    torch.manual_seed(1)
    used, plain = BENCHMARKS[name].make(CPU)
    assert agreement_of(BENCHMARKS[name], used(), plain())


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_other_runtimes_are_left_out_where_they_are_not_installed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "find_spec", lambda package: None if package == "onnxscript" else object())
    assert not {"onnx", "openvino"} & set(table.installed()) and "hd95" in table.installed()
    monkeypatch.setattr("unia_med.inference.runtime.find_spec", lambda package: None)
    with pytest.raises(UserError, match="pip install"):
        run_benchmarks([name], "cpu", quiet=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_other_runtimes_give_the_labels_of_torch(name: str) -> None:
    pytest.importorskip({"onnx": "onnxruntime", "openvino": "openvino"}[name])
    pytest.importorskip("onnxscript")
    used, plain = pixels.other_runtime(name, slices=2, side=64)(CPU)
    labels = plain()
    assert len(labels.unique()) > 1 and (used() == labels).float().mean() >= 0.9999


@pytest.mark.slow
def test_both_forms_of_a_training_step_have_the_same_losses() -> None:
    used, plain = pixels.training_step(batch=2, side=64)(CPU)
    assert agreement_of(BENCHMARKS["training_step"], used(), plain()) == "same values"


@pytest.mark.slow
def test_both_starts_of_the_program_make_the_same_mask() -> None:
    used, plain = BENCHMARKS["start_up"].make(CPU)
    mask = used()
    assert mask.shape == (96, 96, 2) and set(mask.unique().tolist()) == {0, 1, 2, 3}
    assert agreement_of(BENCHMARKS["start_up"], mask, plain()) == "same values"


def test_seconds_of_other_processes_count() -> None:
    def waits() -> torch.Tensor:
        code = "import time\nwhile time.process_time() < 0.4: pass"
        subprocess.run([sys.executable, "-c", code], check=True)
        return torch.ones(2)

    timing = time_benchmark(Benchmark("other", lambda device: (lambda: torch.ones(2), waits), rounds=1), CPU)
    assert timing.plain[0] >= 0.39


def test_the_dense_energy_by_a_grid_is_close_to_that_of_all_pairs() -> None:
    torch.manual_seed(1)
    used, plain = pixels.dense_energy(channels=1, side=48)(CPU)
    words = agreement_of(BENCHMARKS["dense_energy_64"], used(), plain())
    assert words.startswith(("value +0.", "value -0.")) and "cosine 0.9999" in words


def test_the_ratio_tells_how_much_faster() -> None:
    assert Timing(used=(0.1, 0.1, 0.1), plain=(0.4, 0.5, 90.0)).ratio == pytest.approx(5)  # the median

    def slow() -> torch.Tensor:
        end = time.process_time() + 0.06
        while time.process_time() < end:
            pass
        return torch.ones(2)

    timing = time_benchmark(Benchmark("busy", lambda device: (lambda: torch.ones(2), slow), rounds=1), CPU)
    assert timing.plain[0] >= 0.06 and timing.ratio > 10


def test_the_number_of_threads_is_as_before() -> None:
    before, seen = torch.get_num_threads(), []
    torch.set_num_threads(2)
    try:
        form = lambda: torch.tensor(seen.append(torch.get_num_threads()) or 1.0)  # noqa: E731
        time_benchmark(Benchmark("threads", lambda device: (form, form), rounds=1), CPU)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_forms_that_disagree_are_not_timed() -> None:
    wrong = Benchmark("wrong", lambda device: (lambda: torch.zeros(4), lambda: torch.tensor([0.0, 0, 0, 1])))
    with pytest.raises(RuntimeError, match="differ in 25.00% of the values"):
        time_benchmark(wrong, CPU)


def test_unknown_name() -> None:
    with pytest.raises(UserError, match="Did you mean 'sinkhorn'"):
        run_benchmarks(["pixel_refine", "sinkhron"])


def test_a_line_for_each_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    quick = Benchmark("nothing against nothing", lambda device: (lambda: torch.ones(1), lambda: torch.ones(1)))
    monkeypatch.setitem(BENCHMARKS, "quick", quick)
    timings = run_benchmarks(["quick"], "cpu")
    assert "nothing against nothing" in (said := capsys.readouterr().out) and "same values" in said
    assert as_json(timings)[0] | {"ratio": 1} == {
        "name": "quick",
        "ratio": 1,
        "agreement": "same values",
        "summary": "nothing against nothing",
    }
    assert main(["bench", "quick", "--json", "--device", "cpu"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["ratio"] > 0


def test_an_approximation_says_how_far_it_is_from_the_exact_form() -> None:
    near = Benchmark("near", lambda device: (lambda: torch.ones(1), lambda: torch.ones(1)), least_cosine=0.99)
    valued = replace(near, value_first=True)
    words = agreement_of(valued, torch.tensor([101.0, 3.0, 4.0]), torch.tensor([100.0, 3.0, 4.5]))
    assert words == "value +1.000%, gradient: cosine 0.99846, error 9.25%"
    assert agreement_of(near, torch.tensor([1.0, 1.01]), torch.ones(2)).startswith("cosine 0.99")
    with pytest.raises(RuntimeError, match=r"too far apart: cosine 0\.7"):
        agreement_of(near, torch.tensor([1.0, 0.0]), torch.ones(2))
