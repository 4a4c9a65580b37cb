r"""Why far moves along a trajectory can be accepted with a probability in which no proposal's density occurs.

    H(x, v) = |v|^2 / 2 - log p(x)                  x the position of a ball, v its velocity, drawn anew from N(0, I)
    Phi(x, v) = (x', v'), by L leapfrog steps       keeps volumes, and leads back: Phi(x', -v') = (x, -v)
    (x', v') is accepted with min(1, e^(H - H'))    which balances e^-H, and so p

The kernel is that of mcmc.py. Its noise, the velocity, is given and not drawn, as in the chain mcmc.
"""

import numpy as np
from hypothesis import strategies as st
from numpy.linalg import det

from .. import ops
from ..autograd import jacobian
from ..mcmc import AdjustedLangevin, Hamiltonian, evaluate
from .chain import Chain
from .exact import Given
from .instances import numbers, vectors
from .mcmc import log_acceptance, moves


class Euler(Hamiltonian):
    """Moves and pushes at the same time."""

    def roll(self, log_density, point, velocity):
        for _ in range(self.leapfrogs):
            moved = evaluate(log_density, point.x + self.step * velocity)
            point, velocity = moved, velocity + self.step * point.score
        return point, velocity


class WholePushes(Hamiltonian):
    """A whole push, then a move."""

    def roll(self, log_density, point, velocity):
        for _ in range(self.leapfrogs):
            velocity = velocity + self.step * point.score
            point = evaluate(log_density, point.x + self.step * velocity)
        return point, velocity


hamiltonian = Chain(
    "hamiltonian",
    "Hamiltonian Monte Carlo: a map that can be reversed and keeps volumes, so that no proposal's density is in the ratio.",
    "Neal 2011, MCMC using Hamiltonian dynamics",
    moves(),
)


@hamiltonian.equal(
    "reversible",
    r"\Phi(x, v) = (x', v') \;\Rightarrow\; \Phi(x', -v') = (x, -v)",
    because="half a push, a move, half a push: read backwards, with the velocity turned, it is the same",
    source="Neal 2011, section 5.2.3",
)
def reversible(m):
    return there_and_back(m, Hamiltonian(m.step, m.leapfrogs)), np.concatenate([m.x, m.noise], axis=1)


@reversible.wrong("whole pushes between the moves, which keep volumes, but cannot be read backwards")
def _(m):
    return there_and_back(m, WholePushes(m.step, m.leapfrogs)), np.concatenate([m.x, m.noise], axis=1)


@reversible.wrong("the velocity not turned")
def _(m):
    return there_and_back(m, Hamiltonian(m.step, m.leapfrogs), turn=1.0), np.concatenate([m.x, m.noise], axis=1)


def there_and_back(m, kernel, turn=-1.0):
    end, velocity = kernel.roll(m.p.log_density, kernel.start(m.p.log_density, m.x), m.noise)
    back, velocity = kernel.roll(m.p.log_density, end, turn * velocity)
    return np.concatenate([back.x, turn * velocity], axis=1)


@hamiltonian.equal(
    "volume",
    r"\left|\det \frac{\partial (x', v')}{\partial (x, v)}\right| = 1",
    because="each push changes v by a function of x, each move x by a function of v: shears, whose determinants are 1",
    source="Neal 2011, section 5.2.3",
)
def volume(m):
    return abs_det(m, Hamiltonian(m.step, m.leapfrogs)), 1.0


@volume.wrong("Euler's method, x and v moved at the same time")
def _(m):
    return abs_det(m, Euler(m.step, m.leapfrogs)), 1.0


def abs_det(m, kernel):
    """From the whole Jacobian at the first point, by autograd through the trajectory."""

    def phi(state):
        x, v = ops.reshape(state[: m.p.D], shape=(1, m.p.D)), ops.reshape(state[m.p.D :], shape=(1, m.p.D))
        end, velocity = kernel.roll(m.p.log_density, evaluate(m.p.log_density, x), v)
        return ops.concatenate(end.x[0], velocity[0], axis=0)

    return abs(det(jacobian(phi)(np.concatenate([m.x[0], m.noise[0]]))))


