from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from dicom_node.config.addresses import check_host, without_password
from dicom_node.config.deidentification import DeidentificationSettings
from dicom_node.config.sections import ResultSettings
from dicom_node.config.settings import Settings, load_settings
from dicom_node.errors import ConfigurationError
from dicom_node.imaging.deidentification import Retention
from dicom_node.results.encoding.compression import Compression


def toml(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "node.toml"
    path.write_text(text)
    return path


def test_defaults_need_no_file() -> None:
    settings = load_settings()
    assert settings.dicom.ae_title == "DICOM_NODE"
    assert (settings.dicom.host, settings.dicom.port, settings.web.port) == ("127.0.0.1", 11112, 8080)
    assert settings.study.quiet_seconds == 5
    assert settings.destinations == ()


def test_the_environment_goes_before_the_file_and_that_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = toml(tmp_path, '[dicom]\nport = 104\nae_title = "FROM_FILE"\n')
    monkeypatch.setenv("DICOM_NODE_DICOM__PORT", "105")
    settings = load_settings(path)
    assert (settings.dicom.port, settings.dicom.ae_title, settings.dicom.host) == (
        105,
        "FROM_FILE",
        "127.0.0.1",
    )


def test_destinations_come_as_json_or_as_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {"name": "pacs", "kind": "dicom", "ae_title": "ORTHANC", "host": "127.0.0.1", "port": 4242}
    path = toml(
        tmp_path, '[[destinations]]\nname = "pacs"\nae_title = "ORTHANC"\nhost = "127.0.0.1"\nport = 4242\n'
    )
    from_file = load_settings(path)
    monkeypatch.setenv("DICOM_NODE_DESTINATIONS", json.dumps([entry]))
    assert load_settings().destinations == from_file.destinations
    assert from_file.destinations[0].model_dump(include=set(entry)) == entry


def test_a_destination_is_of_the_kind_that_it_says(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        '[[destinations]]\nname = "web"\nkind = "dicomweb"\nurl = "http://127.0.0.1:8042/dicom-web"\n'
        '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "pacs"\nport = 104\n'
        'confirm = "response"\n',
    )
    web, pacs = load_settings(path).destinations
    assert (web.address, pacs.address) == ("http://127.0.0.1:8042/dicom-web", "PACS@pacs:104")
    assert (web.confirm, pacs.confirm) == ("commitment", "response")


LEAKS = r"Input|Settings|Peer|Destination|RoutingRule|<|instance|valid (integer|string)"
"""Names of classes and phrases of pydantic."""
_DICOM = '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "pacs"\nport = 104\n'
_WEB = '[[destinations]]\nname = "web"\nkind = "dicomweb"\nurl = '
_OIDC = '[oidc]\nissuer = "{}"\nclient_id = "c"\npage_url = "https://reading.example"\n'
_RULE = '[[rules]]\nname = "r"\ndestinations = ["pacs"]\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_DICOM.replace('"pacs"\nae', '"sender"\nae'), "destinations.0.name: 'sender' is reserved"),
        (
            _DICOM + 'tls_ca = "ca.pem"\n',
            "destinations.0: tls_ca and tls_certificate have no effect without tls = true",
        ),
        (
            _DICOM + 'tls = true\ntls_key = "key.pem"\n',
            "destinations.0: set tls_certificate and tls_key together",
        ),
        (_DICOM + 'kind = "ftp"\n', "destinations.0.kind: must be one of 'dicom', 'dicomweb' (got 'ftp')"),
        ('destinations = ["pacs"]\n', "destinations.0: must be a table of keys and values (got 'pacs')"),
        ('destinations = "pacs"\n', "destinations: must be a list (got 'pacs')"),
        (_DICOM.replace("104", "0"), "destinations.0.port: must be at least 1 (got 0)"),
        (_DICOM.replace('host = "pacs"\n', ""), "destinations.0.host: is required"),
        (_DICOM + _DICOM, "destinations.1.name: 'pacs' is also the name of another entry"),
        (_DICOM + 'results = "sr"\n', "destinations.0.results: must be a list (got 'sr')"),
        (
            _DICOM + 'url = "http://127.0.0.1"\n',
            "destinations.0.url: unknown key; known here: ae_title, confirm",
        ),
        (_WEB + '"pacs/dicom-web"\n', "url must be the root of a service"),
        (_WEB + '"https://me:secret@pacs/dicom-web"\n', "url holds credentials"),
        (_WEB + '"https://pacs/dicom-web"\nuser = "me"\n', "either token_file, or user and password_file"),
        (_WEB + '"http://pacs/dicom-web"\ntoken_file = "token"\n', "use https"),
        (_WEB + '"https://pacs/dicom-web"\nproxy = "proxy:3128"\n', "proxy must be an address"),
        (_WEB + '"https://pacs/dicom-web"\nproxy = "http://me:secret@proxy"\n', "proxy must be an address"),
        ('[dicom]\ntls_certificate = "node.pem"\n', "dicom: set tls_certificate and tls_key together"),
        (_DICOM + _RULE, "rules.0: a rule needs either conditions or fallback = true"),
        (_DICOM + _RULE + 'modality = ["CR"]\n', "rules: exactly one rule must have fallback = true"),
        (
            _DICOM + _RULE + "fallback = true\n" + _RULE + 'modality = ["CR"]\n',
            "rules.1.name: 'r' is also the name of another entry",
        ),
        (_RULE + "fallback = true\n", "rules.0.destinations: no destination is named 'pacs'"),
        (_DICOM + _RULE + 'view = ["sideways"]\n', "rules.0.view.0: must be 'frontal', 'lateral' or ''"),
        (_DICOM + _RULE + 'mode = ["CR"]\n', "rules.0.mode: unknown key; did you mean 'rules.0.name'?"),
    ],
)
def test_a_mistake_in_delivery_is_said(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(toml(tmp_path, text))
    assert message in str(caught.value)
    assert not re.search(LEAKS, str(caught.value))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[dicom]\nprot = 104\n", "dicom.prot: unknown key; did you mean 'dicom.port'?"),
        ("[dicm]\nport = 104\n", "dicm: unknown key; did you mean 'dicom'?"),
        (
            '[[destinations]]\nnam = "x"\n',
            "destinations.0.nam: unknown key; did you mean 'destinations.0.name'?",
        ),
        ('[dicom]\nport = "many"\n', "dicom.port: must be a whole number (got 'many')"),
        ("[dicom]\nport = 70000\n", "dicom.port: must be at most 65535 (got 70000)"),
        ('[dicom]\nae_title = "SEVENTEEN_LETTERS"\n', "1 to 16 printable ASCII characters"),
        ('[dicom]\nhost = "0.0.0.0"\n', "set dicom.accept_unknown_peers = true"),
        ('[dicom]\nhost = "127.0.0"\n', "dicom.host: '127.0.0' is neither a host name nor an IP address"),
        ('[web]\nhost = "[::1]"\n', "web.host: '[::1]' is neither a host name nor an IP address"),
        (
            '[dicom]\nknown_peers = [{ae_title = "A", host = "::1"}, {ae_title = "B", host = "a b"}]\n',
            "dicom.known_peers.1.host: 'a b' is neither",
        ),
        (
            '[dicom]\nknown_peers = [{ae_title = "SEVENTEEN_LETTERS"}]\n',
            "dicom.known_peers.0.ae_title: AE title 'SEVENTEEN_LETTERS' must be 1 to 16",
        ),
        (_DICOM.replace('"PACS"', '"SEVENTEEN_LETTERS"'), "destinations.0.ae_title: AE title"),
        (_WEB + '"https://pacs:99999/dicom-web"\n', "destinations.0: url: Port out of range"),
        ('[worker]\ndevice = "gpu"\n', "worker.device: must be auto, cpu, cuda or cuda:N (got 'gpu')"),
        ('[worker]\ndevice = "cuda:x"\n', "worker.device: must be auto, cpu, cuda or cuda:N"),
        ('broker_url = "http://127.0.0.1/"\n', "broker_url: must be the address of a Redis or Valkey server"),
        ('broker_url = "redis://host:port/0"\n', "broker_url: Port could not be cast"),
        ('broker_url = "redis:///0"\n', "broker_url: '' is neither a host name nor an IP address"),
        ('broker_url = "redis+socket://broker.sock"\n', "broker_url: must be the address"),
        ('database_url = "mysql://node@db/node"\n', "database_url: mysql is not supported; use sqlite or"),
        ('database_url = "data/index.sqlite"\n', "database_url: must be the address of a database"),
        ('database_url = "postgresql://db:many/node"\n', "database_url: must be the address of a database"),
        ('database_url = "postgresql://db..x/node"\n', "database_url: 'db..x' is neither a host name"),
        ('database_url = "sqlite://"\n', "database_url: names no file"),
        (
            '[retrieval]\ndatabase_url = "sqlite:////a"\n',
            "retrieval.database_url: must be the address of a Po",
        ),
        ("not toml", "not valid TOML"),
        ("[dicom]\nport = 1.5\n", "dicom.port: must be a whole number (got 1.5)"),
        ("[dicom]\nhost = 3\n", "dicom.host: must be text (got 3)"),
        ("[dicom]\ntls_key = 3\n", "dicom.tls_key: must be a path (got 3)"),
        ('dicom = "x"\n', "dicom: must be a table of keys and values (got 'x')"),
        ('[dicom]\nknown_peers = ["PACS"]\n', "dicom.known_peers.0: must be a table of keys and values"),
        ('[dicom]\nknown_peers = [{host = "::1"}]\n', "dicom.known_peers.0.ae_title: is required"),
        (
            '[dicom]\nknown_peers = [{ae_title = "A", hots = "::1"}]\n',
            "dicom.known_peers.0.hots: unknown key; did you mean 'dicom.known_peers.0.host'?",
        ),
        ("[study]\nforced_seconds = 0\n", "study.forced_seconds: must be more than 0 (got 0)"),
        ('[study]\nquiet_seconds = "x"\n', "study.quiet_seconds: must be a number (got 'x')"),
        ('[web]\nlogin = "perhaps"\n', "web.login: must be true or false (got 'perhaps')"),
        ('[oidc]\nbutton = ""\n', "oidc.button: must have 1 or more characters (got '')"),
        ('[results]\nsr_class = "x"\n', "results.sr_class: must be 'comprehensive3d', 'comprehensive' or"),
        (
            '[results]\nstation_name = "12345678901234567"\n',
            "results.station_name: must have at most 16 characters",
        ),
        (
            '[web]\ndicomweb_origins = ["https://viewer.example/"]\n',
            "web.dicomweb_origins: 'https://viewer.example/' is not an origin",
        ),
        ('[oidc]\nissuer = "https://id.example"\n', "issuer needs client_id and page_url"),
        (_OIDC.format("http://id.example"), "issuer must be an https address"),
        (_OIDC.format("https://id.example?x=1"), "issuer must be an https address"),
        (_OIDC.format("https://id.example") + 'scopes = ["profile"]\n', "scopes must contain openid"),
        (
            _OIDC.format("https://id.example").replace("reading.example", "reading.example/login"),
            "page_url must be an address without a path",
        ),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_file_and_key(
    tmp_path: Path, text: str, message: str
) -> None:
    path = toml(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    assert message in str(caught.value)
    assert all(line.startswith(f"{path}: ") for line in str(caught.value).splitlines())
    assert not re.search(LEAKS, str(caught.value))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("DICOM_NODE_DICOM__PROT", "1", "did you mean 'DICOM_NODE_DICOM__PORT'?"),
        ("DICOM_NODE_DICOM__PORT", "x", "DICOM_NODE_DICOM__PORT: must be a whole number (got 'x')"),
        (
            "DICOM_NODE_DESTINATIONS",
            "[",
            "DICOM_NODE_DESTINATIONS: not valid JSON, as lists and tables must be",
        ),
        ("DICOM_NODE_DICOM__KNOWN_PEERS", "PACS", "DICOM_NODE_DICOM__KNOWN_PEERS: not valid JSON"),
        (
            "DICOM_NODE_DICOM__KNOWN_PEERS",
            '["PACS"]',
            "DICOM_NODE_DICOM__KNOWN_PEERS: dicom.known_peers.0: must be a table",
        ),
        (
            "DICOM_NODE_DICOM",
            '{"prt": 1}',
            "DICOM_NODE_DICOM: dicom.prt: unknown key; did you mean 'dicom.port'",
        ),
        ("DICOM_NODE_DESTINATIONS", '["pacs"]', "DICOM_NODE_DESTINATIONS: destinations.0: must be a table"),
        (
            "DICOM_NODE_DESTINATIONS",
            '[{"name": "a", "prot": 1}]',
            "DICOM_NODE_DESTINATIONS: destinations.0.prot: unknown key; did you mean 'destinations.0.port'",
        ),
        ("DICOM_NODE_DESTINATIONS", '[{"name": "a"}]', "DICOM_NODE_DESTINATIONS: destinations.0.ae_title"),
    ],
)
def test_a_mistake_in_the_environment_is_one_line_that_names_the_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        load_settings()
    assert message in str(caught.value)


