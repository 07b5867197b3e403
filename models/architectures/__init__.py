"""One module per family; the table below is all the registry there is."""

from __future__ import annotations

from collections.abc import Callable

from models.architectures import biomedclip, concatenation, convnet, crossattention, densenet
from models.architectures.interface import Batch, Network, Output
from models.errors import BundleError

__all__ = ["BUILDERS", "Batch", "Network", "Output", "build"]

#: Name in ``[architecture]`` -> builder; each takes ``outputs``, ``channels`` and ``arguments``.
BUILDERS: dict[str, Callable[..., Network]] = {
    "biomedclip": biomedclip.build,
    "concatenation": concatenation.build,
    "convnet": convnet.build,
    "crossattention": crossattention.build,
    "densenet": densenet.build,
}


def build(name: str, *, outputs: int, channels: int, arguments: dict[str, object]) -> Network:
    """Build an untrained network.

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
