"""Contract of a remote model: what its answers must say, read and checked; nothing is guessed or repaired."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from models.bundles.bundle_labels import define_label
from models.bundles.description import TEXT_INPUTS
from models.bundles.lookup import BUNDLE_NAME
from models.errors import ModelChanged, RemoteModelError, VocabularyError
from models.foreign.label_names import known_label
from models.labels.vocabulary import Label, load_vocabulary
from models.processing.types import FloatArray, Identity

CONTRACT: Final = 1
"""Version of the contract."""
ARRAY: Final = "array"
DICOM: Final = "dicom"
FILM_INPUTS: Final = (ARRAY, DICOM)
"""Forms of a film: its decoded pixels, or its DICOM file."""
MODEL_PATH: Final = "/v1/model"
PREDICT_PATH: Final = "/v1/predict"
HEALTH_PATH: Final = "/v1/health"
MOST_LABELS: Final = 1000
MOST_FILMS: Final = 64
MOST_SIDE: Final = 4096
"""Largest side of a map, in pixels."""
_MOST_VALUES: Final = 250_000
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_KEY: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class RemoteLabel:
    """Label of a remote model.

    Attributes
    ----------
    name
        Name by which the model calls it.
    label
        Label of the vocabulary, or one that the model defines.
    threshold
        Score, in (0, 1], from which it is reported as present.
    calibrated
        Whether its scores are probabilities.
    """

    name: str
    label: Label
    threshold: float
    calibrated: bool


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """Description of a remote model.

    Attributes
    ----------
    identity
        Name, version and digest; hashes of the inputs and of the labels with their thresholds.
    labels
        Labels, in the order of the scores.
    films
        Form of the films, one of :data:`FILM_INPUTS`.
    most_films
        Most films of one study.
    text
        Text input: none, optional or required.
    maps
        Whether it gives maps.
    """

    identity: Identity
    labels: tuple[RemoteLabel, ...]
    films: str
    most_films: int
    text: str
    maps: bool


@dataclass(frozen=True, slots=True, eq=False)
class StudyScores:
    """Answer of a remote model for one study.

    Attributes
    ----------
    scores
        Scores in [0, 1], by film, then in the order of the labels.
    maps
        Maps of each film by the key of the label, shape (rows, columns), float32 in [0, 1].
    """

    scores: tuple[tuple[float, ...], ...]
    maps: tuple[Mapping[str, FloatArray], ...]


def parse_json(raw: bytes, name: str) -> dict[str, Any]:
    """Read an answer as a JSON object.

    Raises
    ------
    RemoteModelError
        If it is none, or holds more values than any answer needs.
    """
    # Each value takes some dozens of bytes when it is read.
    if sum(map(raw.count, b",{[")) > _MOST_VALUES:
        raise RemoteModelError(f"{name}: its answer holds more than {_MOST_VALUES} values")
    try:
        found = json.loads(raw.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        start = ascii(raw[:40].decode("utf-8", "replace"))
        raise RemoteModelError(f"{name}: its answer is no JSON; it begins with {start}") from error
    if not isinstance(found, dict):
        raise RemoteModelError(f"{name}: its answer is no JSON object")
    return found


def parse_description(table: Mapping[str, Any], name: str) -> ModelDescription:
    """Read the answer to ``GET /v1/model``.

    Raises
    ------
    RemoteModelError
        If an entry is missing or wrong, or a label is neither in the vocabulary nor defined.
    """
    read = _Reader(f"{name}: its description")
    read.check_contract(table)
    bundle, version = read.text(table, "name"), read.text(table, "version")
    if not BUNDLE_NAME.fullmatch(f"{bundle}-{version}"):
        raise read.wrong("name and version", f"{bundle} {version}", "such as our-chest and 1.0.0")
    digest = read.text(table, "digest")
    if not _DIGEST.fullmatch(digest):
        raise read.wrong("digest", digest, "64 digits of lower-case hexadecimal, such as a SHA-256")
    entries = table.get("labels")
    if not isinstance(entries, list) or not 0 < len(entries) <= MOST_LABELS:
        raise read.wrong("labels", type(entries).__name__, f"a list of 1 to {MOST_LABELS} labels")
    labels = tuple(_label(entry, read) for entry in entries)
    keys = [each.label.key for each in labels]
    if repeated := next((key for key in keys if keys.count(key) > 1), ""):
        raise read.wrong("labels", repeated, "labels that are named once")
    inputs = table.get("inputs")
    if not isinstance(inputs, dict):
        raise read.wrong("inputs", type(inputs).__name__, "an object with films, most_films and text")
    films, text = read.choice(inputs, "films", FILM_INPUTS), read.choice(inputs, "text", TEXT_INPUTS)
    most = inputs.get("most_films")
    if type(most) is not int or not 0 < most <= MOST_FILMS:
        raise read.wrong("inputs.most_films", most, f"a whole number from 1 to {MOST_FILMS}")
    said = [[each.name, each.label.key, each.threshold, each.calibrated] for each in labels]
    identity = Identity(bundle, version, digest, _digest([films, text]), _digest(said))
    return ModelDescription(identity, labels, films, most, text, read.flag(table, "maps"))


def parse_scores(
    table: Mapping[str, Any], described: ModelDescription, films: Sequence[str], name: str
) -> StudyScores:
    """Read the answer to ``POST /v1/predict``.

    Parameters
    ----------
    described
        Description that the model gave before.
    films
        Ids of the films that were sent, in order.

    Raises
    ------
    ModelChanged
        If another version, or another digest, answers than was described.
    RemoteModelError
        If labels, films, scores or maps are not those that were asked for.
    """
    read = _Reader(f"{name}: its prediction")
    read.check_contract(table)
    identity = described.identity
    for entry, then in (
        ("name", identity.name),
        ("version", identity.version),
        ("digest", identity.weights_sha256),
    ):
        now = read.text(table, entry)
        if now != then:
            raise ModelChanged(
                f"{name}: its {entry} is {now[:80]!a} now, and was {then} when it was described"
            )
    wanted = [label.name for label in described.labels]
    labels = table.get("labels")
    if labels != wanted:
        raise RemoteModelError(f"{read.where} is in other labels: {_difference(labels, wanted)}")
    rows = table.get("films")
    if not isinstance(rows, list) or len(rows) != len(films):
        count = len(rows) if isinstance(rows, list) else "no"
        raise RemoteModelError(f"{read.where} holds {count} films, and {len(films)} were sent")
    scores, maps = [], []
    for row, film in zip(rows, films, strict=True):
        if not isinstance(row, dict) or row.get("id") != film:
            raise RemoteModelError(f"{read.where} does not hold film {film} in its place")
        scores.append(_film_scores(row.get("scores"), described, film, read))
        maps.append(_film_maps(row.get("maps"), described, film, read))
    return StudyScores(tuple(scores), tuple(maps))


class _Reader:
    """Reader of entries, whose errors say where."""

    def __init__(self, where: str) -> None:
        self.where = where

    def wrong(self, entry: str, found: Any, wanted: str) -> RemoteModelError:
        return RemoteModelError(f"{self.where}: {entry} is {ascii(found)[:80]}, not {wanted}")

    def check_contract(self, table: Mapping[str, Any]) -> None:
        if type(table.get("contract")) is not int or table["contract"] != CONTRACT:
            raise self.wrong("contract", table.get("contract"), str(CONTRACT))

    def text(self, table: Mapping[str, Any], entry: str) -> str:
        found = table.get(entry)
        if not isinstance(found, str):
            raise self.wrong(entry, found, "a text")
        return found

    def flag(self, table: Mapping[str, Any], entry: str) -> bool:
        found = table.get(entry)
        if not isinstance(found, bool):
            raise self.wrong(entry, found, "true or false")
        return found

    def choice(self, table: Mapping[str, Any], entry: str, choices: Sequence[str]) -> str:
        found = table.get(entry)
        if found not in choices:
            raise self.wrong(f"inputs.{entry}", found, f"one of {', '.join(choices)}")
        return str(found)

    def number(self, found: Any, entry: str) -> float:
        # NaN fails both comparisons; a number that is too large for a float is compared before it is one.
        if type(found) not in (int, float) or not 0 <= found <= 1:
            raise self.wrong(entry, found, "a number within 0 and 1")
        return float(found)


def _label(entry: Any, read: _Reader) -> RemoteLabel:
    if not isinstance(entry, dict):
        raise read.wrong("a label", entry, "an object")
    name = read.text(entry, "label")
    threshold = read.number(entry.get("threshold"), f"the threshold of {ascii(name)[:80]}")
    if not threshold:
        raise read.wrong(f"the threshold of {ascii(name)[:80]}", threshold, "above 0")
    definition = entry.get("definition")
    found = known_label(name)
    if definition is not None:
        if not _KEY.fullmatch(name) or name in load_vocabulary().labels:
            raise read.wrong("a label with a definition", name, "a new key in snake case")
        try:
            found = define_label(name, definition)
        except VocabularyError as error:
            raise RemoteModelError(f"{read.where}: {ascii(str(error))[1:-1][:300]}") from error
    if found is None:
        raise read.wrong("label", name, "one of the vocabulary, nor has it a definition with a code")
    return RemoteLabel(name, found, threshold, read.flag(entry, "calibrated"))


def _difference(found: Any, wanted: Sequence[str]) -> str:
    if not isinstance(found, list):
        return f"they are {ascii(found)[:80]}, not a list"
    if len(found) != len(wanted):
        return f"there are {len(found)}, and {len(wanted)} were described"
    place = next(place for place, name in enumerate(wanted) if found[place] != name)
    order = "" if found[place] not in wanted else ", which is another order"
    return f"{ascii(found[place])[:80]} stands in the place of {wanted[place]!a}{order}"


def _film_scores(found: Any, described: ModelDescription, film: str, read: _Reader) -> tuple[float, ...]:
    if not isinstance(found, list) or len(found) != len(described.labels):
        count = len(found) if isinstance(found, list) else "no"
        raise RemoteModelError(
            f"{read.where} holds {count} scores for film {film}, and there are {len(described.labels)} labels"
        )
    return tuple(
        read.number(score, f"the score of {label.name} for film {film}")
        for score, label in zip(found, described.labels, strict=True)
    )


def _film_maps(found: Any, described: ModelDescription, film: str, read: _Reader) -> dict[str, FloatArray]:
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise read.wrong(f"maps of film {film}", found, "an object by label")
    if found and not described.maps:
        raise RemoteModelError(f"{read.where} holds maps, and its description says that it gives none")
    keys = {label.name: label.label.key for label in described.labels}
    maps = {}
    for label, entry in found.items():
        if label not in keys:
            raise read.wrong(f"maps of film {film}", label, "for a label that it described")
        maps[keys[label]] = _map(entry, f"the map of {label} for film {film}", read)
    return maps


def _map(entry: Any, what: str, read: _Reader) -> FloatArray:
    if not isinstance(entry, dict):
        raise read.wrong(what, entry, "an object with rows, columns and data")
    rows, columns = (_side(entry.get(part), f"{part} of {what}", read) for part in ("rows", "columns"))
    data = entry.get("data")
    try:
        raw = base64.b64decode(data if isinstance(data, str) else "?", validate=True)
    except (binascii.Error, ValueError) as error:
        raise RemoteModelError(f"{read.where}: {what} is no base64") from error
    if len(raw) != rows * columns:
        raise read.wrong(what, len(raw), f"{rows} x {columns} bytes")
    return np.frombuffer(raw, np.uint8).reshape(rows, columns).astype(np.float32) / np.float32(255)


def _side(found: Any, what: str, read: _Reader) -> int:
    if type(found) is not int or not 0 < found <= MOST_SIDE:
        raise read.wrong(what, found, f"a whole number from 1 to {MOST_SIDE}")
    return int(found)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:16]
