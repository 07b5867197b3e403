"""Environments of ``make serve``: packages of other extras are there, but hidden from a child process.

Each holds the packages that dicom-node[worker,embedded] or dicom-node[worker-light,embedded] needs, with all
that they need, by the metadata of what is installed. To hide the rest costs no second installation, and hides
them from grandchildren too.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

EXTRAS = {"torch": ("worker", "embedded"), "light": ("worker-light", "embedded")}
"""Extras by the name of the set-up, as ``make serve RUNTIME=`` takes it."""
_ROOT = Path(__file__).resolve().parents[2]
_ALWAYS = frozenset({"pip", "setuptools"})

_SITE = """
import os
import sys
from importlib.machinery import PathFinder

MODULES = frozenset({modules})
PACKAGES = frozenset({packages})


class Visible(PathFinder):
    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        hidden = fullname.partition(".")[0] in MODULES
        return None if hidden else super().find_spec(fullname, path, target)

    @classmethod
    def find_distributions(cls, *args, **kwargs):
        found = super().find_distributions(*args, **kwargs)
        return (each for each in found if (each.name or "").replace("_", "-").casefold() not in PACKAGES)


sys.meta_path[sys.meta_path.index(PathFinder)] = Visible
"""

_RUNNER = """
import contextlib, io, json, sys, traceback
from dicom_node.cli.app import main

answers = []
for words in json.load(sys.stdin):
    out, err, code = io.StringIO(), io.StringIO(), 0
    sys.argv = ["dicom-node", *words]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        except BaseException:
            code = -1
            traceback.print_exc()
    answers.append([code, out.getvalue(), err.getvalue()])
print(json.dumps(answers))
"""


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer of a command; the exit code is -1 where a traceback ended it."""

    code: int
    stdout: str
    stderr: str


def hiding(folder: Path, runtime: str = "torch") -> dict[str, str]:
    """Environment variables by which a process, and those that it starts, see only these packages."""
    visible = installed_closure(EXTRAS[runtime]) | _ALWAYS
    holders = importlib.metadata.packages_distributions()
    modules = {name for name, packages in holders.items() if visible.isdisjoint(map(_plain, packages))}
    packages = {_plain(each.name) for each in importlib.metadata.distributions()} - visible
    assert "sklearn" in modules
    assert ("torch" in modules) is (runtime == "light")
    assert "onnxruntime" not in modules
    text = _SITE.format(modules=sorted(modules), packages=sorted(packages))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    path = [str(folder), str(_ROOT), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, path))}


def run_commands(
    commands: Iterable[Sequence[str]], environment: Mapping[str, str], folder: Path
) -> list[Answer]:
    """Run commands one after another in one process, which imports the large libraries only once."""
    done = subprocess.run(
        [sys.executable, "-c", _RUNNER],
        input=json.dumps([list(map(str, words)) for words in commands]),
        env={**os.environ, "PYTHONPATH": str(_ROOT), **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=True,
    )
    return [Answer(*each) for each in json.loads(done.stdout)]


def installed_closure(extras: Iterable[str]) -> set[str]:
    """Names of the installed packages that dicom-node with these extras needs."""
    seen: set[tuple[str, str]] = set()
    waiting = [("dicom-node", ""), *(("dicom-node", extra) for extra in extras)]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        seen.add((name, extra))
        for requirement in map(Requirement, requirements):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                waiting += [(_plain(requirement.name), each) for each in ("", *requirement.extras)]
    return {name for name, _ in seen}


def _plain(name: str) -> str:
    return name.replace("_", "-").casefold()