def test_every_mistake_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(toml(tmp_path, "[dicom]\nprot = 1\n[web]\nprot = 2\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_an_open_address_needs_known_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE_DICOM__HOST", "0.0.0.0")
    monkeypatch.setenv("DICOM_NODE_DICOM__KNOWN_PEERS", '[{"ae_title": "PACS", "host": "10.0.0.1"}]')
    assert load_settings().dicom.known_peers[0].ae_title == "PACS"


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("https = true", "web.https"),
        ('host = "0.0.0.0"', "web.host = 0.0.0.0"),
        ('[oidc]\npage_url = "https://reading.example"', "oidc.page_url"),
    ],
)
def test_a_page_that_others_reach_has_a_login_or_does_not_start(
    tmp_path: Path, text: str, setting: str
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f"[web]\n{text}\n")
    assert load_settings(config).login_needed
    config.write_text(f"[web]\nlogin = false\n{text}\n")
    with pytest.raises(ConfigurationError, match=setting) as caught:
        load_settings(config)
    assert len(str(caught.value).splitlines()) == 1
    assert "remove login = false" in str(caught.value)


@pytest.mark.parametrize("proxy", ["*", "proxy.example", "10.0.0.1/8", ""])
def test_a_trusted_proxy_is_an_address_or_a_network(tmp_path: Path, proxy: str) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f"[web]\ntrusted_proxies = [{proxy!r}]\n")
    with pytest.raises(ConfigurationError, match="neither an address nor a network"):
        load_settings(config)


