"""Sending of data sets and files to a DICOM application (C-STORE)."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from dicom_node.errors import ConfigurationError, NodeError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset


def send(
    objects: Dataset | str | Path | Sequence[Dataset | str | Path],
    to: str,
    *,
    calling_ae: str | None = None,
    config: str | Path | None = None,
) -> int:
    """Send data sets or DICOM files to a DICOM application, one after the other.

    Parameters
    ----------
    objects
        Data sets, such as those of :func:`build_results`, or files.
    to
        ``AE@HOST:PORT``, or the name of a DICOM destination of the settings.
    calling_ae
        Calling AE title; ``dicom.ae_title`` of the settings if absent.
    config
        TOML file of the settings; those of the environment, or the defaults, if absent.

    Returns
    -------
    int
        Number of objects that the peer took: all of them.

    Raises
    ------
    ConfigurationError
        If the address is none, or there is no such file.
    PeerError
        If the peer cannot be reached or does not take an object; it has those before.
    NodeError
        If a data set cannot be encoded, or a file is no DICOM file.
    """
    from pydicom.dataset import Dataset

    from dicom_node.config.settings import load_settings
    from dicom_node.dimse.client.address import checked_ae_title, named_peer
    from dicom_node.dimse.client.storage_scu import StoreSession

    settings = load_settings(None if config is None else Path(config))
    calling = checked_ae_title(calling_ae or settings.dicom.ae_title)
    several = [objects] if isinstance(objects, str | Path | Dataset) else list(objects)
    with (
        tempfile.TemporaryDirectory(prefix="dicom-node-send-") as folder,
        StoreSession.of(named_peer(to, settings), calling, settings.sender) as session,
    ):
        paths = [_file(each, number, Path(folder)) for number, each in enumerate(several)]
        session.expect(paths)
        for path in paths:
            session.send(path)
    return len(paths)


def _file(one: Dataset | str | Path, number: int, folder: Path) -> Path:
    if isinstance(one, str | Path):
        if not Path(one).is_file():
            raise ConfigurationError(f"{one}: there is no such file")
        return Path(one)
    from dicom_node.imaging import attributes

    path = folder / f"{number}.dcm"
    try:
        with attributes.tolerance():
            one.save_as(path, enforce_file_format=True)
    except (AttributeError, TypeError, ValueError) as error:
        raise NodeError(f"data set {number + 1} cannot be written as DICOM: {error}") from error
    return path
