"""Errors of the models, translated to those of the node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dicom_node.errors import ConfigurationError, NodeError, StoppedByUser


@contextmanager
def translated_model_errors() -> Iterator[None]:
    """Translate errors of the models, so that the root command prints one line and sets the exit code.

    Raises
    ------
    ConfigurationError
        For a wrong recipe or a wrong name.
    StoppedByUser
        For a training that was interrupted.
    NodeError
        For every other error of the models.
    """
    from models.errors import Interrupted, ModelError, RecipeError, UnknownBundle, UsageError

    try:
        yield
    except (RecipeError, UnknownBundle, UsageError) as error:
        raise ConfigurationError(str(error)) from error
    except Interrupted as error:
        raise StoppedByUser(str(error)) from error
    except ModelError as error:
        raise NodeError(str(error)) from error
