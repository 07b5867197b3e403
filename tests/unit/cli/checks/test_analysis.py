from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dicom_node.cli.checks import analysis
from dicom_node.config.settings import Settings, load_settings
from dicom_node.runtime.extras import install_command
from models.bundles import runtime
from models.bundles.bundle import find_bundle, read_bundle
from models.retrieval.index import CASES, EmbeddingOrigin, write_index
from tests.support.doctor import check_named, hide_packages, settings_for
from tests.support.drawn_index import make_index
from tests.support.remote_model import scripted


def fake_torch(monkeypatch: pytest.MonkeyPatch, cards: int) -> None:
    """No card is here: this is the one thing that a test cannot start."""
    import torch

    names = SimpleNamespace(
        is_available=lambda: cards > 0,
        device_count=lambda: cards,
        get_device_name=lambda number: f"Card {number}",
    )
    monkeypatch.setattr(torch, "cuda", names)
    monkeypatch.setattr(runtime, "cuda_devices", lambda: cards)


@pytest.mark.parametrize(
    ("wanted", "cards", "ok", "words"),
    [
        ("auto", 0, True, "cpu, 3 threads"),
        ("cpu", 2, True, "cpu, 3 threads"),
        ("auto", 2, True, "cuda:0 Card 0, cuda:1 Card 1"),
        ("cuda", 1, True, "cuda:0 Card 0"),
        ("cuda:1", 2, True, "cuda:1 Card 1"),
        ("cuda", 0, False, "torch finds 0 CUDA devices"),
        ("cuda:2", 2, False, "torch finds 2 CUDA devices"),
    ],
)
def test_the_device_must_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, cards: int, ok: bool, words: str
) -> None:
    fake_torch(monkeypatch, cards)
    check = check_named(
        analysis.runtime, settings_for(tmp_path, worker={"device": wanted, "threads": 3}), "device"
    )
    assert check.ok is ok
    assert words in check.found


@pytest.mark.parametrize(
    ("worker", "ok", "words"),
    [
        ({}, True, "runs in ONNX Runtime: the models run on the processor, and the bundle has an ONNX graph"),
        ({"runtime": "torch"}, True, "runs in torch: it was asked for"),
        ({"runtime": "onnx"}, True, "runs in ONNX Runtime: it was asked for"),
        ({"device": "cuda"}, True, "runs in torch: the device is cuda"),
    ],
)
def test_the_runtime_is_told_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, worker: dict[str, str], ok: bool, words: str
) -> None:
    fake_torch(monkeypatch, 0)
    settings = settings_for(tmp_path, worker=worker)
    for name in ("bundle", "gate"):
        check = check_named(analysis.runtime, settings, f"runtime of the {name}")
        assert check.ok is ok
        assert words in check.found


def test_a_graphics_card_is_read_on_by_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_torch(monkeypatch, 1)
    check = check_named(analysis.runtime, settings_for(tmp_path), "runtime of the bundle")
    assert "runs in torch: CUDA answers" in check.found


def test_a_runtime_that_is_not_installed_fails_and_says_how(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "is_installed", lambda name: name == "onnx")
    settings = settings_for(tmp_path, worker={"runtime": "torch"})
    check = check_named(analysis.runtime, settings, "runtime of the bundle")
    assert (check.ok, check.remedy) == (False, install_command("worker"))


def test_a_graphics_card_is_not_for_the_light_runtime(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, worker={"runtime": "onnx", "device": "cuda"})
    check = check_named(analysis.runtime, settings, "device")
    assert (check.ok, "ONNX Runtime runs on the processor" in check.found) == (False, True)


