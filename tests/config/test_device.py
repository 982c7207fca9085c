"""Batch and budget by device."""

from __future__ import annotations

from unia_med.config.device import described, for_device
from unia_med.config.load import load_config, parse_config

CUDA = {"iterations": 70, "batch_size": 8, "teacher_iterations": 30}


def test_a_cuda_device_takes_its_own_budget_and_a_cpu_does_not() -> None:
    values = {"prior": {"names": ["phantom"], "phantom": {"iterations": 5, "batch_size": 3, "slices": 9}}}
    config = parse_config({**values, "training": {"iterations": 20, "batch_size": 2, "cuda": CUDA}})
    on_cpu, on_cuda = for_device(config, "cpu"), for_device(config, "cuda")
    assert (on_cpu.training.iterations, on_cpu.training.batch_size) == (20, 2)
    assert on_cpu.prior == config.prior
    assert (on_cuda.training.iterations, on_cuda.training.batch_size) == (70, 8)
    teacher = on_cuda.prior.teacher()[1]
    assert (teacher.iterations, teacher.batch_size, teacher.slices) == (30, 8, 9)
    assert on_cpu.training.cuda is on_cuda.training.cuda is None  # a run goes on with the budget it began with
    assert for_device(on_cuda, "cpu") == on_cuda
    found = described(on_cuda, "cuda:0", "mixed bfloat16")
    assert found == "cuda:0, mixed bfloat16: a teacher of 30 steps, then 70 steps of 8 slices"
    started = on_cuda.model_copy(update={"training": on_cuda.training.model_copy(update={"start_from": "runs/a"})})
    assert described(started, "cuda:0", "float32") == "cuda:0, float32: 70 steps of 8 slices"


def test_without_a_teacher_the_prior_stays() -> None:
    config = for_device(parse_config({"training": {"cuda": CUDA}}), "cuda")
    assert config.training.iterations == 70 and config.prior.names == []
    assert described(config, "cuda", "float32") == "cuda, float32: 70 steps of 8 slices"


def test_the_flagship_needs_neither_network_nor_gpu() -> None:
    config = load_config("acdc.yaml")
    assert (config.method.name, config.network.backbone, config.network.weights) == ("unia", "hybrid_lite0", "package")
    assert config.prior.names == ["phantom"] and config.training.cuda is not None
    assert load_config("acdc_vit.yaml").network.backbone == "vit"
    assert load_config("voc_published.yaml").method.preset == "published"
