"""The API does what its description says, whatever it is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import schemathesis
from fastapi.testclient import TestClient
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import response_schema_conformance, status_code_conformance

from dicom_node.reading_room.accounts import Accounts, Role
from dicom_node.reading_room.app import create_app
from dicom_node.store.readings import KeptFinding, KeptImage, KeptReading
from dicom_node.store.study import StudyState
from tests.factories import uid
from tests.unit.reading_room.node import StillNode

EXAMPLES = 12
CHECKS = [not_a_server_error, status_code_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, str]]]:
    """A page with one study of everything, and the token of an admin."""
    folder: Path = tmp_path_factory.mktemp("api")
    node = StillNode(folder)
    web = node.settings.web.model_copy(update={"login": True, "requests_per_minute": 1_000_000})
    node.settings = node.settings.model_copy(update={"web": web})
    accounts = Accounts(node.index.engine)
    token = accounts.begin(accounts.add("ada", Role.ADMIN, None), None)
    node.finish(
        1,
        StudyState.REPORTED,
        reading=KeptReading(
            "tiny", "1", (), "absent", (KeptFinding("nodule", "Nodule", 0.7, 0.5, 0.4, "present"),),
            (KeptImage(uid(1, 1), "frontal", "", ""),),
        ),
    )  # fmt: skip
    with TestClient(create_app(node.settings), base_url="http://localhost") as client:
        yield client, {"Authorization": f"Bearer {token}"}
    node.close()


def test_every_operation_answers_as_described(served: tuple[TestClient, dict[str, str]]) -> None:
    client, headers = served
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", client.app)
    operations = [
        result.ok() for result in schema.get_all_operations() if result.ok().path != "/api/v1/events"
    ]
    assert len(operations) >= 13

    def asked(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    for operation in operations:
        run = hypothesis.given(case=operation.as_strategy())(asked)
        hypothesis.settings(
            max_examples=EXAMPLES, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(hypothesis.HealthCheck),
        )(run)()  # fmt: skip


def test_the_description_says_what_it_is_for(served: tuple[TestClient, dict[str, str]]) -> None:
    client, _ = served
    described = client.get("/api/v1/openapi.json").json()
    assert "RESEARCH USE ONLY" in described["info"]["summary"]
    assert all(path.startswith("/api/v1/") for path in described["paths"])
