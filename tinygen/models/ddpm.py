r"""Denoising diffusion: noise is added to data in many small steps, and a network learns to take each step back.

    forward     q(x_t | x_{t-1}) = N(sqrt(1 - beta_t) x_{t-1}, beta_t I),  t = 1 .. T                Ho et al. 2020, eq. 2
    marginal    q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I),  abar_t = prod_{s <= t} (1 - beta_s)             eq. 4
    posterior   q(x_{t-1} | x_t, x_0) = N(mu(x_t, x_0), btilde_t I),  btilde_t = beta_t (1 - abar_{t-1}) / (1 - abar_t),   eq. 6
                mu(x_t, x_0) = (sqrt(abar_{t-1}) beta_t x_0 + sqrt(1 - beta_t) (1 - abar_{t-1}) x_t) / (1 - abar_t)        eq. 7
    reverse     p(x_{t-1} | x_t) = N(mu(x_t, x0_hat(x_t, t)), sigma_t^2 I),  x_T ~ N(0, I)              section 3.2
    bound       log p(x_0) >= E_q[log p(x_0 | x_1) - sum_{t > 1} KL(q(x_{t-1} | x_t, x_0) || p) - KL(q(x_T | x_0) || p)]   eq. 5
    simple      E |eps - eps_hat(x_t, t)|^2,  x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps                           eq. 14
    DDIM        x_s = sqrt(abar_s) x0_hat + sqrt(1 - abar_s - sigma^2) eps_hat + sigma z,  s < t      Song et al. 2021, eq. 12
                z ~ N(0, I),  sigma^2 = eta^2 (1 - abar_s) / (1 - abar_t) (1 - abar_t / abar_s)                          eq. 16
    guidance    eps_hat = (1 - w) eps_hat(x_t, t) + w eps_hat(x_t, t, y)                         Ho & Salimans 2022, eq. 6

What the network says may be eps, x_0 or v = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0 (Salimans & Ho 2022, section 4): with x_t
known, each gives the others. x_t is sqrt(abar_t) and sqrt(1 - abar_t) of x_0 and eps, and v the same turned by a right angle.

The chain and its bound are older than the simple loss (Sohl-Dickstein et al. 2015). And -eps_hat / sqrt(1 - abar_t) estimates
the score grad log q(x_t), by which Langevin steps sample at each noise in turn (Song & Ermon 2019): the `geometric` schedule
is theirs. In the `cosine` one abar falls almost in a straight line between its ends (Nichol & Dhariwal 2021).

x (N, D) or (N, H, W, C), of about unit variance, images in [-1, 1]; t integers (N,) in 1 .. T; nats. Here guidance weight w = 0
is the unconditional model and w = 1 the conditional one; Ho & Salimans count from there, their w is ours minus 1.
"""

import math

import numpy as np

from .. import ops
from ..autograd.tree import module
from ..backend import array_module, beside
from ..density import LowerBound
from ..distributions import Categorical, Gaussian, kl
from ..nn.denoisers import MLP, UNet
from ..nn.doors import require_at_least_one, require_examples, require_generator, require_image_shape, require_labels
from ..optim import minimise

TIMELINE = {  # what came when, by the sources above
    "diffusion": "Sohl-Dickstein et al. 2015",
    "scores, Langevin steps": "Song & Ermon 2019",
    "DDPM": "Ho et al. 2020",
    "DDIM": "Song et al. 2021",
    "cosine schedule": "Nichol & Dhariwal 2021",
    "classifier-free guidance": "Ho & Salimans 2022",
}

# The noise


