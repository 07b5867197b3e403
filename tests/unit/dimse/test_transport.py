"""The listening socket."""

from __future__ import annotations

import socket

import pytest

from dicom_node.dimse.transport import bind
from dicom_node.errors import ConfigurationError


def test_a_bound_socket_listens_does_not_block_and_is_not_inherited_by_accident() -> None:
    with bind("127.0.0.1", 0) as listening:
        assert listening.getsockname()[1] > 0
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
        assert not listening.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
        assert not listening.get_inheritable()
        with pytest.raises(BlockingIOError):
            listening.accept()


def test_a_taken_port_is_a_clear_error() -> None:
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(
            ConfigurationError, match=rf"cannot listen on 127\.0\.0\.1:{port}: Address already"
        ):
            bind("127.0.0.1", port)
        with pytest.raises(ConfigurationError, match=r"set web\.host and web\.port to a free port"):
            bind("127.0.0.1", port, "web")


def test_a_port_may_be_bound_again_at_once() -> None:
    with bind("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        served, _ = listening.accept()
        served.close()
        client.close()
    bind("127.0.0.1", port).close()


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_host_is_a_clear_error(host: str) -> None:
    with pytest.raises(ConfigurationError, match=host):
        bind(host, 0)


def test_ipv6_is_an_address_like_any_other() -> None:
    with bind("::1", 0) as listening:
        assert listening.family == socket.AF_INET6
