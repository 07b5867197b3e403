"""Kappa beside scikit-learn and statsmodels."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats import inter_rater

from dicom_node.web.agreement import cohen_kappa, estimate_kappa, fleiss_kappa


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("raters", [2, 3, 7])
def test_kappas_are_those_of_the_libraries(seed: int, raters: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.random(40) < 0.3
    votes = (truth ^ (random.random((raters, 40)) < 0.2)).tolist()
    assert cohen_kappa(*votes[:2]) == pytest.approx(cohen_kappa_score(*votes[:2]))
    said, estimate = (
        inter_rater.cohens_kappa(inter_rater.to_table(np.array(votes[:2]).T.astype(int), bins=2)[0]),
        estimate_kappa(*votes[:2]),
    )
    assert estimate is not None
    assert (estimate.low, estimate.high) == pytest.approx(
        (said.kappa_low, min(1.0, said.kappa_upp)), abs=1e-6
    )
    table, _ = inter_rater.aggregate_raters(np.array(votes).T.astype(int))
    assert fleiss_kappa(votes) == pytest.approx(inter_rater.fleiss_kappa(table))


def test_agreement_that_chance_explains_is_not_defined() -> None:
    assert cohen_kappa([True] * 4, [True] * 4) is None
    assert fleiss_kappa([[False] * 4] * 3) is None
    assert cohen_kappa([], []) is None
    assert estimate_kappa([True] * 4, [True] * 4) is None
    assert estimate_kappa([True] * 4, [True, True, False, True]) is None
    assert fleiss_kappa([[], []]) is None
    assert fleiss_kappa([[True, False]]) is None


def test_the_ends_of_the_scale() -> None:
    assert cohen_kappa([True, False], [True, False]) == 1
    assert cohen_kappa([True, False], [False, True]) == -1
    assert fleiss_kappa([[True, False]] * 3) == 1
