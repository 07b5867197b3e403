"""Registry of the architectures: name in ``[architecture]`` -> builder."""

from __future__ import annotations

from collections.abc import Callable

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


def build_network(name: str, *, outputs: int, channels: int, arguments: dict[str, object]) -> Network:
    """Build an untrained network.

    Parameters
    ----------
    name
        Architecture, one of :data:`BUILDERS`.
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
    if name not in BUILDERS:
        raise BundleError(f"no architecture is called {name!r}; there are: {', '.join(BUILDERS)}")
    try:
        return BUILDERS[name](outputs=outputs, channels=channels, arguments=arguments)
    except (RuntimeError, TypeError, ValueError) as error:
        raise BundleError(f"architecture {name}: {error}") from error