def test_settings_cannot_be_changed() -> None:
    settings = load_settings()
    with pytest.raises(ValidationError):
        settings.data_dir = Path("elsewhere")  # type: ignore[misc]
    assert isinstance(settings, Settings)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load_settings(tmp_path / "none.toml")


def test_settings_go_through_the_environment_and_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(
        'data_dir = "elsewhere"\nlog_format = "json"\n[dicom]\nport = 104\naccept_unknown_peers = true\n'
        '[retrieval]\nk = 7\n[[destinations]]\nname = "a"\nae_title = "A"\nhost = "127.0.0.1"\nport = 1\n'
        '[[destinations]]\nname = "b"\nkind = "dicomweb"\nurl = "http://127.0.0.1:1/web"\n',
        encoding="utf-8",
    )
    settings = load_settings(config)
    for name, value in settings.variables().items():
        monkeypatch.setenv(name, value)
    assert load_settings().model_dump() == settings.model_dump()


PACS = '[[destinations]]\nname = "pacs"\nae_title = "PACS"\nhost = "127.0.0.1"\nport = 104\n'


def test_priors_come_from_a_destination_and_are_off_without_one(tmp_path: Path) -> None:
    assert load_settings(toml(tmp_path, PACS)).prior_source is None
    source = load_settings(toml(tmp_path, f'[priors]\nsource = "pacs"\n{PACS}')).prior_source
    assert source is not None
    assert source.name == "pacs"


