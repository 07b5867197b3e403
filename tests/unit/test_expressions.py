"""Regular expressions over text from outside take a time that grows with the text, and no faster."""

from __future__ import annotations

import importlib
import pkgutil
import re
import time

import pytest

import dicom_node
import models.text
import worker

_PACKAGES = (dicom_node, worker, models.text)
_UNITS = ("a", "A", "1", "1.", "a-", "a.", " ", "a ", "0", "=", "(", "^", "_", "no ", "2024", "12:", "\\")
_ENDS = ("", "!", "\n", "\0")
_LENGTH = 20_000


def _expressions() -> dict[str, re.Pattern[str]]:
    found: dict[str, re.Pattern[str]] = {}
    for package in _PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if ".migrations" in module.name or module.name.endswith("__main__"):
                continue
            for name, value in vars(importlib.import_module(module.name)).items():
                if isinstance(value, re.Pattern) and isinstance(value.pattern, str):
                    found[f"{module.name}.{name}"] = value
    return found


EXPRESSIONS = _expressions()


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_an_expression_takes_no_longer_than_its_text(name: str) -> None:
    expression = EXPRESSIONS[name]
    for unit in _UNITS:
        for end in _ENDS:
            text = unit * (_LENGTH // len(unit)) + end
            began = time.process_time()
            expression.match(text)
            expression.fullmatch(text)
            assert time.process_time() - began < 0.25, (unit, end)