@hamiltonian.equal(
    "balance",
    r"e^{-H(x, v)}\, a(x, v) = e^{-H(x', v')}\, a(x', -v'), \quad H = \frac{|v|^2}{2} - \log p(x)",
    because="the map is its own inverse and keeps volumes, so the flow balances state by state with a = min(1, e^{H - H'})",
    source="Duane et al. 1987; Neal 2011, section 5.3.2",
)
def balance(m):
    return energy_flows(m, Hamiltonian(m.step, m.leapfrogs))


class OnlyPotential(Hamiltonian):
    def propose(self, log_density, point, rng):
        new, _ = super().propose(log_density, point, rng)
        return new, new.log_p - point.log_p


class Uphill(Hamiltonian):
    def propose(self, log_density, point, rng):
        new, log_r = super().propose(log_density, point, rng)
        return new, -log_r


@balance.wrong("the kinetic energy left out of the ratio")
def _(m):
    return energy_flows(m, OnlyPotential(m.step, m.leapfrogs))


@balance.wrong("the sign of the difference of energies turned")
def _(m):
    return energy_flows(m, Uphill(m.step, m.leapfrogs))


def energy_flows(m, kernel):
    """-H + log a at (x, v), and at (x', -v'), to which a leapfrog with the score in closed form leads."""
    x, v = m.x, m.noise
    for _ in range(m.leapfrogs):
        v = v + m.step / 2 * m.p.score(x)
        x = x + m.step * v
        v = v + m.step / 2 * m.p.score(x)

    def flow(x, v):
        return m.p.log_density(x) - (v**2).sum(axis=1) / 2 + log_acceptance(kernel, m.p.log_density, x, v)

    return flow(m.x, m.noise), flow(x, -v)


@hamiltonian.equal(
    "mean_ratio",
    r"\int \int \frac{e^{-H(x, v)}}{Z} e^{H(x, v) - H(x', v')}\, dx\, dv = 1",
    because="e^{-H} cancels, and since volumes are kept, the integral of e^{-H(x', v')} over (x, v) is that over (x', v')",
    source="Creutz 1988",
    instances=st.tuples(vectors(3, -1, 1), numbers(0.05, 0.5), st.integers(1, 3)),
)
def mean_ratio(drawn):
    return averaged_ratio(*drawn, kind=Hamiltonian), 1.0


@mean_ratio.wrong("a map that does not keep volumes: Euler's method")
def _(drawn):
    return averaged_ratio(*drawn, kind=Euler), 1.0


@mean_ratio.wrong("the logarithm of the ratio: energy kept on average")
def _(drawn):
    return 1 + averaged_ratio(*drawn, kind=Hamiltonian, of=lambda log_r: log_r), 1.0


def averaged_ratio(a, step, leapfrogs, kind, of=np.exp):
    """E[r] for log p = -x^2 / 2 + a_0 x + a_1 sin x + a_2 cos x, over a grid of x and v."""

    def log_density(x):
        return (-0.5 * x * x + a[0] * x + a[1] * ops.sin(x) + a[2] * ops.cos(x)).sum(axis=1)

    axis = np.arange(-9.0, 9.25, 0.25)
    x, v = (half.reshape(-1, 1) for half in np.meshgrid(axis, axis))
    kernel = kind(step, leapfrogs)
    point = kernel.start(log_density, x)
    _, log_r = kernel.propose(log_density, point, Given(v))
    weights = np.exp(point.log_p - v[:, 0] ** 2 / 2)
    return (weights * of(log_r)).sum() / weights.sum()


@hamiltonian.equal(
    "one_leapfrog",
    r"L = 1: \quad x' = x + \frac{\epsilon^2}{2} s(x) + \epsilon v, \quad H(x, v) - H(x', v')"
    r" = \log \frac{p(x')\, q(x \mid x')}{p(x)\, q(x' \mid x)}",
    because="half a push and a move are a Langevin step of h = epsilon^2 / 2, and v and -v' are the noise there and back",
    source="Neal 2011, section 5.5.2",
)
def one_leapfrog(m):
    return proposed(m, Hamiltonian(m.step, 1)), proposed(m, AdjustedLangevin(m.step**2 / 2))


@one_leapfrog.wrong("h = epsilon^2")
def _(m):
    return proposed(m, Hamiltonian(m.step, 1)), proposed(m, AdjustedLangevin(m.step**2))


def proposed(m, kernel):
    """x' and log r."""
    new, log_r = kernel.propose(m.p.log_density, kernel.start(m.p.log_density, m.x), Given(m.noise))
    return np.concatenate([new.x, log_r[:, None]], axis=1)