@pytest.mark.parametrize(
    ("priors", "message"),
    [
        ('source = "archive"', "no destination is named 'archive'"),
        ("days = 0", "priors.days"),
        ("wait_seconds = 0", "priors.wait_seconds"),
        ('sorce = "pacs"', "did you mean 'priors.source'"),
    ],
)
def test_priors_that_cannot_be_are_named(tmp_path: Path, priors: str, message: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(toml(tmp_path, f"[priors]\n{priors}\n{PACS}"))
    assert message in str(caught.value)


def test_a_password_in_a_wrong_address_is_not_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(toml(tmp_path, 'broker_url = "amqp://me:sesame@broker/0"\n'))
    assert "(got 'amqp://me:***@broker/0')" in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "redis://127.0.0.1:6379/0",
        "redis://:secret@broker",
        "rediss://me:secret@broker.example:6380/1",
        "redis://[::1]:6379/0",
        "redis+socket:///run/valkey/valkey.sock?virtual_host=1",
    ],
)
def test_an_address_of_a_broker_is_taken_as_it_is(address: str) -> None:
    assert Settings(broker_url=address).broker_url == address


@pytest.mark.parametrize(
    "host", ["pacs", "pacs.example.", "node_1", "192.0.2.7", "fe80::1%eth0", "röntgen.example", "a" * 63]
)
def test_a_host_is_taken_as_it_is(host: str) -> None:
    assert check_host(host) == host


@pytest.mark.parametrize(
    "host", ["", ".", "a" * 64, "-a", "a-", "192.0.2.300", "a/b", "a:1", ".".join(["a"] * 128)]
)
def test_what_is_no_host_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="neither a host name nor an IP address"):
        check_host(host)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://node:hidden@db.example/node",
        "postgresql://node@db.example/node?connect_timeout=3&password=hidden",
        "redis://:hidden@127.0.0.1/0",
    ],
)
def test_no_address_shows_its_password(address: str) -> None:
    assert "hidden" not in without_password(address)
    assert "***" in without_password(address)


def test_a_password_with_an_at_sign_is_not_shown_as_a_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DICOM_NODE_DATABASE_URL", "postgresql://node:hid@den@db.example/node")
    with pytest.raises(ConfigurationError, match="write one in a password as %40") as caught:
        load_settings()
    assert "den" not in str(caught.value)


def test_what_can_be_chosen_is_what_the_code_that_takes_it_knows() -> None:
    compression = ResultSettings.model_fields["compression"].annotation
    assert get_args(compression) == get_args(Compression)
    (choice, _) = get_args(DeidentificationSettings.model_fields["retain"].annotation)
    assert get_args(choice) == tuple(Retention)
