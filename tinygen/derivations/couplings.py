r"""Layers of a flow whose Jacobians have cheap determinants: what they keep makes the matrix triangular.

    coupling      z = x where x is kept, and g(x; what is kept) elsewhere       log |det J| = the sum of log dg/dx
    squeeze       pixels become channels                                        0: numbers only change their places
    factor out    (h_1, h_2) -> (h_1, r(h_2))                                   that of r

No network is differentiated for it, or inverted. On the other side, the Jacobian is made by force, as in the chain
change_of_variables, and splines are drawn by the formula of their bins. The layers are those of models/flow.py and nn/.
"""

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from .. import ops
from ..autograd import grad, jacobian
from ..backend import Generator
from ..models import flow as model
from ..nn import mlp
from ..nn.invertible import Squeeze
from ..nn.splines import FLOOR
from .chain import Chain
from .change_of_variables import Mapped, gaussian, image_flows, log_abs_det, square
from .instances import disturbed, vectors


@st.composite
def one_coupling(draw, *kinds):
    """One coupling that keeps every other number of x (1, D)."""
    D = draw(st.integers(2, 4))
    laws = {"additive": model.Additive(), "affine": model.Affine(draw(vectors(D))), "spline": model.Spline(bins=2)}
    law = laws[draw(st.sampled_from(kinds))]
    network = draw(disturbed(mlp(Generator(0), (D, 3, law.parameters * D), ops.tanh)))
    return Mapped(model.Coupling(network, law, model.Checkerboard(draw(st.integers(0, 1)))), draw(vectors((1, D))))


couplings = Chain(
    "couplings",
    "The layers of a normalising flow: triangular Jacobians, additive, affine and spline couplings, and several scales.",
    "Dinh et al. 2017 (RealNVP), eq. 6",
    one_coupling("additive", "affine", "spline"),
)


@couplings.equal(
    "triangular",
    r"\frac{\partial z_{\mathrm{kept}}}{\partial x_{\mathrm{moved}}} = 0, \quad \det J = \prod_i J_{ii}",
    because="what is kept depends on nothing else, and what is moved on itself and on what is kept",
)
def triangular(m):
    return triangular_sides(m, m.jacobian())


@triangular.wrong("a network that also sees the numbers that are moved")
def _(m):
    def leaky(x):
        z, _ = m.map.law.to_latent(x, m.map.network(x))
        return ops.where(kept(m), x, z)

    return triangular_sides(m, square(jacobian(leaky)(m.x)))


def triangular_sides(m, J):
    """The block above the diagonal, and the determinant, beside the diagonal's product."""
    above = J[kept(m)][:, ~kept(m)].ravel()
    return np.append(above, log_abs_det(J)), np.append(0 * above, np.sum(np.log(np.abs(np.diag(J)))))


def kept(m):
    """Which numbers a checkerboard keeps, (D,)."""
    return (np.arange(m.x.shape[1]) + m.map.mask.parity) % 2 == 0


@couplings.equal(
    "additive",
    r"z_i = x_i + t_i(x_{\mathrm{kept}}): \quad \log |\det J| = 0",
    because="the diagonal holds ones: numbers are moved by amounts that do not depend on them, and no volume changes",
    source="Dinh et al. 2015 (NICE), section 3.2",
    instances=one_coupling("additive"),
)
def additive(m):
    return np.array([log_abs_det(m.jacobian()), m.log_det()]), np.zeros(2)


@additive.wrong("x + t(x) without a mask: a residual block is not volume-preserving")
def _(m):
    return log_abs_det(square(jacobian(lambda x: x + m.map.network(x))(m.x))), 0.0


@couplings.equal(
    "affine",
    r"z_i = x_i e^{s_i} + t_i: \quad \log |\det J| = \sum_{i\ \mathrm{moved}} s_i",
    because="the diagonal holds e^s where numbers are moved and 1 where they are kept; s itself is never differentiated",
    instances=one_coupling("affine"),
)
def affine(m):
    return np.array([log_abs_det(m.jacobian()), m.log_det()]), np.full(2, np.sum(scales(m)[~kept(m)]))


