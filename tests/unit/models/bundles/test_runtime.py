"""Choice of the inference runtime."""

from __future__ import annotations

import pytest

from models.bundles import runtime
from models.bundles.runtime import choose_runtime


@pytest.mark.parametrize(
    ("wanted", "device", "graph", "installed", "cards", "chosen"),
    [
        ("auto", "auto", True, "both", 0, "onnx"),
        ("auto", "auto", True, "both", 1, "torch"),
        ("auto", "auto", True, "onnx", 1, "onnx"),
        ("auto", "cpu", True, "both", 1, "onnx"),
        ("auto", "cuda:1", True, "both", 0, "torch"),
        ("auto", "auto", False, "both", 0, "torch"),
        ("auto", "auto", True, "torch", 0, "torch"),
        ("torch", "auto", True, "both", 0, "torch"),
        ("onnx", "auto", False, "both", 1, "onnx"),
    ],
)
def test_the_runtime_suits_machine_settings_and_bundle(
    monkeypatch: pytest.MonkeyPatch,
    wanted: str,
    device: str,
    graph: bool,
    installed: str,
    cards: int,
    chosen: str,
) -> None:
    monkeypatch.setattr(runtime, "is_installed", lambda name: installed in ("both", name))
    monkeypatch.setattr(runtime, "cuda_devices", lambda: cards)
    choice = choose_runtime(wanted, device=device, graph=graph)
    assert choice.name == chosen
    assert choice.reason


def test_gradients_need_torch() -> None:
    assert choose_runtime("auto", device="auto", graph=True, gradients=True).name == "torch"


def test_a_machine_without_a_driver_has_no_cards() -> None:
    assert runtime.cuda_devices.__wrapped__() == 0


def test_both_libraries_are_found_without_an_import() -> None:
    assert runtime.is_installed("torch")
    assert runtime.is_installed("onnx")
