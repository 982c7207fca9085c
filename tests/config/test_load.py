"""YAML to config: every fault is named by key and file; nothing in a config is ever executed."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from unia_med.config.load import MAX_BYTES, dump_config, load_config, parse_config, plain
from unia_med.config.schema import RunConfig
from unia_med.errors import UserError


def load_text(folder: Path, text: str, *overrides: str) -> RunConfig:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return load_config(path, overrides)


@pytest.mark.parametrize(
    ("text", "key", "guess"),
    [
        ("sed: 1", "sed", "seed"),
        ("data: {gird: {}}", "data.gird", "grid"),
        ("data: {grid: {spacing: 1}}", "data.grid.spacing", "spacing_mm"),
        ("method: {thresholds: {hgih: 1}}", "method.thresholds.hgih", "high"),
    ],
)
def test_unknown_key_gives_dotted_path_and_nearest(tmp_path: Path, text: str, key: str, guess: str) -> None:
    with pytest.raises(UserError) as caught:
        load_text(tmp_path, text)
    assert f"run.yaml: {key}: unknown key. Did you mean '{guess}'?" in str(caught.value)


def test_all_faults_are_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_text(tmp_path, "seed: -1\ntraining: {iterations: many, sheduel: poly}")
    message = str(caught.value)
    assert "3 faults" in message
    assert "seed:" in message and "training.iterations:" in message and "Did you mean 'schedule'" in message


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("training: {schedule: cosin}", "training.schedule: unknown value 'cosin'. Did you mean 'cosine'"),
        ("method: {name: unai}", "method.name: unknown value 'unai'. Did you mean 'unia'"),
        ("training: {learning_rate: .inf}", "training.learning_rate"),
        ("training: {learning_rate: .nan}", "training.learning_rate"),
        ("data: {split: {kind: fractions, fractions: [0.5, 0.1, 0.1]}}", "data.split: fractions sum to 0.7"),
        ("data: {split: {val: [13], test: [13]}}", "data.split: val and test name 13 more than once"),
        ("data: {split: {val: [20]}}", "not residues from 0 to 19"),
        ("data: {split: {kind: lists, val: [a], test: [b]}}", "needs patient names in train"),
        ("data: {split: {kind: lists, train: [a], val: [a], test: [b]}}", "name a more than once"),
        ("data: {split: {kind: kfold, fold: 5}}", "fold 5 does not exist"),
        ("data: {groups: {A: [RV, MYO]}}", "groups leave out ['LV']"),
        ("data: {groups: {A: [RV, MYO, LV, X]}}", "groups name ['X']"),
        ("data: {groups: {A: [RV, MYO], B: [MYO, LV]}}", "name MYO more than once"),
        ("data: {class_values: [1, 2]}", "2 entries for 3 classes"),
        ("data: {tags: {source: csv}}", "data.tags: source 'csv' needs path"),
        ("data: {grid: {percentiles: [99, 1]}}", "data.grid: percentiles"),
        ("network: {width: 90}", "multiple of 4"),
        ("data: 3", "data: "),
        ("- 1", "holds a list"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, text: str, fragment: str) -> None:
    with pytest.raises(UserError) as caught:
        load_text(tmp_path, text)
    assert fragment in str(caught.value)
    assert "run.yaml" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "seed: !!python/object/apply:os.system ['touch hacked']",
        "seed: !!python/name:os.system",
        "data: !!python/object:unia_med.errors.UserError {}",
        "a: &a [x, x]\nb: [*a, *a]",
        "seed: 1\nseed: 2",
        "seed: [",
        "? [1, 2]\n: 3",
        "1: 2",
        "[" * 5000,
        "seed: 2024-13-45",
        "\x00",
    ],
)
def test_hostile_or_broken_yaml_is_refused(tmp_path: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="run.yaml"):
        load_text(tmp_path, text)
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]


def test_binary_and_huge_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_bytes(b"\xff\xfe\x00seed")
    with pytest.raises(UserError, match="not valid YAML"):
        load_config(path)
    path.write_text("#" * (MAX_BYTES + 1))
    with pytest.raises(UserError, match="1 MiB"):
        load_config(path)


@pytest.mark.parametrize("text", ["", "\n", "# only a comment\n", "---\n", "{}\n", "null\n"])
def test_an_empty_file_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UserError, match="run.yaml: is empty.*acdc.yaml"):
        load_text(tmp_path, text)


def test_dump_and_load_give_an_equal_config(tmp_path: Path) -> None:
    config = load_text(
        tmp_path,
        "data: {root: a b/ü, groups: {R: [RV], L: [MYO, LV]}, grid: {spacing_mm: null}}\nmethod: {preset: published}",
    )
    target = tmp_path / "new" / "config.yaml"
    dump_config(config, target)
    assert load_config(target) == config
    assert [path.name for path in target.parent.iterdir()] == ["config.yaml"]
    assert parse_config(plain(config)) == config


def test_dump_holds_every_setting(tmp_path: Path) -> None:
    dump_config(RunConfig(), tmp_path / "config.yaml")
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    assert values["training"]["iterations"] == RunConfig().training.iterations
    assert set(values) == set(RunConfig.model_fields)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("seed=7", "seed", 7),
        ("training.learning_rate=1e-4", "training.learning_rate", 1e-4),
        ("data.root=2024", "data.root", Path("2024")),
        ("data.root=no", "data.root", Path("no")),
        ("data.root=2024-01-31", "data.root", Path("2024-01-31")),
        ("data.root=a=b [1", "data.root", Path("a=b [1")),
        ("network.weights=none", "network.weights", "none"),
        ("data.grid.spacing_mm=null", "data.grid.spacing_mm", None),
        ("data.grid.size=[64, 32]", "data.grid.size", (64, 32)),
        ("prior.names=[ring]", "prior.names", ["ring"]),
        ("augment.mirror=true", "augment.mirror", True),
        ("data.split={kind: kfold, fold: 2}", "data.split.fold", 2),
    ],
)
def test_override(tmp_path: Path, override: str, path: str, value: object) -> None:
    config: object = load_text(tmp_path, "seed: 1\naugment: {mirror: false}", override)
    for name in path.split("."):
        config = getattr(config, name)
    assert config == value


def test_overrides_keep_their_neighbours_and_the_last_one_wins(tmp_path: Path) -> None:
    text = "training: {iterations: 5, batch_size: 3}"
    config = load_text(tmp_path, text, "training.iterations=6", "training.iterations=7")
    assert (config.training.iterations, config.training.batch_size) == (7, 3)


@pytest.mark.parametrize(
    ("override", "fragment"),
    [
        ("seed", "not of the form key.sub=value"),
        ("=3", "not of the form key.sub=value"),
        ("data..root=x", "not of the form key.sub=value"),
        ("seed.x=3", "'seed' is a value"),
        ("training.iteration=3", "training.iteration: unknown key. Did you mean 'iterations'?"),
        ("training.iterations=[", "not valid YAML"),
        ("seed=!!python/name:os.system", "not valid YAML"),
    ],
)
def test_wrong_override(tmp_path: Path, override: str, fragment: str) -> None:
    with pytest.raises(UserError) as caught:
        load_text(tmp_path, "seed: 1", override)
    assert fragment in str(caught.value)


@pytest.mark.parametrize(
    ("proposals", "fragment"),
    [
        ("{classes: [RB]}", "prior.proposals.classes names RB; the classes are RV, MYO, LV"),
        ("{classes: []}", "prior.proposals.classes"),
        ("{classes: [RV, LV, MYO]}", "prior.proposals.classes names all classes; leave out those that the maps find"),
        ("{classes: [RV], levels: []}", "prior.proposals.levels"),
        ("{classes: [RV], contrast: brigth}", "prior.proposals.contrast"),
        ("{classes: [RV]}, use_tags: false", "set use_tags: true or proposals: null"),
    ],
)
def test_proposals_that_cannot_be_made_are_refused(tmp_path: Path, proposals: str, fragment: str) -> None:
    with pytest.raises(UserError) as caught:
        load_text(tmp_path, f"prior: {{proposals: {proposals}}}")
    assert fragment in str(caught.value)


def test_configs_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RunConfig().seed = 1  # type: ignore[misc]


def test_published_preset_fills_only_what_is_not_given() -> None:
    config = parse_config({"method": {"preset": "published", "flip": False}})
    assert config.method.affinity_loss == "infonce_all"
    assert config.method.flip is False
    assert parse_config({}).method.affinity_loss == "contrastive"


def test_merged_classes_are_the_targets() -> None:
    data = parse_config({"data": {"groups": {"RV": ["RV"], "MYO_LV": ["MYO", "LV"]}}}).data
    assert data.target_classes == ["RV", "MYO_LV"]
    assert data.mask_values == {"RV": 1, "MYO": 2, "LV": 3}


def test_another_method_drops_the_settings_of_the_old_one_with_one_message(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "unia_med"):
        config = load_config("volumes_tags", ["method.pseudo_confidence=0.7", "method.name=partial"])
    assert config.method.name == "partial" and config.method.pseudo_confidence == 0.7
    assert config.method.weights.cross_entropy == 1.0
    (record,) = caplog.records
    assert "cam_source" in record.getMessage() and "weights.classification" in record.getMessage()
    with pytest.raises(UserError, match="unknown key"):
        load_config("volumes_tags", ["method.name=partial", "method.radius=2"])


def test_the_old_name_of_a_renamed_template_still_works() -> None:
    assert load_config("volumes.yaml") == load_config("volumes_tags.yaml")
