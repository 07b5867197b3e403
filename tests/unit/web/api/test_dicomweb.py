"""Addresses in DICOMweb's answers."""

from __future__ import annotations

import pytest

from dicom_node.config.sections import OidcSettings
from dicom_node.store.states import StudyState
from tests.support.factories import film
from tests.support.offline_node import OfflineNode


@pytest.mark.parametrize("page", [None, "https://reading.example"])
def test_an_answer_names_the_page_as_readers_reach_it(node: OfflineNode, page: str | None) -> None:
    node.finish(1, StudyState.REPORTED, films=[film(rows=64, columns=64)], results=0)
    web = node.settings.web.model_copy(update={"patient": "name", "login": False})
    node.settings = node.settings.model_copy(update={"web": web, "oidc": OidcSettings(page_url=page)})
    with node.browser() as client:
        (study,) = client.get("/dicom-web/studies").json()
        (stored,) = client.get(f"/dicom-web/studies/{study['0020000D']['Value'][0]}/metadata").json()
        root = f"{page or str(client.base_url).rstrip('/')}/dicom-web/studies/"
    assert study["00081190"]["Value"][0].startswith(root)
    assert stored["7FE00010"]["BulkDataURI"].startswith(root)
