"""Deployment files and documents agree with the program; neither Docker nor systemd is needed."""

from __future__ import annotations

import configparser
import importlib.metadata
import itertools
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from typer.testing import CliRunner

from dicom_node.cli.app import app
from dicom_node.cli.node import _Parts
from dicom_node.config.destinations import DicomDestination, DicomwebDestination, RoutingRule
from dicom_node.config.settings import Settings, load_settings
from orthanc.harness import configuration

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
PASSWORDS = ("ORTHANC_PASSWORD", "BROKER_PASSWORD")
PARTS = ("scp", "sender", "web", "worker")
VARIABLE = re.compile(r"\$\{(\w+)(:\?[^}]*)?(?::-[^}]*)?\}")


def example() -> dict[str, str]:
    """Variables of .env.example."""
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def compose(*, filled: bool = True) -> dict[str, Any]:
    """The compose file, as Compose would see it with .env.example and a password."""
    text = (DEPLOY / "compose.yaml").read_text()
    if filled:
        values = example() | dict.fromkeys(PASSWORDS, "secret")
        text = VARIABLE.sub(lambda found: values[found[1]], text)
    return dict(yaml.safe_load(text))


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(DEPLOY / "dicom-node.service")
    return parser


def instructions(name: str) -> list[tuple[str, str]]:
    """Instructions of a Dockerfile with their arguments."""
    text = re.sub(r"\\\n", " ", (DEPLOY / name).read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split(" ", 1)[0], line.split(" ", 1)[1].strip()) for line in lines]


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every call of dicom-node that the deployment and its documents name, with where it stands."""
    for name in PARTS:
        service = compose()["services"][name]
        yield f"compose {name}", service["command"]
        probe = service.get("healthcheck", {}).get("test", [])
        if "dicom-node" in probe:
            yield f"health of {name}", probe[probe.index("dicom-node") + 1 :]
    yield "systemd", shlex.split(unit()["Service"]["ExecStart"])[1:]
    for name in ("Dockerfile.node", "Dockerfile.worker"):
        found = dict(instructions(name))
        assert json.loads(found["ENTRYPOINT"]) == ["dicom-node"]
        yield name, json.loads(found["CMD"])
    texts = [*(ROOT / "docs").glob("*.md"), DEPLOY / "node.toml"]
    for path in texts:
        for call in re.findall(r"^(?:[$#] +)(?:sudo )?dicom-node (.*?)&?$", path.read_text(), re.MULTILINE):
            yield path.name, shlex.split(call)


@pytest.mark.parametrize(
    ("where", "words"),
    [pytest.param(*each, id=f"{each[0]}: {' '.join(each[1])}") for each in command_lines()],
)
def test_every_command_line_exists(where: str, words: list[str]) -> None:
    answer = CliRunner().invoke(app, [*words, "--help"])
    assert answer.exit_code == 0, answer.output


# -- node.toml


def setting_lines(model: type[BaseModel]) -> Iterator[str]:
    """One line for each setting of a section, as a regular expression."""
    for key, field in model.model_fields.items():
        if isinstance(field.default, BaseModel) or key in {"destinations", "models", "rules"}:
            continue
        comment = f"  # {field.description}" if field.description else ""
        if field.default is None:
            yield rf"# {key} = \S+{re.escape(comment)}"
            continue
        value = list(field.default) if isinstance(field.default, tuple) else field.default
        text = json.dumps(value if isinstance(value, bool | int | float | str | list) else str(value))
        yield re.escape(f"{key} = {text}{comment}") + ("" if comment else r"(  # .*)?")


def sections() -> dict[str, list[str]]:
    """Lines of node.toml by section."""
    found: dict[str, list[str]] = {"": []}
    lines = found[""]
    for line in (DEPLOY / "node.toml").read_text().splitlines():
        if header := re.match(r"\[(\w+)\]", line):
            lines = found.setdefault(header[1], [])
        elif example := re.match(r"# \[\[(\w+)\]\]", line):
            number = 1 + sum(name.startswith(example[1]) for name in found)
            lines = found.setdefault(f"{example[1]} {number}", [])
        elif re.match(r"(# )?\w+ = ", line):
            lines.append(line)
    return found


def test_node_toml_is_the_defaults() -> None:
    assert load_settings(DEPLOY / "node.toml").model_dump() == Settings().model_dump()


def test_node_toml_has_every_setting_in_order_with_its_description() -> None:
    models = {"": Settings} | {
        key: type(field.default)
        for key, field in Settings.model_fields.items()
        if isinstance(field.default, BaseModel)
    }
    found = sections()
    assert set(found) - set(models) == {
        f"{name} {number}" for name in ("destinations", "models", "rules") for number in (1, 2)
    }
    for section, model in models.items():
        lines = [line for line in found[section] if not line.startswith("# known_peers")]
        for pattern, line in itertools.zip_longest(setting_lines(model), lines, fillvalue=""):
            assert re.fullmatch(pattern, line), f"[{section}] {line!r} is not {pattern}"


def test_the_examples_in_node_toml_are_valid(tmp_path: Path) -> None:
    text = (DEPLOY / "node.toml").read_text()
    # One way to authenticate at a time.
    text = re.sub(r"^# (user|password_file) = .*\n", "", text, flags=re.MULTILINE)
    with_examples = re.sub(r"^# (?=\[\[|\w+ = )", "", text, flags=re.MULTILINE).replace(
        "known_peers = []", "#"
    )
    (tmp_path / "node.toml").write_text(with_examples)
    settings = load_settings(tmp_path / "node.toml")
    assert [entry.address for entry in settings.destinations] == [
        "ORTHANC@127.0.0.1:4242",
        "https://pacs.example/dicom-web",
    ]
    assert [rule.fallback for rule in settings.rules] == [False, True]
    assert [peer.ae_title for peer in settings.dicom.known_peers] == ["PACS", "MODALITY"]


@pytest.mark.parametrize(
    ("example", "model"),
    [("destinations 1", DicomDestination), ("destinations 2", DicomwebDestination), ("rules 1", RoutingRule)],
)
def test_the_examples_in_node_toml_name_every_key_with_its_description(
    example: str, model: type[BaseModel]
) -> None:
    found = {line.split(" ")[1]: line for line in sections()[example]}
    assert list(found) == list(model.model_fields)
    for key, field in model.model_fields.items():
        assert ("  # " in found[key]) == bool(field.description)
        assert found[key].endswith(field.description or "")


# -- compose and .env


def test_every_variable_is_defined_once_and_used() -> None:
    names = [
        line.split("=")[0]
        for line in (DEPLOY / ".env.example").read_text().splitlines()
        if re.match(r"\w+=", line)
    ]
    assert len(names) == len(set(names))
    used = {found[1] for found in VARIABLE.finditer((DEPLOY / "compose.yaml").read_text())}
    assert used == set(names)


def test_orthanc_gets_every_variable_that_its_files_name() -> None:
    files = [ROOT / "orthanc" / "orthanc.json", DEPLOY / "orthanc-remote.json"]
    used = {found[1] for path in files for found in VARIABLE.finditer(path.read_text())}
    assert used == set(compose()["services"]["orthanc"]["environment"])


def test_the_example_has_the_defaults_of_the_node_and_of_orthanc() -> None:
    values, settings, pacs = example(), Settings(), configuration()
    assert values["NODE_AE_TITLE"] == settings.dicom.ae_title
    assert int(values["NODE_DICOM_PORT"]) == settings.dicom.port
    assert int(values["NODE_WEB_PORT"]) == settings.web.port
    assert f":-{values['ORTHANC_AE_TITLE']}}}" in pacs["DicomAet"]
    assert int(values["ORTHANC_DICOM_PORT"]) == pacs["DicomPort"]
    assert int(values["ORTHANC_HTTP_PORT"]) == pacs["HttpPort"]
    assert values["PUBLISH_ADDRESS"] == "127.0.0.1"


@pytest.mark.parametrize("name", PASSWORDS)
def test_no_password_is_shipped(name: str) -> None:
    assert example()[name] == ""
    uses = [found for found in VARIABLE.finditer((DEPLOY / "compose.yaml").read_text()) if found[1] == name]
    assert uses
    assert all(use[2] for use in uses), "an empty password must stop Compose"


@pytest.mark.parametrize("name", PARTS)
def test_each_part_gets_settings_that_the_node_takes(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in compose()["services"][name]["environment"].items():
        monkeypatch.setenv(key, str(value))
    settings = load_settings()
    # Only the worker can log in to the broker.
    assert settings.broker_url == ("redis://worker:secret@redis:6379/0" if name == "worker" else None)
    assert [peer.ae_title for peer in settings.dicom.known_peers] == ["ORTHANC", "DICOM_NODE"]
    (pacs,) = settings.destinations
    assert (pacs.ae_title, pacs.host, pacs.port) == ("ORTHANC", "orthanc", configuration()["DicomPort"])


@pytest.mark.parametrize("name", compose()["services"])
def test_each_service_is_confined(name: str) -> None:
    service = compose()["services"][name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    assert 0 < service["pids_limit"] <= 1024
    assert name not in PARTS or service["volumes"] == ["node-data:/var/lib/dicom-node"]


def test_what_the_node_is_limited_to_is_more_than_it_asks_for() -> None:
    settings, services = Settings(), compose()["services"]
    assert int(services["worker"]["mem_limit"].removesuffix("g")) * 2**30 > 2 * settings.worker.decode_bytes
    assert int(services["web"]["mem_limit"].removesuffix("g")) * 2**30 > settings.worker.decode_bytes
    assert int(unit()["Service"]["LimitNOFILE"]) >= 4096
    # Each association has two threads.
    threads = 2 * settings.dicom.max_associations * settings.dicom.processes
    assert services["scp"]["pids_limit"] > 2 * threads
    assert int(unit()["Service"]["TasksMax"]) > 2 * threads


def test_only_the_worker_has_torch_and_meets_the_broker() -> None:
    services = compose()["services"]
    assert {name for name, each in services.items() if each["image"] == "dicom-node-worker"} == {"worker"}
    assert {name for name, each in services.items() if "broker" in each["networks"]} == {"worker", "redis"}
    assert services["redis"].get("ports") is None
    assert compose()["networks"]["broker"] == {"internal": True}


def test_ports_are_published_on_one_address_only() -> None:
    for name, service in compose(filled=False)["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("${PUBLISH_ADDRESS}:"), f"{name}: {port}"


def test_the_broker_never_evicts_and_keeps_a_log() -> None:
    command = " ".join(compose()["services"]["redis"]["command"])
    assert "--maxmemory-policy noeviction" in command
    assert "--appendonly yes" in command


def test_every_file_that_compose_names_is_there() -> None:
    for service in compose()["services"].values():
        if "build" in service:
            context = (DEPLOY / service["build"]["context"]).resolve()
            assert context == ROOT
            assert (context / service["build"]["dockerfile"]).is_file()
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (DEPLOY / source).is_file() if source.startswith(".") else source in compose()["volumes"]


# -- images


@pytest.mark.parametrize("name", ["Dockerfile.node", "Dockerfile.worker"])
def test_an_image_copies_only_what_is_there_and_runs_without_rights(name: str) -> None:
    allowed = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE))
    for instruction, arguments in instructions(name):
        if instruction == "COPY" and not arguments.startswith("--from"):
            for source in arguments.split()[:-1]:
                assert source.removeprefix("./") in allowed
                assert (ROOT / source).exists()
    found = dict(instructions(name))
    assert found["USER"] == "dicom-node"
    assert found["VOLUME"] == "/var/lib/dicom-node"


def test_both_images_are_alike_but_for_what_they_install_and_run() -> None:
    def rest(name: str) -> list[tuple[str, str]]:
        return [
            each
            for each in instructions(name)
            if each[0] not in ("CMD", "ARG") and "python deploy/install-locked" not in each[1]
        ]

    assert rest("Dockerfile.node") == rest("Dockerfile.worker")


def test_the_node_image_installs_no_worker() -> None:
    (install,) = [
        each for what, each in instructions("Dockerfile.node") if what == "RUN" and "install-locked" in each
    ]
    assert install.split()[1:] == ["deploy/install-locked", "postgresql"]


def test_the_parts_of_the_node_image_run_without_what_only_the_worker_installs() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    core, worker = (
        {re.split(r"[\[<>=~! ]", line)[0].lower() for line in lines}
        for lines in (project["dependencies"], [*extras["worker-light"], *extras["worker"]])
    )
    provided = importlib.metadata.packages_distributions()
    absent = [
        top
        for top, names in provided.items()
        if {each.lower() for each in names} & (worker - core - {"dicom-node"})
    ]
    assert {"torch", "celery", "redis"} <= set(absent)
    code = f"""
