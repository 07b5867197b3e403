"""Checks of the storage: the data directory and the database."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dicom_node.cli.checks.check import Check
from dicom_node.config.addresses import without_password
from dicom_node.config.data_dir import DataDir
from dicom_node.config.private_files import is_loose, secret_files
from dicom_node.config.settings import Settings
from dicom_node.errors import ConfigurationError, StorageFailed
from dicom_node.runtime.extras import missing_package

_MIB = 2**20
_SLOW_FSYNC_SECONDS = 0.1


def data_dir(settings: Settings) -> Iterator[Check]:
    """Check that films can be stored, and how fast."""
    root = settings.data_dir.absolute()
    folder = _existing(root)
    state = (
        "in use by a node" if DataDir(settings).in_use else "free" if folder == root else "will be created"
    )
    try:
        began = time.monotonic()
        # A temporary file has no name, so nothing is left behind.
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(b"\0" * 4096)
            probe.flush()
            os.fsync(probe.fileno())
        took = time.monotonic() - began
    except OSError as error:
        yield Check(
            "data_dir",
            ok=False,
            found=f"data_dir {root}: {error.strerror}",
            remedy="make it writable for this user, or set data_dir to another folder",
        )
        return
    found = f"{root}: {state}, writable, fsync in {1000 * took:.1f} ms"
    slow = "each received film waits for several of these: put data_dir on a local SSD"
    yield Check("data_dir", *((True, found) if took < _SLOW_FSYNC_SECONDS else (None, found, slow)))


def free_space(settings: Settings) -> Iterator[Check]:
    """Check for how much there is space."""
    status = os.statvfs(_existing(settings.data_dir.absolute()))
    free, reserve = status.f_bavail * status.f_frsize, settings.dicom.min_free_bytes
    words = f"{free // _MIB} MiB, of which {reserve // _MIB} MiB stay free (dicom.min_free_bytes)"
    if free <= reserve:
        remedy = "free space, or lower dicom.min_free_bytes; until then C-STORE is answered A700"
        yield Check("free space", ok=False, found=words, remedy=remedy)
    else:
        yield Check("free space", ok=True, found=words)


def disk_forecast(settings: Settings) -> Iterator[Check]:
    """Check that the disk will not be full soon."""
    from dicom_node.store.database import connect

    if settings.database_url is None and not (settings.data_dir / "index.sqlite").exists():
        return
    engine = connect(settings.database)
    try:
        forecast = DataDir(settings).forecast(engine)
    except StorageFailed:  # the check of the database says why; one of an earlier version has no figures
        return
    finally:
        engine.dispose()
    soon = forecast.days_left is not None and forecast.days_left < settings.retention.warn_days
    remedy = (
        "free space, or set rules below [retention]; `dicom-node purge --dry-run` says what they would free"
    )
    yield Check("disk full", *((None, str(forecast), remedy) if soon else (True, str(forecast))))


def _existing(root: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(each for each in (root, *root.parents) if each.exists())


def private_files(settings: Settings) -> Iterator[Check]:
    """Check that other users cannot read what the node keeps, nor its secrets."""
    loose = [f"{setting} {path}" for setting, path in secret_files(settings) if is_loose(path)]
    if loose:
        found = f"other users can read {', '.join(loose)}"
        yield Check(
            "private files", ok=False, found=found, remedy="chmod 600; until then the node does not start"
        )
    elif is_loose(settings.data_dir):
        found = f"other users can read data_dir {settings.data_dir.absolute()}"
        yield Check("private files", ok=None, found=found, remedy="start the node, which takes it from them")
    else:
        yield Check("private files", ok=True, found="only this user can read data_dir and the secrets")


def database(settings: Settings) -> Iterator[Check]:
    """Check that the database answers, or will be created."""
    from dicom_node.store import index_file
    from dicom_node.store.database import connect, connection_error

    if settings.database_url is None and not (settings.data_dir / "index.sqlite").exists():
        yield Check("database", ok=True, found="SQLite in data_dir; will be created")
        return
    try:
        engine = connect(settings.database)
    except ConfigurationError as error:
        remedy = missing_package(error) or "correct database_url"
        yield Check("database", ok=False, found=str(error), remedy=remedy)
        return
    sentence = connection_error(engine)
    engine.dispose()
    address = without_password(settings.database)
    if sentence:
        remedy = "start the server, or correct database_url"
        if settings.database_url is None:
            remedy = index_file.ADVICE
        yield Check("database", ok=False, found=f"{address}: {sentence}", remedy=remedy)
    else:
        yield Check("database", ok=True, found=f"{address} answers")
