"""Who may associate."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from dicom_node.config.sections import DicomSettings, KnownPeer
from dicom_node.dimse import rejection
from dicom_node.dimse.pdu import APPLICATION_CONTEXT, AssociateRequest
from dicom_node.dimse.rejection import Rejection
from dicom_node.dimse.server import admission
from dicom_node.dimse.server.admission import Admission, PeerAddresses
from tests.support.clock import Clock
from tests.support.peers import until

PEERS = (
    {"ae_title": "CT1", "host": "192.0.2.7"},
    {"ae_title": "ANYWHERE"},
    {"ae_title": "SIX", "host": "2001:db8::1"},
)


def asked(
    calling: str = "CT1", *, called: str = "DICOM_NODE", context: str = APPLICATION_CONTEXT
) -> AssociateRequest:
    return AssociateRequest(called, calling, 1, context, (), b"")


@pytest.mark.parametrize(
    ("settings", "called", "calling", "host", "expected"),
    [
        ({}, "DICOM_NODE", "X", "127.0.0.1", None),
        ({}, "DICOM_NODE", "X", "127.8.8.8", None),
        ({}, "DICOM_NODE", "", "127.0.0.1", rejection.CALLING_AE),
        ({}, "DICOM_NODE", "X", "::1", None),
        ({}, "DICOM_NODE", "X", "::ffff:127.0.0.1", None),
        ({}, "DICOM_NODE", "X", "192.0.2.7", rejection.CALLING_AE),
        ({}, "OTHER", "X", "127.0.0.1", rejection.CALLED_AE),
        ({}, "", "X", "127.0.0.1", rejection.CALLED_AE),
        ({"require_called_ae": False}, "OTHER", "X", "127.0.0.1", None),
        ({"accept_unknown_peers": True}, "DICOM_NODE", "X", "192.0.2.7", None),
        ({"accept_unknown_peers": True}, "OTHER", "X", "192.0.2.7", rejection.CALLED_AE),
        ({"known_peers": PEERS}, "DICOM_NODE", "CT1", "192.0.2.7", None),
        ({"known_peers": PEERS}, "DICOM_NODE", "CT1", "::ffff:192.0.2.7", None),
        ({"known_peers": PEERS}, "DICOM_NODE", "", "192.0.2.7", rejection.CALLING_AE),
        ({"known_peers": PEERS}, "DICOM_NODE", "CT1", "192.0.2.8", rejection.CALLING_AE),
        ({"known_peers": PEERS}, "DICOM_NODE", "CT1", "127.0.0.1", rejection.CALLING_AE),
        ({"known_peers": PEERS}, "DICOM_NODE", "ct1", "192.0.2.7", rejection.CALLING_AE),
        ({"known_peers": PEERS}, "DICOM_NODE", "ANYWHERE", "198.51.100.1", None),
        ({"known_peers": PEERS}, "DICOM_NODE", "SIX", "2001:0db8:0::1", None),
        ({"known_peers": PEERS}, "DICOM_NODE", "OTHER", "127.0.0.1", rejection.CALLING_AE),
    ],
)
def test_a_peer_is_judged_by_title_and_address(
    settings: dict[str, Any], called: str, calling: str, host: str, expected: Rejection | None
) -> None:
    found = Admission(DicomSettings(**settings)).find_rejection(asked(calling, called=called), host)
    assert (found and found.rejection) is expected


@pytest.mark.parametrize(
    ("calling", "host", "detail"),
    [
        ("OTHER", "192.0.2.7", "OTHER is not in dicom.known_peers"),
        ("CT1", "192.0.2.8", "CT1 is known, but calls from another address: 192.0.2.8 instead of 192.0.2.7"),
        (
            "SIX",
            "::ffff:192.0.2.8",
            "SIX is known, but calls from another address: 192.0.2.8 instead of 2001:db8::1",
        ),
        ("", "192.0.2.7", "none is given"),
    ],
)
def test_a_rejection_says_which_value_was_not_accepted(calling: str, host: str, detail: str) -> None:
    found = Admission(DicomSettings(known_peers=PEERS)).find_rejection(asked(calling), host)
    assert found is not None
    assert found.detail == detail


def test_without_known_peers_another_machine_is_told_what_is_missing() -> None:
    found = Admission(DicomSettings()).find_rejection(asked(), "192.0.2.7")
    assert found is not None
    assert found.detail == "192.0.2.7 is another machine, and dicom.known_peers is empty"


def test_another_application_context_is_rejected() -> None:
    found = Admission(DicomSettings()).find_rejection(asked(context="1.2.3"), "127.0.0.1")
    assert found is not None
    assert (found.rejection, found.detail) == (rejection.APPLICATION_CONTEXT, "1.2.3 is not DICOM's")


# -- host names --------------------------------------------------------------------------------------


class Names:
    """Name service that answers as it is told."""

    def __init__(self, *addresses: str) -> None:
        self.addresses = {*addresses}
        self.asked = 0
        self.away = False

    def __call__(self, host: str) -> frozenset[str]:
        self.asked += 1
        if self.away:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return frozenset(self.addresses)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def named(names: Names, clock: Clock) -> PeerAddresses:
    made = PeerAddresses("pacs.example", "dicom.known_peers.0.host", names, clock)
    until(lambda: names.asked == 1 and not made._lock.locked(), 5, "the name was looked up at the start")
    return made


def test_a_name_stands_for_all_its_addresses(clock: Clock) -> None:
    names = Names("192.0.2.7", "2001:db8::1")
    pacs = named(names, clock)
    assert "192.0.2.7" in pacs
    assert "2001:db8::1" in pacs
    assert names.asked == 1
    assert str(pacs) == "pacs.example (192.0.2.7, 2001:db8::1)"


def test_an_address_that_is_new_is_found_at_once_and_not_asked_for_all_the_time(clock: Clock) -> None:
    names = Names("192.0.2.7")
    pacs = named(names, clock)
    names.addresses = {"192.0.2.8"}
    assert "192.0.2.8" not in pacs, "a look-up has just been made"
    clock.now += 2
    assert "192.0.2.8" in pacs
    assert names.asked == 2
    assert "198.51.100.1" not in pacs
    assert names.asked == 2


def test_an_address_that_a_name_has_lost_is_forgotten_after_a_minute(clock: Clock) -> None:
    names = Names("192.0.2.7")
    pacs = named(names, clock)
    names.addresses = {"192.0.2.8"}
    clock.now += admission.RENEWAL_SECONDS + 1
    assert "192.0.2.7" in pacs, "nobody waits for the name service"
    until(lambda: "192.0.2.7" not in pacs, 5, "the name was looked up again")


def test_known_addresses_stay_valid_while_no_name_service_answers(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    names = Names("192.0.2.7")
    pacs = named(names, clock)
    names.away = True
    for _ in range(3):
        clock.now += 2
        assert "192.0.2.8" not in pacs
    assert "192.0.2.7" in pacs
    (said,) = caplog.messages
    assert said == (
        "dicom.known_peers.0.host: no address is found for pacs.example (192.0.2.7): "
        "Temporary failure in name resolution; correct the name, or the name service"
    )
    names.away, names.addresses = False, {"192.0.2.8"}
    clock.now += 2
    assert "192.0.2.8" in pacs


@pytest.mark.parametrize("host", ["pacs..example", "a" * 64 + ".example"])
def test_a_name_that_no_resolver_takes_admits_nobody_and_is_logged(
    host: str, caplog: pytest.LogCaptureFixture
) -> None:
    # The settings refuse most of these, but a name that Python's codec refuses must end no association.
    peer = KnownPeer.model_construct(ae_title="CT1", host=host)
    settings = DicomSettings.model_construct(**{**dict(DicomSettings()), "known_peers": (peer,)})
    found = Admission(settings).find_rejection(asked(), "192.0.2.7")
    assert found is not None
    assert found.detail.endswith(f"192.0.2.7 instead of {host} (no address is known)")
    assert f"dicom.known_peers.0.host: no address is found for {host}" in caplog.text


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_a_peer_known_by_name_is_admitted(host: str) -> None:
    known = ({"ae_title": "CT1", "host": "192.0.2.1"}, {"ae_title": "CT1", "host": "peer.example"})
    names = Names("127.0.0.1", "::1")
    found = Admission(DicomSettings(known_peers=known), names).find_rejection(asked(), host)
    assert found is None


# -- connections -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "host", "may"),
    [
        ({}, "198.51.100.1", True),  # it is told what is missing
        ({"known_peers": PEERS[:1]}, "192.0.2.7", True),
        ({"known_peers": PEERS[:1]}, "::ffff:192.0.2.7", True),
        ({"known_peers": PEERS[:1]}, "192.0.2.8", False),
        ({"known_peers": PEERS[:1]}, "127.0.0.1", False),
        ({"known_peers": PEERS[:1], "accept_unknown_peers": True}, "192.0.2.8", True),
        ({"known_peers": PEERS}, "198.51.100.1", True),  # one of them may call from anywhere
    ],
)
def test_a_connection_from_an_address_that_nobody_known_can_have_is_not_heard(
    settings: dict[str, object], host: str, may: bool
) -> None:
    assert Admission(DicomSettings(**settings)).may_connect(host) is may


def test_a_name_is_looked_up_for_a_new_address_but_no_connection_waits_for_it(clock: Clock) -> None:
    names = Names("192.0.2.7")
    known = (KnownPeer(ae_title="CT1", host="pacs.example"),)
    door = Admission(DicomSettings(known_peers=known), names, clock)
    until(
        lambda: door.may_connect("192.0.2.7") and names.asked == 1, 5, "the name was looked up at the start"
    )
    assert not door.may_connect("192.0.2.8")
    assert names.asked == 1
    clock.now += 2
    assert door.may_connect("192.0.2.8"), "nobody knows yet"
    until(lambda: not door.may_connect("192.0.2.8"), 5, "it was looked up again")
    assert names.asked == 2
    assert door.may_connect("192.0.2.7")


def test_the_name_service_of_this_host_is_asked() -> None:
    assert "127.0.0.1" in admission.resolve("localhost")
