"""Counts of a data set by split: studies, patients, films, known metadata and every label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable
from operator import attrgetter
from typing import Any

from models.data.dataset import FilmDataset, LabelledStudy
from models.labels.vocabulary import Vocabulary

_UNKNOWN = "unknown"


def count(dataset: FilmDataset, vocabulary: Vocabulary) -> dict[str, Any]:
    """Count a data set.

    Returns
    -------
    dict
        ``dataset``, ``title``, ``terms`` and ``notes`` of the set; ``splits``: by split ``studies``,
        ``patients``, ``films``, ``reports``, ``indications``, and ``views`` of the films; ``facts``: by name
        and split the studies that it is known of; ``labels``: by list of the vocabulary, key and split the
        studies of which it is true. Lists with a label that the set does not speak of are left out.
    """
    known = {
        name: keys
        for name, keys in vocabulary.lists.items()
        if all(study.knows(key) for study in _all(dataset) for key in keys)
    }
    facts = sorted({name for study in _all(dataset) for name in study.facts})
    return {
        "dataset": dataset.name,
        "title": dataset.title,
        "terms": dataset.terms,
        "notes": [*dataset.notes, *_empty(dataset)],
        "splits": {split: _split(studies) for split, studies in dataset.studies.items()},
        "facts": {name: _by_split(dataset, attrgetter("facts"), name) for name in facts},
        "labels": {
            name: {key: _by_split(dataset, attrgetter("keys"), key) for key in keys}
            for name, keys in known.items()
        },
    }


def _all(dataset: FilmDataset) -> Iterable[LabelledStudy]:
    return (study for studies in dataset.studies.values() for study in studies)


def _empty(dataset: FilmDataset) -> list[str]:
    return [f"split {split} holds no study" for split, studies in dataset.studies.items() if not studies]


def _split(studies: tuple[LabelledStudy, ...]) -> dict[str, Any]:
    views = Counter(view or _UNKNOWN for study in studies for _, view in study.films_with_views())
    return {
        "studies": len(studies),
        "patients": len({study.patient for study in studies}),
        "films": sum(len(study.films) for study in studies),
        "reports": sum(bool(study.report) for study in studies),
        "indications": sum(bool(study.indication) for study in studies),
        "views": dict(sorted(views.items())),
    }


def _by_split(
    dataset: FilmDataset, of: Callable[[LabelledStudy], Container[str]], name: str
) -> dict[str, int]:
    """Studies of each split that have a name among theirs."""
    return {split: sum(name in of(study) for study in studies) for split, studies in dataset.studies.items()}
