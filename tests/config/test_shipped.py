"""Every shipped config loads, stays small, and is found by its bare name wherever the package lies."""

from __future__ import annotations

from pathlib import Path

import pytest

from unia_med.config import shipped
from unia_med.config.load import load_config
from unia_med.errors import UserError

SHIPPED = shipped.shipped_configs()


def test_the_promised_configs_are_there() -> None:
    names = {path.name for path in SHIPPED}
    assert {"acdc.yaml", "acdc_cpu.yaml", "acdc_cpu_tags.yaml", "phantom_tiny.yaml"} <= names


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_shipped_config_loads_and_is_portable(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_config(path.stem) == load_config(path.name) == load_config(path)
    config = load_config(path)
    assert config.data.root is None and config.data.cache_dir is None
    assert len(path.read_text(encoding="utf-8").splitlines()) < 80


def test_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(UserError, match=r"acdc_cpi.*Did you mean 'acdc_cpu.yaml'"):
        load_config("acdc_cpi")


def test_missing_path_is_not_looked_up_among_the_shipped(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file"):
        load_config(tmp_path / "acdc.yaml")
    with pytest.raises(UserError, match="is a folder"):
        load_config(tmp_path)


def test_a_file_of_the_user_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "acdc.yaml").write_text("seed: 99")
    monkeypatch.chdir(tmp_path)
    assert load_config("acdc.yaml").seed == 99
    assert load_config("acdc").seed != 99


def test_the_wheel_layout_comes_first_and_foreign_folders_never(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "site-packages" / "unia_med"
    (tmp_path / "site-packages" / "configs").mkdir(parents=True)
    monkeypatch.setattr(shipped, "_PACKAGE", package)
    assert shipped.shipped_folder() is None
    with pytest.raises(UserError, match="Give the path"):
        shipped.find_config("acdc")
    (package / "configs").mkdir(parents=True)
    assert shipped.shipped_folder() == package / "configs"
