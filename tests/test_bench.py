"""Benchmarks: both forms agree, the ratio is plain over used, unknown names are refused before anything runs."""

from __future__ import annotations

import time

import pytest
import torch

from unia_med import bench
from unia_med.bench import BENCHMARKS, Benchmark, Timing, run_benchmarks, time_benchmark
from unia_med.errors import UserError

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["pixel_refine", "affinity_loss", "sinkhorn", "hd95"])
def test_forms_agree(name: str) -> None:
    torch.manual_seed(1)
    used, plain = BENCHMARKS[name].make(CPU)
    bench._check_agreement(used(), plain(), BENCHMARKS[name].tolerance)


def test_the_ratio_tells_how_much_faster() -> None:
    assert Timing(used=0.1, plain=0.4).ratio == pytest.approx(4)

    def slow() -> torch.Tensor:
        time.sleep(0.06)
        return torch.ones(2)

    timing = time_benchmark(Benchmark("sleep", lambda device: (lambda: torch.ones(2), slow)), CPU, rounds=1)
    assert timing.plain >= 0.06 and timing.ratio > 10


def test_forms_that_disagree_are_not_timed() -> None:
    wrong = Benchmark("wrong", lambda device: (lambda: torch.zeros(4), lambda: torch.tensor([0.0, 0, 0, 1])))
    with pytest.raises(RuntimeError, match="differ in 25.00% of the values"):
        time_benchmark(wrong, CPU)


def test_unknown_name() -> None:
    with pytest.raises(UserError, match="Did you mean 'sinkhorn'"):
        run_benchmarks(["pixel_refine", "sinkhron"])


def test_a_line_for_each_benchmark(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    quick = Benchmark("nothing against nothing", lambda device: (lambda: torch.ones(1), lambda: torch.ones(1)))
    monkeypatch.setitem(bench.BENCHMARKS, "quick", quick)
    assert list(run_benchmarks(["quick"], "cpu")) == ["quick"]
    assert "nothing against nothing" in capsys.readouterr().out
