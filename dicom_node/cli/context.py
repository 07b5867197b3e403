"""Context of a command: the configuration file, the settings, and the database of the node."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dicom_node.config.data_dir import DataDir
from dicom_node.config.private_files import make_new_files_private
from dicom_node.config.settings import Settings, load_settings
from dicom_node.errors import ConfigurationError, IndexDamaged
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
    IndexDamaged
        If it is damaged, or is not there although films were received.
    """
    from dicom_node.store import database

    new = database.is_new(settings.database)
    if new and not holds_films(settings) and settings.database_url is None:
        raise ConfigurationError(
            f"data_dir {settings.data_dir}: there is no database; name the folder of `dicom-node serve` "
            "by --config FILE or DICOM_NODE_DATA_DIR"
        )
    return open_whole_index(settings, read_all=False)


def holds_films(settings: Settings) -> bool:
    """Return whether the data directory holds received files."""
    return next(DataDir(settings).spool.names(), None) is not None


def open_whole_index(settings: Settings, *, read_all: bool = True) -> Index:
    """Open the database of a node, or make it where nothing was received yet.

    Parameters
    ----------
    read_all
        Whether to read the whole file of SQLite first, which takes about a second for each GiB.

    Raises
    ------
    IndexDamaged
        If it is damaged, or is not there although films were received.
    StorageFailed
        If it does not answer.
    """
    from dicom_node.store import database, index_file
    from dicom_node.store.index import Index

    if database.is_new(settings.database) and holds_films(settings):
        raise IndexDamaged(
            f"data_dir {settings.data_dir}: there are received films, but no index; {index_file.ADVICE}"
        )
    if read_all and settings.database_url is None:
        index_file.check_content(settings.data_dir.resolve() / "index.sqlite")
    return Index.open(settings.database)
