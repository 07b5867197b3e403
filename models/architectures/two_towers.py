"""Two-tower base class: an image tower and a text tower, common to several families."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from models.architectures.image import ImageTower
from models.architectures.interface import Network
from models.architectures.text import TextTower
from models.text.tokenizer import TextLimits


class TwoTowers(Network):
    """A network that reads images and text; subclasses combine the two.

    Parameters
    ----------
    backbone, channels, options
        Image tower, as :func:`models.architectures.image.create_backbone` takes it.
    text
        Fields of the text tower (:data:`models.architectures.text.FIELDS`).
    pooling
        Pooling of the text: ``first`` or ``mean``.

    Raises
    ------
    ValueError
        If a tower cannot be built.
    """

    def __init__(
        self,
        *,
        backbone: str,
        channels: int,
        options: Mapping[str, Any] | None,
        text: Mapping[str, Any] | None,
        pooling: str,
    ) -> None:
        super().__init__()
        if pooling not in ("first", "mean"):
            raise ValueError(f"pooling = {pooling!r} is neither 'first' nor 'mean'")
        self.image = ImageTower(backbone, channels=channels, options=options)
        self.text = TextTower(text or {})
        self.pooling = pooling

    @property
    def closed_form(self) -> bool:
        """Closed form of Grad-CAM: False, because more than an average lies between map and head."""
        return False

    @property
    def reads_text(self) -> bool:
        """Text input: True."""
        return True

    @property
    def text_limits(self) -> TextLimits:
        """Limits of the text tower."""
        return self.text.limits

    @property
    def towers(self) -> Mapping[str, nn.Module]:
        """The ``image`` and the ``text`` tower."""
        return {"image": self.image.backbone, "text": self.text.encoder}
