"""Records of analyses, for the web pages and the API, which load no model and parse no report.

A row of the table ``reading`` is one analysed revision of a study; its findings are rows of ``finding``. Both
are written in the transaction that records the outcome
(:meth:`dicom_node.store.analysis_leases.AnalysisLeases.finish`) and stay as long as the study. A later
revision adds its own rows.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, RowMapping, func, select

from dicom_node.store import database, study_embeddings
from dicom_node.store.purge_trace import PurgeTrace
from dicom_node.store.study_embeddings import StudyEmbedding
from dicom_node.store.tables import finding, reading, study


@dataclass(frozen=True, slots=True)
class FindingRecord:
    """Finding: the model's answer for one label.

    Attributes
    ----------
    key, name
        Key and name of the label.
    certainty
        Calibrated probability in [0, 1]; None when there is no calibration.
    score
        Output of the model in [0, 1], not calibrated.
    threshold
        Threshold on the scale of `certainty` when there is one, else on that of `score`.
    presence
        ``present``, ``absent`` or ``undetermined``.
    low, high
        Limits of the 95 % interval around `certainty`; None where the calibration gives none.
    """

    key: str
    name: str
    certainty: float | None
    score: float
    threshold: float
    presence: str
    low: float | None = None
    high: float | None = None

    @property
    def value(self) -> float:
        """Number that is compared with the threshold: `certainty`, else `score`."""
        return self.score if self.certainty is None else self.certainty

    @property
    def margin(self) -> float:
        """Log-odds of `value` less those of the threshold: 0 or more at or above it."""
        return _log_odds(self.value) - _log_odds(self.threshold)


def _log_odds(share: float) -> float:
    inside = min(max(share, 1e-9), 1 - 1e-9)
    return math.log(inside / (1 - inside))


@dataclass(frozen=True, slots=True)
class ImageRecord:
    """Image of the study, and the reason when it was not analysed.

    Attributes
    ----------
    view
        ``frontal`` or ``lateral`` when a gate model saw it, else the header's View Position; may be empty.
    reason
        Key into ``results.codes.REFUSALS``; empty when the image was analysed.
    exclusion
        The reason as a sentence.
    remarks
        What was read otherwise than the header says, one clause each.
    inverted
        True when the image was read with the grey scale that is the opposite of what its header says.
    turns, mirrored
        Quarter turns counter-clockwise, 0 to 3, and whether left and right were exchanged after them, to
        read the image.
    """

    sop_instance_uid: str
    view: str
    reason: str
    exclusion: str
    remarks: tuple[str, ...] = ()
    inverted: bool = False
    turns: int = 0
    mirrored: bool = False


@dataclass(frozen=True, slots=True)
class HeatMapRecord:
    """Heat map: its finding, image and method. The pixels are in the heat map file, in the same order.

    Attributes
    ----------
    key
        Key of the finding.
    sop_instance_uid
        Image that the map was computed for.
    method
        Name of the explanation method.
    """

    key: str
    sop_instance_uid: str
    method: str


@dataclass(frozen=True, slots=True)
class SimilarCaseRecord:
    """Case of a public reference set that is similar to the study.

    Attributes
    ----------
    identifier
        Identifier of the case in its collection.
    similarity
        Cosine similarity in [-1, 1].
    labels
        Names of the labels that are present by the reference standard.
    report
        Findings and impression of its report; empty where there is none.
    """

    identifier: str
    similarity: float
    labels: tuple[str, ...]
    report: str = ""


@dataclass(frozen=True, slots=True)
class SimilarCasesRecord:
    """Similar cases, most similar first, and their agreement with the model.

    Attributes
    ----------
    index
        Name of the index that was searched.
    agreement
        Share of the model's answers that the cases support, in [0, 1].
    disagrees
        Whether the agreement is so low that a reader must be told.
    """

    index: str
    cases: tuple[SimilarCaseRecord, ...]
    agreement: float
    disagrees: bool


@dataclass(frozen=True, slots=True)
class FindingChangeRecord:
    """Change of one finding since the prior.

    Attributes
    ----------
    key
        Key of the label.
    certainty, score, presence
        Answer for the prior, as in :class:`FindingRecord`.
    change
        ``new``, ``gone`` or ``unchanged``.
    """

    key: str
    certainty: float | None
    score: float
    presence: str
    change: str


@dataclass(frozen=True, slots=True)
class PriorComparisonRecord:
    """Comparison with the patient's prior study, or the reason why there is no prior.

    Attributes
    ----------
    study_instance_uid, study_date
        Study Instance UID and Study Date of the prior; empty when there is none.
    reason
        Reason why there is no prior, as one clause; empty when there is one.
    changes
        Changes of the findings that are present now or were present then.
    """

    study_instance_uid: str
    study_date: str
    reason: str
    changes: tuple[FindingChangeRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class WordWeightsRecord:
    """Words of the text that the model was given, weighted for one finding.

    Attributes
    ----------
    key
        Key of the label.
    words
        Words in the order of the text, each with its contribution to the finding's logit; a negative one
        speaks against the finding.
    """

    key: str
    words: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class AnalysisRecord:
    """Record of one analysis.

    Attributes
    ----------
    model, model_version
        Name and version of the model bundle; empty when no model was run.
    parameters
        Parameters of the algorithm, such as ``weights_sha256=...``.
    normality
        ``present`` for a normal study, ``absent`` for an abnormal one, else ``undetermined``.
    maps_file
        Name of the heat map file, from :meth:`dicom_node.store.heatmaps.HeatMaps.keep`; `maps` describes its
        maps, in order.
    similar
        Similar cases of a reference set; None when nothing was searched.
    embedding
        Embedding of the study, for the search among the node's own studies; None where there is none. It is
        only written, and not read back.
    prior
        Comparison with the prior; None when no prior was looked for.
    words
        Weighted words of the text that the model was given, for some findings; empty when none were weighted.
    role
        Role of the model: ``primary``, or ``shadow`` for one whose answers never leave the node.
    seconds
        Time that the model took for the study's films, in seconds; None when no model was run, and for
        records of earlier versions.
    """

    model: str
    model_version: str
    parameters: tuple[str, ...]
    normality: str
    findings: tuple[FindingRecord, ...]
    images: tuple[ImageRecord, ...]
    maps: tuple[HeatMapRecord, ...] = ()
    maps_file: str = ""
    similar: SimilarCasesRecord | None = None
    embedding: StudyEmbedding | None = None
    prior: PriorComparisonRecord | None = None
    words: tuple[WordWeightsRecord, ...] = ()
    role: str = "primary"
    seconds: float | None = None

    @property
    def names(self) -> dict[str, str]:
        """Names of the findings by their keys."""
        return {entry.key: entry.name for entry in self.findings}


@dataclass(frozen=True, slots=True)
class StoredAnalysisRecord:
    """Record of an analysis with its key; times in seconds since the epoch.

    Attributes
    ----------
    purged_maps
        Trace of the purge of its heat maps, which `record` then does not name; None when they are kept.
    """

    id: int
    study_id: int
    revision: int
    created_at: float
    position: int
    record: AnalysisRecord = field(repr=False)
    purged_maps: PurgeTrace | None = None


@dataclass(frozen=True, slots=True)
class ModelOfStudy:
    """Model that read a study.

    Attributes
    ----------
    position
        Position among the models of the revision.
    role
        ``primary`` or ``shadow``.
    name, version
        Name and version of the model; empty when no model was run.
    """

    position: int
    role: str
    name: str
    version: str


def insert_record(
    connection: Connection, study_id: int, revision: int, entry: AnalysisRecord, now: float, position: int = 0
) -> None:
    """Insert a record within the caller's transaction.

    Parameters
    ----------
    position
        Position among the records of the revision; 0 for the one that lists and pages show.
    """
    content = {
        "parameters": entry.parameters,
        "images": [asdict(image) for image in entry.images],
        "maps": [asdict(each) for each in entry.maps],
        "similar": None if entry.similar is None else asdict(entry.similar),
        "prior": None if entry.prior is None else asdict(entry.prior),
        "words": [asdict(each) for each in entry.words],
    }
    key = connection.execute(
        reading.insert().values(
            study_id=study_id,
            revision=revision,
            created_at=now,
            position=position,
            role=entry.role,
            model=entry.model,
            model_version=entry.model_version,
            normality=entry.normality,
            seconds=entry.seconds,
            content=json.dumps(content),
            maps=entry.maps_file,
        )
    ).inserted_primary_key
    rows = [
        {"reading_id": key[0], "position": position, **asdict(each)}  # type: ignore[index]
        for position, each in enumerate(entry.findings)
    ]
    if rows:
        connection.execute(finding.insert(), rows)
    if entry.embedding is not None:
        study_embeddings.insert_embedding(connection, key[0], entry.embedding)  # type: ignore[index]


def _similar(content: dict[str, Any] | None) -> SimilarCasesRecord | None:
    if content is None:
        return None
    cases = (SimilarCaseRecord(**{**case, "labels": tuple(case["labels"])}) for case in content.pop("cases"))
    return SimilarCasesRecord(**content, cases=tuple(cases))


def _image(content: dict[str, Any]) -> ImageRecord:
    return ImageRecord(**{**content, "remarks": tuple(content.get("remarks", ()))})  # earlier versions: none


def _prior(content: dict[str, Any] | None) -> PriorComparisonRecord | None:
    if content is None:
        return None
    changes = tuple(FindingChangeRecord(**change) for change in content.pop("changes"))
    return PriorComparisonRecord(**content, changes=changes)


def _words(content: Sequence[dict[str, Any]]) -> tuple[WordWeightsRecord, ...]:
    return tuple(
        WordWeightsRecord(each["key"], tuple((word, weight) for word, weight in each["words"]))
        for each in content
    )


def _stored(row: RowMapping, findings: Sequence[FindingRecord]) -> StoredAnalysisRecord:
    content = json.loads(row["content"])
    purged = PurgeTrace.of(row)
    return StoredAnalysisRecord(
        id=row["id"],
        study_id=row["study_id"],
        revision=row["revision"],
        created_at=row["created_at"],
        position=row["position"],
        record=AnalysisRecord(
            model=row["model"],
            model_version=row["model_version"],
            parameters=tuple(content["parameters"]),
            normality=row["normality"],
            findings=tuple(findings),
            images=tuple(_image(image) for image in content["images"]),
            maps=() if purged else tuple(HeatMapRecord(**each) for each in content["maps"]),
            maps_file="" if purged else row["maps"],
            similar=_similar(content["similar"]),
            prior=_prior(content.get("prior")),  # earlier versions wrote none
            words=_words(content.get("words", ())),
            role=row["role"],
            seconds=row["seconds"],
        ),
        purged_maps=purged,
    )


class AnalysisRecords:
    """Records of analyses, for reading.

    Parameters
    ----------
    engine
        Engine of the index.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def latest(self, study_id: int, position: int = 0) -> StoredAnalysisRecord | None:
        """Return a record of a study's last analysed revision; None before the first.

        Parameters
        ----------
        position
            Position among the records of that revision; where it has none there, the answer is None.
        """
        with database.reading(self._engine) as connection:
            revision = select(func.max(reading.c.revision)).where(reading.c.study_id == study_id)
            row = (
                connection.execute(
                    select(reading).where(
                        reading.c.study_id == study_id,
                        reading.c.revision == revision.scalar_subquery(),
                        reading.c.position == position,
                    )
                )
                .mappings()
                .first()
            )
            if row is None:
                return None
            found = connection.execute(
                select(*(finding.c[name] for name in FindingRecord.__slots__))
                .where(finding.c.reading_id == row["id"])
                .order_by(finding.c.position)
            ).all()
        return _stored(row, [FindingRecord(*entry) for entry in found])

    def models_of(self, study_id: int) -> list[ModelOfStudy]:
        """Return the models of a study's last analysed revision, in their order."""
        revision = select(func.max(reading.c.revision)).where(reading.c.study_id == study_id)
        query = (
            select(reading.c.position, reading.c.role, reading.c.model, reading.c.model_version)
            .where(reading.c.study_id == study_id, reading.c.revision == revision.scalar_subquery())
            .order_by(reading.c.position)
        )
        with database.reading(self._engine) as connection:
            return [ModelOfStudy(*row) for row in connection.execute(query)]

    def latest_of(self, study_instance_uid: str) -> AnalysisRecord | None:
        """Return the first record of a study's last analysed revision; None before the first."""
        return next(iter(self.all_latest_of(study_instance_uid)), None)

    def all_latest_of(self, study_instance_uid: str) -> list[AnalysisRecord]:
        """Return the records of a study's last analysed revision, one a model."""
        query = select(study.c.id).where(study.c.study_instance_uid == study_instance_uid)
        with database.reading(self._engine) as connection:
            study_id = connection.execute(query).scalar_one_or_none()
        if study_id is None:
            return []
        positions = [each.position for each in self.models_of(study_id)]
        found = (self.latest(study_id, position) for position in positions)
        return [each.record for each in found if each is not None]

    def present_findings(self, study_ids: Sequence[int]) -> dict[int, list[FindingRecord]]:
        """Return by study the present findings of its latest analysis, the most certain first."""
        with database.reading(self._engine) as connection:
            newest: dict[int, int] = database.as_mapping(
                connection,
                select(reading.c.study_id, reading.c.id)
                .where(reading.c.study_id.in_(study_ids), reading.c.position == 0)
                .order_by(reading.c.revision),
            )
            studies = {key: study_id for study_id, key in newest.items()}
            rows = connection.execute(
                select(finding.c.reading_id, *(finding.c[name] for name in FindingRecord.__slots__)).where(
                    finding.c.reading_id.in_(studies), finding.c.presence == "present"
                )
            ).all()
        found: dict[int, list[FindingRecord]] = {}
        for key, *entry in rows:
            found.setdefault(studies[key], []).append(FindingRecord(*entry))
        for entries in found.values():
            entries.sort(key=lambda entry: entry.value, reverse=True)
        return found
