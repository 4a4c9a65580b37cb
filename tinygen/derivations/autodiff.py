r"""How gradients are found: the chain rule from the result backwards, and the three maps of a convolution.

    y = p_n(... p_2(p_1(x))):    g^T dy/dx = g^T J_n J_{n-1} ... J_1,    from left to right, vectors only

The derivatives on the other side are not from the same machine: Jacobians by hand, sums over paths, and the complex step

    J v = Im f(x + i h v) / h,    h = 1e-30

which is exact for analytic f: nothing is subtracted, so nothing cancels. What is linear is differentiated by its own values.
"""

import math
from dataclasses import dataclass
from itertools import combinations, pairwise

import numpy as np
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view

from .. import ops
from ..autograd import Primitive, check_grads, grad, hvp, jvp, vjp
from ..ops.convolution import input_gradient, weight_gradient
from .chain import Chain
from .instances import numbers, vectors


@dataclass
class Layers:
    """f(x) = sin(A_n ... sin(A_1 x)) from R^d to R^d: A (n, d, d), with a point x, a cotangent g and a tangent v, each (d,)."""

    A: np.ndarray
    x: np.ndarray
    g: np.ndarray
    v: np.ndarray

    def __call__(self, x, sin=ops.sin):
        for a in self.A:
            x = sin(a @ x)
        return x

    def jacobians(self):
        """J_1, ..., J_n, by hand."""
        x, found = self.x, []
        for a in self.A:
            found.append(np.cos(a @ x)[:, None] * a)
            x = np.sin(a @ x)
        return found

    def pulled_back(self):
        return vjp(self, self.x)[1](self.g)[0]


def complex_step(f, x, v, h=1e-30):
    """J v."""
    return f(x + 1j * h * v).imag / h


@st.composite
def layers(draw):
    n, d = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return Layers(draw(vectors((n, d, d), -1.5, 1.5)), *(draw(vectors(d)) for _ in range(3)))


autodiff = Chain(
    "autodiff",
    "Reverse mode: why transposed Jacobians, why in topological order, and how a convolution is differentiated twice.",
    "Griewank & Walther 2008, ch. 3",
    layers(),
)


@autodiff.equal(
    "transposed_jacobians",
    r"\mathrm{vjp}_f(g) = J_1^\top J_2^\top \cdots J_n^\top g",
    because="the Jacobian of a composition is the product J_n ... J_1, and transposing it turns the order round",
)
def transposed_jacobians(f):
    g = f.g
    for J in reversed(f.jacobians()):
        g = J.T @ g
    return f.pulled_back(), g


@transposed_jacobians.wrong("from the first layer to the last")
def _(f):
    g = f.g
    for J in f.jacobians():
        g = J.T @ g
    return f.pulled_back(), g


@transposed_jacobians.wrong("Jacobians that are not transposed, which for square ones nobody's shape check finds")
def _(f):
    g = f.g
    for J in reversed(f.jacobians()):
        g = J @ g
    return f.pulled_back(), g


@autodiff.equal(
    "adjoint",
    r"\langle g, J v \rangle = \langle J^\top g, v \rangle",
    because="that is what transposed means; with v and g at random, it is how a gradient is tested without a Jacobian",
)
def adjoint(f):
    return f.g @ complex_step(lambda x: f(x, np.sin), f.x, f.v), f.pulled_back() @ f.v


@adjoint.wrong("tangent and cotangent exchanged")
def _(f):
    return f.v @ complex_step(lambda x: f(x, np.sin), f.x, f.g), f.pulled_back() @ f.v


@autodiff.equal(
    "forward_from_reverse",
    r"J v = \nabla_u \left\langle v, J^\top u \right\rangle",
    because="the pullback u -> J^T u is linear, so its own pullback is its transpose, J: reverse mode twice is forward mode",
)
def forward_from_reverse(f):
    return complex_step(lambda x: f(x, np.sin), f.x, f.v), jvp(f, (f.x,), (f.v,))[1]


@forward_from_reverse.wrong("one pullback, of the tangent")
def _(f):
    return complex_step(lambda x: f(x, np.sin), f.x, f.v), vjp(f, f.x)[1](f.v)[0]


# What is used more than once


@st.composite
def batches(draw):
    n, d = draw(st.integers(1, 4)), draw(st.integers(1, 3))
    return draw(vectors((n, d))), draw(vectors(d)), draw(vectors((n, d)))


