"""Every primitive of tinygen, wherever it is defined, has its derivatives checked at first and second order.

A new primitive needs an example in EXAMPLES: "module.name": [(args, static), ...], where the module is counted from tinygen.
Arguments that have a rule are differentiated. They are float64, away from kinks, and where a primitive is only defined on
some set (symmetric matrices, say), a third entry maps free arguments into it: (args, static, into).

`python -m tests.ops.test_every_primitive` prints the worst error of every primitive at both orders.
"""

import importlib
import pkgutil

import numpy as np
import pytest

import tinygen
from tinygen import check_grads, ops, vjp
from tinygen.autograd.core import Primitive, observe

_rng = np.random.default_rng(0)
M, N, ROW, COLUMN = (_rng.uniform(0.3, 1.7, shape) for shape in ((2, 3), (2, 3), (3,), (2, 1)))  # positive, all different
SIGNED = M * np.array([[1, -1, 1], [-1, 1, -1]])
BATCH = _rng.normal(size=(2, 3, 4))
SQUARE = 0.3 * _rng.normal(size=(2, 3, 3)) + 2 * np.eye(3)
BITS = _rng.integers(0, 2, (3, 4)).astype(float)
CHOICES = _rng.integers(0, 4, (2, 3))
AFFINE, GROUPS = _rng.normal(size=(2, 4)), {"groups": 2, "eps": 0.1}
IMAGES, KERNEL = _rng.normal(size=(2, 5, 4, 3)), _rng.normal(size=(3, 2, 3, 2))
BIAS = _rng.normal(size=2)
APART = IMAGES + np.sign(IMAGES)  # from 0, where relu has a corner
GRADIENT = _rng.normal(size=(2, 3, 3, 2))  # of conv2d(IMAGES, KERNEL, stride=(2, 1), padding=(1, 0))
AFFINE_PARAMETERS = _rng.normal(size=(2, 6))
CONV = {"stride": (2, 1), "padding": (1, 0)}
MASKED = {"taps": ((0, 0), (0, 1), (1, 0)), "padding": (1, 0)}
MASKED_GRADIENT = _rng.normal(size=(2, 5, 3, 2))  # of masked_conv2d(IMAGES, KERNEL, **MASKED)
QKV = {"shapes": ((2, 1, 3, 2), (2, 1, 4, 2), (2, 1, 4, 3))}  # three queries, four keys
JOINED, JOINED_GRADIENT = _rng.normal(size=52), _rng.normal(size=24)
KEY_MASKED = {**QKV, "key_mask": np.array([[True, False, True, True], [True, True, True, False]])}


def _positive_definite(a):
    return (a @ ops.swapaxes(a, -1, -2) + np.eye(a.shape[-1], dtype=a.dtype),)


ROWS = np.vstack([SIGNED, ROW])
BY_RESULT, BY_INPUT = ("relu", "leaky_relu", "tanh", "sigmoid"), ("softplus", "silu", "gelu")

