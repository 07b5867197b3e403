"""Data directory: the one folder that holds everything a node keeps, and its lock."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Final

from dicom_node.config.private_files import FOLDER_MODE, tighten
from dicom_node.config.settings import Settings
from dicom_node.errors import AlreadyRunning, ConfigurationError, NodeError
from dicom_node.runtime import temporary_files
from dicom_node.runtime.lease_owner import LeaseOwner
from dicom_node.store.files import Spool, disk_is_full, free_bytes, storage_error
from dicom_node.store.secret_key import read_secret_key

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from dicom_node.store.disk_usage import Forecast
    from dicom_node.store.heatmaps import HeatMaps
    from dicom_node.store.purge import Purge

_GRACE_SECONDS = 15.0

FINDING_CODES: Final = "codes.json"
"""File beside a model card with the code of each finding: by its key value, scheme and meaning."""


class DataDir:
    """Data directory of a node.

    Parameters
    ----------
    settings
        Settings with the path of the folder and the disk space to keep free.

    Attributes
    ----------
    root
        Path of the folder.
    spool
        Received files.
    results
        Files of results.
    cards
        Folder of the model cards that workers write for the page.
    runs_on
        File with the name of the processor that the worker started last uses.
    model_states
        File in which the worker says which models read, and what is wrong with the others.
    thumbnails
        Folder of the thumbnails of the page.
    audit_trail
        Folder of the audit trail.
    secret_key
        File of the node's secret.
    """

    def __init__(self, settings: Settings) -> None:
        self.root = settings.data_dir
        self.spool = Spool(self.root / "spool", settings.dicom.min_free_bytes)
        self.results = Spool(self.root / "results")
        self.cards = self.root / "models"
        self.runs_on = self.root / "runs-on.json"
        self.model_states = self.root / "model-states.json"
        self.thumbnails = self.root / "thumbnails"
        self.audit_trail = self.root / "audit"
        self.secret_key = self.root / "web.key"
        self._lock_file = self.root / "lock"
        self._secret_file = settings.deidentification.secret or self.root / "deidentification.key"
        self._limits = settings.retention.limits

    @cached_property
    def maps(self) -> HeatMaps:
        """Heat maps."""
        from dicom_node.store.heatmaps import HeatMaps  # noqa: PLC0415 - NumPy, for those who need maps

        return HeatMaps(self.root / "maps")

    def prepare(self, *, alone: bool = False) -> None:
        """Create the folders, take them from other users, and remove incomplete files of earlier processes.

        Parameters
        ----------
        alone
            True when no other part of the node is running.

        Raises
        ------
        ConfigurationError, StorageFull, StorageFailed
            When a folder cannot be created, or a restoration into the folder was interrupted.
        """
        from dicom_node.store.backup.restoration import check_finished  # noqa: PLC0415 - as in `purge`

        check_finished(self.root)
        try:
            self.root.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        except OSError as error:
            raise self._cannot_write(error) from None
        tighten(self.root)
        self.spool.prepare(alone=alone)
        self.results.prepare(alone=alone)

    def deidentification_secret(self) -> bytes:
        """Return the secret of the site, from which pseudonyms follow; it is made when it is first needed.

        Raises
        ------
        ConfigurationError
            When the folder cannot be written.
        StorageFailed
            When the file can neither be read nor written.
        """
        if self._secret_file.parent == self.root:
            try:
                self.root.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise self._cannot_write(error) from None
        return read_secret_key(self._secret_file)

    def remove_left_over(self) -> int:
        """Remove temporary files of processes that have ended; return their number.

        Raises
        ------
        StorageFull, StorageFailed
            When a folder cannot be read.
        """
        folders = [self.root, self.maps.root, *self.thumbnails.glob("[0-9a-f][0-9a-f]")]
        try:
            removed = sum(temporary_files.remove_left_over(folder) for folder in folders)
        except OSError as error:
            raise storage_error(error, self.root) from error
        return removed + self.spool.remove_left_over() + self.results.remove_left_over()

    def purge(self, engine: Engine, clock: Callable[[], float] = time.time) -> Purge:
        """Return the purge of this folder by the settings' rules of retention."""
        from dicom_node.store.purge import Purge  # noqa: PLC0415 - SQLAlchemy, for those who have an engine

        return Purge(
            engine,
            self.spool,
            self.results,
            self.root / "maps",
            self.thumbnails,
            self._limits,
            clock=clock,
        )

    def forecast(self, engine: Engine) -> Forecast:
        """Return when films will be refused because the disk is full.

        Raises
        ------
        StorageFailed
            When the disk or the database does not answer.
        """
        from dicom_node.store.disk_usage import DiskUsage  # noqa: PLC0415 - as above
        from dicom_node.store.reserve import Reserve  # noqa: PLC0415

        reserve = Reserve(engine, self.spool).total_bytes()
        return DiskUsage(engine).forecast(free_bytes(self.root) - reserve)

    @contextlib.contextmanager
    def locked(self, *, shared: bool) -> Iterator[int]:
        """Hold the lock of the folder; yield its descriptor, for child processes that must hold it too.

        Parameters
        ----------
        shared
            True for one part of a node that runs as several services; False for a whole node.

        Raises
        ------
        AlreadyRunning
            When another node holds the lock.
        ConfigurationError
            When the folder cannot be written.
        StorageFull
            When its disk is full.
        """
        try:
            self.root.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._cannot_write(error) from None
        try:
            self._lock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            if not shared:
                self._sign(descriptor)
            yield descriptor
        finally:
            os.close(descriptor)

    def _sign(self, descriptor: int) -> None:
        """Write into the lock who holds it."""
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(LeaseOwner.this_process()).encode(), 0)
        except OSError as error:
            raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError) -> NodeError:
        if disk_is_full(error):
            return storage_error(error, f"data_dir {self.root}")
        return ConfigurationError(f"data_dir {self.root}: {error.strerror}; set it to a writable folder")

    @property
    def in_use(self) -> bool:
        """True when a node, or a part of one, holds the lock; nothing is created."""
        try:
            with self._lock_file.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def _lock(self, descriptor: int, kind: int) -> None:
        deadline = time.monotonic() + _GRACE_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(descriptor, 256, 0).decode(errors="replace")
                # The children of a killed node hold the lock until they end: wait for them.
                owner = LeaseOwner.parse(holder) if holder else None
                if (owner and not owner.dead) or time.monotonic() > deadline:
                    who = f"process {owner.pid} on {owner.host}" if owner else "as several services"
                    raise AlreadyRunning(
                        f"data_dir {self.root}: another node uses it ({who}); "
                        "stop that node, or set another data_dir"
                    ) from None
                time.sleep(0.1)
            else:
                return
