"""The dense models in JAX: a loss of parameters by their names, in our layout, and a step of Adam, compiled as one function."""

import math
from functools import partial

import jax
import jax.numpy as jnp


def ready(twin, weights, x, rng, learning_rate):
    """(run, check) for a pair (shapes of the noise, loss), our weights and our batch. `rng` is for the check."""
    shapes, loss = twin
    params = {name: jnp.asarray(w) for name, w in weights.items()}
    x, (m, v) = jnp.asarray(x), (jax.tree.map(jnp.zeros_like, params) for _ in "mv")
    state = jax.tree.map(jnp.copy, params), m, v, jnp.zeros((), int)

    @partial(jax.jit, donate_argnums=0)  # the next state may lie where the last one lay
    def step(state, x):
        params, m, v, t = state
        t = t + 1
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), t), 1)
        noise = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes(params, x))]
        g = jax.grad(loss)(params, x, *noise)
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        rate = learning_rate / (1 - 0.9**t)
        params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), params, m, v)
        return params, m, v, t

    def run():
        nonlocal state
        state = jax.block_until_ready(step(state, x))

    def check():
        noise = [rng.normal(shape) for shape in shapes(params, x)]
        value, gradients = jax.value_and_grad(loss)(params, x, *noise)
        return {"loss": value, **gradients}

    return run, check


def _vae_loss(params, x, eps):
    def linear(x, name):
        return x @ params[f"{name}.weight"] + params[f"{name}.bias"]

    h = x + jax.lax.stop_gradient(params["encoder.0.amount"])
    mean, log_var = jnp.split(linear(jax.nn.relu(linear(h, "encoder.2")), "encoder.4"), 2, axis=1)
    y = linear(jax.nn.relu(linear(mean + jnp.exp(0.5 * log_var) * eps, "decoder.0")), "decoder.2")
    if "log_var" in params:
        deviation = (x - y) ** 2 * jnp.exp(-params["log_var"])
        surprise = 0.5 * (params["log_var"] + deviation + math.log(2 * math.pi)).sum()
    else:
        surprise = (jax.nn.softplus(y) - x * y).sum()
    divergence = 0.5 * (mean**2 + jnp.exp(log_var) - 1 - log_var).sum()
    return (surprise + divergence) / len(x)


def _flow_loss(params, x):
    log_scale, total = params["chain.8.log_scale"], params["chain.8.log_scale"].sum()
    for i in range(8):

        def linear(x, layer, i=i):
            return x @ params[f"chain.{i}.network.{layer}.weight"] + params[f"chain.{i}.network.{layer}.bias"]

        kept, moved = jnp.split(x, 2, axis=1)[:: -1 if i % 2 else 1]
        s, t = jnp.split(linear(jax.nn.relu(linear(jax.nn.relu(linear(kept, 1)), 3)), 5), 2, axis=1)
        s = params[f"chain.{i}.law.scale"] * jnp.tanh(s)
        moved, total = moved * jnp.exp(s) + t, total + s.sum(axis=1)
        x = jnp.concatenate((moved, kept) if i % 2 else (kept, moved), axis=1)
    z = x * jnp.exp(log_scale)
    return (0.5 * (z * z + math.log(2 * math.pi)).sum(axis=1) - total).mean()


vae = lambda params, x: [(len(x), params["decoder.0.weight"].shape[0])], _vae_loss
flow = lambda params, x: [], _flow_loss
