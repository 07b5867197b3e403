"""Peers that are called while this process has no descriptor left."""

from __future__ import annotations

import os
import resource

import pytest

from dicom_node.dimse.client.peer import Peer
from dicom_node.errors import PeerUnavailable
from tests.support.receiver import Receiver


def test_a_process_without_descriptors_blames_no_file(receiver: Receiver) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    top = os.open(os.devnull, os.O_RDONLY)
    os.close(top)
    peer = Peer("DICOM_NODE", "127.0.0.1", receiver.port, calling_ae="WIRE")
    resource.setrlimit(resource.RLIMIT_NOFILE, (top, hard))
    try:
        with pytest.raises(PeerUnavailable, match="cannot connect: Too many open files"):
            peer.echo()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert peer.echo() >= 0
