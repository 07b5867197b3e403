"""Downloads without identity, where the settings say so; and nothing where that cannot be done."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from dicom_node.config.deidentification import DeidentificationSettings
from dicom_node.config.web import WebSettings
from dicom_node.web.app import create_app
from tests.support import factories
from tests.support.offline_node import OfflineNode


def downloaded(tmp_path: Path, burned_in: str, **section: Any) -> Any:
    """Ask for all objects of a study with one film; returns the response."""
    node = OfflineNode(tmp_path / "node")
    node.receive(1, ds=factories.film(rows=64, columns=64, study=1, BurnedInAnnotation=burned_in))
    node.close()
    settings = node.settings.model_copy(
        update={
            "web": WebSettings(patient="name", dicomweb_films=True),
            "deidentification": DeidentificationSettings(**section),
        }
    )
    with TestClient(create_app(settings), base_url="http://localhost") as client:
        return client.get(f"/dicom-web/studies/{factories.uid('study', 1)}")


def test_a_whole_object_leaves_without_identity(tmp_path: Path) -> None:
    answer = downloaded(tmp_path, "NO", downloads=True)
    assert answer.status_code == 200
    assert b"PAT-1" not in answer.content
    assert b"Doe" not in answer.content
    assert b"113100" in answer.content


def test_by_default_it_leaves_as_it_is(tmp_path: Path) -> None:
    answer = downloaded(tmp_path, "YES")
    assert answer.status_code == 200
    assert b"PAT-1" in answer.content


@pytest.mark.parametrize("burned_in", ["YES", ""])
def test_nothing_leaves_of_a_picture_that_may_hold_text(burned_in: str, tmp_path: Path) -> None:
    answer = downloaded(tmp_path, burned_in, downloads=True)
    assert answer.status_code == 403
    assert "burned into its picture" in answer.text


def test_an_unknown_picture_leaves_where_the_settings_say_so(tmp_path: Path) -> None:
    assert downloaded(tmp_path, "", downloads=True, unknown_pictures="keep").status_code == 200
