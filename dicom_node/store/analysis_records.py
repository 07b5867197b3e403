"""What an analysis said, kept for the reading room: it holds no model and reads no report back.

A row of ``reading`` is one analysed revision of a study, its findings are rows of ``finding``. Both are
written in the transaction that records the outcome
(:meth:`dicom_node.store.analysis_leases.Claims.finish`) and stay as long as the study does; a later
revision adds its own.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sqlalchemy import Connection, Engine, select

from dicom_node.store import database, study_embeddings
from dicom_node.store.study_embeddings import KeptPlace
from dicom_node.store.tables import finding, reading, study


@dataclass(frozen=True, slots=True)
class KeptFinding:
    """One label's answer.

    Attributes
    ----------
    key, name
        Of the label.
    certainty
        Calibrated probability in [0, 1]; None when there is no calibration.
    score
        The model's own number in [0, 1].
    threshold
        On the scale of `certainty` when there is one, else of `score`.
    presence
        ``present``, ``absent`` or ``undetermined``.
    low, high
        Of 95 % around `certainty`; None where the calibration does not say how well it is placed.
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
        """What stands against the threshold."""
        return self.score if self.certainty is None else self.certainty


@dataclass(frozen=True, slots=True)
class KeptImage:
    """What became of one received image.

    Attributes
    ----------
    view
        ``frontal`` or ``lateral`` where a gate looked, else the header's View Position; may be empty.
    reason
        Key into ``results.codes.REFUSALS``; empty when it was read.
    exclusion
        The reason as a sentence.
    """

    sop_instance_uid: str
    view: str
    reason: str
    exclusion: str


@dataclass(frozen=True, slots=True)
class KeptMap:
    """Which heat map stands at the same place of the maps' file."""

    key: str
    sop_instance_uid: str
    method: str


@dataclass(frozen=True, slots=True)
class KeptCase:
    """A case of a public reference set that looks like the study.

    Attributes
    ----------
    identifier
        Of the case in its collection.
    similarity
        In [-1, 1].
    labels
        Names of what its reference says is present.
    report
        Findings and impression; empty where there is none.
    """

    identifier: str
    similarity: float
    labels: tuple[str, ...]
    report: str = ""


@dataclass(frozen=True, slots=True)
class KeptSimilar:
    """Similar cases, the most similar first, and how far they bear the model out.

    Attributes
    ----------
    agreement
        Share of the model's answers that the cases bear out, in [0, 1].
    disagrees
        Whether that is too little to pass over in silence.
    """

    index: str
    cases: tuple[KeptCase, ...]
    agreement: float
    disagrees: bool


@dataclass(frozen=True, slots=True)
class KeptChange:
    """How a finding compares with the prior.

    Attributes
    ----------
    key
        Of the label.
    certainty, score, presence
        Of the prior, as in :class:`KeptFinding`.
    change
        ``new``, ``gone`` or ``unchanged``.
    """

    key: str
    certainty: float | None
    score: float
    presence: str
    change: str


@dataclass(frozen=True, slots=True)
class KeptPrior:
    """The patient's previous film, or why there is none.

    Attributes
    ----------
    study_instance_uid, study_date
        Of the prior; empty when there is none.
    reason
        Why there is none, as one clause; empty when there is one.
    changes
        Of the findings that are present now or were then.
    """

    study_instance_uid: str
    study_date: str
    reason: str
    changes: tuple[KeptChange, ...] = ()


@dataclass(frozen=True, slots=True)
class KeptWords:
    """The words of the text that a model was given, and what each adds to a finding.

    Attributes
    ----------
    key
        Of the label.
    words
        In the order of the text, each with what it adds to the finding's logit; below zero it speaks against.
    """

    key: str
    words: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class KeptReading:
    """All that is kept of one analysis.

    Attributes
    ----------
    model, model_version
        Of the bundle; empty when nothing was run.
    parameters
        Of the algorithm, such as ``weights_sha256=...``.
    normality
        ``present`` for a normal study, ``absent`` for an abnormal one, else ``undetermined``.
    maps_file
        From :meth:`dicom_node.store.heatmaps.HeatMaps.keep`; `maps` are its maps, in order.
    similar
        Similar cases of a reference set and what they say together; None when nothing was searched.
    place
        Where the study lies, for a search of the node's own; None where there is none. It is written, and not
        read back.
    prior
        What it was compared with; None when no prior was looked for.
    words
        Of the text that the model was given, for some of the findings; none where none were weighed.
    """

    model: str
    model_version: str
    parameters: tuple[str, ...]
    normality: str
    findings: tuple[KeptFinding, ...]
    images: tuple[KeptImage, ...]
    maps: tuple[KeptMap, ...] = ()
    maps_file: str = ""
    similar: KeptSimilar | None = None
    place: KeptPlace | None = None
    prior: KeptPrior | None = None
    words: tuple[KeptWords, ...] = ()

    @property
    def names(self) -> dict[str, str]:
        """Names of the findings by their keys."""
        return {entry.key: entry.name for entry in self.findings}


