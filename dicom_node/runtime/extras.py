"""Extras of this package: packages that only some commands need, and the command that installs them."""

from __future__ import annotations

import importlib.metadata
import re
import shlex
import sys

_PACKAGE = "dicom-node"
_OWN_MODULES = frozenset({"dicom_node", "models", "worker", "orthanc"})
_MODULES = {"faiss": "faiss-cpu", "open_clip": "open_clip_torch", "sklearn": "scikit-learn"}
"""Modules that are not named as the package that holds them."""


def packages(extra: str) -> tuple[dict[str, str], list[str]]:
    """Return the installed packages of an extra with their versions, and the missing ones.

    Parameters
    ----------
    extra
        Name of an extra of this package; its packages are read from the package's metadata.
    """
    found: dict[str, str] = {}
    missing: list[str] = []
    for name in _requirements(extra):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    return found, missing


def install_command(extra: str) -> str:
    """Return the shell command that installs an extra into this environment.

    It is the same in a checkout and beside a wheel: pip reads the packages of the extra from the metadata of
    the installed dicom-node, wherever that came from.
    """
    return f"{shlex.quote(sys.executable)} -m pip install '{_PACKAGE}[{extra}]'"


def missing_package(error: BaseException | None, preferred: str = "") -> str:
    """Return a sentence about the missing package that caused an error, with the command that installs it.

    Parameters
    ----------
    error
        Error; its causes are searched for a ``ModuleNotFoundError``.
    preferred
        Extra that is named where it holds the package, as others may.

    Returns
    -------
    str
        Sentence without a full stop; empty when no package of others is missing.
    """
    while error is not None and not isinstance(error, ModuleNotFoundError):
        error = error.__cause__
    module = "" if error is None or error.name is None else error.name.partition(".")[0]
    if not module or module in _OWN_MODULES:
        return ""
    package = _MODULES.get(module, module.replace("_", "-"))
    extras = importlib.metadata.metadata(_PACKAGE).get_all("Provides-Extra") or []
    extras = [preferred, *extras]
    extra = next((name for name in extras if _plain(package) in map(_plain, _requirements(name))), "all")
    return f"the package {package} is not installed; install it by: {install_command(extra)}"


def _requirements(extra: str) -> list[str]:
    """Return the packages that an extra names, without those of other extras that it contains."""
    names = []
    for requirement in importlib.metadata.requires(_PACKAGE) or ():
        match = re.fullmatch(r"([\w.-]+)(\[[^]]*\])?[^;]*; extra == ['\"](.+)['\"]", requirement)
        if match is not None and match[3] == extra and match[1] != _PACKAGE:
            names.append(match[1])
    return names


def _plain(name: str) -> str:
    return name.replace("_", "-").casefold()