EXAMPLES = {
    "ops.affine._affine": [((M, BATCH[0], BATCH[1, 0]), {})],
    "ops.affine._by_input": [((ROWS,), {"activation": name}) for name in BY_INPUT],
    "ops.affine._by_result": [((ROWS,), {"activation": name}) for name in BY_RESULT],
    "ops.affine._product_and_bias": [((M, BATCH[0], BATCH[1, 0]), {})],
    "ops.affine._rows_gradient": [
        *(((M, SIGNED), {"activation": name}) for name in BY_RESULT if name in ("tanh", "sigmoid")),  # relu's curvature is 0
        *(((M, ROWS), {"activation": name}) for name in BY_INPUT),
    ],
    "autograd.reverse.broadcast_to": [((COLUMN,), {"shape": (4, 2, 3)})],
    "autograd.reverse.cast": [((M,), {})],
    "autograd.reverse.stack": [((M, N, SIGNED), {"axis": axis}) for axis in (0, -1)],
    "autograd.reverse.sum_to": [((BATCH,), {"shape": (3, 1)}), ((M,), {"shape": ()})],
    "ops.attention._attention": [((JOINED,), QKV), ((JOINED,), {**QKV, "causal": True}), ((JOINED,), KEY_MASKED)],
    "ops.attention._attention_gradient": [
        ((JOINED_GRADIENT, JOINED), QKV),
        ((JOINED_GRADIENT, JOINED), {**KEY_MASKED, "causal": True}),
    ],
    "ops.convolution.affine_conv2d": [((IMAGES, KERNEL, BIAS), CONV)],
    "ops.convolution.conv2d": [((IMAGES, KERNEL), CONV), ((IMAGES, KERNEL), {})],
    "ops.convolution.conv2d_of_relu": [((APART, KERNEL, BIAS), CONV)],
    "ops.convolution.input_gradient": [((GRADIENT, KERNEL), {"input_size": (5, 4), **CONV})],
    "ops.convolution.input_gradient_of_relu": [((GRADIENT, KERNEL, APART), CONV)],
    "ops.convolution.weight_gradient": [((IMAGES, GRADIENT), {"kernel_size": (3, 2), **CONV})],
    "ops.convolution.weight_gradient_of_relu": [((APART, GRADIENT), {"kernel_size": (3, 2), **CONV})],
    "ops.coupling._affine_coupling": [((M, AFFINE_PARAMETERS, ROW), {})],
    "ops.coupling._joined_gradient": [((np.stack([N, SIGNED]), M, AFFINE_PARAMETERS, ROW), {})],
    "ops.elementwise.absolute": [((SIGNED,), {})],
    "ops.elementwise.add": [((M, N), {}), ((M, ROW), {}), ((COLUMN, ROW), {})],
    "ops.elementwise.cos": [((SIGNED,), {})],
    "ops.elementwise.divide": [((SIGNED, N), {}), ((ROW, M), {}), ((COLUMN, ROW), {})],
    "ops.elementwise.erf": [((SIGNED,), {})],
    "ops.elementwise.exp": [((SIGNED,), {})],
    "ops.elementwise.expm1": [((SIGNED,), {})],
    "ops.elementwise.gelu": [((SIGNED,), {})],
    "ops.elementwise.gelu_gradient": [((M, SIGNED), {})],
    "ops.elementwise.leaky_relu": [((SIGNED,), {}), ((SIGNED,), {"slope": 0.01})],
    "ops.elementwise.leaky_relu_gradient": [((M, SIGNED), {}), ((M, SIGNED), {"slope": 0.01})],
    "ops.elementwise.log": [((M,), {})],
    "ops.elementwise.log1p": [((M,), {})],
    "ops.elementwise.maximum": [((M, N), {}), ((COLUMN, ROW), {})],
    "ops.elementwise.minimum": [((M, N), {}), ((COLUMN, ROW), {})],
    "ops.elementwise.multiply": [((M, N), {}), ((M, ROW), {}), ((COLUMN, ROW), {})],
    "ops.elementwise.negative": [((M,), {})],
    "ops.elementwise.power": [((M, SIGNED), {}), ((ROW, M), {}), ((COLUMN, ROW), {})],
    "ops.elementwise.relu": [((SIGNED,), {})],
    "ops.elementwise.relu_gradient": [((M, SIGNED), {})],
    "ops.elementwise.sigmoid": [((SIGNED,), {})],
    "ops.elementwise.sigmoid_gradient": [((M, SIGNED), {})],
    "ops.elementwise.silu": [((SIGNED,), {})],
    "ops.elementwise.silu_gradient": [((M, SIGNED), {})],
    "ops.elementwise.sin": [((SIGNED,), {})],
    "ops.elementwise.softplus": [((SIGNED,), {})],
    "ops.elementwise.softplus_gradient": [((M, SIGNED), {})],
    "ops.elementwise.sqrt": [((M,), {})],
    "ops.elementwise.subtract": [((M, N), {}), ((M, ROW), {}), ((COLUMN, ROW), {})],
    "ops.elementwise.tanh": [((SIGNED,), {})],
    "ops.elementwise.tanh_gradient": [((M, SIGNED), {})],
    "ops.elementwise.where": [((SIGNED > 0, M, N), {}), ((ROW > 1, COLUMN, N), {})],
    "ops.gate.gate": [((BATCH,), {})],
    "ops.gate.gate_gradient": [((BATCH[..., :2], BATCH), {})],
    "ops.likelihoods.bernoulli_log_prob": [((BITS, BATCH), {}), ((BITS, BATCH[0]), {})],
    "ops.likelihoods.bernoulli_residual": [((BITS, BATCH), {}), ((BITS, BATCH[0]), {})],
    "ops.likelihoods.categorical_log_prob": [((CHOICES, BATCH), {})],
    "ops.likelihoods.categorical_log_prob_gradient": [((M, CHOICES, BATCH), {})],
    "ops.linalg._einsum": [
        ((M, N, ROW), {"inputs": ("ij", "kj", "j"), "output": "ki"}),
        ((M, ROW), {"inputs": ("ij", "k"), "output": "i"}),
    ],
    "ops.linalg.cholesky": [((SQUARE,), {}, _positive_definite)],
    "ops.linalg.inv": [((SQUARE,), {})],
    "ops.linalg.log_abs_det": [((SQUARE,), {})],
    "ops.linalg.matmul": [((M, N.T), {}), ((M, ROW), {}), ((ROW, BATCH), {}), ((BATCH, BATCH[0].T), {}), ((ROW, ROW), {})],
    "ops.linalg.solve": [((SQUARE, BATCH), {}), ((SQUARE[0], ROW), {}), ((SQUARE, ROW), {})],
    "ops.masked_convolution.affine_masked_conv2d": [((IMAGES, KERNEL, BIAS), MASKED)],
    "ops.masked_convolution.masked_conv2d": [((IMAGES, KERNEL), MASKED)],
    "ops.masked_convolution.masked_conv2d_of_relu": [((APART, KERNEL, BIAS), MASKED)],
    "ops.masked_convolution.masked_input_gradient": [((MASKED_GRADIENT, KERNEL), {"input_size": (5, 4), **MASKED})],
    "ops.masked_convolution.masked_input_gradient_of_relu": [((MASKED_GRADIENT, KERNEL, APART), MASKED)],
    "ops.masked_convolution.masked_weight_gradient": [((IMAGES, MASKED_GRADIENT), {"kernel_size": (3, 2), **MASKED})],
    "ops.masked_convolution.masked_weight_gradient_of_relu": [((APART, MASKED_GRADIENT), {"kernel_size": (3, 2), **MASKED})],
    "ops.normalisation._group_norm": [((BATCH, AFFINE), {**GROUPS, "activation": f}) for f in (None, "relu", "silu")],
    "ops.normalisation._rows_gradient": [
        ((BATCH[::-1], BATCH, AFFINE), {**GROUPS, "activation": f}) for f in (None, "relu", "silu")
    ],
    "ops.reductions.cumsum": [((BATCH,), {"axis": 1}), ((BATCH,), {"reverse": True})],
    "ops.reductions.log_softmax": [((BATCH,), {}), ((BATCH,), {"axis": 0})],
    "ops.reductions.log_softmax_gradient": [((BATCH[::-1], BATCH), {}), ((BATCH[::-1], BATCH), {"axis": 0})],
    "ops.reductions.logsumexp": [((BATCH,), {}), ((BATCH,), {"axis": (0, -1)}), ((BATCH,), {"axis": 1, "keepdims": True})],
    "ops.reductions.max": [((BATCH,), {}), ((BATCH,), {"axis": (0, -1)}), ((BATCH,), {"axis": 1, "keepdims": True})],
    "ops.reductions.softmax": [((BATCH,), {}), ((BATCH,), {"axis": 0})],
    "ops.reductions.softmax_gradient": [((BATCH[::-1], BATCH), {}), ((BATCH[::-1], BATCH), {"axis": 0})],
    "ops.reductions.sum": [((BATCH,), {}), ((BATCH,), {"axis": (0, -1)}), ((BATCH,), {"axis": 1, "keepdims": True})],
    "ops.reparameterisation._reparameterise": [((SIGNED, N, M), {})],
    "ops.reparameterisation._stacked_gradient": [((np.stack([N, SIGNED]), SIGNED, N, M), {})],
    "ops.shape.concatenate": [((M, ROW[None], N), {}), ((M, COLUMN, N), {"axis": -1})],
    "ops.shape.flip": [((BATCH,), {"axis": 1})],
    "ops.shape.index": [((BATCH,), {"key": (slice(None, None, -1), [0, 2, 2])}), ((M,), {"key": M > 1}), ((M,), {"key": 1})],
    "ops.shape.pad": [((M,), {"widths": ((1, 0), (2, 3))})],
    "ops.shape.reshape": [((BATCH,), {"shape": (4, -1)})],
    "ops.shape.scatter_add": [((M,), {"key": [3, 3], "shape": (5, 3)}), ((M,), {"key": slice(1, 3), "shape": (5, 3)})],
    "ops.shape.take_along_axis": [((M, np.array([[0, 0], [2, 1]])), {}), ((M, np.array([[0, 1, 1]])), {"axis": 0})],
    "ops.shape.transpose": [((BATCH,), {}), ((BATCH,), {"axes": (1, 2, 0)})],
}


