"""Training films in memory, and how they are varied."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F  # noqa: N812 - the name that everybody knows
from monai.utils import set_determinism
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from models.data.dataset import LabelledStudy
from models.processing.transforms import Preprocessing
from models.training.recipe import AugmentationTable


class CachedFilms(Dataset[tuple[Tensor, int]]):
    """All films of some studies, standardised once and kept as float16 (128 KiB each).

    An item is the film, shape (grid, grid), float32 in [0, 1], and the number of its study.

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
    """Batches in which the films of a study stand together, in an order that each epoch draws anew.

    Parameters
    ----------
    study_of
        Number of each film's study.
    films
        A batch holds about so many; as studies are not torn, it may be a few more or less.
    seed
        Asked for the seed of the order whenever an epoch begins.
    rank, world
        This process takes every `world`-th batch, from number `rank`.
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
            # What would begin the batch after the last one is left out, as it would be too small.
            if before // self.films < self.count:
                batches[before // self.films] += self.studies[number]
            before += len(self.studies[number])
        yield from batches[self.rank :: self.world]


class Augmentation:
    """Small affine changes, contrast and brightness; never a mirror image (situs is a finding).

    Each film of a batch is changed by its own draw. MONAI's transforms do the same one film at a time, which
    takes longer than the network's own step on two cores.

    Parameters
    ----------
    table
        How much of each.
    """

    def __init__(self, table: AugmentationTable) -> None:
        self.table = table
        self.generator = torch.Generator()

    def seed(self, value: int) -> None:
        """Start the random sequence anew, so that an epoch after a resume is the epoch it would have been."""
        self.generator.manual_seed(value)

    def __call__(self, films: Tensor) -> Tensor:
        """Change a batch of films, shape (n, grid, grid) in [0, 1]; the result is of the same kind."""
        table, count = self.table, len(films)
        changed = F.grid_sample(films[:, None], self._grid(films), padding_mode="zeros", align_corners=False)[
            :, 0
        ]
        gamma = 1 + self._draw(count, table.gamma).to(films.device)
        offset = self._draw(count, table.brightness).to(films.device)
        return (changed.clamp(0, 1) ** gamma[:, None, None] + offset[:, None, None]).clamp(0, 1)

    def _grid(self, films: Tensor) -> Tensor:
        """Where each pixel comes from: rotation (radians), zoom and shift about the middle of the film."""
        table, count = self.table, len(films)
        angle = self._draw(count, table.rotate)
        zoom = 1 + self._draw(count, table.scale)
        cos, sin = zoom * angle.cos(), zoom * angle.sin()
        # affine_grid's coordinates run from -1 to 1, so a shift by the whole film is 2.
        right, down = self._draw(count, 2 * table.translate), self._draw(count, 2 * table.translate)
        rows = torch.stack((torch.stack((cos, -sin, right), 1), torch.stack((sin, cos, down), 1)), 1)
        return F.affine_grid(rows.to(films.device), [count, 1, *films.shape[1:]], align_corners=False)

    def _draw(self, count: int, spread: float) -> Tensor:
        """Uniform within plus or minus `spread`, or 0 for the films that this change passes over."""
        chosen = torch.rand(count, generator=self.generator) < self.table.probability
        return (2 * torch.rand(count, generator=self.generator) - 1) * spread * chosen


def seed_everything(seed: int) -> None:
    """Seed torch, NumPy, Python and MONAI."""
    set_determinism(seed)
