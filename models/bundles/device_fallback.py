"""Fallback of a device of torch: fewer films at once, then the processor, where memory ends or it is lost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from models.bundles.session import FILMS_AT_ONCE

_LOG = logging.getLogger(__name__)
_Part = TypeVar("_Part")


class DeviceFallback:
    """Device that a network is to be on, and how many films it is given at once.

    A batch for which the device has no memory is halved, down to one film; when that does not fit either, or
    the device is lost, the processor takes over until the process ends. Both are said in the log.

    Parameters
    ----------
    name
        Name of what runs on the device, for the log.
    device
        Device of torch.

    Attributes
    ----------
    device
        Device in use. A network that is on another is read from its file again: a lost device gives nothing
        back.
    stand_in
        Name of the device that reads in place of the wanted one; empty while that one does.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.device, self.stand_in = device, ""
        self._name = name
        self._most = FILMS_AT_ONCE

    def read(self, films: int, read: Callable[[slice], _Part]) -> list[_Part]:
        """Read films in as many parts as it takes.

        Parameters
        ----------
        films
            Number of films.
        read
            Function that reads some of them on :attr:`device`.

        Raises
        ------
        RuntimeError
            If the processor fails too.
        """
        parts: list[_Part] = []
        start = 0
        while start < films or not parts:
            part = slice(start, min(start + self._most, films))
            try:
                parts.append(read(part))
                start = part.stop
                continue
            except (torch.OutOfMemoryError, torch.AcceleratorError) as error:
                failure = error.with_traceback(None)  # whose frames would keep the tensors
            self._give_way(failure, part.stop - part.start)
        return parts

    def stand_in_by_processor(self) -> None:
        """Let the processor read in place of the device, until the process ends."""
        self.device, self.stand_in = torch.device("cpu"), "cpu"
        self._most = FILMS_AT_ONCE

    def _give_way(self, failure: RuntimeError, films: int) -> None:
        reason = str(failure).partition("\n")[0]
        if isinstance(failure, torch.OutOfMemoryError) and films > 1:
            self._most = films // 2
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
            _LOG.warning(
                "%s: no memory on %s for %d films at once (%s); now %d",
                self._name, self.device, films, reason, self._most,
            )  # fmt: skip
        elif self.device.type == "cpu":
            raise failure
        else:
            _LOG.error(
                "%s: %s cannot be used (%s); the processor reads instead until the worker is started again",
                self._name, self.device, reason,
            )  # fmt: skip
            self.stand_in_by_processor()
