// Log-likelihoods of choices, one row of logits to a warp; see spec.py for the equations.
//
// A row is gone through for its maximum, for the sum of e^(l - max) and for the result; after the first time it comes from the
// cache. Floor: the logits are read once, and in the gradient written once. A choice outside 0 .. n - 1 gives NaN.

#include "softmax.cuh"

extern "C" __global__ void log_prob(const long long* x, const real* logits, real* y, int rows, int n) {
    const long long row = row_of_warp();
    if (row >= rows) return;
    const real* l = logits + row * n;
    const Softmax p = softmax_of(l, n);
    const bool known = 0 <= x[row] && x[row] < n;
    if (threadIdx.x % 32 == 0) y[row] = known ? l[x[row]] - p.most - log(p.total) : not_a_number();
}

extern "C" __global__ void log_prob_gradient(const real* g, const long long* x, const real* logits, real* d, int rows, int n) {
    const long long row = row_of_warp();
    if (row >= rows) return;
    const real* l = logits + row * n;
    const Softmax p = softmax_of(l, n);
    const bool known = 0 <= x[row] && x[row] < n;
    const real scale = known ? g[row] : not_a_number();
    FOR_EACH_IN_ROW(i, n) {
        const real chosen = i == x[row] ? real(1) : real(0);
        d[row * n + i] = scale * (chosen - exp(l[i] - p.most) / p.total);
    }
}