@dataclass(frozen=True, slots=True)
class StoredReading:
    """A kept reading, and which one it is; times in seconds since the epoch."""

    id: int
    study_id: int
    revision: int
    created_at: float
    kept: KeptReading = field(repr=False)


def record(connection: Connection, study_id: int, revision: int, kept: KeptReading, now: float) -> None:
    """Enter a reading in the caller's transaction."""
    content = {
        "parameters": kept.parameters,
        "images": [asdict(image) for image in kept.images],
        "maps": [asdict(each) for each in kept.maps],
        "similar": None if kept.similar is None else asdict(kept.similar),
        "prior": None if kept.prior is None else asdict(kept.prior),
        "words": [asdict(each) for each in kept.words],
    }
    key = connection.execute(
        reading.insert().values(
            study_id=study_id,
            revision=revision,
            created_at=now,
            model=kept.model,
            model_version=kept.model_version,
            normality=kept.normality,
            content=json.dumps(content),
            maps=kept.maps_file,
        )
    ).inserted_primary_key
    rows = [
        {"reading_id": key[0], "position": position, **asdict(entry)}  # type: ignore[index]
        for position, entry in enumerate(kept.findings)
    ]
    if rows:
        connection.execute(finding.insert(), rows)
    if kept.place is not None:
        study_embeddings.record(connection, key[0], kept.place)  # type: ignore[index]


def _similar(content: dict[str, Any] | None) -> KeptSimilar | None:
    if content is None:
        return None
    cases = (KeptCase(**{**case, "labels": tuple(case["labels"])}) for case in content.pop("cases"))
    return KeptSimilar(**content, cases=tuple(cases))


def _prior(content: dict[str, Any] | None) -> KeptPrior | None:
    if content is None:
        return None
    changes = tuple(KeptChange(**change) for change in content.pop("changes"))
    return KeptPrior(**content, changes=changes)


def _words(content: Sequence[dict[str, Any]]) -> tuple[KeptWords, ...]:
    return tuple(
        KeptWords(each["key"], tuple((word, weight) for word, weight in each["words"])) for each in content
    )


class Readings:
    """Kept readings, to be looked up.

    Parameters
    ----------
    engine
        Of the index.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def latest(self, study_id: int) -> StoredReading | None:
        """Return the reading of a study's highest analysed revision; None before the first."""
        newest = (
            select(reading).where(reading.c.study_id == study_id).order_by(reading.c.revision.desc()).limit(1)
        )
        with database.reading(self._engine) as connection:
            row = connection.execute(newest).mappings().first()
            if row is None:
                return None
            found = connection.execute(
                select(*(finding.c[name] for name in KeptFinding.__slots__))
                .where(finding.c.reading_id == row["id"])
                .order_by(finding.c.position)
            ).all()
        content = json.loads(row["content"])
        return StoredReading(
            id=row["id"],
            study_id=study_id,
            revision=row["revision"],
            created_at=row["created_at"],
            kept=KeptReading(
                model=row["model"],
                model_version=row["model_version"],
                parameters=tuple(content["parameters"]),
                normality=row["normality"],
                findings=tuple(KeptFinding(*entry) for entry in found),
                images=tuple(KeptImage(**image) for image in content["images"]),
                maps=tuple(KeptMap(**each) for each in content["maps"]),
                maps_file=row["maps"],
                similar=_similar(content["similar"]),
                prior=_prior(content.get("prior")),  # those of earlier versions know of none
                words=_words(content.get("words", ())),
            ),
        )

    def latest_of(self, study_instance_uid: str) -> KeptReading | None:
        """Return what is kept of a study's highest analysed revision; None before the first."""
        query = select(study.c.id).where(study.c.study_instance_uid == study_instance_uid)
        with database.reading(self._engine) as connection:
            study_id = connection.execute(query).scalar_one_or_none()
        found = None if study_id is None else self.latest(study_id)
        return None if found is None else found.kept

    def present(self, study_ids: Sequence[int]) -> dict[int, list[KeptFinding]]:
        """Return the present findings of the latest reading of several studies, most certain first."""
        with database.reading(self._engine) as connection:
            newest: dict[int, int] = database.pairs(
                connection,
                select(reading.c.study_id, reading.c.id)
                .where(reading.c.study_id.in_(study_ids))
                .order_by(reading.c.revision),
            )
            studies = {key: study_id for study_id, key in newest.items()}
            rows = connection.execute(
                select(finding.c.reading_id, *(finding.c[name] for name in KeptFinding.__slots__)).where(
                    finding.c.reading_id.in_(studies), finding.c.presence == "present"
                )
            ).all()
        found: dict[int, list[KeptFinding]] = {}
        for key, *entry in rows:
            found.setdefault(studies[key], []).append(KeptFinding(*entry))
        for entries in found.values():
            entries.sort(key=lambda entry: entry.value, reverse=True)
        return found