def test_without_the_models_there_is_no_runtime_and_no_bundle(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_packages(monkeypatch, "torch", "models")
    assert check_named(analysis.runtime, settings, "runtime").ok is None
    assert check_named(analysis.bundle, settings, "bundle").ok is None
    assert check_named(analysis.gate, settings, "gate").ok is None


def test_a_bundle_that_is_not_there_fails(tmp_path: Path) -> None:
    check = check_named(analysis.bundle, settings_for(tmp_path, worker={"bundle": "nothing"}), "bundle")
    assert check.ok is False
    assert "'nothing'" in check.found


def test_the_gate_must_be_there_and_is_missed_when_it_is_off(tmp_path: Path, settings: Settings) -> None:
    assert check_named(analysis.gate, settings, "gate").ok is True
    check = check_named(analysis.gate, settings_for(tmp_path, worker={"gate": "nothing"}), "gate")
    assert (check.ok, "'nothing'" in check.found) == (False, True)
    assert check_named(analysis.gate, settings_for(tmp_path, worker={"gate": ""}), "gate").ok is None


def test_the_index_of_similar_cases_must_be_of_these_weights(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, worker={"bundle": "openi-normality"})
    check = check_named(analysis.bundle, settings, "similar cases")
    assert (check.ok, "no index of openi-normality-" in check.found) == (None, True)
    assert "dicom-node cases build openi-normality" in check.remedy
    whole = read_bundle(find_bundle("openi-normality"))
    folder = settings.index_of(whole.manifest.folder)
    index = make_index(7)
    write_index(folder, index)
    check = check_named(analysis.bundle, settings, "similar cases")
    assert (check.ok, f"not by {whole.manifest.folder}" in check.found) == (False, True)
    write_index(folder, replace(index, origin=EmbeddingOrigin.of(whole.identity, "encoder")))
    check = check_named(analysis.bundle, settings, "similar cases")
    assert (check.ok, "7 cases of drawn train" in check.found) == (True, True)
    (folder / CASES).write_text("")
    check = check_named(analysis.bundle, settings, "similar cases")
    assert (check.ok, "was altered" in check.found) == (False, True)
    off = settings_for(tmp_path, worker={"bundle": "openi-normality"}, retrieval={"enabled": False})
    check = check_named(analysis.bundle, off, "similar cases")
    assert (check.ok, "retrieval.enabled" in check.found) == (True, True)


_FALLBACK = {"name": "others", "fallback": True, "destinations": ["sender"]}


@pytest.mark.parametrize(
    ("patterns", "unknown"),
    [
        (["cardiomegaly"], ""),
        (["CARDIO*", ""], ""),
        (["*"], ""),
        (["cardiomegly"], "did you mean 'cardiomegaly'?"),
        (["nodule", "pneumo?"], "matches 'pneumo?'"),
    ],
)
def test_a_rule_must_name_a_finding_of_the_model(tmp_path: Path, patterns: list[str], unknown: str) -> None:
    rule = {"name": "heart", "finding": patterns, "destinations": ["sender"]}
    settings = settings_for(tmp_path, rules=[_FALLBACK, rule])
    (check,) = analysis.rules(settings)
    assert check.ok is (not unknown)
    assert unknown in check.found
    assert not unknown or check.found.startswith("rules.1.finding: no label of openi-findings ")
    assert list(analysis.rules(settings_for(tmp_path, rules=[_FALLBACK]))) == []


def test_bundle_and_gate_are_looked_up_by_name(tmp_path: Path) -> None:
    assert all(check.ok for check in analysis.named(settings_for(tmp_path)))
    assert [check.name for check in analysis.named(settings_for(tmp_path, worker={"gate": ""}))] == [
        "worker.bundle"
    ]
    settings = settings_for(tmp_path, worker={"bundle": "nothing", "gate": "openi-findings"})
    bundle, gate = analysis.named(settings)
    assert (bundle.ok, gate.ok) == (False, False)
    assert "worker.bundle: no bundle 'nothing'" in bundle.found
    assert "worker.gate: no bundle 'openi-findings'" in gate.found


def test_two_primary_bundles_of_one_name_are_named(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    path.write_text(
        '[[models]]\nname = "a"\nbundle = "openi-findings"\n'
        '[[models]]\nname = "b"\nbundle = "openi-findings-0.2.0"\n'
    )
    (found,) = [each for each in analysis.named(load_settings(path)) if each.ok is False]
    assert found.found.startswith("models: a and b are both the model openi-findings")


def test_a_remote_model_is_asked(tmp_path: Path) -> None:
    path = tmp_path / "node.toml"
    with scripted() as model:
        path.write_text(
            f'[[models]]\nname = "there"\nurl = "{model.url}"\n'
            '[[models]]\nname = "away"\nurl = "http://127.0.0.1:9"\n'
        )
        there, away = analysis.remote_models(load_settings(path))
    assert there.ok
    assert "is our-chest 1.2.3, 2 labels" in there.found
    assert away.ok is False
    assert "127.0.0.1:9" in away.found