class Schedule:
    """beta_1 .. beta_T and what follows from them, float64 arrays indexed by t, where abar_0 = 1 is the data.

    It is no tree: nothing here is trained, averaged or saved. ValueError unless all beta are in (0, 1).
    """

    def __init__(self, beta):
        beta = np.array([0.0, *beta])
        if len(beta) < 2 or not ((beta[1:] > 0) & (beta[1:] < 1)).all():
            raise ValueError("Schedule: there must be at least one step, and every beta lies in (0, 1)")
        self.T, self.beta, self.abar = len(beta) - 1, beta, np.cumprod(1 - beta)  # forward: [ddpm.marginal]
        before = np.concatenate([[1.0], self.abar[:-1]])
        with np.errstate(invalid="ignore"):  # at t = 0, of which nobody asks
            self.posterior_variance = (1 - before) / (1 - self.abar) * beta
            self.posterior_x0 = np.sqrt(before) * beta / (1 - self.abar)
            self.posterior_xt = np.sqrt(1 - beta) * (1 - before) / (1 - self.abar)

    def marginal(self, x0, t):
        """Mean and standard deviation of q(x_t | x_0), the latter (N, 1, ...)."""
        abar = _column(self.abar, t, x0)
        return abar**0.5 * x0, (1 - abar) ** 0.5  # marginal: [ddpm.marginal]

    def posterior(self, x0, xt, t):
        """Mean and variance of q(x_{t-1} | x_t, x_0), the latter (N, 1, ...)."""
        mean = _column(self.posterior_x0, t, xt) * x0 + _column(self.posterior_xt, t, xt) * xt
        return mean, _column(self.posterior_variance, t, xt)  # posterior: [ddpm.posterior]


def linear(T=1000):
    """beta from 1e-4 to 0.02 in a straight line for T = 1000 (Ho et al. 2020, section 4); other T are scaled by 1000 / T."""
    require_at_least_one("linear", T=T)
    return Schedule(np.minimum(np.linspace(1e-4, 0.02, T) * (1000 / T), 0.999))  # [sde.limit_of_ddpm]


def cosine(T=1000, offset=0.008):
    """abar_t = f(t) / f(0), f(t) = cos^2(pi / 2 (t / T + offset) / (1 + offset)), beta <= 0.999.

    Source: Nichol & Dhariwal 2021, eq. 17.
    """
    require_at_least_one("cosine", T=T)
    if not 0 <= offset < math.inf:
        raise ValueError(f"cosine: offset is {offset}; it must be at least 0, such as 0.008: the noise begins there")
    abar = np.cos(math.pi / 2 * (np.arange(T + 1) / T + offset) / (1 + offset)) ** 2
    return Schedule(np.minimum(1 - abar[1:] / abar[:-1], 0.999))  # [ddpm.cosine]


def geometric(T=200, lowest=0.003, highest=10.0):
    """sigma_t = sqrt((1 - abar_t) / abar_t), the noise for a signal of 1, from lowest to highest in equal ratios.

    Every halving of the noise takes as many steps, so none is too long for narrow modes: what is finer than `lowest` is lost.
    The bound (eq. 5, small variance) then counts an error of eps_hat alike at every t > 1. ValueError unless
    0 < lowest < highest. Source: Song & Ermon 2019, section 4.1.
    """
    require_at_least_one("geometric", T=T)
    if not 0 < lowest < highest < math.inf:
        raise ValueError(f"geometric: the noise goes from {lowest} to {highest}; both must be positive, the lower one first")
    abar = np.concatenate([[1.0], 1 / (1 + np.geomspace(highest, lowest, T)[::-1] ** 2)])
    return Schedule(1 - abar[1:] / abar[:-1])


PREDICTIONS = ("eps", "x0", "v")


def both_from(kind, prediction, xt, abar):
    """(x_0, eps) from a prediction of one of "eps", "x0", "v", given x_t and abar_t. ValueError for another kind."""
    _require_known("both_from", "kind", kind, PREDICTIONS)
    signal, noise = abar**0.5, (1 - abar) ** 0.5
    if kind == "x0":
        return prediction, (xt - signal * prediction) / noise
    if kind == "eps":
        return (xt - noise * prediction) / signal, prediction  # [score_matching.noise_is_score]
    return signal * xt - noise * prediction, noise * xt + signal * prediction  # [ddpm.one_object]


def target(kind, x0, eps, abar):
    """What a network of that kind should predict, of x_0's shape. ValueError for another kind than those of `both_from`."""
    _require_known("target", "kind", kind, PREDICTIONS)
    return {"x0": x0, "eps": eps, "v": abar**0.5 * eps - (1 - abar) ** 0.5 * x0}[kind]


