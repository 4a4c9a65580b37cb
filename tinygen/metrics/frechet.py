r"""The Frechet distance: how far apart two sets of points are, if each is taken for a Gaussian.

    d^2 = |m - n|^2 + tr(S + T - 2 (S^1/2 T S^1/2)^1/2)        between N(m, S) and N(n, T): their W_2^2

It sees means and covariances, and nothing else. On features of an Inception network it is called FID; those figures and the
figures by another network cannot be compared. Estimated from N samples it is too large, about in proportion to 1 / N (see
`against_sample_count`), so figures of different N must not be compared either.

No root of a matrix is needed. With any A and B such that S = A^T A and T = B^T B, the singular values of A B^T are the roots of
the eigenvalues of S T, so that

    tr (S^1/2 T S^1/2)^1/2 = sum of the singular values of A B^T

and for samples A can be the triangular factor of the centred data, A^T A = X^T X / (N - 1). Nothing is squared or inverted, so
fewer samples than dimensions, or features that never vary, do no harm.

Sources: Dowson & Landau 1982; Heusel et al. 2017, eq. 6.
"""

import numpy as np

from .points import points


def frechet_distance(real, samples):
    """|m - n|^2 + tr(S + T - 2 (S^1/2 T S^1/2)^1/2), of means and unbiased covariances: >= 0, in squares of the unit.

    real (n, ...), samples (m, ...), at least 2 of each. ValueError for fewer, for NaN, or for other shapes.
    """
    real, samples = points("frechet_distance", 2, real=real, samples=samples)
    return _distance(*_moments(real), *_moments(samples))


def frechet_of_gaussians(m, S, n, T):
    """|m - n|^2 + tr(S + T - 2 (S^1/2 T S^1/2)^1/2), of N(m, S) and N(n, T): m, n (d,), and S, T (d, d), possibly singular.

    ValueError where S or T is not symmetric with eigenvalues of at least 0, for NaN, or where the shapes do not fit.
    """
    m, S, n, T = (np.asarray(a, np.float64) for a in (m, S, n, T))
    if m.ndim != 1 or m.shape != n.shape or not S.shape == T.shape == 2 * m.shape:
        raise ValueError(
            f"frechet_of_gaussians: means {m.shape} and {n.shape}, covariances {S.shape} and {T.shape}; give (d,) and (d, d)"
        )
    if not (np.isfinite(m).all() and np.isfinite(n).all()):
        raise ValueError("frechet_of_gaussians: a mean has NaN or infinity; give finite means")
    return _distance(m, _factor(S, "S"), n, _factor(T, "T"))


def _distance(m, A, n, B):
    """For S = A^T A and T = B^T B."""
    common = np.linalg.svd(A @ B.T, compute_uv=False).sum()  # [divergences_and_metrics.frechet_distance]
    square = ((m - n) ** 2).sum() + (A**2).sum() + (B**2).sum() - 2 * common
    return float(np.maximum(square, 0.0))  # below 0 by rounding only; what has overflowed to NaN stays NaN


def _moments(x):
    """The mean (d,), and an A with A^T A the covariance."""
    mean = x.mean(axis=0)
    return mean, np.linalg.qr(x - mean, mode="r") / np.sqrt(len(x) - 1)


def _factor(S, name):
    """An A with A^T A = S."""
    if not np.isfinite(S).all() or not np.allclose(S, S.T, rtol=1e-9, atol=1e-9 * np.abs(S).max()):
        raise ValueError(f"frechet_of_gaussians: {name} is not a finite symmetric matrix; give a covariance")
    values, vectors = np.linalg.eigh(S)
    if values[0] < -1e-6 * values[-1]:
        raise ValueError(f"frechet_of_gaussians: {name} has the eigenvalue {values[0]:.3g}; a covariance has none below 0")
    rounding = len(S) * np.finfo(float).eps * values[-1]
    return np.sqrt(np.where(values > rounding, values, 0.0))[:, None] * vectors.T
