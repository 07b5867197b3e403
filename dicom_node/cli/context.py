"""Context of a command: the configuration file, the settings, and the database of the node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dicom_node.config.private_files import make_new_files_private
from dicom_node.config.settings import Settings, load_settings
from dicom_node.errors import ConfigurationError
from dicom_node.runtime import logs

if TYPE_CHECKING:
    from dicom_node.store.index import Index


def settings_of(ctx: typer.Context) -> Settings:
    """Return the settings of this call; they are read once, when they are first needed.

    Raises
    ------
    ConfigurationError
        If the settings are wrong, with one line for each mistake.
    """
    root = ctx.find_root()
    if not isinstance(root.obj, Settings):
        config = root.obj
        root.obj = load_settings(config)
        make_new_files_private()
        logs.configure(root.obj.log_level, root.obj.log_format)
    return root.obj


def config_of(ctx: typer.Context) -> Path | None:
    """Return the configuration file of this call, for child processes."""
    value = ctx.find_root().params.get("config")
    return Path(value) if value is not None else None


def open_index(settings: Settings) -> Index:
    """Open the database of a node.

    Raises
    ------
    ConfigurationError
        If there is no database yet.
    """
    if settings.database_url is None and not (settings.data_dir / "index.sqlite").exists():
        raise ConfigurationError(
            f"data_dir {settings.data_dir}: there is no database; name the folder of `dicom-node serve`"
        )
    from dicom_node.store.index import Index

    return Index.open(settings.database)