@affine.wrong("the sign of s turned, there and back, which tests let pass that only add the two", published=True)
def _(m):
    return np.array([log_abs_det(m.jacobian()), m.log_det()]), np.full(2, -np.sum(scales(m)[~kept(m)]))


@affine.wrong("s summed over the kept numbers, too")
def _(m):
    return np.array([log_abs_det(m.jacobian()), m.log_det()]), np.full(2, np.sum(scales(m)))


def scales(m):
    """s (D,): of what the network says, the first half, through a tanh and with the law's scale."""
    return m.map.law.scale * np.tanh(m.map.network(np.where(kept(m), m.x, 0))[0, : m.x.shape[1]])


@dataclass
class Bent:
    """Numbers x (n,), within and beyond the interval, and what a network says of their splines, (n, 3K - 1)."""

    x: np.ndarray
    raw: np.ndarray

    @property
    def law(self):
        return model.Spline(bins=self.K)

    @property
    def K(self):
        return (self.raw.shape[1] + 1) // 3

    def knots(self, i):
        """x, y and slopes of the K + 1 knots of number i."""
        sizes = np.split(self.raw[i, : 2 * self.K], 2)
        parts = [FLOOR + (1 - self.K * FLOOR) * np.exp(size) / np.exp(size).sum() for size in sizes]
        places = [model.REACH * (2 * np.append(0, np.cumsum(part)) - 1) for part in parts]
        inner = FLOOR + (1 - FLOOR) * np.log1p((math.e - 1) * np.exp(self.raw[i, 2 * self.K :]))
        return *places, np.concatenate([[1], inner, [1]])

    def curve(self, exchanged=False, equal=False):
        """z (n,), in each bin a quotient of two quadratics that goes through its ends with their slopes."""
        z = self.x.copy()
        for i, x in enumerate(self.x):
            if abs(x) < model.REACH:
                X, Y, d = self.knots(i)
                X = np.linspace(-model.REACH, model.REACH, self.K + 1) if equal else X
                k = np.searchsorted(X, x, side="right") - 1
                xi, s = (x - X[k]) / (X[k + 1] - X[k]), (Y[k + 1] - Y[k]) / (X[k + 1] - X[k])
                p, q = (d[k + 1], d[k]) if exchanged else (d[k], d[k + 1])
                ends = s * np.array([(1 - xi) ** 2, xi**2])
                middle = xi * (1 - xi)
                z[i] = (ends @ Y[k : k + 2] + (Y[k] * q + Y[k + 1] * p) * middle) / (ends.sum() + (p + q) * middle)
        return z


@st.composite
def splines(draw):
    n, K = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return Bent(draw(vectors(n, -6, 6)), draw(vectors((n, 3 * K - 1))))


@couplings.equal(
    "spline",
    r"\frac{dz}{dx} = \frac{s^2 \left(d_{k+1} \xi^2 + 2 s \xi (1 - \xi) + d_k (1 - \xi)^2\right)}"
    r"{\left(s + (d_k + d_{k+1} - 2 s) \xi (1 - \xi)\right)^2}",
    because="the quotient rule in the bin of x, where xi runs from 0 to 1; the inverse has one over it, at z",
    source="Durkan et al. 2019, eq. 4 and 5",
    instances=splines(),
)
def spline(m):
    z, log_slope = m.law.to_latent(m.x, m.raw)
    back = -m.law.to_data(z, m.raw)[1]
    return np.array([derivative(m)] * 2), np.exp([log_slope, back])


@spline.wrong("the inverse's slope at x, not at z")
def _(m):
    return derivative(m), np.exp(-m.law.to_data(m.x, m.raw)[1])


def derivative(m):
    return grad(lambda x: m.law.to_latent(x, m.raw)[0].sum())(m.x)