def every_primitive():
    """{"ops.elementwise.add": add, ...}: the primitives that the modules of tinygen define."""
    found = {}
    for info in pkgutil.walk_packages(tinygen.__path__[:1], "tinygen."):
        if not info.name.startswith("tinygen.kernels"):  # which know no primitives, and may need a GPU to be imported
            module = importlib.import_module(info.name)
            for value in vars(module).values():
                if isinstance(value, Primitive) and value.__module__ == info.name:
                    found[f"{info.name}.{value.__name__}".removeprefix("tinygen.")] = value
    return dict(sorted(found.items()))


PRIMITIVES = every_primitive()


def examples(name, dtype=np.float64):
    """For each example, a function of the differentiable arguments alone, and these arguments, all in one floating dtype."""
    primitive = PRIMITIVES[name]
    assert name in EXAMPLES, f"the primitive {name} has no example: add one to EXAMPLES in {__file__}"
    for args, static, *into in EXAMPLES[name]:
        args = [x.astype(dtype) if x.dtype.kind == "f" else x for x in args]
        free = [i for i in range(len(args)) if (primitive.variadic or primitive.arguments[i]) in primitive.rules]

        def f(*free_args, args=args, static=static, into=into, free=free):
            full = list(args)
            for i, x in zip(free, free_args):
                full[i] = x
            return primitive(*(into[0](*full) if into else full), **static)

        f.__name__ = name
        yield f, [args[i] for i in free]


