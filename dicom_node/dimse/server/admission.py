"""Admission of peers: decides whether a peer may open an association."""

from __future__ import annotations

import enum
import ipaddress

from dicom_node.config.sections import DicomSettings


class Rejection(enum.Enum):
    """Rejection of an association: result, source and reason of the A-ASSOCIATE-RJ (PS3.8 table 9-21)."""

    CALLING_AE = (1, 1, 3)
    CALLED_AE = (1, 1, 7)
    LIMIT = (2, 3, 2)

    @property
    def text(self) -> str:
        """Words of the standard, for the log."""
        return _TEXTS[self]


_TEXTS = {
    Rejection.CALLING_AE: "rejected permanently: calling AE title not recognised",
    Rejection.CALLED_AE: "rejected permanently: called AE title not recognised",
    Rejection.LIMIT: "rejected for now: local limit exceeded",
}


def find_rejection(
    settings: DicomSettings, *, called_ae: str, calling_ae: str, host: str
) -> Rejection | None:
    """Return the rejection of an association request; None when the association may be opened.

    An AE title is no proof of identity. Therefore a known peer may be tied to its address, and without known
    peers only this host is admitted.

    Parameters
    ----------
    settings
        DICOM section of the settings.
    called_ae, calling_ae
        AE titles of the request.
    host
        IP address of the peer.
    """
    if settings.require_called_ae and called_ae.strip() != settings.ae_title:
        return Rejection.CALLED_AE
    if settings.accept_unknown_peers:
        return None
    address = _plain(host)
    if not settings.known_peers:
        return None if ipaddress.ip_address(address).is_loopback else Rejection.CALLING_AE
    for peer in settings.known_peers:
        if peer.ae_title == calling_ae.strip() and (peer.host is None or _plain(peer.host) == address):
            return None
    return Rejection.CALLING_AE


def _plain(host: str) -> str:
    """Return an address in one spelling; an IPv4 address that an IPv6 socket reports becomes plain."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