@autodiff.equal(
    "broadcasting",
    r"\frac{\partial}{\partial b_i} \sum_n g_{ni} \sin(x_{ni} b_i) = \sum_n g_{ni}\, \frac{d \sin(x_{ni} b_i)}{d b_i}",
    because="one number that meets every row is used in every row: the transpose of copying is summing",
    instances=batches(),
)
def broadcasting(instance):
    x, b, g = instance
    return vjp(lambda b: ops.sin(x * b), b)[1](g)[0], row_by_row(x, b, g).sum(axis=0)


def row_by_row(x, b, g):
    """(n, d): what each row has to say of b."""
    slopes = [[complex_step(np.sin, xi * bi, np.array(xi)) for xi, bi in zip(row, b)] for row in x]
    return g * slopes


@broadcasting.wrong("the mean over rows")
def _(instance):
    x, b, g = instance
    return vjp(lambda b: ops.sin(x * b), b)[1](g)[0], row_by_row(x, b, g).mean(axis=0)


@broadcasting.wrong("the last row's alone")
def _(instance):
    x, b, g = instance
    return vjp(lambda b: ops.sin(x * b), b)[1](g)[0], row_by_row(x, b, g)[-1]


@dataclass
class Graph:
    """Node 0 is x, and node i = sum over j < i of c[i, j] sin(node j): every node is used by all that come later."""

    c: np.ndarray
    x: float

    def __call__(self, x, sin=ops.sin):
        return self.nodes(x, sin)[-1]

    def nodes(self, x, sin=np.sin):
        nodes = [x]
        for row in self.c[1:]:
            nodes.append(sum(c * sin(node) for c, node in zip(row, nodes)))
        return nodes

    def local(self):
        """d node i / d node j for each edge, (n, n)."""
        return self.c * np.cos(self.nodes(self.x))

    def sum_over_paths(self):
        """All ways from node 0 to the last, each the product of its edges."""
        edge, last = self.local(), len(self.c) - 1
        ways = [(0, *some, last) for k in range(last) for some in combinations(range(1, last), k)]
        return sum(math.prod(edge[i, j] for j, i in pairwise(way)) for way in ways)


@st.composite
def graphs(draw):
    n = draw(st.integers(2, 6))
    return Graph(draw(vectors((n, n), -2, 2)), draw(numbers()))


@autodiff.equal(
    "sum_over_paths",
    r"\frac{dy}{dx} = \sum_{\mathrm{paths}\ x \to y} \ \prod_{\mathrm{edges}} \frac{\partial z_i}{\partial z_j}",
    because="the chain rule multiplies along a path and adds over paths; a topological order adds before it goes on",
    source="Griewank & Walther 2008, section 3.2",
    instances=graphs(),
)
def sum_over_paths(graph):
    return grad(graph)(np.array(graph.x)), graph.sum_over_paths()


@sum_over_paths.wrong("nodes in the order of their discovery: a shared one goes on before all of its cotangent is there")
def _(graph):
    edge, found, waiting = graph.local(), {len(graph.c) - 1: 1.0}, [len(graph.c) - 1]
    for i in waiting:
        for j in range(i):
            if j not in found:
                waiting.append(j)
            found[j] = found.get(j, 0.0) + edge[i, j] * found[i]
    return found[0], graph.sum_over_paths()


@sum_over_paths.wrong("a second contribution in the place of the first, not added to it")
def _(graph):
    edge, found = graph.local(), {len(graph.c) - 1: 1.0}
    for i in range(len(graph.c) - 1, 0, -1):
        for j in range(i):
            found[j] = edge[i, j] * found[i]
    return found[0], graph.sum_over_paths()


@autodiff.equal(
    "one_visit",
    r"z_{i+1} = z_i + z_i,\ i \le n: \quad 2 n \ \mathrm{calls\ of\ rules}",
    because="an edge is passed once, with the whole cotangent of its node, although 2^n paths go through n such diamonds",
    instances=st.integers(1, 12),
)
def one_visit(n):
    return calls_of_rules(n), 2 * n


def calls_of_rules(n):
    calls = 0

    def count(g):
        nonlocal calls
        calls += 1
        return g

    @Primitive
    def plus(a, b):
        return a + b

    def diamonds(z):
        for _ in range(n):
            z = plus(z, z)
        return z

    plus.rule(a=lambda g: count(g), b=lambda g: count(g))
    assert grad(diamonds)(np.array(1.0)) == 2**n
    return calls


@one_visit.wrong("every path walked on its own, which takes exponential time", published=True)
def _(n):
    return calls_of_rules(n), sum(2**i for i in range(1, n + 1))


# Twice


