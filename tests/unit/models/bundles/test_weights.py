"""Weights come back as they were, or they are refused."""

from __future__ import annotations

import hashlib
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.bundles.manifest import WEIGHTS
from models.bundles.weights import load_weights, pack_weights
from models.errors import BundleError


def make_network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / WEIGHTS).write_bytes(pack_weights(make_network()))
    return tmp_path


def loaded(folder: Path) -> dict[str, Tensor]:
    """Weights of another network after it loaded those of a folder."""
    network = make_network(seed=1)
    load_weights(network, folder, hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest())
    return network.state_dict()


def test_they_come_back_up_to_half_precision(folder: Path):
    found = loaded(folder)
    for name, value in make_network().state_dict().items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-6)


def test_matrices_are_kept_in_half_precision_and_the_rest_in_full(folder: Path):
    state = load_file(folder / WEIGHTS)
    assert set(state) == {"0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var"}
    for value in state.values():
        assert value.dtype == (torch.float16 if value.dim() > 1 else torch.float32)


def test_those_that_change_after_the_check_are_not_loaded(folder: Path):
    with pytest.raises(BundleError, match="altered after"):
        load_weights(make_network(), folder, "0" * 64)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"0.weight": torch.full((2, 1, 3, 3), float("nan"))}, "0.weight holds values that are not finite"),
        ({"0.bias": torch.zeros(3)}, r"0\.bias has shape \(3,\)"),
        ({"0.bias": None}, r"0\.bias has shape None"),
        ({"neck.bias": torch.zeros(3)}, r"neck\.bias has shape \(3,\)"),
    ],
)
def test_those_that_do_not_fit_are_refused(folder: Path, changes: dict[str, Tensor | None], message: str):
    state = load_file(folder / WEIGHTS) | changes
    save_file({name: value for name, value in state.items() if value is not None}, folder / WEIGHTS)
    with pytest.raises(BundleError, match=message):
        loaded(folder)


def test_a_pickle_is_never_opened(folder: Path, tmp_path: Path):
    witness = tmp_path / "witness"

    class Attack:
        def __reduce__(self):
            return (Path.touch, (witness,))

    (folder / WEIGHTS).write_bytes(pickle.dumps(Attack()))
    with pytest.raises(BundleError, match="not a safetensors file"):
        loaded(folder)
    assert not witness.exists()
