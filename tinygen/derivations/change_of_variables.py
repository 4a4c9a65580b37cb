r"""What a density becomes when its variable is mapped, and so what a normalising flow's likelihood is.

    p(x) = N(f(x)) |det df/dx|        in a small box about x lies the mass that lies in its image, a box of another volume

First in one dimension, by substitution under the integral; then in the plane, where areas are integrals around a boundary; from
there on the Jacobian J = df/dx is made by force, a row for each number of f(x), and its determinant by elimination. All flows
are those that are trained; why their own determinants are cheap is in the chain couplings. The last steps lead from
densities of pixels to the bits that a grey level costs.
"""

import math
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from .. import ops
from ..autograd import jacobian, jvp
from ..backend import Generator
from ..data.preparation import dequantised
from ..density import bits_per_dim
from ..models import flow as model
from ..nn.invertible import Logit, Permutation, Rescale, Scaling
from .chain import Chain
from .instances import disturbed, numbers, vectors


@dataclass
class Mapped:
    """A map with to_latent and to_data, a flow or one layer, and an example x (1, ...) in float64."""

    map: object
    x: np.ndarray

    def z(self):
        return self.map.to_latent(self.x)[0]

    def log_det(self):
        """What the map itself says."""
        return self.map.to_latent(self.x)[1][0]

    def jacobian(self):
        """dz/dx (D, D)."""
        return square(jacobian(lambda x: self.map.to_latent(x)[0])(self.x))


def square(J):
    D = math.isqrt(J.size)
    return J.reshape(D, D)


def log_abs_det(J):
    return np.linalg.slogdet(J)[1]


@st.composite
def vector_flows(draw, dimensions=(2, 4), kinds=("additive", "affine", "spline")):
    """Flows of two or three couplings on a point of R^D."""
    D, kind = draw(st.sampled_from(dimensions)), draw(st.sampled_from(kinds))
    mask = draw(st.sampled_from(["halves", "checkerboard"]))
    before = (Permutation(range(D)[::-1]),)  # it turns the plane over: its determinant is -1
    made = model.Flow.mlp(Generator(0), D, draw(st.integers(2, 3)), (3,), ops.tanh, kind, mask, before=before)
    return Mapped(draw(disturbed(made)), draw(vectors((1, D))))


@st.composite
def image_flows(draw):
    """Multi-scale flows, with squeezing and factoring out, on images of 2 x 2 pixels."""
    kind = draw(st.sampled_from(["additive", "affine"]))
    made = model.Flow.convolutional(Generator(0), (2, 2, 1), couplings=1, width=2, activation=ops.tanh, kind=kind)
    return Mapped(draw(disturbed(made)), draw(vectors((1, 2, 2, 1))))


@st.composite
def pixel_flows(draw):
    """z_i = e^(s_i) (logit(p_i) - low) / width on [0, 1]^D: each number for itself, so the mass of a box has a closed form."""
    D, low = draw(st.integers(1, 3)), draw(numbers(-2, 2))
    layers = Logit(draw(numbers(0.05, 0.45))), Rescale(low, low + draw(numbers(1, 4))), Scaling(draw(vectors(D, -1, 0.5)))
    return model.Flow(model.Chain(layers), (D,))


def gaussian_mass(a, b):
    """Phi(b) - Phi(a) for a <= b; in the upper tail, where both are almost 1, by symmetry the lower one."""
    a, b = (-b, -a) if a > 0 else (a, b)
    return 0.5 * (math.erfc(-b / math.sqrt(2)) - math.erfc(-a / math.sqrt(2)))


def nodes(low, high, n=40):
    """Points and weights of a Gauss-Legendre rule: the integral of a smooth function, to the last digits."""
    x, w = np.polynomial.legendre.leggauss(n)
    return low + (x + 1) / 2 * (high - low), w * (high - low) / 2


