"""Downloads over connections that break anywhere and often: the file arrives unchanged."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.cli.download import Unreachable, download
from tests.support.file_server import serving


@given(
    st.binary(min_size=1, max_size=4000),
    st.lists(st.integers(0, 1500), max_size=6),
    st.binary(max_size=200),
    st.booleans(),
)
@settings(max_examples=60)
def test_the_file_arrives_as_it_is(whole: bytes, cuts: list[int], left: bytes, ranges: bool):
    digest = "sha256:" + hashlib.sha256(whole).hexdigest()
    with tempfile.TemporaryDirectory() as folder, serving(Path(folder)) as web:
        Path(folder, "served").write_bytes(whole)
        target = Path(folder, "here")
        # What an earlier call left is the beginning of the file.
        target.with_name("here.part").write_bytes(whole[: len(left)])
        web.cuts, web.ranges = list(cuts), ranges
        for _ in range(len(cuts) + 1):
            try:
                download(f"{web.url}/served", target, size=len(whole), digest=digest, waits=())
            except Unreachable:
                assert not target.exists()
            else:
                break
        assert target.read_bytes() == whole
