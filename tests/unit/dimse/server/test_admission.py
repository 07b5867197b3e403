"""Who may associate."""

from __future__ import annotations

from typing import Any

import pytest

from dicom_node.config.sections import DicomSettings
from dicom_node.dimse.server.admission import Rejection, find_rejection

PEERS = (
    {"ae_title": "CT1", "host": "192.0.2.7"},
    {"ae_title": "ANYWHERE"},
    {"ae_title": "SIX", "host": "2001:db8::1"},
)


@pytest.mark.parametrize(
    ("settings", "called", "calling", "host", "expected"),
    [
        ({}, "DICOM_NODE", "X", "127.0.0.1", None),
        ({}, "DICOM_NODE  ", "X", "127.8.8.8", None),
        ({}, "DICOM_NODE", "X", "::1", None),
        ({}, "DICOM_NODE", "X", "::ffff:127.0.0.1", None),
        ({}, "DICOM_NODE", "X", "192.0.2.7", Rejection.CALLING_AE),
        ({}, "OTHER", "X", "127.0.0.1", Rejection.CALLED_AE),
        ({}, "", "X", "127.0.0.1", Rejection.CALLED_AE),
        ({"require_called_ae": False}, "OTHER", "X", "127.0.0.1", None),
        ({"accept_unknown_peers": True}, "DICOM_NODE", "X", "192.0.2.7", None),
        ({"accept_unknown_peers": True}, "OTHER", "X", "192.0.2.7", Rejection.CALLED_AE),
        ({"known_peers": PEERS}, "DICOM_NODE", "CT1", "192.0.2.7", None),
        ({"known_peers": PEERS}, "DICOM_NODE", "CT1", "::ffff:192.0.2.7", None),
        ({"known_peers": PEERS}, "DICOM_NODE", "CT1 ", "192.0.2.7", None),
        ({"known_peers": PEERS}, "DICOM_NODE", "CT1", "192.0.2.8", Rejection.CALLING_AE),
        ({"known_peers": PEERS}, "DICOM_NODE", "CT1", "127.0.0.1", Rejection.CALLING_AE),
        ({"known_peers": PEERS}, "DICOM_NODE", "ct1", "192.0.2.7", Rejection.CALLING_AE),
        ({"known_peers": PEERS}, "DICOM_NODE", "ANYWHERE", "198.51.100.1", None),
        ({"known_peers": PEERS}, "DICOM_NODE", "SIX", "2001:0db8:0::1", None),
        ({"known_peers": PEERS}, "DICOM_NODE", "OTHER", "127.0.0.1", Rejection.CALLING_AE),
    ],
)
def test_a_peer_is_judged_by_title_and_address(
    settings: dict[str, Any], called: str, calling: str, host: str, expected: Rejection | None
) -> None:
    assert (
        find_rejection(DicomSettings(**settings), called_ae=called, calling_ae=calling, host=host) is expected
    )


def test_every_rejection_has_words() -> None:
    assert all(rejection.text.startswith("rejected") for rejection in Rejection)