change_of_variables = Chain(
    "change_of_variables",
    "The density of a mapped variable, from substitution to whole flows; and from densities of pixels to bits of grey levels.",
    "Dinh et al. 2017 (RealNVP)",
    st.one_of(vector_flows(), image_flows()),
)


@st.composite
def intervals(draw):
    """A flow in one dimension, and 0 <= a <= b <= 1."""
    a, b = sorted([draw(numbers(0, 1)), draw(numbers(0, 1))])
    layers = Logit(draw(numbers(0.05, 0.45))), Scaling(draw(vectors(1, -2, 1)))
    return model.Flow(model.Chain(layers), (1,)), a, b


@change_of_variables.equal(
    "substitution",
    r"\int_a^b \mathcal{N}(f(x)) f'(x)\, dx = \int_{f(a)}^{f(b)} \mathcal{N}(z)\, dz",
    because="dz = f'(x) dx: what lies between a and b under p is what lies between their images under the Gaussian",
    source="the substitution rule; Dinh et al. 2017, eq. 2",
    instances=intervals(),
)
def substitution(instance):
    flow, a, b = instance
    return mass_by_quadrature(lambda x: np.exp(flow.log_prob(x).nats), a, b), mass_of_image(flow, a, b)


@substitution.wrong("the Gaussian taken at f(x), without f'(x)")
def _(instance):
    flow, a, b = instance
    return mass_by_quadrature(lambda x: np.exp(gaussian(flow.to_latent(x)[0])), a, b), mass_of_image(flow, a, b)


@substitution.wrong("divided by f'(x): the derivative of the inverse")
def _(instance):
    flow, a, b = instance

    def density(x):
        z, log_det = flow.to_latent(x)
        return np.exp(gaussian(z) - log_det)

    return mass_by_quadrature(density, a, b), mass_of_image(flow, a, b)


def mass_by_quadrature(density, a, b):
    pieces = np.linspace(a, b, 9)
    return sum(w @ density(x[:, None]) for x, w in (nodes(*ends) for ends in zip(pieces, pieces[1:])))


def mass_of_image(flow, a, b):
    ends, _ = flow.to_latent(np.array([[a], [b]]))
    return gaussian_mass(*ends[:, 0])


def gaussian(z):
    """log N(z; 0, I), (N,)."""
    return -0.5 * np.sum(z**2 + math.log(2 * math.pi), axis=-1)


@change_of_variables.equal(
    "area",
    r"\int\int_R \left|\det \frac{\partial z}{\partial x}\right| dx_1 dx_2 = \left|\oint_{\partial R} z_1\, dz_2\right|",
    because="|det J| is by how much f stretches areas; on the right is the area of f(R) itself, by an integral around it",
    source="Green's theorem",
    instances=vector_flows((2,), ("additive", "affine")),
)
def area(m):
    return stretched(m), abs(around_image(m))


@area.wrong("without the absolute value: an area that is negative where f turns the plane over")
def _(m):
    return stretched(m), around_image(m)


@area.wrong("the determinant of the inverse")
def _(m):
    return stretched(m, sign=-1), abs(around_image(m))


def stretched(m, sign=1):
    """The integral of |det J|, or of its inverse, over the unit square whose lower left corner is x."""
    t, w = nodes(0, 1)
    grid = np.stack(np.meshgrid(t, t, indexing="ij"), axis=-1).reshape(-1, 2)
    return np.outer(w, w).ravel() @ np.exp(sign * m.map.to_latent(m.x + grid)[1])


def around_image(m):
    """The integral of z_1 dz_2 along the image of the square's four sides, counter-clockwise; dz_2 is a derivative along x."""
    t, w = nodes(0, 1)
    total, corner = 0.0, m.x
    for step in ([1.0, 0.0], [0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]):
        x = corner + t[:, None] * step
        z, dz = jvp(lambda x: m.map.to_latent(x)[0], (x,), (np.broadcast_to(np.array(step), x.shape),))
        total, corner = total + np.sum(w * z[:, 0] * dz[:, 1]), corner + step
    return total


