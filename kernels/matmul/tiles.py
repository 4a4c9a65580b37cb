r"""The innermost loops of a product of matrices, of the same make as those of a convolution (see ../tiles.py).

    product_tile    y[p, o] = start[p, o] + \sum_k a[p, k] b[k, o]      p < P rows, o < V registers' width
    turn            y[k, j] = x[j, k]                                   j, k < one register's width

In the first a number of a is spread over a register and multiplied with a row of b. Rows and columns of a may lie anywhere, at
equal distances: a transposed matrix is read as easily as any other. Of b, rows must lie side by side; where it is transposed,
its rows are turned into columns, a block at a time, in registers. Addresses are integers; distances count float32 numbers. No
bounds are checked.
"""

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from ..tiles import WIDTH, Code


def product_tile(P, V, width=WIDTH):
    """A function for Numba code: (tiles, K, a, a_row, a_k, b, b_k, start, start_row, y, y_row); four are addresses.

    That many tiles, each P rows further; K at least 1. a_row and a_k lead from row to row of a and along it, b_k, start_row and
    y_row from row to row.
    """

    @intrinsic
    def tile(typing, tiles, K, a, a_row, a_k, b, b_k, start, start_row, y, y_row):
        def generate(context, builder, signature, arguments):
            tiles, K, a, a_row, a_k, b, b_k, start, start_row, y, y_row = arguments
            code = Code(builder, width)
            with code.loop(tiles, [a, start, y]) as over_tiles:
                a, start, y = over_tiles.values
                sums = [code.load(code.ahead(start, code.times(start_row, p)), width * v) for p in range(P) for v in range(V)]
                # every third row has an address of its own, those after it are one and two steps further: few registers
                thirds = [code.ahead(a, code.times(a_row, p)) for p in range(0, P, 3)]
                with code.loop(K, [*sums, b, *thirds]) as over_k:
                    *sums, b_row = over_k.values[: P * V + 1]
                    thirds = over_k.values[P * V + 1 :]
                    row = [code.load(b_row, width * v) for v in range(V)]
                    for p in range(P):
                        number = code.spread(code.ahead(thirds[p // 3], code.times(a_row, p % 3)))
                        sums[p * V : (p + 1) * V] = code.add_products(number, row, sums[p * V : (p + 1) * V])
                    over_k.next([*sums, code.ahead(b_row, b_k), *(code.ahead(third, a_k) for third in thirds)])
                for p in range(P):
                    for v in range(V):
                        code.store(over_k.last[p * V + v], code.ahead(y, code.times(y_row, p)), width * v)
                steps = (a, a_row), (start, start_row), (y, y_row)
                over_tiles.next([code.ahead(address, code.times(step, P)) for address, step in steps])
            return context.get_dummy_value()

        return types.void(*[types.int64] * 11), generate

    return tile


def turning_tile(width=WIDTH):
    """A function for Numba code: (x, x_row, y, y_row), two are addresses.

    Rows i and i + d exchange the halves of their blocks of 2 d numbers, for d = 1, 2, 4, ...: then number (i, j) is at (j, i).
    """

    @intrinsic
    def turn(typing, x, x_row, y, y_row):
        def generate(context, builder, signature, arguments):
            x, x_row, y, y_row = arguments
            code = Code(builder, width)
            rows = [code.load(code.ahead(x, code.times(x_row, i)), 0) for i in range(width)]
            d = 1
            while d < width:
                upper = _lanes([j if not j & d else width + j - d for j in range(width)])
                lower = _lanes([j + d if not j & d else width + j for j in range(width)])
                for i in range(width):
                    if not i & d:
                        pair = rows[i], rows[i + d]
                        rows[i], rows[i + d] = (builder.shuffle_vector(*pair, lanes) for lanes in (upper, lower))
                d *= 2
            for i, row in enumerate(rows):
                code.store(row, code.ahead(y, code.times(y_row, i)), 0)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4), generate

    return turn


def _lanes(numbers):
    return ir.Constant(ir.VectorType(ir.IntType(32), len(numbers)), numbers)
