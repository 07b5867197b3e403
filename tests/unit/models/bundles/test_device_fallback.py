"""A device without memory, or that is lost, is given fewer films, and then the processor reads them."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch

from models.bundles.bundle import Bundle
from models.bundles.torch_session import TorchSession
from models.gate.model import Gate
from models.gate.network import GateNetwork
from models.gate.torch_session import TorchGateSession
from models.processing.types import FloatArray
from tests.support.drawn_studies import draw_film

ELSEWHERE = torch.device("meta")
"""Device that is there everywhere and is no processor; nothing is computed on it."""


class Full(torch.nn.Module):
    """Network on a device with memory for some films only."""

    def __init__(self, network: torch.nn.Module, most: int) -> None:
        super().__init__()
        self.network, self.most = network, most
        self.batches: list[int] = []

    def forward(self, batch):
        self.batches.append(len(batch.images))
        if len(batch.images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB.\nMore is said.")
        return self.network(batch)


class Lost(torch.nn.Module):
    def forward(self, _batch):
        raise torch.AcceleratorError("CUDA error: unspecified launch failure\nMore is said.")


def films(count: int) -> list[FloatArray]:
    return [draw_film(96, 96, seed) for seed in range(count)]


@pytest.mark.parametrize("most", [1, 3, 8])
def test_films_are_read_in_as_many_parts_as_fit(
    bundle: Bundle, most: int, caplog: pytest.LogCaptureFixture
) -> None:
    session = TorchSession(bundle)
    expected = session.run(films(10), None)
    session.network = full = Full(session.network, most)
    read = session.run(films(10), None)
    np.testing.assert_allclose(read.scores, expected.scores, atol=1e-5)
    np.testing.assert_allclose(read.embeddings, expected.embeddings, atol=1e-5)
    np.testing.assert_allclose(read.features, expected.features, atol=1e-4)
    said = len(caplog.records)
    assert session.stand_in == ""
    assert "no memory on cpu for 10 films at once" in caplog.text
    assert "More is said" not in caplog.text
    full.batches.clear()
    session.run(films(10), None)
    assert max(full.batches) <= most, "what did not fit is not tried again"
    assert len(caplog.records) == said, "nor said again"


@pytest.mark.parametrize("network", [Full(torch.nn.Identity(), 0), Lost()], ids=["full", "lost"])
def test_the_processor_reads_where_the_device_cannot(
    bundle: Bundle, network: torch.nn.Module, caplog: pytest.LogCaptureFixture
) -> None:
    expected = TorchSession(bundle).run(films(5), None)
    session = TorchSession(bundle, device=str(ELSEWHERE))
    session.network = network
    assert session.stand_in == ""
    for _ in range(2):
        read = session.run(films(5), None)
        np.testing.assert_allclose(read.scores, expected.scores, atol=1e-6)
    assert (session.device.type, session.stand_in) == ("cpu", "cpu")
    assert not session.network.head.weight.is_inference(), "gradients can still be taken"
    assert session.describe()["device"].endswith("in place of a device that failed")
    errors = [each for each in caplog.records if each.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "meta cannot be used (CUDA" in errors[0].getMessage()


def test_a_processor_without_memory_for_one_film_is_an_error(bundle: Bundle) -> None:
    session = TorchSession(bundle)
    session.network = Full(session.network, 0)
    with pytest.raises(torch.OutOfMemoryError):
        session.run(films(2), None)
    assert session.stand_in == ""


def test_the_gate_gives_way_too(monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate.load(runtime="torch")
    session = gate.session
    assert isinstance(session, TorchGateSession)
    standard = np.stack([session.standardise(film) for film in films(5)])
    expected = session.run(standard)
    features = GateNetwork.features

    def on_two(self: GateNetwork, images: torch.Tensor) -> torch.Tensor:
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return features(self, images)

    monkeypatch.setattr(GateNetwork, "features", on_two)
    read = session.run(standard)
    for name in ("scores", "distances", "features"):
        np.testing.assert_allclose(getattr(read, name), getattr(expected, name), atol=1e-4)
