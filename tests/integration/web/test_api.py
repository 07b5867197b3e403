"""The API does what its description says, whatever it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord, ImageRecord
from dicom_node.store.states import StudyState
from dicom_node.web.auth.accounts import Accounts, Role
from tests.support.factories import uid
from tests.support.offline_node import OfflineNode
from tests.support.peers import Node

pytestmark = pytest.mark.peer

EXAMPLES = 12
#: Never ends, and reads a study with a model.
_SLOW = {"/api/v1/events", "/api/v1/studies/{study_id}/replay"}
CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A page with one study of everything, and the token of an admin."""
    folder: Path = tmp_path_factory.mktemp("api")
    node = OfflineNode(folder)
    accounts = Accounts(node.index.engine)
    token = accounts.make_token(accounts.add("ada", Role.ADMIN, None), "", 3600)
    node.finish(
        1,
        StudyState.REPORTED,
        reading=AnalysisRecord(
            "tiny", "1", (), "absent", (FindingRecord("nodule", "Nodule", 0.7, 0.5, 0.4, "present"),),
            (ImageRecord(uid(1, 1), "frontal", "", ""),),
        ),
    )  # fmt: skip
    # In a process of its own, as it is served: the tool's own client leaves streams open within ours.
    with Node(folder, command="web", web__login="true", web__requests_per_minute="1000000") as web:
        yield web.page.rstrip("/"), {"Authorization": f"Bearer {token}"}
    node.close()


def test_every_operation_answers_as_described(served: tuple[str, dict[str, str]]) -> None:
    address, headers = served
    schema = schemathesis.openapi.from_url(f"{address}/api/v1/openapi.json", headers=headers)
    operations = [result.ok() for result in schema.get_all_operations() if result.ok().path not in _SLOW]
    assert len(operations) >= 13

    def asked(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    for operation in operations:
        run = hypothesis.given(case=operation.as_strategy())(asked)
        hypothesis.settings(
            max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )(run)()  # fmt: skip


def test_the_description_says_what_it_is_for(served: tuple[str, dict[str, str]]) -> None:
    address, headers = served
    place = f"{address}/api/v1/openapi.json"
    assert httpx.get(place, trust_env=False).status_code == 401
    described = httpx.get(place, headers=headers, trust_env=False).json()
    assert "RESEARCH USE ONLY" in described["info"]["summary"]
    assert all(path.startswith("/api/v1/") for path in described["paths"])
