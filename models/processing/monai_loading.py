"""Import of MONAI without the optional libraries that this project takes nothing from."""

from __future__ import annotations

import importlib
import sys
from contextlib import ExitStack

#: Libraries that MONAI imports where they are installed, for networks and tools that are not used here.
_UNUSED = (
    "ignite",
    "itk",
    "matplotlib",
    "mlflow",
    "nibabel",
    "pandas",
    "sklearn",
    "tensorboard",
    "transformers",
)


def load_monai() -> None:
    """Import ``monai.transforms``, in about 2 s of CPU time instead of 5.

    ``import monai`` imports every module of MONAI. While it runs, the optional libraries count as not
    installed, unless they are loaded already; afterwards they can be imported as before. No other thread may
    import one of them meanwhile.
    """
    with ExitStack() as after:
        for name in _UNUSED:
            if name not in sys.modules:
                # None makes an import raise ModuleNotFoundError, which MONAI's optional_import expects.
                sys.modules[name] = None  # type: ignore[assignment]
                after.callback(sys.modules.pop, name, None)
        importlib.import_module("monai.transforms")
