"""Pins: studies of which nothing is purged, by the decision of a person."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select, update

from dicom_node.store import database
from dicom_node.store.tables import study


class Pins(database.Repository):
    """Pinned studies."""

    def pin(self, study_instance_uids: Sequence[str]) -> list[str]:
        """Pin studies; return the UIDs that are unknown. What was purged before does not come back."""
        return self._set(study_instance_uids, self._clock())

    def unpin(self, study_instance_uids: Sequence[str]) -> list[str]:
        """Let the rules of retention have studies again; return the UIDs that are unknown."""
        return self._set(study_instance_uids, None)

    def _set(self, study_instance_uids: Sequence[str], at: float | None) -> list[str]:
        named = study.c.study_instance_uid.in_(study_instance_uids)
        with database.writing(self._engine) as connection:
            known = set(connection.execute(select(study.c.study_instance_uid).where(named)).scalars())
            connection.execute(update(study).where(named).values(pinned_at=at))
        return [uid for uid in study_instance_uids if uid not in known]

    def pinned(self) -> list[str]:
        """Return the Study Instance UIDs of the pinned studies, the longest pinned first."""
        query = select(study.c.study_instance_uid).where(study.c.pinned_at.is_not(None))
        with database.reading(self._engine) as connection:
            return list(connection.execute(query.order_by(study.c.pinned_at, study.c.id)).scalars())
