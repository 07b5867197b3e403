"""What a command knows of the call: the configuration file, and the settings that it leads to."""

from __future__ import annotations

from pathlib import Path

import typer

from dicom_node.config.settings import Settings, load_settings
from dicom_node.errors import NodeError
from dicom_node.runtime import logs
from dicom_node.store.index import Index


def settings_of(ctx: typer.Context) -> Settings:
    """Return the settings of this call; read once, when a command first asks.

    Raises
    ------
    ConfigurationError
        One line a mistake.
    """
    root = ctx.find_root()
    if not isinstance(root.obj, Settings):
        config = root.obj
        root.obj = load_settings(config)
        logs.configure(root.obj.log_level, root.obj.log_format)
    return root.obj


def config_of(ctx: typer.Context) -> Path | None:
    """Return the configuration file of this call, for child processes."""
    value = ctx.find_root().params.get("config")
    return Path(value) if value is not None else None


def open_index(settings: Settings) -> Index:
    """Return the index of a node that has run.

    Raises
    ------
    NodeError
        When there is none yet.
    """
    if settings.database_url is None and not (settings.data_dir / "index.sqlite").exists():
        raise NodeError(
            f"data_dir {settings.data_dir}: no index there; name the folder that `dicom-node serve` works in"
        )
    return Index.open(settings.database)
