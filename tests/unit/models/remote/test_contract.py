"""Contract of remote models: what is not exactly what it says is refused, with one clear sentence."""

from __future__ import annotations

import base64
import copy
import json
from typing import Any

import numpy as np
import pytest

from models.errors import ModelChanged, RemoteModelError
from models.labels.vocabulary import Code
from models.remote.contract import parse_description, parse_json, parse_scores
from tests.support.remote_model import MODEL, prediction

OWN = {"name": "Pacemaker Lead", "code": {"value": "LEAD", "scheme": "99MYSITE", "meaning": "Pacemaker lead"}}


def described(**changed: Any) -> dict[str, Any]:
    return {**copy.deepcopy(MODEL), **changed}


def labelled(**changed: Any) -> dict[str, Any]:
    return described(labels=[{**MODEL["labels"][0], **changed}])


def test_a_description_is_read() -> None:
    read = parse_description(described(), "it")
    assert (read.identity.name, read.identity.version, read.identity.weights_sha256) == (
        "our-chest",
        "1.2.3",
        "ab" * 32,
    )
    assert [each.label.key for each in read.labels] == ["cardiomegaly", "nodule"]
    assert [each.calibrated for each in read.labels] == [True, False]
    assert (read.films, read.most_films, read.text, read.maps) == ("array", 4, "none", False)


def test_thresholds_and_inputs_are_part_of_the_identity() -> None:
    first = parse_description(described(), "it").identity
    other = parse_description(labelled(threshold=0.4), "it").identity
    text = parse_description(described(inputs={**MODEL["inputs"], "text": "optional"}), "it").identity
    assert first.calibration != other.calibration
    assert first.preprocessing != text.preprocessing
    assert first == parse_description(described(), "it").identity


def test_a_model_defines_labels_of_its_own() -> None:
    (label,) = parse_description(labelled(label="pacemaker_lead", definition=OWN), "it").labels
    assert label.label.key == "pacemaker_lead"
    assert label.label.code == Code("LEAD", "99MYSITE", "Pacemaker lead")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (described(contract=2), "contract is 2, not 1"),
        (described(contract=True), "contract is True, not 1"),
        (described(name="Our Chest"), "name and version is 'Our Chest 1.2.3'"),
        (described(version="1"), "name and version"),
        (described(version=1), "version is 1, not a text"),
        (described(digest="AB" * 32), "digest is 'ABAB"),
        (described(digest=None), "digest is None, not a text"),
        (described(labels=[]), "labels is 'list', not a list of 1 to 1000"),
        (described(labels={}), "labels is 'dict'"),
        (described(labels=["cardiomegaly"]), "a label is 'cardiomegaly', not an object"),
        (described(labels=MODEL["labels"] * 2), "labels is 'cardiomegaly', not labels that are named once"),
        (labelled(label="gloom"), "label is 'gloom', not one of the vocabulary"),
        (labelled(label="bad\x1b[2J\nline"), r"label is 'bad\x1b[2J\nline'"),
        (labelled(label="Lead", definition=OWN), "not a new key in snake case"),
        (labelled(definition=OWN), "not a new key in snake case"),
        (labelled(label="lead", definition={"name": "x"}), "label lead: write name, code"),
        (labelled(label="lead", definition=[1]), "label lead: write name, code"),
        (labelled(threshold=0), "the threshold of 'cardiomegaly' is 0.0, not above 0"),
        (labelled(threshold=1.5), "the threshold of 'cardiomegaly' is 1.5"),
        (labelled(threshold=float("nan")), "the threshold of 'cardiomegaly' is nan"),
        (labelled(threshold="0.5"), "the threshold of 'cardiomegaly' is '0.5'"),
        (labelled(calibrated=1), "calibrated is 1, not true or false"),
        (described(inputs=None), "inputs is 'NoneType'"),
        (
            described(inputs={**MODEL["inputs"], "films": "png"}),
            "inputs.films is 'png', not one of array, dicom",
        ),
        (described(inputs={**MODEL["inputs"], "text": []}), "inputs.text is []"),
        (described(inputs={**MODEL["inputs"], "most_films": 0}), "inputs.most_films is 0"),
        (described(inputs={**MODEL["inputs"], "most_films": True}), "inputs.most_films is True"),
        (described(maps=None), "maps is None, not true or false"),
    ],
)
def test_a_wrong_description_is_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(RemoteModelError) as refused:
        parse_description(table, "model X")
    text = str(refused.value)
    assert text.startswith("model X: its description")
    assert said in text
    assert text.isascii()
    assert text.isprintable()
    assert len(text) < 400