def worst_errors(name):
    """The largest error of `check_grads` over all examples, at first and at second order."""
    return np.max([check_grads(f, args, order=2) for f, args in examples(name)], axis=0)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_derivatives_are_right_at_first_and_second_order(name):
    worst_errors(name)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_every_argument_with_a_rule_has_a_derivative_that_is_not_zero(name):
    for f, args in examples(name):
        y, pullback = vjp(f, *args)
        for g in pullback(np.linspace(1, 2, y.size).reshape(y.shape)):
            assert np.any(g != 0)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_float32_stays_float32_forward_and_backward(name):
    for (f, args), (single, single_args) in zip(examples(name), examples(name, np.float32)):
        exact, exact_pullback = vjp(f, *args)
        y, pullback = vjp(single, *single_args)
        u = np.cos(np.arange(y.size)).reshape(y.shape)
        close(y, exact)
        for g, exact_g in zip(pullback(u.astype(np.float32)), exact_pullback(u)):
            close(g, exact_g)


@pytest.mark.parametrize("name", PRIMITIVES)
def test_no_step_of_a_float32_derivative_is_taken_in_float64(name):
    seen = set()
    for f, args in examples(name, np.float32):
        y, _ = vjp(f, *args)
        with observe(lambda primitive, args, y: seen.add(y.dtype)):  # inside a derivative, a rule's own steps are seen too
            vjp(lambda *args: vjp(f, *args)[1](np.ones(y.shape, np.float32)), *args)  # noqa: B023
    assert seen == {np.dtype(np.float32)}


def close(single, double):
    assert single.dtype == np.float32 and single.shape == double.shape
    assert abs(single - double).max() <= 1e-5 * max(1, abs(double).max())


def test_the_walk_finds_primitives_in_every_package():
    assert PRIMITIVES["ops.elementwise.add"] is ops.add
    assert PRIMITIVES["autograd.reverse.sum_to"] is ops.sum_to
    assert set(EXAMPLES) <= set(PRIMITIVES), f"examples without a primitive: {sorted(set(EXAMPLES) - set(PRIMITIVES))}"


def test_a_primitive_without_an_example_is_named(monkeypatch):
    monkeypatch.delitem(EXAMPLES, "ops.elementwise.tanh")
    with pytest.raises(AssertionError, match="the primitive ops.elementwise.tanh has no example: add one to EXAMPLES"):
        worst_errors("ops.elementwise.tanh")


if __name__ == "__main__":
    width = max(map(len, PRIMITIVES))
    print(f"{'primitive':{width}} | worst error at order 1 | order 2")
    for name in PRIMITIVES:
        first, second = worst_errors(name)
        print(f"{name:{width}} | {first:22.1e} | {second:7.1e}")
