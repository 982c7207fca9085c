"""Starting from another model's weights: rows of classes by name, the rest by place, nothing silently wrong."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch

from unia_med.build import build_method
from unia_med.config.load import parse_config
from unia_med.config.schema import RunConfig
from unia_med.engine.start import start_from
from unia_med.errors import UserError


def config(classes: list[str], method: str = "partial", **network: object) -> RunConfig:
    values = {
        "data": {"name": "volumes", "classes": classes},
        "network": {"backbone": "lite0", "weights": "none", "decoder_widths": [8, 8, 8, 8], **network},
        "method": {"name": method},
    }
    return parse_config(values)


@pytest.mark.parametrize("method", ["partial", "agmm"])
def test_rows_of_a_class_go_by_its_name(method: str) -> None:
    old, new = config(["LIVER", "SPLEEN", "KIDNEY"], method), config(["KIDNEY", "TUMOUR", "LIVER"], method)
    source, target = build_method(old), build_method(new)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    start_from(target, source.state_dict(), old.data.classes, new, build_method, "a run")
    theirs, mine = source.state_dict(), target.state_dict()
    heads = [name for name, value in mine.items() if value.dim() in (1, 4) and value.shape[0] == 4]
    assert heads
    for name in heads:
        assert torch.equal(mine[name][[0, 1, 3]], theirs[name][[0, 3, 1]]), name
        assert torch.equal(mine[name][2], before[name][2]), name
    stem = next(name for name in mine if name.endswith("conv_stem.weight"))
    assert torch.equal(mine[stem], theirs[stem])


@pytest.mark.parametrize(("share", "refused"), [(0.4, True), (0.6, False)])
def test_half_of_the_numbers_must_be_found(share: float, refused: bool) -> None:
    made, target = config(["A"]), build_method(config(["A"]))
    state = build_method(made).state_dict()
    wanted, found = share * sum(value.numel() for value in state.values()), {}
    for name, value in sorted(state.items(), key=lambda item: item[1].numel()):
        if sum(one.numel() for one in found.values()) < wanted:
            found[name] = value
    with pytest.raises(UserError, match="another network") if refused else nullcontext():
        start_from(target, found, ["A"], made, build_method, "a run")


def test_another_network_is_refused() -> None:
    old, new = config(["A"]), config(["A"], backbone="hybrid_lite0", decoder_widths=None, width=256)
    with pytest.raises(UserError, match="only .* of this network's weights.*another network"):
        state = {name: value for name, value in build_method(old).state_dict().items() if "stages" not in name}
        start_from(build_method(new), state, ["A"], new, build_method, "a run")


@pytest.mark.parametrize(
    ("classes", "widths", "message"),
    [
        (["A"], [16, 8, 8, 8], "another network.*, and with this prior"),
        (["A", "B"], [8] * 4, "not know B"),
    ],
)
def test_a_model_that_is_not_whole_does_not_teach(classes: list[str], widths: list[int], message: str) -> None:
    old, new = config(["A"]), config(classes, decoder_widths=widths)
    state = build_method(old).state_dict()
    start_from(build_method(new), state, ["A"], new, build_method, "a run")  # fine to learn on from
    with pytest.raises(UserError, match=message):
        start_from(build_method(new), state, ["A"], new, build_method, "a run", teaches=True)


def test_the_log_says_what_was_taken(caplog: pytest.LogCaptureFixture) -> None:
    state, new = build_method(config(["A"])).state_dict(), config(["B"])
    with caplog.at_level("INFO"):
        start_from(build_method(new), state, ["A"], new, build_method, "a run")
    assert "starts from a run:" in caplog.text and "classes known there: none; new: B" in caplog.text
    caplog.clear()
    with caplog.at_level("INFO"):
        start_from(build_method(config(["A"])), state, ["A"], config(["A"]), build_method, "a run")
    assert "100 % of the weights; classes known there: A; new: none" in caplog.text
