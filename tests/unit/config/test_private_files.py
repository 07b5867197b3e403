"""Private files: loose ones are tightened, loose secrets are refused, and new ones are private."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from dicom_node.config.data_dir import DataDir
from dicom_node.config.destinations import DicomwebDestination
from dicom_node.config.private_files import check_private, check_secrets, is_loose
from dicom_node.config.sections import DicomSettings, OidcSettings, SenderSettings
from dicom_node.config.settings import Settings, load_settings
from dicom_node.dicomweb.client import DicomWebSession
from dicom_node.dimse.tls import server_context
from dicom_node.errors import ConfigurationError
from tests.support.certificates import Authority


def loose_file(path: Path, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("secret")
    path.chmod(mode)
    return path


def modes(root: Path) -> set[int]:
    return {stat.S_IMODE(each.lstat().st_mode) for each in [root, *root.rglob("*")] if not each.is_symlink()}


@pytest.mark.parametrize("loose", ["index.sqlite", "spool/ab/film.dcm", "maps/deep/down/map.png"])
def test_what_others_can_read_is_taken_from_them_and_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, loose: str
) -> None:
    root = tmp_path / "data"
    loose_file(root / loose)
    loose_file(root / "spool" / "cd" / "other.dcm", 0o666)
    (root / "link").symlink_to(tmp_path)
    root.chmod(0o755)
    before = stat.S_IMODE(tmp_path.stat().st_mode)
    DataDir(Settings(data_dir=root)).prepare()
    DataDir(Settings(data_dir=root)).prepare()
    assert modes(root) == {0o600, 0o700}
    assert stat.S_IMODE(tmp_path.stat().st_mode) == before
    (line,) = [record.getMessage() for record in caplog.records]
    assert line.endswith("files and folders were open to other users; they no longer are")


def test_a_new_data_directory_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        DataDir(Settings(data_dir=tmp_path / "above" / "data")).prepare()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "above" / "data").stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602])
def test_a_secret_that_others_can_use_is_refused_in_one_sentence(tmp_path: Path, mode: int) -> None:
    path = loose_file(tmp_path / "token", mode)
    with pytest.raises(ConfigurationError) as caught:
        check_private(path, "oidc.client_secret_file")
    assert str(caught.value) == (
        f"oidc.client_secret_file {path}: other users can read it (mode {mode:04o}); chmod 600 {path}, and "
        "let it belong to the user of the node"
    )
    path.chmod(0o400)
    check_private(path, "oidc.client_secret_file")
    check_private(tmp_path / "gone", "oidc.client_secret_file")


def test_every_file_of_the_settings_that_holds_a_secret_is_looked_at(tmp_path: Path) -> None:
    loose, fine = loose_file(tmp_path / "loose"), loose_file(tmp_path / "fine", 0o600)
    web = {"name": "web", "kind": "dicomweb", "url": "https://pacs.example/"}
    tls = {"tls_certificate": fine, "tls_key": loose}
    for table in (
        {"dicom": DicomSettings(**tls)},
        {"oidc": OidcSettings.model_construct(client_secret_file=loose)},
        {"destinations": (DicomwebDestination(**web, **tls),)},
        {"destinations": (DicomwebDestination(**web, token_file=loose),)},
        {"destinations": (DicomwebDestination(**web, user="u", password_file=loose),)},
    ):
        with pytest.raises(ConfigurationError, match="other users can read it"):
            check_secrets(Settings.model_construct(**table))


def test_loose_keys_and_tokens_are_refused_where_they_are_used(tmp_path: Path) -> None:
    identity = Authority(tmp_path / "ca").issue("node")
    files = {"tls_certificate": identity.certificate, "tls_key": identity.key}
    server_context(DicomSettings(**files))
    identity.key.chmod(0o640)
    with pytest.raises(ConfigurationError, match=r"dicom\.tls_key"):
        server_context(DicomSettings(**files))
    token = loose_file(tmp_path / "token")
    web = DicomwebDestination(name="web", kind="dicomweb", url="https://pacs.example/", token_file=token)
    with pytest.raises(ConfigurationError, match="destination web: token_file"):
        DicomWebSession(web, SenderSettings())


def test_a_configuration_with_a_password_must_be_private(tmp_path: Path) -> None:
    config = tmp_path / "node.toml"
    config.write_text('database_url = "postgresql://node:secret@db.example/node"\n')
    config.chmod(0o644)
    with pytest.raises(ConfigurationError, match=r"--config .*node\.toml: other users can read it") as caught:
        load_settings(config)
    assert "secret" not in str(caught.value)
    config.chmod(0o600)
    load_settings(config)
    config.write_text('database_url = "postgresql://node@db.example/node"\n')
    config.chmod(0o644)
    load_settings(config)


def test_what_is_not_there_and_what_a_link_leads_to_is_not_loose(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(loose_file(tmp_path / "loose"))
    assert is_loose(tmp_path / "loose")
    assert not is_loose(link)
    assert not is_loose(tmp_path / "gone")
