"""Registry of the architectures: name in ``[architecture]`` -> builder.

Another package adds a family by an entry point of the group :data:`ENTRY_POINTS`, whose name is that of the
architecture and whose object is its builder.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Final

from models.architectures import biomedclip, concatenation, convnet, crossattention, densenet
from models.architectures.interface import Network
from models.errors import BundleError

#: Builders by name; each takes ``outputs``, ``channels`` and ``arguments``.
BUILDERS: dict[str, Callable[..., Network]] = {
    "biomedclip": biomedclip.build,
    "concatenation": concatenation.build,
    "convnet": convnet.build,
    "crossattention": crossattention.build,
    "densenet": densenet.build,
}


ENTRY_POINTS: Final = "dicom_node.architectures"


def architectures() -> tuple[str, ...]:
    """Names of all architectures: those of the package, and those that installed packages offer."""
    return tuple(sorted({*BUILDERS, *(entry.name for entry in entry_points(group=ENTRY_POINTS))}))


def _builder(name: str) -> Callable[..., Network]:
    """Builder of an architecture: one of the package, or of an installed one that offers it.

    Raises
    ------
    BundleError
        If there is none, or its package cannot be imported.
    """
    if name in BUILDERS:
        return BUILDERS[name]
    offered = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    if name not in offered:
        raise BundleError(f"no architecture is called {name!r}; there are: {', '.join(architectures())}")
    try:
        found: Callable[..., Network] = offered[name].load()
    except (ImportError, AttributeError) as error:
        raise BundleError(f"architecture {name} of {offered[name].value}: {error}") from error
    return found


def build_network(name: str, *, outputs: int, channels: int, arguments: dict[str, object]) -> Network:
    """Build an untrained network.

    Parameters
    ----------
    name
        Architecture, one of :data:`BUILDERS` or of an entry point.
    outputs
        Number of labels.
    channels
        Number of channels of the input images.
    arguments
        Arguments of the builder, from ``[architecture.arguments]``.

    Raises
    ------
    BundleError
        If there is no such architecture or its arguments do not fit.
    """
    build = _builder(name)
    try:
        return build(outputs=outputs, channels=channels, arguments=arguments)
    except (RuntimeError, TypeError, ValueError) as error:
        raise BundleError(f"architecture {name}: {error}") from error
