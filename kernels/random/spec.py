r"""Random numbers by counting: a number has an address, and is computed from it. Each function fills a contiguous array y.

Philox4x32-10 makes a block of four words w of 32 bits from a counter of 128 bits and a key of 64, in ten rounds of

    (c0, c1, c2, c3) -> (high(B c2) ^ c1 ^ k0,  low(B c2),  high(A c0) ^ c3 ^ k1,  low(A c0)),     (k0, k1) += (W0, W1)

where high and low are the halves of a product of 64 bits. It is a bijection of the counters for each key, so no block comes
twice before 2^64 of them are used in a stream. The counter is (n, stream), 64 bits each, least significant word first: block n
of a stream is a function of (key, stream, n). Nothing is remembered from one number to the next, and so any number can be made
at any place, in any order, by thousands of threads. y[i] is made of the words of the stream from block `first` on,

    bits       uint32     w_i
    uniform    float32    2^-24 (w_i >> 8)            float64    2^-53 (W_i >> 11)               in [0, 1)
    normal     float32    u = 2^-32 (w_2j + 1/2),  v = 2^-32 w_2j+1
               float64    u = 2^-64 (W_2j + 1/2),  v = 2^-64 W_2j+1
               y_2j = sqrt(-2 log u) cos(2 pi v),   y_2j+1 = sqrt(-2 log u) sin(2 pi v)

where W_i = w_2i + 2^32 w_2i+1. (-log u is exponential and 2 pi v a direction: a point of a round Gaussian, in polar
coordinates.) w is rounded to y's precision before 1/2 is added. The smallest u, 2^-33 or 2^-65, allows numbers as far out as
6.76 or 9.49.

Sources: Salmon et al. 2011, *Parallel random numbers: as easy as 1, 2, 3*, section 3.3; Box & Muller 1958.
"""

import math

A, B = 0xD2511F53, 0xCD9E8D57
W0, W1 = 0x9E3779B9, 0xBB67AE85  # the golden ratio and sqrt(3) - 1, in 32 bits: steps from one round's key to the next
ROUNDS = 10
WORD = 2**32


def philox(counter, key):
    """Four words for a counter of four words and a key of two."""
    (c0, c1, c2, c3), (k0, k1) = counter, key
    for _ in range(ROUNDS):
        high_a, low_a = divmod(A * c0, WORD)
        high_b, low_b = divmod(B * c2, WORD)
        c0, c1, c2, c3 = high_b ^ c1 ^ k0, low_b, high_a ^ c3 ^ k1, low_a
        k0, k1 = (k0 + W0) % WORD, (k1 + W1) % WORD
    return c0, c1, c2, c3


def bits(y, key, stream, first):
    """y[i] = w_i, for uint32 y."""
    require("bits", y, "uint32")
    y.reshape(-1)[:] = _words(y.size, key, stream, first)
    return y


def uniform(y, key, stream, first):
    """Uniform on [0, 1), for float32 or float64 y."""
    require("uniform", y, "float32", "float64")
    size = 8 * y.itemsize
    kept = {32: 24, 64: 53}[size]
    numbers = _integers(y.size, size, key, stream, first)
    y.reshape(-1)[:] = [(n >> (size - kept)) / 2**kept for n in numbers]
    return y


def normal(y, key, stream, first):
    """Standard normal, for float32 or float64 y."""
    require("normal", y, "float32", "float64")
    size, real = 8 * y.itemsize, y.dtype.type
    numbers = _integers(y.size + y.size % 2, size, key, stream, first)
    flat = y.reshape(-1)
    for j in range(0, y.size, 2):
        u = float(real(numbers[j]) + real(0.5)) / 2**size
        flat[j : j + 2] = [math.sqrt(-2 * math.log(u)) * c for c in _on_circle(numbers[j + 1], size)[: y.size - j]]
    return y


def order(y, u):
    """y[k] = the place in u (n,) of its k-th smallest number, equal ones in the order in which they come, for int64 y (n,).

    The order of n uniform numbers is a permutation, and each is equally likely.
    """
    require("order", y, "int64")
    require_vector("order", y, u)
    y[:] = sorted(range(u.size), key=lambda i: u[i])
    return y


def require(name, y, *dtypes):
    """TypeError unless y has one of the dtypes, ValueError unless its numbers lie side by side."""
    if y.dtype.name not in dtypes:
        raise TypeError(f"random.{name}: y is of {y.dtype}; it must be of {' or '.join(dtypes)}")
    if not y.flags.c_contiguous:
        raise ValueError(f"random.{name}: y, of shape {tuple(y.shape)}, is not contiguous; fill a new array, and assign it")


def require_vector(name, y, u):
    """ValueError unless both have one axis, of one length."""
    if y.ndim != 1 or y.shape != u.shape:
        raise ValueError(f"random.{name}: y has shape {tuple(y.shape)} and u {tuple(u.shape)}; both must be (n,)")


def _words(n, key, stream, first):
    """The first n words from a block on."""
    halves = [divmod(number, WORD)[::-1] for number in (stream, key)]
    counters = (divmod(b % WORD**2, WORD)[::-1] for b in range(first, first + -(-n // 4)))
    blocks = (philox((*counter, *halves[0]), halves[1]) for counter in counters)
    return [word for block in blocks for word in block][:n]


def _integers(n, size, key, stream, first):
    """The first n integers of 32 or 64 bits."""
    if size == 32:
        return _words(n, key, stream, first)
    words = _words(2 * n, key, stream, first)
    return [low + WORD * high for low, high in zip(words[::2], words[1::2])]


def _on_circle(n, size):
    """cos and sin of 2 pi n / 2^size, by the angle from the nearest quarter turn: so multiples of pi / 2 lose no digits."""
    quarters = (n + 2 ** (size - 3)) >> (size - 2)
    angle = 2 * math.pi * (n - (quarters << (size - 2))) / 2**size
    c, s = math.cos(angle), math.sin(angle)
    return [(c, s), (-s, c), (-c, -s), (s, -c)][quarters % 4]
