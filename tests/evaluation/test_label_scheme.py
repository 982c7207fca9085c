"""What a user is told about label values that mean nothing, and what values of merged classes become."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unia_med.config.load import parse_config
from unia_med.errors import UserError
from unia_med.evaluation.labels import LabelScheme, classes_next_to, parse_classes, plain_labels, scheme_of_segments
from unia_med.evaluation.pairs import Labels

_NAME_THEM = "Name the classes by --config or --classes (NAME,... or 255=NAME,...), or give the right files"


def _labels(*values: float, affine: np.ndarray | None = None, **named: object) -> Labels:
    return Labels(np.array([values]), affine, **named)


def test_values_without_names_have_to_be_whole_numbers_below_255() -> None:
    assert plain_labels(_labels(0, 254.0), "the label").array.tolist() == [[0, 254]]
    with pytest.raises(UserError) as told:
        plain_labels(_labels(0, 0.5, -1, 255, 2), "the prediction")
    assert told.value.what == "the prediction holds the values -1, 0.5, 255, expected whole numbers from 0 to 254"
    assert told.value.remedy == _NAME_THEM
    assert plain_labels(_labels(1, 255), "the label", ignore=True).array.tolist() == [[1, 255]]
    with pytest.raises(UserError, match="holds only 0 and 255"):
        plain_labels(_labels(0, 255), "the label", ignore=True)
    with pytest.raises(UserError) as told:
        plain_labels(_labels(*np.arange(8) + 0.5), "the label")
    assert "0.5, 1.5, 2.5, 3.5, 4.5, 5.5, expected" in told.value.what  # six are enough


def test_values_that_are_no_class_are_named_with_those_that_are() -> None:
    scheme = LabelScheme.of_values({4: "LIVER", 7: "SPLEEN"})
    found = scheme.labels(_labels(0, 4, 7, 255)).array
    assert found.tolist() == [[0, 1, 2, 255]] and found.dtype == np.uint8
    with pytest.raises(UserError) as told:
        scheme.labels(_labels(1, 2, 4, affine=np.eye(4)))
    assert told.value.what == "the label holds the values 1, 2, expected 0, 4, 7"
    with pytest.raises(UserError) as told:
        scheme.labels(_labels(1, 2, 4, 255))  # of a picture, in which 255 is no class to name
    assert told.value.what == "the label holds the values 1, 2, expected 0, 4, 7"
    assert told.value.remedy == _NAME_THEM
    with pytest.raises(UserError) as told:
        scheme.prediction(_labels(*range(1, 12), affine=np.eye(4)))
    assert told.value.what == "the prediction holds the values 1, 2, 3, 5, 6, 8, ..., expected 0, 4, 7"
    with pytest.raises(UserError, match="holds the values 255"):
        scheme.prediction(_labels(4, 255))  # a prediction abstains nowhere
    with pytest.raises(UserError, match="holds the values 255"):
        scheme.labels(_labels(4, 255, affine=np.eye(4)))  # nor does a volume, unless its data set says so


def test_segments_that_are_no_class_are_told_by_their_names(tmp_path: Path) -> None:
    scheme = LabelScheme.of_values({1: "LIVER"})
    names = {2: "Liver", 5: "Kidney", 6: "Background"}
    found = _labels(0, 2, 6, affine=np.eye(4), names=names, path=tmp_path / "a.seg.nrrd")
    assert scheme.labels(found).array.tolist() == [[0, 1, 0]]
    with pytest.raises(UserError) as told:
        scheme.labels(_labels(2, 5, affine=np.eye(4), names=names, path=tmp_path / "a.seg.nrrd"))
    assert told.value.what == "the label holds the segments Kidney, which are no class"


def test_files_that_number_a_segment_differently_are_refused(tmp_path: Path) -> None:
    files = [_labels(1, names={0: "Background", 1: "A", value: "B"}, path=tmp_path / str(value)) for value in (2, 3)]
    found = scheme_of_segments(files[:1])
    assert found is not None and found.names == ("A", "B") and found.predicted == (1, 2)
    with pytest.raises(UserError) as told:
        scheme_of_segments(files)
    assert told.value.what == "segment 'B' has the value 3 here, another in other label files"
    assert scheme_of_segments([files[0], _labels(1)]) is None


def test_merged_classes_are_read_by_their_members_and_predicted_by_their_number() -> None:
    values = {"classes": ["A", "B", "C"], "groups": {"AC": ["A", "C"], "B": ["B"]}}
    scheme = LabelScheme.configured(parse_config({"data": {"name": "volumes", **values}}).data)
    assert (scheme.names, scheme.values, scheme.predicted) == (("AC", "B"), ((1, 3), (2,)), (1, 2))
    assert scheme.labels(_labels(0, 1, 2, 3)).array.tolist() == [[0, 1, 2, 1]]
    assert scheme.prediction(_labels(0, 1, 2)).array.tolist() == [[0, 1, 2]]


@pytest.mark.parametrize("text", ["", "1=", "0=A", "256=A", "x=A"])
def test_what_is_no_class_is_shown_as_it_was_typed(text: str) -> None:
    with pytest.raises(UserError) as told:
        parse_classes([text])
    what = f"{text!r} is no class: a name, or VALUE=NAME with a value from 1 to 255 that is given once"
    assert (told.value.what, told.value.where) == (what, "--classes")
    assert told.value.remedy == "Write for example --classes LIVER,SPLEEN"


def test_classes_that_are_missing_or_named_twice_are_listed() -> None:
    with pytest.raises(UserError) as told:
        parse_classes(["A", "2=A"])
    assert told.value.what == "classes ['A', '2=A'] are empty, or one is named twice"
    assert parse_classes(["255=A", " B "]).values == ((2,), (255,))


def test_names_next_to_predictions(tmp_path: Path) -> None:
    (tmp_path / "classes.json").write_text('{"0": "background", "255": "LUNG"}')
    found = classes_next_to(tmp_path / "a_seg.nii.gz")
    assert found is not None and (found.names, found.predicted) == (("LUNG",), (255,))
    for text in ("{}", '{"0": "background"}', '{"256": "LUNG"}', '{"-1": "LUNG"}'):
        (tmp_path / "classes.json").write_text(text)
        with pytest.raises(UserError) as told:
            classes_next_to(tmp_path)
        assert (told.value.what, told.value.where) == ("names no class", tmp_path / "classes.json")
    (tmp_path / "classes.json").write_text('{"x": "LUNG"}')
    with pytest.raises(UserError, match="cannot be read as class names"):
        classes_next_to(tmp_path)
