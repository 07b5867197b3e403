"""A DICOM node that reads chest radiographs beside a PACS. Research use only, never for diagnosis.

The names of ``__all__`` are stable: notebooks import them from here, and docs/python.md has them all. Each is
imported when it is first used, so that ``import dicom_node`` brings neither torch nor pydicom nor SQLAlchemy.
Their types stand in ``__init__.pyi``.
"""

from __future__ import annotations

import importlib
from typing import Any, Final

MODEL_NAME: Final = "dicom-node"
"""Manufacturer's Model Name (0008,1090) on every result: a received object that bears it is a result."""

_HOMES: Final = {
    "ConfigurationError": "errors",
    "HeatMap": "analysis.heat_maps",
    "LoadedBundle": "analysis.bundle",
    "NodeError": "errors",
    "PeerError": "errors",
    "build_report": "analysis.bundle",
    "build_results": "analysis.bundle",
    "draw_heat_maps": "analysis.heat_maps",
    "evaluate": "analysis.evaluation",
    "find_similar_cases": "analysis.similar_cases",
    "list_bundles": "analysis.bundle",
    "load_bundle": "analysis.bundle",
    "read_film": "analysis.films",
    "score": "analysis.bundle",
    "send": "analysis.sending",
}
"""Modules of the stable names."""

__all__ = [*_HOMES]  # noqa: PLE0604 - all are texts


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if home != "errors":
        _check_packages()
    value = getattr(importlib.import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value


def _check_packages() -> None:
    """Check that the packages ``models`` and ``worker`` are those beside this one, and not of somebody else.

    Raises
    ------
    ConfigurationError
        If another folder or file of such a name comes first.
    """
    import importlib.util  # noqa: PLC0415 - only when the models are needed
    from pathlib import Path  # noqa: PLC0415

    for name in ("models", "worker"):
        spec = importlib.util.find_spec(name)
        found = None if spec is None or spec.origin is None else Path(spec.origin)
        if found is None or found.resolve() != Path(__file__).resolve().parents[1] / name / "__init__.py":
            from dicom_node.errors import ConfigurationError  # noqa: PLC0415

            raise ConfigurationError(
                f"{found or name}: your own folder or file is called {name}, as a package of dicom-node is; "
                "rename it, or start the notebook in another folder"
            )


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