import sys
import tomllib

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
import dicom_node.cli.app
import dicom_node.dimse.server.scp, dicom_node.dimse.client.storage_scu
import dicom_node.delivery.sender, dicom_node.web.app
print("runs")
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.stdout.strip() == "runs", answer.stderr


# -- systemd


def orderly_end() -> float:
    """Seconds that the supervisor may take to end every part of a whole node, the broker included."""
    parts = _Parts(None, 0)
    children = [*parts.scp(2, 0), *parts.worker(Settings()), parts.sender(), parts.web(0)]
    stages: dict[int, float] = {}
    for child in children:
        stages[child.stop_stage] = max(stages.get(child.stop_stage, 0), child.stop_seconds)
    return sum(stages.values()) + 3


def test_whoever_ends_the_node_waits_for_its_orderly_end() -> None:
    assert float(unit()["Service"]["TimeoutStopSec"]) > orderly_end()
    for name in PARTS:
        assert float(compose()["services"][name]["stop_grace_period"].removesuffix("s")) > orderly_end()


def test_the_unit_waits_for_ready_and_is_confined() -> None:
    service = unit()["Service"]
    assert service["Type"] == "notify"
    # The supervisor ends its children; a signal to all of them would end them in no order.
    assert service["KillMode"] == "mixed"
    assert service["RestartPreventExitStatus"].split() == ["2", "3", "4"]
    assert service["User"] == "dicom-node"
    for key in ("NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome", "RestrictNamespaces"):
        assert service[key] == "yes"
    for key in ("MemoryMax", "TasksMax", "LimitNOFILE"):
        assert service[key]
    assert service["LimitCORE"] == "0"
    assert service["ProtectSystem"] == "strict"
    assert service["CapabilityBoundingSet"] == ""
    assert service["Environment"] == f"DICOM_NODE_DATA_DIR=/var/lib/{service['StateDirectory']}"


def test_the_documented_orthanc_keeps_its_films_out_of_the_checkout() -> None:
    files = (ROOT / "docs" / "orthanc.md", ROOT / "orthanc" / "orthanc.json")
    starts = [line for file in files for line in file.read_text().splitlines() if "Orthanc orthanc/" in line]
    assert len(starts) == 2
    for line in starts:
        (folder,) = re.findall(r"ORTHANC_STORAGE=(\S+) Orthanc ", line)
        assert folder.startswith(("~/", "/"))
    # Whoever starts it otherwise has the films beside the file: neither git nor an image takes them.
    assert "OrthancStorage/" in (ROOT / ".gitignore").read_text().splitlines()
    assert "**/OrthancStorage" in (ROOT / ".dockerignore").read_text().splitlines()