# The model


@module
class DDPM:
    """A denoising network and its schedule.

    `levels` L makes it a model of grey levels g = 0 .. L - 1, scaled by `to_signed` to numbers in [-1, 1]: then the bound is
    one on log P(g), and estimates of x_0 are clipped to [-1, 1]. Otherwise it is a density. `variance` is sigma_t^2: "small",
    the posterior's, right for data that is one point; "large", beta_t, right for data that is N(0, I) (Ho et al. 2020, 3.2).
    For smooth densities only the large one loses nothing in the limit of many steps.
    """

    network: object
    schedule: Schedule
    shape: tuple  # of one example
    predicts: str = "eps"  # or "x0" or "v"
    classes: int = 0  # that labels may name, 0 .. classes - 1
    levels: int = None
    variance: str = "large"

    def __post_init__(self):
        _require_known("DDPM", "predicts", self.predicts, PREDICTIONS)
        _require_known("DDPM", "variance", self.variance, ("small", "large"))
        if self.classes < 0 or (self.levels is not None and self.levels < 2):
            raise ValueError(f"DDPM: classes = {self.classes} must be at least 0, and levels = {self.levels} at least 2")

    @staticmethod
    def mlp(rng, D, schedule, width=128, depth=3, classes=0, frequencies=None, **settings):
        """For points (N, D), by residual blocks, see `nn.denoisers.MLP`. settings: predicts, levels and variance, as above."""
        return DDPM(MLP.init(rng, D, width, depth, classes, frequencies), schedule, (D,), classes=classes, **settings)

    @staticmethod
    def unet(rng, shape, schedule, channels=(32, 64), heads=4, classes=0, patch=1, **settings):
        """For images (N, H, W, C): a level of the U-Net for each of the channels, half as large as the one before.

        Patches of p x p pixels make the largest of them H / p by W / p. settings as for `mlp`. ValueError for images that
        cannot be halved so often, and unless the heads divide the last channels.
        """
        require_at_least_one("DDPM.unet", patch=patch, levels=len(channels))
        require_image_shape("DDPM.unet", shape, patch * 2 ** (len(channels) - 1), "give fewer channels, or smaller patches")
        network = UNet.init(rng, shape[2], channels, heads, classes, patch)
        return DDPM(network, schedule, tuple(shape), classes=classes, **settings)

    # Training

    def loss(self, x0, rng, labels=None, drop=0.1):
        """The mean over dimensions of |prediction - target|^2 at one random t for each example, (N,); for eps, eq. 14.

        The t are spread evenly over 1 .. T, each one uniform (Kingma et al. 2021, appendix I.1). A label is hidden with
        probability `drop`, so that the network learns p(x) too, as guidance needs. ValueError for another shape, for labels
        that are no classes, and for a drop outside [0, 1].
        """
        self._check(x0)
        if not 0 <= drop <= 1:
            raise ValueError(f"DDPM.loss: drop is {drop}; it is the probability that a label is hidden, in [0, 1]")
        N, T = x0.shape[0], self.schedule.T
        t = _spread(rng.uniform((), np.float64), N, T)
        labels, hide = self._labels(labels, x0), rng.uniform((N,)) < drop
        if labels is not None:
            labels = ops.where(hide, self.classes, labels)  # [guidance.labels_hidden]
        eps = rng.normal(tuple(x0.shape), x0.dtype)
        mean, std = self.schedule.marginal(x0, t)  # [score_matching.ddpm_loss]
        error = self._network(mean + std * eps, t, labels) - target(self.predicts, x0, eps, _column(self.schedule.abar, t, x0))
        return _per_example(error * error) * (1 / math.prod(self.shape))  # simple: [ddpm.simple_loss]

    # The denoiser

    def denoise(self, xt, t, labels=None, guidance=1.0):
        """(x0_hat, eps_hat) at x_t. guidance w mixes (1 - w) of the unconditional and w of the conditional prediction.

        xt (N, *shape), t (N,) or (1,). ValueError for other shapes, times and labels.
        """
        self._check(xt, t)
        if not math.isfinite(guidance) or (labels is None and guidance not in (0, 1)):
            raise ValueError(f"DDPM: guidance is {guidance}; it must be finite, and other than 0 or 1 needs labels to guide to")
        if labels is None or guidance == 1:
            prediction = self._network(xt, t, self._labels(labels, xt))
        else:
            prediction = self._network(xt, t, self._labels(None, xt))
            if guidance != 0:
                # guidance: [guidance.one_mixture]
                prediction = (1 - guidance) * prediction + guidance * self._network(xt, t, self._labels(labels, xt))
        abar = _column(self.schedule.abar, t, xt)
        x0, eps = both_from(self.predicts, prediction, xt, abar)
        if self.levels is None:
            return x0, eps
        return both_from("x0", ops.clip(x0, -1.0, 1.0), xt, abar)  # [guidance.clipped]

    def reverse(self, xt, t, labels=None, guidance=1.0):
        """p(x_{t-1} | x_t), a Gaussian. At t = 1, where the posterior's variance is 0, sigma_1^2 = beta_1."""
        mean, variance = self.schedule.posterior(self.denoise(xt, t, labels, guidance)[0], xt, t)  # [sde.reverse_step_of_ddpm]
        beta = _column(self.schedule.beta, t, xt)
        if self.variance == "large":
            variance = beta
        return Gaussian(mean, ops.log(ops.where(variance == 0, beta, variance)))  # reverse: [ddpm.variances]

    # The variational bound

    def bound(self, x0, rng, labels=None, terms=None):
        """The variational bound of eq. 5, nats (N,), each of its T terms with one x_t. LowerBound.

        With `terms` = k, it is estimated by k of the T terms, drawn for each example with odds of about 1 / t, as large as the
        terms tend to be: unbiased, and noisier. ValueError for fewer than 1, for another shape, and for what is no grey level.
        """
        self._check(x0)
        if terms is not None and terms < 1:
            raise ValueError(f"DDPM.bound: with {terms} of its terms it would bound nothing; take at least 1, or None for all")
        N, T, xp = x0.shape[0], self.schedule.T, array_module(ops.stop_gradient(x0))
        mean, std = self.schedule.marginal(x0, xp.full(N, T))
        prior = kl(Gaussian(mean, 2 * ops.log(std)), Gaussian(0 * mean, 0 * std))
        nats = -_per_example(prior)  # bound: [ddpm.exact_bound]
        for i in range(T if terms is None else terms):
            t, weight = (xp.full(1, i + 1), 1.0) if terms is None else _log_uniform(rng, T, N)
            term = self.bound_term(x0, t, rng.normal(tuple(x0.shape), x0.dtype), labels)
            nats = nats - (term if terms is None else term * (weight / terms).astype(x0.dtype))  # [ddpm.fewer_terms]
        return LowerBound(nats, "variational" if terms is None else f"variational, {terms} of {T} terms")

    def bound_term(self, x0, t, eps, labels=None):
        """KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) at the x_t of eps; at t = 1, -log p(x_0 | x_1). (N,)."""
        mean, std = self.schedule.marginal(x0, t)
        xt = mean + std * eps
        p, first = self.reverse(xt, t, labels), t == 1
        mean, variance = self.schedule.posterior(x0, xt, t)
        log_variance = ops.log(ops.where(variance == 0, 1, variance))  # of 0 only at t = 1, where this is not used
        terms = _per_example(kl(Gaussian(mean, log_variance), p))  # [ddpm.denoising_term]
        return ops.where(first, -_per_example(self._log_prob_first(x0, p)), terms) if first.any() else terms

    def _log_prob_first(self, x0, p):
        """log p(x_0 | x_1), elementwise: a density, or the probability of a grey level.

        Ho et al. (eq. 13) integrate the Gaussian over the cell of each level. Here its values at the levels are made to sum to
        1: also a distribution, and one whose logarithm stays finite where a difference of two error functions is 0.
        """
        if self.levels is None:
            return p.log_prob(x0)
        xp = array_module(ops.stop_gradient(x0))
        g = xp.round((x0 + 1) * (self.levels - 1) / 2).astype(np.int64)
        places = to_signed(xp.arange(self.levels), self.levels).astype(x0.dtype)
        if g.min(initial=0) < 0 or g.max(initial=0) >= self.levels or abs(places[g] - x0).max(initial=0) > 1e-3 / self.levels:
            raise ValueError(f"DDPM.bound: x must be {self.levels} grey levels as to_signed scales them; the data is not")
        deviation = places - p.mean[..., None]
        return Categorical(-0.5 * deviation * deviation * ops.exp(-p.log_var)[..., None]).log_prob(g)  # [ddpm.grey_levels]

    # Sampling

    def steps(self, rng, n, labels=None, guidance=1.0):
        """x_T, x_{T-1}, ..., x_0, one after another: ancestral sampling, algorithm 2. No noise is added at the last step."""
        require_generator("DDPM", rng)
        x = rng.normal((n, *self.shape))
        yield x
        for t in range(self.schedule.T, 0, -1):
            p = self.reverse(x, np.array([t]), labels, guidance)
            x = p.mean + p.std * rng.normal(x.shape) if t > 1 else p.mean  # [ddim.eta_one]
            yield x

    def sample(self, rng, n, labels=None, guidance=1.0):
        """n examples, (n, *shape), by ancestral sampling."""
        *_, x = self.steps(rng, n, labels, guidance)
        return x

    def steps_ddim(self, rng, n, times=50, eta=0.0, labels=None, guidance=1.0, start=None):
        """x at T and then at each earlier time, down to 0, by DDIM on `times`; start: x_T, in place of n that are drawn.

        times: how many, or the increasing times themselves, which end in T. eta = 0 is deterministic; eta = 1 on all times is
        ancestral sampling with the small variance. ValueError for an eta outside [0, 1], and for other times.
        """
        if not 0 <= eta <= 1:
            raise ValueError(f"DDPM: eta is {eta}, but there is noise for 0 to 1: more of it, and the marginals are not q's")
        times = self._times(times)
        x = rng.normal((n, *self.shape)) if start is None else start
        yield x
        for s, t in reversed(list(zip([0, *times], times))):
            before, after = self.schedule.abar[s], self.schedule.abar[t]
            variance = eta**2 * (1 - before) / (1 - after) * (1 - after / before)  # sigma^2, which is 0 for s = 0
            x0, eps = self.denoise(x, np.array([t]), labels, guidance)
            x = float(before**0.5) * x0 + float(max(1 - before - variance, 0) ** 0.5) * eps  # DDIM: [ddim.all_marginals]
            if variance > 0:
                x = x + float(variance**0.5) * rng.normal(x.shape)
            yield x

    def sample_ddim(self, *args, **kwargs):
        """n examples, (n, *shape), by DDIM; the arguments are those of `steps_ddim`."""
        *_, x = self.steps_ddim(*args, **kwargs)
        return x

    def to_latent(self, x0, times=50, labels=None, guidance=1.0, iterations=20):
        """The x_T from which DDIM with eta = 0 comes to x_0: each of its steps, a turn by an angle a, is solved for x_t.

        With abar = cos^2, such a step is x_s = cos(a) x_t - sin(a) v_hat(x_t, t), and its solution is the limit of
        x_t <- (x_s + sin(a) v_hat(x_t, t)) / cos(a), which converges where the turns are small enough.
        """
        times, x = self._times(times), x0
        for s, t in zip([0, *times], times):
            abar, xs = float(self.schedule.abar[t]), x
            angle = math.acos(abar**0.5) - math.acos(self.schedule.abar[s] ** 0.5)
            for _ in range(iterations):
                v = target("v", *self.denoise(x, np.array([t]), labels, guidance), abar)
                x = (xs + math.sin(angle) * v) / math.cos(angle)  # [ddim.way_back]
        return x

    # Doors

    def _network(self, x, t, labels):
        t = _on_device_of(x, t)
        return self.network(x, t * (1000 / self.schedule.T), labels)

    def _labels(self, labels, x):
        """Labels (n,), the last of them for `none`; None for a model without classes."""
        xp, n = array_module(ops.stop_gradient(x)), len(x)
        if labels is None:
            return xp.full(n, self.classes) if self.classes else None
        labels = _on_device_of(x, labels)
        require_labels("DDPM", labels, n, self.classes)
        return labels

    def _check(self, x, t=None):
        require_examples("DDPM", x, self.shape)
        if x.dtype.kind != "f":
            raise TypeError(f"DDPM: x holds {x.dtype}; noise is added to real numbers, so scale grey levels with to_signed")
        if t is not None and not self._are_times(t, len(x)):
            raise ValueError(f"DDPM: t must be {len(x)} integers in 1 .. {self.schedule.T}, or one for all examples; got {t}")

    def _are_times(self, t, n):
        if getattr(t, "shape", None) not in ((n,), (1,)) or t.dtype.kind not in "iu":
            return False
        return array_module(t) is not np or (t.min(initial=1) >= 1 and t.max(initial=1) <= self.schedule.T)

    def _times(self, times):
        T = self.schedule.T
        if isinstance(times, (int, np.integer)) and 1 <= times <= T:
            times = np.round(np.linspace(T / times, T, times)).astype(int)
        times = [int(t) for t in np.ravel(times)]
        if times != sorted(set(times)) or not times or times[0] < 1 or times[-1] != T:
            raise ValueError(f"DDPM: times must be their number, 1 .. {T}, or increasing integers from 1 on that end in {T}")
        return times