@autodiff.equal(
    "hessian",
    r"\nabla \langle \nabla \phi, v \rangle = -B^\top \mathrm{diag}(g \sin B x)\, B v, \quad \phi = g^\top \sin(B x)",
    because="a backward pass is a computation too, and recorded; sin'' = -sin, between two copies of what is linear",
)
def hessian(f):
    B = f.A[0]
    return hvp(lambda x: (f.g * ops.sin(B @ x)).sum(), f.x, f.v), B.T @ (-f.g * np.sin(B @ f.x) * (B @ f.v))


@hessian.wrong("Gauss and Newton's approximation, J^T J")
def _(f):
    B = f.A[0]
    J = np.cos(B @ f.x)[:, None] * B
    return hvp(lambda x: (f.g * ops.sin(B @ x)).sum(), f.x, f.v), J.T @ (f.g * (J @ f.v))


@autodiff.equal(
    "levels",
    r"\frac{d}{dx} \left(\sin x \cdot \frac{d}{dy} (x y) \right) = \sin x + x \cos x",
    because="to the inner derivative x is a constant: each running derivative knows its own variable by its level",
    source="Pearlmutter & Siskind 2008",
    instances=st.tuples(numbers(), numbers()),
)
def levels(point):
    x, y = point
    found = grad(lambda x: ops.sin(x) * grad(lambda y: x * y)(np.array(y)))(np.array(x))
    return found, math.sin(x) + x * math.cos(x)


@levels.wrong("perturbations confused: the inner derivative takes x for its own variable as well")
def _(point):
    x, y = point
    found = grad(lambda x: ops.sin(x) * grad(lambda y: x * y)(np.array(y)))(np.array(x))
    return found, math.sin(x) + (x + y) * math.cos(x)


@dataclass
class Planted:
    """sin(x) for x (n,), with a rule that is off by `error` in entry i."""

    x: np.ndarray
    i: int
    error: float

    def function(self):
        sine = Primitive(lambda x: np.sin(x))
        return sine.rule(x=lambda g, x: g * (ops.cos(x) + self.error * np.eye(len(self.x))[self.i]))

    def accepted(self):
        """1 if check_grads finds nothing wrong with it, and 0 if it does."""
        try:
            check_grads(self.function(), (self.x,), order=1)
        except AssertionError:
            return 0.0
        return 1.0


@st.composite
def planted(draw):
    x = draw(vectors(draw(st.integers(1, 4))))
    return Planted(x, draw(st.integers(0, len(x) - 1)), draw(st.sampled_from([0, 1, -1])) * draw(numbers(1e-3, 2)))


@autodiff.equal(
    "checker",
    r"\left[\langle u, J v \rangle \approx \langle u, \frac{8 (f_h - f_{-h}) - (f_{2 h} - f_{-2 h})}{12 h} \rangle\right]"
    r" = \left[\mathrm{the\ rule\ is\ right}\right], \quad f_h = f(x + h v)",
    because="the differences do not know the rule, and a direction at random sees every entry: what is wrong cannot agree",
    source="Griewank & Walther 2008, ch. 3; Fornberg 1988, table 1",
    instances=planted(),
)
def checker(f):
    return f.accepted(), float(f.error == 0)


@checker.wrong("a stale variable tested again for each entry, the error of the first one", published=True)
def _(f):
    """Its loop over the entries computes a new error each time, and asserts the old one."""
    by_rule = vjp(f.function(), f.x)[1](np.ones(len(f.x)))[0]
    errors = [abs(by_rule[i] - (math.sin(x + 1e-5) - math.sin(x - 1e-5)) / 2e-5) for i, x in enumerate(f.x)]
    return float(all(errors[0] < 1e-6 for _ in errors)), float(f.error == 0)


# Convolution


@dataclass
class Convolution:
    """An image x (N, H, W, C), weights w (kh, kw, C, O), a cotangent g of the result, and other weights v."""

    x: np.ndarray
    w: np.ndarray
    g: np.ndarray
    v: np.ndarray
    stride: tuple
    padding: tuple

    @property
    def how(self):
        return {"stride": self.stride, "padding": self.padding}

    def form(self, g=None, x=None, w=None):
        """T(g, x, w), from windows of the padded image."""
        g, x, w = self.g if g is None else g, self.x if x is None else x, self.w if w is None else w
        (py, px), (sy, sx) = self.padding, self.stride
        padded = np.pad(x, ((0, 0), (py, py), (px, px), (0, 0)))
        windows = sliding_window_view(padded, w.shape[:2], axis=(1, 2))[:, ::sy, ::sx]
        return np.einsum("nijo,nijcab,abco->", g, windows, w)

    def convolved(self, x):
        return ops.conv2d(x, self.w, **self.how)


