"""Routine studies: those that statistics are over."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, select

from dicom_node.store.tables import catalogue, study
from dicom_node.web.media.trial_films import TRIAL_DESCRIPTION


def is_routine(study_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a study was neither tried on the page nor read against the gate's advice.

    Parameters
    ----------
    study_id
        Number of the study in a query that joins the catalogue.
    """
    overridden = select(study.c.id).where(study.c.gate_overridden)
    return and_(catalogue.c.description != TRIAL_DESCRIPTION, study_id.not_in(overridden))
