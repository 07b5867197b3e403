"""The original DICOM headers of the Open-i films, as a table: one row a film, one column an attribute."""

from __future__ import annotations

from pathlib import Path

from models.data.metadata import sex, whole_years_on
from models.data.tables import read_table

#: Beside the films; published with TorchXRayVision (Cohen et al. 2022).
HEADERS = "nlmcxr_dicom_metadata.csv.gz"

_FILM = "filename"
_PATIENT = ("Patient's Birth Date", "Study Date", "Patient's Sex")
_EQUIPMENT = {"manufacturer": "Manufacturer", "photometric": "Photometric Interpretation"}


def read_headers(path: Path) -> dict[str, dict[str, str]]:
    """Read what is known of each film's patient and equipment; what is unknown is left out.

    The age is that on the Study Date. The published table has no Patient's Sex and no Manufacturer in it.

    Parameters
    ----------
    path
        Path of the table; the result is empty when it does not exist.

    Returns
    -------
    dict
        By the name of the film without its ending, such as ``1000_IM-0003-2001``: ``age`` in
        whole years, ``sex``, ``manufacturer`` and ``photometric``.

    Raises
    ------
    DatasetError
        If it cannot be read or has no such columns.
    """
    if not path.exists():
        return {}
    headers = {}
    for _, row in read_table(path, (_FILM,), (*_PATIENT, *_EQUIPMENT.values())):
        birth, study, said = (row[column] for column in _PATIENT)
        facts = {"age": whole_years_on(birth, study), "sex": sex(said)}
        facts |= {name: row[column] for name, column in _EQUIPMENT.items()}
        headers[Path(row[_FILM]).stem] = {name: value for name, value in facts.items() if value}
    return headers
