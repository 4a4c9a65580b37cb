// Log-likelihoods of choices, one row of logits to a warp; see spec.py for the equations.
//
//     lane     0   1   2  ...  31   0   1  ...       lane j reads the numbers j, j + 32, j + 64, ... of its row:
//     logits   l_0 l_1 l_2 ... l_31 l_32 l_33 ...    a warp reads 32 neighbours at once
//
// A row is gone through for its maximum, for the sum of e^(l - max) and for the result; after the first time it comes from the
// cache. Floor: the logits are read once, and in the gradient written once. A choice outside 0 .. n - 1 gives NaN.

#include "device.cuh"

// The row that this warp does: blocks of whole warps, blockDim.x / 32 of them.
__device__ long long row_of_warp() { return (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; }

struct Softmax {  // p_i = e^(l_i - most) / total
    real most, total;
};

// (That fmax prefers a number to NaN does no harm: the NaN is in the sum.)
__device__ Softmax softmax_of(const real* l, int n) {
    real most = l[0], total = 0;
    for (int i = threadIdx.x % 32; i < n; i += 32) most = fmax(most, l[i]);
    most = largest_of_warp(most);
    for (int i = threadIdx.x % 32; i < n; i += 32) total += exp(l[i] - most);
    return {most, sum_of_warp(total)};
}

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
    const real scale = known ? g[row] / p.total : not_a_number();
    for (int i = threadIdx.x % 32; i < n; i += 32) {
        const real chosen = i == x[row] ? g[row] : real(0);
        d[row * n + i] = chosen - scale * exp(l[i] - p.most);
    }
}
