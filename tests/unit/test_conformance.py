from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.config.destinations import DicomDestination, DicomwebDestination
from dicom_node.config.sections import DicomSettings, KnownPeer, PriorSettings, ResultSettings
from dicom_node.config.settings import Settings
from dicom_node.conformance import conformance_statement
from dicom_node.dimse import contexts
from dicom_node.dimse.client import query_retrieve
from dicom_node.dimse.status import Status

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "conformance.md"


def test_the_document_is_what_the_program_prints() -> None:
    """Mend it with `dicom-node conformance > docs/conformance.md`, without settings of your own."""
    assert DOCUMENT.read_text(encoding="utf-8") == conformance_statement(Settings())


def test_the_command_prints_it_for_its_settings() -> None:
    answer = CliRunner().invoke(app, ["conformance"], env={"DICOM_NODE_DICOM__AE_TITLE": "CHEST_AI"})
    assert answer.exit_code == 0
    assert "### 3.2 Application entity CHEST_AI" in answer.output


def test_every_accepted_context_and_every_status_is_listed() -> None:
    text = conformance_statement(Settings())
    for sop_class, sop_class_uid, syntax, syntax_uid in contexts.context_rows():
        assert f"| {sop_class} | {sop_class_uid} | {syntax} | {syntax_uid} |" in text
    for status in Status:
        assert f"| {status.value:04X} | {status.text} |" in text


def test_the_settings_decide() -> None:
    plain = conformance_statement(Settings())
    assert "only from this machine" in plain
    assert "does not use TLS with these settings" in plain
    assert "| none configured | | |" in plain
    assert "Secondary Capture Image Storage (`sc`)" in plain
    files = {"tls_certificate": Path("a.pem"), "tls_key": Path("a.key"), "tls_ca": Path("ca.pem")}
    settings = Settings(
        dicom=DicomSettings(known_peers=(KnownPeer(ae_title="MODALITY"),), require_called_ae=False, **files),
        destinations=(
            DicomDestination(name="pacs", ae_title="PACS", host="secret-host", port=104, tls=True),
            DicomwebDestination(name="web", kind="dicomweb", url="https://secret-host/dicom-web"),
        ),
        results=ResultSettings(sr_class="enhanced"),
    )
    text = conformance_statement(settings)
    assert "These calling AE titles are accepted: `MODALITY`. A title" in text
    assert "Any called AE title is accepted." in text
    assert "peers must present a certificate of a known authority" in text
    assert "| `PACS` | DICOM over TLS | commitment |" in text
    assert "| `web` | DICOMweb over TLS | query |" in text
    assert "Enhanced SR Storage" in text
    assert "Comprehensive 3D SR" not in text
    assert "secret-host" not in text


def test_a_picture_is_called_an_overview_when_it_is_one() -> None:
    line = "the films with their strongest findings outlined"
    assert line not in conformance_statement(Settings())
    assert line in conformance_statement(Settings(results=ResultSettings(overview=True)))


def test_the_services_that_fetch_priors_are_listed_when_there_is_a_source() -> None:
    pacs = DicomDestination(name="pacs", ae_title="PACS", host="secret-host", port=104)
    web = DicomwebDestination(name="web", kind="dicomweb", url="https://secret-host/dicom-web")
    plain = conformance_statement(Settings(destinations=(pacs, web)))
    assert "MOVE" not in plain
    assert "prior" not in plain.replace("Priority", "").split("### 7.3")[0]
    text = conformance_statement(Settings(destinations=(pacs, web), priors=PriorSettings(source="pacs")))
    assert "| Study Root Query/Retrieve - MOVE | yes | no |" in text
    for service in query_retrieve.SERVICES:
        assert f"| {service.name} | {service} | Explicit VR Little Endian, " in text
    text = conformance_statement(Settings(destinations=(pacs, web), priors=PriorSettings(source="web")))
    assert "MOVE" not in text
    assert "fetched with `GET …/studies/{study}/series/{series}`" in text