@change_of_variables.equal(
    "density",
    r"\log p(x) = \log \mathcal{N}(f(x); 0, I) + \log |\det J|, \quad J = \frac{\partial f}{\partial x}",
    because="p times the volume of a box is N times the volume of its image; on the right, J by force",
    source="Dinh et al. 2017, eq. 3",
)
def density(m):
    return m.map.log_prob(m.x).nats[0], gaussian(m.z())[0] + log_abs_det(m.jacobian())


@density.wrong("the logarithm subtracted, as if J were the Jacobian of the sampler")
def _(m):
    return m.map.log_prob(m.x).nats[0], gaussian(m.z())[0] - log_abs_det(m.jacobian())


@change_of_variables.equal(
    "inverse",
    r"\log \left|\det \frac{\partial f^{-1}}{\partial z}\right|_{z = f(x)} = -\log |\det J|",
    because="f^-1(f(x)) = x: the two Jacobians are each other's inverses, and their determinants multiply to 1",
    source="the inverse function theorem",
)
def inverse(m):
    z = m.z()
    back = log_abs_det(square(jacobian(lambda z: m.map.to_data(z)[0])(z)))
    return np.array([back, m.map.to_data(z)[1][0]]), np.full(2, -m.log_det())


@inverse.wrong("one sign for both directions")
def _(m):
    return log_abs_det(square(jacobian(lambda z: m.map.to_data(z)[0])(m.z()))), m.log_det()


@inverse.wrong("the inverse's Jacobian taken at x, not at f(x)")
def _(m):
    z = m.x.reshape(1, -1)
    return log_abs_det(square(jacobian(lambda z: m.map.to_data(z)[0])(z))), -m.log_det()


@change_of_variables.equal(
    "composition",
    r"\log |\det J| = \sum_i \log \left|\det \frac{\partial f_i}{\partial h_{i-1}}\right|,"
    r" \quad h_i = f_i(h_{i-1}),\ h_0 = x",
    because="the chain rule multiplies Jacobians, and the determinant of a product is the product of the determinants",
    source="Rezende & Mohamed 2015, eq. 7",
    instances=vector_flows(),
)
def composition(m):
    total, h = 0.0, m.x
    for layer in m.map.chain.layers:
        here = Mapped(layer, h)
        total, h = total + log_abs_det(here.jacobian()), here.z()
    return np.array([log_abs_det(m.jacobian()), m.log_det()]), np.full(2, total)


@composition.wrong("every layer's determinant taken at x, not where the layers before have brought it")
def _(m):
    total = sum(log_abs_det(Mapped(layer, m.x).jacobian()) for layer in m.map.chain.layers)
    return np.array([log_abs_det(m.jacobian()), m.log_det()]), np.full(2, total)


# Pixels


@st.composite
def logits(draw):
    return Mapped(Logit(draw(numbers(1e-3, 0.49))), draw(vectors((1, draw(st.integers(1, 3))), 0, 1)))


@change_of_variables.equal(
    "logit",
    r"z = \log \frac{p}{1 - p},\ p = \alpha + (1 - 2\alpha) x: \quad \frac{dz}{dx} = \frac{1 - 2\alpha}{p (1 - p)}",
    because="dz/dp = 1/p + 1/(1 - p), and dp/dx = 1 - 2 alpha; both belong to the density of x",
    source="after Dinh et al. 2017, section 4.1",
    instances=logits(),
)
def logit(m):
    p = m.map.alpha + (1 - 2 * m.map.alpha) * m.x
    closed = np.sum(np.log((1 - 2 * m.map.alpha) / (p * (1 - p))))
    return np.array([log_abs_det(m.jacobian()), m.log_det()]), np.full(2, closed)


@logit.wrong("the 1 - 2 alpha forgotten, which is the density of p and not of x")
def _(m):
    p = m.map.alpha + (1 - 2 * m.map.alpha) * m.x
    return np.array([log_abs_det(m.jacobian()), m.log_det()]), np.full(2, -np.sum(np.log(p * (1 - p))))