def with_film(**changed: Any) -> dict[str, Any]:
    return {**prediction(), "films": [{"id": "1", "scores": [0.75, 0.25], **changed}]}


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (prediction(contract="1"), "contract is '1', not 1"),
        (prediction(name=None), "name is None, not a text"),
        (
            prediction(labels=["Nodule", "cardiomegaly"]),
            "stands in the place of 'cardiomegaly', which is another order",
        ),
        (prediction(labels=["cardiomegaly", "gloom"]), "'gloom' stands in the place of 'Nodule'"),
        (prediction(labels=["cardiomegaly"]), "there are 1, and 2 were described"),
        (prediction(labels=None), "they are None, not a list"),
        ({**prediction(), "films": None}, "holds no films, and 1 were sent"),
        (prediction(2), "holds 2 films, and 1 were sent"),
        (with_film(id="2"), "does not hold film 1 in its place"),
        (with_film(id=1), "does not hold film 1 in its place"),
        (with_film(scores=[0.5]), "holds 1 scores for film 1, and there are 2 labels"),
        (with_film(scores=None), "holds no scores for film 1"),
        (with_film(scores=[0.5, float("nan")]), "the score of Nodule for film 1 is nan"),
        (with_film(scores=[float("inf"), 0]), "the score of cardiomegaly for film 1 is inf"),
        (with_film(scores=[-0.01, 0]), "is -0.01, not a number within 0 and 1"),
        (with_film(scores=[0, 1.01]), "is 1.01, not a number within 0 and 1"),
        (with_film(scores=[10**400, 0]), "is 1000"),
        (with_film(scores=[True, 0]), "is True, not a number"),
        (with_film(scores=["0.5", 0]), "is '0.5', not a number"),
        (with_film(maps={"Nodule": {}}), "holds maps, and its description says that it gives none"),
        (with_film(maps=[]), "maps of film 1 is [], not an object"),
    ],
)
def test_a_wrong_prediction_is_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(RemoteModelError) as refused:
        parse_scores(table, parse_description(described(), "it"), ["1"], "model X")
    text = str(refused.value)
    assert text.startswith("model X: its prediction")
    assert said in text
    assert len(text) < 300


@pytest.mark.parametrize(("entry", "now"), [("name", "other"), ("version", "1.2.4"), ("digest", "cd" * 32)])
def test_another_model_than_was_described_is_told_apart(entry: str, now: str) -> None:
    with pytest.raises(ModelChanged, match=f"its {entry} is '{now[:5]}"):
        parse_scores(prediction(**{entry: now}), parse_description(described(), "it"), ["1"], "it")


def map_entry(rows: int = 2, columns: int = 3, data: Any = None) -> dict[str, Any]:
    grid = base64.b64encode(bytes(range(0, 240, 40))).decode()
    return {"rows": rows, "columns": columns, "data": grid if data is None else data}


def test_maps_are_read() -> None:
    drawing = parse_description(described(maps=True), "it")
    read = parse_scores(with_film(maps={"Nodule": map_entry()}), drawing, ["1"], "it")
    (maps,) = read.maps
    wanted = np.arange(0, 240, 40, dtype=np.float32).reshape(2, 3) / np.float32(255)
    assert maps["nodule"].dtype == np.float32
    assert np.array_equal(maps["nodule"], wanted)


@pytest.mark.parametrize(
    ("maps", "said"),
    [
        ({"gloom": map_entry()}, "for a label that it described"),
        ({"Nodule": []}, "the map of Nodule for film 1 is []"),
        ({"Nodule": map_entry(rows=3)}, "is 6, not 3 x 3 bytes"),
        ({"Nodule": map_entry(rows=0)}, "rows of the map of Nodule for film 1 is 0"),
        ({"Nodule": map_entry(columns=10**9)}, "columns of the map of Nodule for film 1 is 1000000000"),
        ({"Nodule": map_entry(data="*")}, "is no base64"),
        ({"Nodule": map_entry(data="é")}, "is no base64"),
        ({"Nodule": map_entry(data=7)}, "is no base64"),
    ],
)
def test_a_wrong_map_is_refused(maps: dict[str, Any], said: str) -> None:
    drawing = parse_description(described(maps=True), "it")
    with pytest.raises(RemoteModelError, match="its prediction") as refused:
        parse_scores(with_film(maps=maps), drawing, ["1"], "it")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"<html><body>Welcome", "is no JSON; it begins with '<html><body>Welcome'"),
        (b"\xff\xfe", "is no JSON"),
        (b"", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        (b"[1]", "is no JSON object"),
        (b"1" * 5000, "is no JSON"),
        (b"[" + b"0," * 300_000 + b"0]", "holds more than 250000 values"),
    ],
)
def test_what_is_no_answer_is_refused(raw: bytes, said: str) -> None:
    with pytest.raises(RemoteModelError) as refused:
        parse_json(raw, "model X")
    assert said in str(refused.value)
    assert len(str(refused.value)) < 200


def test_a_right_answer_is_taken() -> None:
    table = parse_json(json.dumps(prediction(2)).encode(), "it")
    read = parse_scores(table, parse_description(described(), "it"), ["1", "2"], "it")
    assert read.scores == ((0.75, 0.25), (0.75, 0.25))
    assert read.maps == ({}, {})
