"""Node with analysed studies and accounts, for reader studies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from fastapi.testclient import TestClient

from dicom_node.store.analysis_records import AnalysisRecord, FindingRecord, HeatMapRecord, ImageRecord
from dicom_node.store.states import StudyState
from dicom_node.web.auth.accounts import Accounts, Role
from tests.support.factories import uid
from tests.support.login import PASSWORD, csrf_token, log_in
from tests.support.offline_node import OfflineNode

FINDINGS = {"nodule": "Nodule", "pleural_effusion": "Pleural effusion"}
#: Of the model, for both findings.
THRESHOLD = 0.4


def ask_for_logins(node: OfflineNode, *readers: str, patient: str = "pseudonym") -> None:
    """Let the page ask for a login, with accounts of readers and of the admin ``ada``."""
    web = {"login": True, "requests_per_minute": 1_000_000, "patient": patient}
    node.settings = node.settings.model_copy(update={"web": node.settings.web.model_copy(update=web)})
    accounts = Accounts(node.index.engine)
    accounts.add("ada", Role.ADMIN, PASSWORD)
    for name in readers:
        accounts.add(name, Role.READER, PASSWORD)


def analysed(node: OfflineNode, study: int, certainties: Mapping[str, float], *, maps_file: str = "") -> str:
    """Let the node receive and report one study; returns its Study Instance UID."""
    findings = tuple(
        FindingRecord(
            key, FINDINGS[key], value, value, THRESHOLD, "present" if value >= THRESHOLD else "absent"
        )
        for key, value in certainties.items()
    )
    maps = tuple(HeatMapRecord(key, uid(study, 1), "Grad-CAM") for key in certainties) if maps_file else ()
    return node.finish(
        study,
        StudyState.REPORTED,
        reading=AnalysisRecord(
            "tiny", "1.0.0", (), "absent", findings, (ImageRecord(uid(study, 1), "frontal", "", ""),),
            maps=maps, maps_file=maps_file,
        ),
    )  # fmt: skip


def study_list(uids: Sequence[str], reference: Mapping[str, Sequence[int | None]]) -> str:
    """CSV file of studies with their reference."""
    lines = [["Study Instance UID", *(FINDINGS[key] for key in reference)]]
    for row, each in enumerate(uids):
        values = (column[row] for column in reference.values())
        lines.append([each, *("" if value is None else str(value) for value in values)])
    return "".join(",".join(line) + "\n" for line in lines)


class Person:
    """Somebody who is logged in to the page, by its forms.

    Parameters
    ----------
    client
        HTTP client of their own.
    """

    def __init__(self, client: TestClient, name: str) -> None:
        self.client = client
        self.client.follow_redirects = False
        assert log_in(client, name) == 303
        self.csrf = csrf_token(self.client.get("/tokens").text)

    def post(self, path: str, **fields: str) -> tuple[int, str]:
        """Send a form; returns the status, and where the answer leads or what it says."""
        answer = self.client.post(path, data={"csrf": self.csrf, **fields})
        return answer.status_code, answer.headers.get("Location", answer.text)

    def make(self, csv: str, readers: Sequence[str], design: str, **fields: str) -> int:
        """Make a reader study of a CSV file; returns its number."""
        chosen = {f"reader-{each}": "on" for each in readers}
        said = {"name": design, "csv": csv, "design": design, "seed": "7", **chosen, **fields}
        status, place = self.post("/reader-studies", **said)
        assert status == 303, place
        return int(place.rpartition("/")[2])

    def case(self, number: int) -> tuple[int, int] | None:
        """Open the next case; returns the numbers of its reading and study, None when all is read."""
        page = self.client.get(f"/reader-studies/{number}/read")
        if page.status_code == 303:
            return None
        found = re.search(r'name="reading" value="(\d+)"', page.text)
        shown = re.search(r'data-api="/api/v1/studies/(\d+)/viewer"', page.text)
        assert page.status_code == 200
        assert found
        assert shown
        return int(found[1]), int(shown[1])

    def answer(
        self, number: int, reading: int, answers: Mapping[str, tuple[bool, int]], **fields: str
    ) -> int:
        """Answer a case; returns the status."""
        said = {f"presence-{key}": "present" if each[0] else "absent" for key, each in answers.items()}
        said |= {f"confidence-{key}": str(each[1]) for key, each in answers.items()}
        return self.post(f"/reader-studies/{number}/read", reading=str(reading), **said, **fields)[0]
