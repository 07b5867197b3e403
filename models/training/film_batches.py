"""Training films in memory: cache, batches of whole studies, augmentation."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from monai.data import set_track_meta
from monai.transforms import Compose, RandAdjustContrast, RandAffine, RandShiftIntensity, ScaleIntensityRange
from monai.utils import set_determinism
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from models.data.dataset import LabelledStudy
from models.processing.transforms import Preprocessing
from models.training.recipe import AugmentationTable

# Films carry no metadata; tracking it costs more time than the changes.
set_track_meta(False)


class CachedFilms(Dataset[tuple[Tensor, int]]):
    """Films of a set of studies, standardised once and kept as float16 (128 KiB each).

    An item is the film, shape (grid, grid), float32 in [0, 1], and the index of its study.

    Raises
    ------
    DatasetError
        If a film cannot be read.
    """

    def __init__(
        self,
        studies: tuple[LabelledStudy, ...],
        preprocessing: Preprocessing,
        *,
        progress: Callable[[int, int], None] = lambda _done, _all: None,
    ) -> None:
        places = [(number, path) for number, study in enumerate(studies) for path in study.films]
        grid = preprocessing.grid
        self.films = torch.empty((len(places), grid, grid), dtype=torch.float16)
        self.study_of = torch.tensor([number for number, _ in places])
        for position, (number, path) in enumerate(places):
            self.films[position] = preprocessing.standardise(studies[number].read(path))
            progress(position + 1, len(places))

    def __len__(self) -> int:
        return len(self.films)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        return self.films[position].float(), int(self.study_of[position])


class StudyBatches(Sampler[list[int]]):
    """Batches that keep the films of a study together, in a new random order each epoch.

    Parameters
    ----------
    study_of
        Index of each film's study, shape (films,).
    films
        Approximate number of films in a batch; as a study is never split, it may be a few more or less.
    seed
        Function that returns the seed of an epoch's order; called when the epoch begins.
    rank, world
        Index of this process and number of processes; it takes every `world`-th batch, from `rank` on.
    """

    def __init__(
        self, study_of: Tensor, films: int, *, seed: Callable[[], int], rank: int = 0, world: int = 1
    ) -> None:
        places: dict[int, list[int]] = {}
        for position, study in enumerate(study_of.tolist()):
            places.setdefault(study, []).append(position)
        self.studies = list(places.values())
        self.films = films
        self.seed = seed
        self.rank, self.world = rank, world
        self.count = len(study_of) // films // world * world

    def __len__(self) -> int:
        return self.count // self.world

    def __iter__(self) -> Iterator[list[int]]:
        batches: list[list[int]] = [[] for _ in range(self.count)]
        before = 0
        order = torch.Generator().manual_seed(self.seed())
        for number in torch.randperm(len(self.studies), generator=order).tolist():
            # The studies that would begin one more batch are left out: it would be too small.
            if before // self.films < self.count:
                batches[before // self.films] += self.studies[number]
            before += len(self.studies[number])
        yield from batches[self.rank :: self.world]


class Augmentation:
    """Random changes of training films by MONAI: small affine ones, contrast and brightness.

    Never a mirror image: the side of the heart is a finding. Each film of a batch gets its own draw.

    Parameters
    ----------
    table
        Probability and largest extent of each change.
    """

    def __init__(self, table: AugmentationTable) -> None:
        self.table = table
        self._seed: int | None = None
        self._chains: dict[int, Compose] = {}

    def seed(self, value: int) -> None:
        """Restart the random sequence: an epoch after a resume then equals the epoch of a run without one."""
        self._seed = value
        for chain in self._chains.values():
            chain.set_random_state(value)

    def __call__(self, films: Tensor) -> Tensor:
        """Change a batch of films.

        Parameters
        ----------
        films
            Shape (n, side, side), float32 in [0, 1].

        Returns
        -------
        torch.Tensor
            The same shape, type and range.
        """
        side = films.shape[-1]
        if side not in self._chains:
            self._chains[side] = _random_changes(self.table, side)
            if self._seed is not None:
                self._chains[side].set_random_state(self._seed)
        return torch.stack([self._chains[side](film[None])[0] for film in films])


def _random_changes(table: AugmentationTable, side: int) -> Compose:
    """Build the random changes of one film of shape (1, side, side)."""
    return Compose(
        [
            RandAffine(
                prob=table.probability,
                rotate_range=table.rotate,
                # MONAI takes pixels, the recipe shares of the film.
                translate_range=(table.translate * side, table.translate * side),
                scale_range=(table.scale, table.scale),
                spatial_size=(side, side),
                mode="bilinear",
                padding_mode="zeros",
                cache_grid=True,
            ),
            RandAdjustContrast(prob=table.probability, gamma=(1 - table.gamma, 1 + table.gamma)),
            RandShiftIntensity(prob=table.probability, offsets=table.brightness),
            ScaleIntensityRange(0, 1, 0, 1, clip=True),
        ]
    )


def seed_everything(seed: int) -> None:
    """Seed torch, NumPy, Python and MONAI."""
    set_determinism(seed)
