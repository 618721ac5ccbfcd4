"""The Fréchet distance between two sets of features, taken for Gaussians: FID (arXiv 1706.08500), FVD (1812.01717)."""

from __future__ import annotations

import numpy as np
from torch import Tensor


class FeatureStatistics:
    """Mean and covariance of feature vectors that come in batches; none of them is kept."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = np.zeros(0)
        self._products = np.zeros((0, 0))

    def add(self, features: Tensor) -> None:
        """``features`` [N, width]."""
        rows = features.detach().cpu().double().numpy()
        if self.count == 0:
            self._sum = np.zeros(rows.shape[1])
            self._products = np.zeros((rows.shape[1], rows.shape[1]))
        self.count += len(rows)
        self._sum += rows.sum(axis=0)
        self._products += rows.T @ rows

    @property
    def mean(self) -> np.ndarray:
        return self._sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        """Unbiased, as in the published implementations."""
        centred = self._products - self.count * np.outer(self.mean, self.mean)
        return centred / (self.count - 1)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)).

    A B is similar to the positive semidefinite A^(1/2) B A^(1/2), so the trace of its root is the sum of the roots of
    that matrix' eigenvalues, whatever the rank.

    Raises:
        ValueError: fewer than two vectors.
    """
    if min(a.count, b.count) < 2:
        raise ValueError(f"a covariance needs at least 2 samples, got {a.count} and {b.count}")
    values, vectors = np.linalg.eigh(a.covariance)
    root = (vectors * np.sqrt(values.clip(min=0))) @ vectors.T
    cross = np.sqrt(np.linalg.eigvalsh(root @ b.covariance @ root).clip(min=0)).sum()
    spread = np.trace(a.covariance) + np.trace(b.covariance) - 2 * cross
    return float(np.square(a.mean - b.mean).sum() + spread)
