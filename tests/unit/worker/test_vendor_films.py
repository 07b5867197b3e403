"""Films with the headers of many makers end as they should."""

from __future__ import annotations

import pytest

from dicom_node.store.audit import IndexQueries
from dicom_node.store.states import StudyState
from tests.support.pipeline_harness import PipelineHarness, reason
from tests.support.vendor_headers import VENDOR_FILMS, VENDORS


@pytest.mark.parametrize("name", VENDORS)
def test_a_film_of_each_maker_is_reported_or_refused_with_its_reason(
    name: str, bench: PipelineHarness
) -> None:
    uid = bench.receive_film(VENDOR_FILMS[name]())
    bench.complete()
    bench.pipeline.analyse(uid, 1)
    (study,) = IndexQueries(bench.index.engine).studies()
    refused = VENDORS[name].refused
    assert study.state == (StudyState.SKIPPED if refused else StudyState.REPORTED), reason(bench)
    assert bool(reason(bench)) == bool(refused)
