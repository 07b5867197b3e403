"""Admission of peers: decides whether a peer may open an association."""

from __future__ import annotations

import ipaddress
import logging
import math
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dicom_node.config.addresses import plain_address
from dicom_node.config.sections import DicomSettings
from dicom_node.dimse import rejection
from dicom_node.dimse.pdu import APPLICATION_CONTEXT, AssociateRequest
from dicom_node.dimse.rejection import Rejection

_LOG = logging.getLogger(__name__)

RENEWAL_SECONDS: Final = 60.0
"""Seconds after which the addresses of a host name are looked up again."""
_SOONEST_SECONDS: Final = 1.0
"""Seconds in which an address that is not among those of a host name causes no other look-up."""


@dataclass(frozen=True, slots=True)
class RejectedRequest:
    """Rejection of one association request.

    Attributes
    ----------
    rejection
        Answer to the peer.
    detail
        Value that was not accepted, and what would be, for the log.
    """

    rejection: Rejection
    detail: str


def resolve(host: str) -> frozenset[str]:
    """Return every IPv4 and IPv6 address of a host name, each in the spelling of :func:`plain_address`.

    Raises
    ------
    OSError, UnicodeError
        When the name has no address, or no resolver takes it.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return frozenset(plain_address(str(address[0])) for *_, address in found)


class PeerAddresses:
    """Addresses of a peer that is named by an address or by a host name.

    A name is looked up at once and, while it is in use, again every :data:`RENEWAL_SECONDS`: both in a thread
    of its own, because a name service that is away takes long to say so. An address that is not known is
    looked for before it is denied. While no name service answers, the last known addresses stay valid.

    Parameters
    ----------
    host
        Address or name.
    setting
        Name of the setting, for the log.
    look_up, clock
        Functions that resolve a name, and that return the time in seconds; tests pass others.
    """

    def __init__(
        self,
        host: str,
        setting: str,
        look_up: Callable[[str], frozenset[str]] = resolve,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.host = host
        self._setting = setting
        self._look_up = look_up
        self._clock = clock
        self._lock = threading.Lock()
        self._failed = False
        address = plain_address(host)
        self._is_name = not _is_address(address)
        self._addresses: frozenset[str] = frozenset() if self._is_name else frozenset({address})
        self._looked_up_at = -math.inf if self._is_name else math.inf
        self._renew_when_old()

    def __contains__(self, address: str) -> bool:
        """Return whether the peer has an address, in the spelling of :func:`plain_address`."""
        if self.is_known(address):
            return True
        self._renew(_SOONEST_SECONDS)
        return address in self._addresses

    def is_known(self, address: str) -> bool:
        """Return the same as far as it is known, without waiting for the name service."""
        known = address in self._addresses
        self._renew_when_old()
        return known

    def excludes(self, address: str) -> bool:
        """Return whether the peer does not have an address, as far as that is known without waiting.

        A name that was looked up less than a second ago settles it; otherwise it is looked up meanwhile.
        """
        if self.is_known(address):
            return False
        if self._age() < _SOONEST_SECONDS:
            return True
        self._start_renewal(_SOONEST_SECONDS)
        return False

    def __str__(self) -> str:
        """Return the host, with its addresses when it is a name."""
        if not self._is_name:
            return self.host
        return f"{self.host} ({', '.join(sorted(self._addresses)) or 'no address is known'})"

    def _age(self) -> float:
        return self._clock() - self._looked_up_at

    def _renew_when_old(self) -> None:
        if self._age() >= RENEWAL_SECONDS:
            self._start_renewal(RENEWAL_SECONDS)

    def _start_renewal(self, seconds: float) -> None:
        if not self._lock.locked():
            threading.Thread(target=self._renew, args=(seconds,), name="host-names", daemon=True).start()

    def _renew(self, seconds: float) -> None:
        """Look the name up, when the last look-up is so old."""
        with self._lock:
            if self._age() < seconds:
                return
            try:
                self._addresses = self._look_up(self.host)
                self._failed = False
            except (OSError, UnicodeError) as error:
                if not self._failed:
                    _LOG.error(
                        "%s: no address is found for %s: %s; correct the name, or the name service",
                        self._setting,
                        self,
                        error.strerror if isinstance(error, OSError) else error,
                    )
                self._failed = True
            self._looked_up_at = self._clock()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Admission:
    """Admission of peers by AE titles and address.

    Parameters
    ----------
    settings
        DICOM section of the settings. The host names of its known peers are looked up.
    look_up, clock
        As for :class:`PeerAddresses`.
    """

    def __init__(
        self,
        settings: DicomSettings,
        look_up: Callable[[str], frozenset[str]] = resolve,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._known: dict[str, list[PeerAddresses | None]] = {}
        for number, peer in enumerate(settings.known_peers):
            setting = f"dicom.known_peers.{number}.host"
            host = None if peer.host is None else PeerAddresses(peer.host, setting, look_up, clock)
            self._known.setdefault(peer.ae_title, []).append(host)

    def may_connect(self, host: str) -> bool:
        """Return whether a peer with an address may be heard: one that no known peer can have may not.

        Nothing is waited for. An AE title that may call from anywhere makes every address one to be heard;
        so does an empty list, whose callers are told what is missing.

        Parameters
        ----------
        host
            IP address of the peer.
        """
        if self._settings.accept_unknown_peers or not self._known:
            return True
        address = plain_address(host)
        hosts = [each for peers in self._known.values() for each in peers]
        return any(each is None or not each.excludes(address) for each in hosts)

    def find_rejection(self, request: AssociateRequest, host: str) -> RejectedRequest | None:
        """Return the rejection of an association request; None when the association may be opened.

        An AE title is no proof of identity. Therefore a known peer may be tied to its address, and without
        known peers only this host is admitted.

        Parameters
        ----------
        request
            Association request.
        host
            IP address of the peer.
        """
        settings = self._settings
        if request.application_context != APPLICATION_CONTEXT:
            return RejectedRequest(
                rejection.APPLICATION_CONTEXT, f"{request.application_context or 'none'} is not DICOM's"
            )
        if settings.require_called_ae and request.called_ae != settings.ae_title:
            return RejectedRequest(
                rejection.CALLED_AE, f"{request.called_ae or 'none'}, but this node is {settings.ae_title}"
            )
        detail = self._unknown(request.calling_ae, plain_address(host))
        return RejectedRequest(rejection.CALLING_AE, detail) if detail else None

    def _unknown(self, calling_ae: str, address: str) -> str:
        """Return why a peer is not known; empty when it may open associations."""
        if not calling_ae:
            return "none is given"  # PS3.8 table 9-11
        if self._settings.accept_unknown_peers:
            return ""
        if not self._settings.known_peers:
            local = ipaddress.ip_address(address).is_loopback
            return "" if local else f"{address} is another machine, and dicom.known_peers is empty"
        hosts = self._known.get(calling_ae)
        if hosts is None:
            return f"{calling_ae} is not in dicom.known_peers"
        if any(host is None or address in host for host in hosts):
            return ""
        return f"{calling_ae} is known, but calls from another address: {address} instead of " + " or ".join(
            str(host) for host in hosts
        )