def to_signed(g, levels):
    """2 g / (levels - 1) - 1: grey levels 0 .. levels - 1, two or more, as float32 numbers in [-1, 1]. ValueError for fewer."""
    if levels < 2:
        raise ValueError(f"to_signed: levels is {levels}; give how many grey levels there are, at least 2")
    return (g * (2 / (levels - 1)) - 1).astype(np.float32)


def to_unit(x):
    """Numbers in [-1, 1] as pixels in [0, 1]; what lies outside is clipped."""
    return (x + 1).clip(0, 2) / 2


def train_step(optimiser, prepare=lambda batch, rng: (batch, None), drop=0.1, limit=1.0, decay=0.999):
    """(state, batch, rng) -> (state, metrics): one step on the simple loss. `prepare` gives (x_0, labels or None).

    The gradient's norm is limited, and a moving average of the parameters kept: `state.best` is the model to sample from.
    """

    def loss(model, batch, rng):
        x0, labels = prepare(batch, rng)
        return model.loss(x0, rng, labels, drop).mean(), {}

    return minimise(loss, optimiser, limit, decay)


@ops.opaque
def _spread(u, N, T):
    """t (N,) in 1 .. T, spread evenly, from a uniform u () on: each of them is uniform."""
    xp = array_module(u)
    return 1 + xp.floor(T * ((u + xp.arange(N) / N) % 1)).astype(np.int64)


@ops.opaque
def _on_device_of(x, integers):
    return array_module(x).asarray(integers)


@ops.opaque
def _column(values, t, x):
    """values[t] in the dtype of x, shaped to broadcast along the axes of an example."""
    table = beside(values, x)
    chosen = table[array_module(table).asarray(t)].astype(x.dtype)
    return chosen.reshape(-1, *(1 for _ in x.shape[1:]))


def _per_example(x):
    return x.sum(axis=tuple(range(1, len(x.shape))))


def _log_uniform(rng, T, n):
    """t (n,) in 1 .. T, where log t is about uniform, and 1 / P(t): P(t) = log(1 + 1 / t) / log(T + 1)."""
    powers = (T + 1) ** rng.uniform((n,), np.float64)
    xp = array_module(powers)
    t = xp.minimum(xp.floor(powers), T).astype(np.int64)
    return t, math.log(T + 1) / xp.log1p(1 / t)


def _require_known(operation, name, value, known):
    if value not in known:
        raise ValueError(f"{operation}: {name} must be one of {known}, not {value!r}")