def derivative(f, like):
    """Of a linear function of arrays like that one: its values at the unit arrays."""
    units = np.eye(like.size).reshape(like.size, *like.shape)
    return np.array([f(unit) for unit in units]).reshape(like.shape)


@st.composite
def convolutions(draw):
    N, C, O = (draw(st.integers(1, 2)) for _ in range(3))
    padding, stride = (tuple(draw(st.integers(low, 2)) for _ in range(2)) for low in (0, 1))
    size = [draw(st.integers(1, 4)) for _ in range(2)]
    kernel = [draw(st.integers(1, min(3, n + 2 * p))) for n, p in zip(size, padding)]
    result = [(n + 2 * p - k) // s + 1 for n, p, k, s in zip(size, padding, kernel, stride)]
    shapes = (N, *size, C), (*kernel, C, O), (N, *result, O), (*kernel, C, O)
    rng = np.random.default_rng(draw(st.integers(0, 999)))  # polynomials that differ do so at random points: shapes matter
    return Convolution(*(rng.normal(size=shape) for shape in shapes), stride, padding)


@autodiff.equal(
    "trilinear_form",
    r"\langle g, \mathrm{conv}(x, w) \rangle = \sum g_{nijo}\, x_{n,\, i s + a - p,\, j s + b - p,\, c}\, w_{abco}",
    because="the definition: linear in each of g, x and w, which play one part each",
    source="Dumoulin & Visin 2016, ch. 2",
    instances=convolutions(),
)
def trilinear_form(c):
    return np.sum(c.g * c.convolved(c.x)), c.form()


@trilinear_form.wrong("the kernel turned around, as in the convolution of mathematics")
def _(c):
    return np.sum(c.g * c.convolved(c.x)), c.form(w=c.w[::-1, ::-1])


@autodiff.equal(
    "input_gradient",
    r"\mathrm{vjp}_x(g) = \frac{\partial T(g, x, w)}{\partial x} = \mathrm{input\ gradient}(g, w)",
    because="T is linear in x, so its derivative is the map of g and w that leaves the place of x open",
    source="Dumoulin & Visin 2016, ch. 4",
    instances=convolutions(),
)
def input_gradient_step(c):
    return vjp(c.convolved, c.x)[1](c.g)[0], derivative(lambda x: c.form(x=x), c.x)


@input_gradient_step.wrong("the kernel stamped the wrong way round")
def _(c):
    turned = input_gradient(c.g, c.w[::-1, ::-1].copy(), input_size=c.x.shape[1:3], **c.how)
    return turned, derivative(lambda x: c.form(x=x), c.x)


@autodiff.equal(
    "weight_gradient",
    r"\mathrm{vjp}_w(g) = \frac{\partial T(g, x, w)}{\partial w} = \mathrm{weight\ gradient}(x, g)",
    because="T is linear in w too; a weight meets every pixel of every example, and all of them count",
    instances=convolutions(),
)
def weight_gradient_step(c):
    return vjp(lambda w: ops.conv2d(c.x, w, **c.how), c.w)[1](c.g)[0], derivative(lambda w: c.form(w=w), c.w)


@weight_gradient_step.wrong("the mean over examples")
def _(c):
    found = weight_gradient(c.x, c.g, kernel_size=c.w.shape[:2], **c.how)
    return found / len(c.x), derivative(lambda w: c.form(w=w), c.w)


@autodiff.equal(
    "twice_through_weights",
    r"\nabla_x \left\langle v, \nabla_w T(g, x, w) \right\rangle = \frac{\partial T(g, x, v)}{\partial x}",
    because="<v, dT/dw> is T with v in the place of w: the rules of the three maps are the three maps",
    instances=convolutions(),
)
def twice_through_weights(c):
    return through_weights(c), derivative(lambda x: c.form(x=x, w=c.v), c.x)


def through_weights(c):
    def along(x):
        return (c.v * grad(lambda w: (c.g * ops.conv2d(x, w, **c.how)).sum())(c.w)).sum()

    return grad(along)(c.x)


@twice_through_weights.wrong(
    "the gradient of the weights taken for a constant, which no first derivative shows", published=True
)
def _(c):
    return through_weights(c), np.zeros(c.x.shape)


@twice_through_weights.wrong("the weights themselves in the place of the direction")
def _(c):
    return through_weights(c), derivative(lambda x: c.form(x=x), c.x)
