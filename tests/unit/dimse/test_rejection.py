"""Rejections of an association: words for the numbers of the standard, and for any others."""

from __future__ import annotations

import pytest

from dicom_node.dimse import rejection
from dicom_node.dimse.rejection import Rejection


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (rejection.APPLICATION_CONTEXT, "(permanent): application context name not supported (1/1/2)"),
        (rejection.CALLING_AE, "(permanent): calling AE title not recognised (1/1/3)"),
        (rejection.CALLED_AE, "(permanent): called AE title not recognised (1/1/7)"),
        (rejection.PROTOCOL_VERSION, "(permanent): protocol version not supported (1/2/2)"),
        (rejection.LIMIT, "(transient): local limit exceeded (2/3/2)"),
    ],
)
def test_what_the_node_sends_has_the_words_of_the_standard(found: Rejection, words: str) -> None:
    assert str(found) == f"association rejected {words}"


def test_numbers_that_nobody_defined_are_kept() -> None:
    said = "association rejected: a reason that the standard does not define (9/8/7)"
    assert str(Rejection(9, 8, 7)) == said
