"""Remote predictor: a model behind HTTP that reads studies as a loaded bundle does."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from models.bundles.predictor import TracedPrediction
from models.bundles.runtime import HTTP
from models.bundles.session import Inference, Session
from models.errors import PredictionError, RemoteModelError, UsageError
from models.explain.methods import GIVEN
from models.processing.map_check import MapCheck
from models.processing.types import FindingScore, FloatArray, Identity, Prediction, Study
from models.remote.address import parse_address
from models.remote.contract import (
    CONTRACT,
    DICOM,
    HEALTH_PATH,
    MODEL_PATH,
    PREDICT_PATH,
    ModelDescription,
    RemoteLabel,
    StudyScores,
    parse_description,
    parse_json,
    parse_scores,
)
from models.remote.multipart import WHITE, Part, make_body
from models.remote.transport import HttpAnswer, HttpTransport, RequestBody, TransportLimits

_DESCRIPTION_BYTES: Final = 2**20
"""Largest description, in bytes."""


class RemoteSession:
    """Session of a remote model, of which nothing runs here.

    Parameters
    ----------
    url
        Address of the model.
    name
        Name of the model.
    """

    runtime = HTTP

    def __init__(self, url: str, name: str) -> None:
        self._url, self._name = url, name

    @property
    def stand_in(self) -> str:
        """Empty: the model chooses its own device."""
        return ""

    def stand_in_by_processor(self) -> None:
        """Do nothing: the model chooses its own device."""

    def run(self, films: Sequence[FloatArray], tokens: object) -> Inference:  # noqa: ARG002
        """Refuse: a remote model reads whole studies.

        Raises
        ------
        UsageError
            Always.
        """
        raise UsageError(f"model {self._name} runs elsewhere and reads whole studies: use predict")

    def head_weights(self) -> FloatArray | None:
        """Return None: the weights are elsewhere."""
        return None

    def describe(self) -> Mapping[str, str]:
        """Address of the model."""
        return {"device": f"remote, {self._url}"}


class RemotePredictor:
    """Model that is asked over HTTP, by the contract of ``docs/remote-models.md``.

    It is described when it is made. Each study is one request, which is repeated where the model does not
    answer: a prediction changes nothing there.

    Parameters
    ----------
    url
        Address; https, or http to this machine.
    token_file
        File with the bearer token, read at each request; None for none.
    tls_ca
        File with the certificates that are trusted, PEM; None for those of the system.
    limits
        Limits of time and size; None for the usual ones.

    Attributes
    ----------
    url
        Address.
    description
        Description that the model gave of itself.
    identity
        Identity of the model; `weights_sha256` is its digest.
    labels
        Labels, in the order of the predictions' findings.
    text
        Text input of the model: none, optional or required.
    explanation
        ``given`` where the model gives maps, else ``none``.
    map_check
        Check that withholds flat maps.
    session
        Session that names the place where it runs.

    Raises
    ------
    UsageError
        If the address is none, or would carry films unencrypted over a network.
    ModelUnavailable
        If the model does not answer in time.
    RemoteModelError
        If it answers otherwise than the contract says.
    """

    runtime: Final = HTTP
    map_check: Final = MapCheck()

    def __init__(
        self,
        url: str,
        *,
        token_file: Path | None = None,
        tls_ca: Path | None = None,
        limits: TransportLimits | None = None,
    ) -> None:
        address = parse_address(url)
        self.url = address.url
        self._transport = HttpTransport(address, token_file=token_file, tls_ca=tls_ca, limits=limits)
        self.description: ModelDescription = self.describe()
        self.identity: Identity = self.description.identity
        self.labels = tuple(each.label for each in self.description.labels)
        self.text: str = self.description.text
        self.explanation = GIVEN if self.description.maps else "none"
        self.session: Session = RemoteSession(self.url, self.identity.name)

    @property
    def films(self) -> str:
        """Form of the films that it reads: ``array`` or ``dicom``."""
        return self.description.films

    @property
    def most_films(self) -> int:
        """Most films of one study."""
        return self.description.most_films

    def describe(self) -> ModelDescription:
        """Ask the model what it is now; what this predictor was made for stays.

        Raises
        ------
        ModelUnavailable, RemoteModelError
            As the constructor.
        """
        answer = self._transport.ask("GET", MODEL_PATH, most_bytes=_DESCRIPTION_BYTES)
        return parse_description(self._table(answer), self._transport.name)

    def check_health(self) -> None:
        """Ask once whether the model can read now.

        Raises
        ------
        ModelUnavailable
            If it cannot, or does not answer in time.
        RemoteModelError
            If it answers otherwise than the contract says.
        """
        answer = self._transport.ask("GET", HEALTH_PATH, most_bytes=_DESCRIPTION_BYTES, retries=0)
        if self._table(answer).get("status") != "ok":
            raise RemoteModelError(f"{self._transport.name}: its health is not the status ok")

    def warm_up(self) -> None:
        """Check its health; the model warms up itself."""
        self.check_health()

    def predict(
        self,
        studies: Sequence[Study],
        *,
        views: Mapping[str, str] | None = None,
        files: Mapping[str, Path] | None = None,
    ) -> list[Prediction]:
        """Predict the findings of each study, as :meth:`trace` does."""
        return [traced.prediction for traced in self.trace(studies, views=views, files=files)]

    def trace(
        self,
        studies: Sequence[Study],
        *,
        views: Mapping[str, str] | None = None,
        files: Mapping[str, Path] | None = None,
    ) -> list[TracedPrediction]:
        """Predict the findings of each study, and keep the maps that the model gives.

        A study's score is the mean over its films. The model gets numbers in the place of the films'
        identifiers.

        Parameters
        ----------
        views
            View of each film by its identifier, ``frontal`` or ``lateral``; others are sent as unknown.
        files
            DICOM file of each film by its identifier, for a model that reads those.

        Raises
        ------
        PredictionError
            If a study lacks the text or the files that the model needs, or has more films than it reads.
        ModelUnavailable
            If the model does not answer in time.
        ModelChanged
            If another version of it answers than was described.
        RemoteModelError
            If it answers otherwise than the contract says.
        """
        return [self._trace(study, views or {}, files or {}) for study in studies]

    def _trace(self, study: Study, views: Mapping[str, str], files: Mapping[str, Path]) -> TracedPrediction:
        name = f"model {self.identity.name}"
        if self.text == "required" and not (study.text or "").strip():
            raise PredictionError(f"{name} needs the study's text, and there is none: use another model")
        if len(study.films) > self.most_films:
            raise PredictionError(
                f"{name} reads {self.most_films} films of a study, and this one has {len(study.films)}"
            )
        ids = [str(place) for place in range(1, len(study.films) + 1)]
        try:
            body = self._body(study, ids, views, files)
        except OSError as error:
            raise PredictionError(f"{name}: the file {error.filename}: {error.strerror}") from error
        answer = self._transport.ask("POST", PREDICT_PATH, body)
        found = parse_scores(self._table(answer), self.description, ids, self._transport.name)
        return TracedPrediction(study, self._prediction(found), None, found.maps)

    def _body(
        self, study: Study, ids: Sequence[str], views: Mapping[str, str], files: Mapping[str, Path]
    ) -> RequestBody:
        entries, parts = [], []
        for id_, film in zip(ids, study.films, strict=True):
            entry: dict[str, Any] = {"id": id_, "view": views.get(film.identifier) or None}
            if self.films == DICOM:
                if film.identifier not in files:
                    raise PredictionError(
                        f"model {self.identity.name} reads DICOM files, and film {film.identifier} has none"
                    )
                parts.append(Part(id_, "application/dicom", files[film.identifier]))
            else:
                entry |= {"rows": film.pixels.shape[0], "columns": film.pixels.shape[1]}
                parts.append(Part(id_, "application/octet-stream", film.pixels))
            entries.append(entry)
        described: dict[str, Any] = {
            "contract": CONTRACT,
            "films": entries,
            "white": WHITE,
            "text": None if self.text == "none" else study.text,
            "maps": self.description.maps,
        }
        return make_body(described, parts)

    def _prediction(self, found: StudyScores) -> Prediction:
        scores = np.array(found.scores, np.float64)
        mean = scores.mean(axis=0)
        return Prediction(
            identity=self.identity,
            findings=tuple(
                _finding(label, float(mean[column]), scores[:, column])
                for column, label in enumerate(self.description.labels)
            ),
            embedding=None,
        )

    def _table(self, answer: HttpAnswer) -> dict[str, Any]:
        """JSON object of an answer that says that all went well."""
        name = self._transport.name
        if answer.status != 200:
            raise RemoteModelError(f"{name}: it answers {answer.status}{_said(answer)}{_hint(answer.status)}")
        if answer.content_type != "application/json":
            raise RemoteModelError(
                f"{name}: it answers {ascii(answer.content_type)[:80]} and not application/json"
            )
        return parse_json(answer.content, name)


def _finding(label: RemoteLabel, score: float, films: np.ndarray[Any, Any]) -> FindingScore:
    return FindingScore(
        key=label.label.key,
        score=score,
        probability=score if label.calibrated else None,
        threshold=label.threshold,
        present=score >= label.threshold,
        film_scores=tuple(float(value) for value in films),
    )


def _said(answer: HttpAnswer) -> str:
    """Reason that an answer gives in its entry ``error``, for a person; empty without one."""
    try:
        found = json.loads(answer.content)["error"] if answer.content_type == "application/json" else None
    except (ValueError, LookupError, TypeError, RecursionError):
        found = None
    return f": {ascii(found)[1:-1][:200]}" if isinstance(found, str) else ""


def _hint(status: int) -> str:
    if status in (401, 403):
        return "; set the file of its token"
    return "; is this the address of a model?" if status == 404 else ""
