"""Stream of films that DCMTK's storescu sends without end, and what of it was acknowledged."""

from __future__ import annotations

import hashlib
import random
import subprocess
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.support.film_file import FilmFile


@dataclass(frozen=True, slots=True)
class AcknowledgedFilm:
    """Film that was answered Success.

    Attributes
    ----------
    study
        Study Instance UID; each film is a study of its own.
    digest
        SHA-256 of its encoded data set.
    chest
        Whether its header calls it a chest film; any other is refused with a report.
    """

    study: str
    digest: str
    chest: bool


class FilmStream:
    """Threads that send films with storescu; after a lost association the same film is sent again.

    Parameters
    ----------
    folder
        Folder for the files.
    port
        Port of the SCP.
    chosen
        Source of chance: the lengths of associations, which films are chest films, which come twice.
    pause
        Mean time between two associations of a thread, in seconds.
    chests
        Share of chest films.

    Attributes
    ----------
    acknowledged
        Films that were answered Success, by SOP Instance UID.
    associations, broken
        Number of associations, and of those that ended without an answer to each film.
    """

    def __init__(
        self,
        folder: Path,
        port: int,
        chosen: random.Random,
        *,
        pause: float = 3,
        chests: float = 0.2,
        threads: int = 2,
    ) -> None:
        self.acknowledged: dict[str, AcknowledgedFilm] = {}
        self.associations = self.broken = 0
        self._folder = folder
        self._port = port
        self._chosen = chosen
        self._pause = pause
        self._chests = chests
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._numbers = 0
        self._threads = [threading.Thread(target=self._run) for _ in range(threads)]

    def _film(self) -> tuple[FilmFile, bool]:
        with self._lock:
            self._numbers += 1
            number, chest = self._numbers, self._chosen.random() < self._chests
        film = FilmFile(
            self._folder,
            number,
            rows=160,
            columns=144,
            study=f"{self._folder}-{number}",
            series=number,
            seed=number % 16,
            body_part="CHEST" if chest else "HAND",
        )
        return film, chest

    def _run(self) -> None:
        waiting: list[tuple[FilmFile, bool]] = []
        while not self._stop.is_set():
            with self._lock:
                count, again = self._chosen.randint(1, 6), self._chosen.random() < 0.1
                pause = self._chosen.expovariate(1 / self._pause)
            waiting += [self._film() for _ in range(count - len(waiting))]
            answered = self._send([film for film, _ in waiting])
            with self._lock:
                self.associations += 1
                self.broken += answered < len(waiting)
                for film, chest in waiting[:answered]:
                    digest = hashlib.sha256(film.data_set).hexdigest()
                    self.acknowledged[film.uid] = AcknowledgedFilm(
                        str(film.ds.StudyInstanceUID), digest, chest
                    )
            waiting = waiting[answered - again if answered > 1 else answered :]
            self._stop.wait(pause)

    def _send(self, films: list[FilmFile]) -> int:
        """Send films over one association; returns how many were answered Success, the first ones."""
        argv = ["storescu", "-v", "-to", "20", "-ta", "20", "-td", "20", "-aec", "DICOM_NODE"]
        done = subprocess.run(
            [*argv, "127.0.0.1", str(self._port), *(str(film.path) for film in films)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
        return (done.stdout + done.stderr).count("Received Store Response (Success)")

    def stop(self) -> None:
        """Send no more films."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