@dataclass
class Grey:
    """A density on [0, 1]^D, and the grey levels g (D,), among 0 .. L - 1, of one image."""

    flow: model.Flow
    levels: int
    g: np.ndarray

    @property
    def D(self):
        return len(self.g)

    def log_probability(self):
        """log P(g): the mass of the cell of g. The flow maps each number for itself, so it is a product."""
        ends, _ = self.flow.to_latent(np.array([self.g, self.g + 1]) / self.levels)
        return sum(math.log(gaussian_mass(*ends)) for ends in ends.T)

    def dequantised(self):
        """x for every u that the preparation tells apart, 2^15 of them, equally likely. One u for all pixels is as good here as
        one for each: log p is a sum over them, so its mean is the same."""
        u = (np.arange(2**15) / 2**15)[:, None]
        return dequantised(self.g, self.levels, u)


@st.composite
def grey(draw):
    flow, L = draw(pixel_flows()), draw(st.sampled_from([2, 3, 16, 256]))
    g = draw(st.lists(st.integers(0, L - 1), min_size=flow.shape[0], max_size=flow.shape[0]))
    return Grey(flow, L, np.array(g, np.float64))


@change_of_variables.at_most(
    "dequantisation",
    r"-\log P(g) \le D \log 2 \cdot \mathbb{E}_u\left[\mathrm{bits/dim}\left(\frac{g + u}{L}\right)\right],"
    r" \quad P(g) = \int_{\mathrm{cell\ of\ } g} p(x)\, dx",
    because="P(g) = L^-D E_u[p((g + u) / L)], and the logarithm of a mean is no less than the mean of logarithms (Jensen)",
    source="Theis et al. 2016, section 3.1",
    instances=grey(),
)
def dequantisation(m):
    bits = bits_per_dim(m.flow.log_prob(m.dequantised()), m.D, levels=m.levels).bits.mean()
    return -m.log_probability(), m.D * math.log(2) * bits


@dequantisation.wrong("the bits of the density itself, as if a density of x were a probability of g")
def _(m):
    bits = bits_per_dim(m.flow.log_prob(m.dequantised()), m.D).bits.mean()
    return -m.log_probability(), m.D * math.log(2) * bits


@dequantisation.wrong("no noise: the density at g / L, which bounds nothing", published=True)
def _(m):
    bits = bits_per_dim(m.flow.log_prob(m.g[None] / m.levels), m.D, levels=m.levels).bits[0]
    return -m.log_probability(), m.D * math.log(2) * bits


@change_of_variables.equal(
    "bits",
    r"-\frac{1}{D} \log_2 p_y(L x) = -\frac{1}{D} \log_2 p_x(x) + \log_2 L, \quad y = L x",
    because="a change of variables once more: on the scale of grey levels, a density is L^-D times what it is on [0, 1]^D",
    source="Theis et al. 2016, section 3.1",
    instances=grey(),
)
def bits(m):
    return bits_on_grey_scale(m), bits_per_dim(m.flow.log_prob(middle(m)), m.D, levels=m.levels).bits[0]


@bits.wrong("log L, which is nats, added to bits")
def _(m):
    return bits_on_grey_scale(m), bits_per_dim(m.flow.log_prob(middle(m)), m.D).bits[0] + math.log(m.levels)


@bits.wrong("L - 1 for L: 255 for 256 grey levels")
def _(m):
    return bits_on_grey_scale(m), bits_per_dim(m.flow.log_prob(middle(m)), m.D, levels=max(2, m.levels - 1)).bits[0]


def bits_on_grey_scale(m):
    """Of the flow that begins by dividing by L."""
    whole = model.Flow(model.Chain((Rescale(0.0, float(m.levels)), *m.flow.chain.layers)), m.flow.shape)
    return -whole.log_prob(m.g[None] + 0.5).nats[0] / (m.D * math.log(2))


def middle(m):
    return (m.g[None] + 0.5) / m.levels
