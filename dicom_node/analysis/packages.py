"""Packages that only some functions need: a missing one becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dicom_node.errors import ConfigurationError


@contextmanager
def packages_of(extra: str) -> Iterator[None]:
    """Translate the error of a missing package; as a decorator, too.

    Parameters
    ----------
    extra
        Extra of this package that is named where it holds the missing one.

    Raises
    ------
    ConfigurationError
        If a package is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        from dicom_node.runtime.extras import missing_package

        if not (advice := missing_package(error, extra)):
            raise
        raise ConfigurationError(advice) from error