@couplings.equal(
    "knots",
    r"z = \frac{s\, y_k (1 - \xi)^2 + (y_k d_{k+1} + y_{k+1} d_k)\, \xi (1 - \xi) + s\, y_{k+1} \xi^2}"
    r"{s (1 - \xi)^2 + (d_k + d_{k+1})\, \xi (1 - \xi) + s\, \xi^2}, \quad f^{-1}(z) = x",
    because="at xi = 0 and 1 this is y_k and y_{k+1}, with slopes d_k and d_{k+1}: as was asked for",
    source="Gregory & Delbourgo 1982; Durkan et al. 2019, eq. 4 and 6-8",
    instances=splines(),
)
def knots(m):
    return there_and_back(m), np.array([m.curve(), m.x])


@knots.wrong("the slopes of a bin's two ends exchanged")
def _(m):
    return there_and_back(m), np.array([m.curve(exchanged=True), m.x])


@knots.wrong("knots at equal distances, as if only the heights were learned")
def _(m):
    return there_and_back(m), np.array([m.curve(equal=True), m.x])


def there_and_back(m):
    """z, and the x that the inverse makes of it."""
    z, _ = m.law.to_latent(m.x, m.raw)
    return np.array([z, m.law.to_data(z, m.raw)[0]])


# Images


@couplings.equal(
    "squeeze",
    r"z_{i,\, j,\, (2 a + b) C + c} = x_{2 i + a,\, 2 j + b,\, c}, \quad \log |\det J| = 0",
    because="numbers that only change their places make a Jacobian of zeros and ones, one in each row and each column",
    source="Dinh et al. 2017, section 3.6",
    instances=st.tuples(st.sampled_from([2, 4]), st.sampled_from([2, 4]), st.integers(1, 2)).flatmap(
        lambda shape: st.builds(Mapped, st.just(Squeeze()), vectors((1, *shape)))
    ),
)
def squeeze(m):
    return rearranged(m), by_blocks(m)


@squeeze.wrong("a reshape alone, which puts pixels together that are no neighbours")
def _(m):
    return rearranged(m), np.concatenate([m.x.ravel(), m.x.ravel(), [0, 0]])


@squeeze.wrong("each colour's four pixels side by side, in another order of the channels")
def _(m):
    by_colour = by_blocks(m)
    by_colour[: m.x.size] = by_colour[: m.x.size].reshape(-1, 4, m.x.shape[3]).swapaxes(1, 2).ravel()
    return rearranged(m), by_colour


def rearranged(m):
    """z, the x made of it, and the logarithm of the determinant by force and as the layer says."""
    return np.concatenate([m.z().ravel(), m.map.to_data(m.z())[0].ravel(), [log_abs_det(m.jacobian()), m.log_det()]])


def by_blocks(m):
    _, H, W, C = m.x.shape
    places = ((2 * i + a, 2 * j + b) for i in range(H // 2) for j in range(W // 2) for a in range(2) for b in range(2))
    return np.concatenate([*(m.x[0, i, j] for i, j in places), m.x.ravel(), [0, 0]])


@couplings.equal(
    "factor_out",
    r"\log p(h_1, h_2) = \log \mathcal{N}(h_1; 0, I) + \log p_r(h_2)",
    because="f(h_1, h_2) = (h_1, r(h_2)): the Jacobian has the blocks 1 and that of r, and the Gaussian has two factors",
    source="Dinh et al. 2017, eq. 13-16",
    instances=st.tuples(image_flows(), vectors((1, 1, 1, 4))),
)
def factor_out(instance):
    return whole(*instance), in_parts(*instance, slice(0, 2))


@factor_out.wrong("the finished half forgotten")
def _(instance):
    made, h = instance
    return whole(made, h), in_parts(made, h, slice(0, 0))


@factor_out.wrong("the other half taken for the finished one")
def _(instance):
    made, h = instance
    return whole(made, h), in_parts(made, h[..., [2, 3, 0, 1]], slice(0, 2))


def whole(made, h):
    """log p of features h (1, 1, 1, 4), by the last layer of a multi-scale flow."""
    return model.Flow(model.Chain(made.map.chain.layers[-1:]), h.shape[1:]).log_prob(h).nats[0]


def in_parts(made, h, done):
    rest = Mapped(made.map.chain.layers[-1].rest, h[..., 2:])
    return gaussian(h[0, 0, 0, done]) + gaussian(rest.z())[0] + log_abs_det(rest.jacobian())
