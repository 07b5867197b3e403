"""The one folder that a node keeps everything in, and the lock on it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator

from dicom_node.config.settings import Settings
from dicom_node.errors import AlreadyRunning, ConfigurationError
from dicom_node.runtime.lease_owner import Owner
from dicom_node.store.files import Spool
from dicom_node.store.heatmaps import HeatMaps

_GRACE_SECONDS = 15.0


class DataDir:
    """Spool, results, heat maps and lock of a node.

    Parameters
    ----------
    settings
        Says where the folder is and how much of its disk is to stay free.

    Attributes
    ----------
    cards
        Folder of the model cards that workers leave for the page.
    runs_on
        What the worker that started last runs on, by name.
    """

    def __init__(self, settings: Settings) -> None:
        self.root = settings.data_dir
        self.spool = Spool(self.root / "spool", settings.dicom.min_free_bytes)
        self.results = Spool(self.root / "results")
        self.maps = HeatMaps(self.root / "maps")
        self.cards = self.root / "models"
        self.runs_on = self.root / "runs-on.json"
        self.thumbnails = self.root / "thumbnails"
        self._lock_file = self.root / "lock"

    def prepare(self, *, alone: bool = False) -> None:
        """Make the folders, and remove what an earlier process left half written.

        Parameters
        ----------
        alone
            Whether no other part of the node is running.

        Raises
        ------
        ConfigurationError
            When they cannot be made.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"data_dir {self.root}: {error.strerror}; name a writable folder"
            ) from None
        self.spool.prepare(alone=alone)
        self.results.prepare(alone=alone)

    @contextlib.contextmanager
    def locked(self, *, shared: bool) -> Iterator[int]:
        """Hold the folder's lock; yields its descriptor, for children that must hold it too.

        Parameters
        ----------
        shared
            True for one part of a node that runs as several services, False for a whole node.

        Raises
        ------
        AlreadyRunning
            When another node holds it.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"data_dir {self.root}: {error.strerror}; name a writable folder"
            ) from None
        try:
            self._lock(descriptor, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
            if not shared:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(Owner.this_process()).encode(), 0)
            yield descriptor
        finally:
            os.close(descriptor)

    @property
    def in_use(self) -> bool:
        """Whether a node, or a part of one, holds the lock; asking makes nothing."""
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
                # Children of a node that was killed hold the lock until they have ended: wait for those.
                if (holder and not Owner.parse(holder).dead) or time.monotonic() > deadline:
                    raise AlreadyRunning(
                        f"data_dir {self.root}: another node runs on it ({holder or 'in parts'}); "
                        "stop that one or set another data_dir"
                    ) from None
                time.sleep(0.1)
            else:
                return
