"""Files that leave for people: as they are, or de-identified where the settings say so."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from dicom_node.config.settings import Settings
from dicom_node.dicomweb.server.objects import StoredObject
from dicom_node.errors import NotAnalysable, NotDeidentified
from dicom_node.imaging.deidentification import DeidentificationOptions, Retention
from dicom_node.imaging.deidentifier import Deidentifier
from dicom_node.imaging.pseudonyms import Pseudonyms
from dicom_node.store.study_files import study_files
from dicom_node.web.api.dicomweb import DicomWebError
from dicom_node.web.dependencies import WebContext


def outgoing_objects(context: WebContext, objects: Sequence[StoredObject]) -> list[Path | bytes]:
    """Return the whole objects of a request, each as a file or as its de-identified content.

    Raises
    ------
    DicomWebError
        403 when one cannot be de-identified: then nothing of the request leaves.
    """
    if not context.settings.deidentification.downloads:
        return [each.path for each in objects]
    deidentifier = _deidentifier(context)
    try:
        unclean = _unclean(context, deidentifier, {each.study_instance_uid for each in objects})
        return [deidentifier.file(each.path, unclean).content for each in objects]
    except (NotDeidentified, NotAnalysable) as error:
        raise DicomWebError(403, f"Objects leave without identity only, and of one {error}.") from None


def outgoing_report(context: WebContext, content: bytes) -> bytes:
    """Return a report without pixels, de-identified where the settings say so.

    Raises
    ------
    DicomWebError
        403 where it would name a patient whom readers see by a pseudonym.
    """
    if not reports_may_leave(context.settings):
        raise DicomWebError(
            403,
            'The report contains the patient\'s name: it needs web.patient = "name", or '
            "deidentification.downloads.",
        )
    if not context.settings.deidentification.downloads:
        return content
    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(content)
        file.flush()
        return _deidentifier(context).file(Path(file.name)).content


def reports_may_leave(settings: Settings) -> bool:
    """Return whether readers may have reports as DICOM: they see names, or reports leave without identity."""
    return settings.web.patient == "name" or settings.deidentification.downloads


def _deidentifier(context: WebContext) -> Deidentifier:
    section = context.settings.deidentification
    options = DeidentificationOptions(
        retain=frozenset(map(Retention, section.retain)), unknown_is_clean=section.unknown_pictures == "keep"
    )
    return Deidentifier(Pseudonyms(context.data_dir.deidentification_secret()), options)


def _unclean(context: WebContext, deidentifier: Deidentifier, studies: set[str]) -> frozenset[str]:
    """Return the UIDs of the films of studies that must not leave, and neither what repeats them."""
    found = (study_files(context.engine, uid) for uid in sorted(studies))
    films = (context.data_dir.spool.path(name) for each in found if each is not None for name in each.films)
    return frozenset(deidentifier.unclean(path) for path in films if path.exists()) - {""}
