"""Files of a study: its films and the results in force."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Engine, select

from dicom_node.store import database
from dicom_node.store.tables import instance, result, study


@dataclass(frozen=True, slots=True)
class StudyFiles:
    """Names of a study's files: films in the spool, results in the folder of results."""

    films: tuple[str, ...]
    results: tuple[str, ...]


def study_files(engine: Engine, study_instance_uid: str) -> StudyFiles | None:
    """Return the files of a study, without results that were withdrawn; None when there is no such study."""
    with database.reading(engine) as connection:
        number = connection.execute(
            select(study.c.id).where(study.c.study_instance_uid == study_instance_uid)
        ).scalar_one_or_none()
        if number is None:
            return None
        films = connection.execute(
            select(instance.c.file).where(instance.c.study_id == number, instance.c.file != "")
        ).scalars()
        results = connection.execute(
            select(result.c.file).where(
                result.c.study_id == number, result.c.withdrawn_at.is_(None), result.c.file != ""
            )
        ).scalars()
        return StudyFiles(tuple(films), tuple(results))
