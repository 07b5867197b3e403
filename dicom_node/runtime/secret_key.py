"""Secret key of the node in a file of its own, made when it is first needed."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from pathlib import Path

from dicom_node.errors import StorageFailed

_LENGTH = 32


def read_secret_key(path: Path) -> bytes:
    """Return a secret of 32 bytes; the file is created if it does not exist.

    Raises
    ------
    StorageFailed
        When the file can neither be read nor written.
    """
    try:
        if not path.exists():
            # Linked into place when complete: another process of the node may create it at the same moment.
            handle, temporary = tempfile.mkstemp(dir=path.parent)
            with os.fdopen(handle, "wb") as stream:
                stream.write(secrets.token_bytes(_LENGTH))
            with contextlib.suppress(FileExistsError):
                os.link(temporary, path)
            Path(temporary).unlink()
        return path.read_bytes()
    except OSError as error:
        raise StorageFailed(f"{path}: {error.strerror}; check the disk and its permissions") from error
