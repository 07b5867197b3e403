"""The listening socket, and what a PDU must look like before anybody decodes it."""

from __future__ import annotations

import contextlib
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dicom_node.errors import ConfigurationError
from dicom_node.network import transport
from dicom_node.network.transport import bind
from tests.integration.network.wire import associate_rq, fragment


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


def test_pdvs_are_cut_out_of_a_p_data_without_a_copy() -> None:
    body = bytearray(fragment(1, 3, b"command") + fragment(5, 2, b"data set"))
    values = transport._Data(body).to_primitive().presentation_data_value_list
    assert [(number, bytes(value)) for number, value in values] == [(1, b"\3command"), (5, b"\2data set")]
    assert values[0][1].obj is body


@given(st.binary(max_size=300))
def test_any_p_data_is_taken_apart_or_malformed(content: bytes) -> None:
    try:
        values = transport._Data(bytearray(content)).to_primitive().presentation_data_value_list
    except transport._Malformed:
        return
    again = b"".join(struct.pack(">LB", len(value) + 1, number) + bytes(value) for number, value in values)
    assert again == content


@given(st.binary(max_size=600))
def test_any_association_request_is_acceptable_or_malformed(content: bytes) -> None:
    with contextlib.suppress(transport._Malformed):
        transport._check_associate(bytearray(bytes(68) + content))


def test_a_rightful_association_request_is_acceptable() -> None:
    transport._check_associate(bytearray(associate_rq()[6:]))


@given(st.floats(min_value=0.1, max_value=100), st.floats(min_value=0, max_value=200))
def test_a_timer_runs_on_the_monotonic_clock(timeout: float, elapsed: float) -> None:
    timer = transport._MonotonicTimer(timeout)
    assert (timer.remaining, timer.expired) == (timeout, False)
    with pytest.MonkeyPatch.context() as patch:
        now = 1000.0
        patch.setattr(transport.time, "monotonic", lambda: now)
        patch.setattr(transport.time, "time", lambda: now * 1e6)
        timer.start()
        now += elapsed
        assert timer.remaining == pytest.approx(timeout - elapsed)
        assert timer.expired == (timer.remaining < 0)
        timer.stop()
        now += 1000
        assert timer.remaining == pytest.approx(timeout - elapsed)
