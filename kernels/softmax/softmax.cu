// Softmax and its logarithm, one row to a warp; see spec.py for the equations.
//
// A row is gone through for its maximum, for the sum of e^(x - max) and for the result, or for a sum and the result; after the
// first time it comes from the cache. Floor: each array is read or written once, so 8 bytes for a number of float forward, 12
// backward.

#include "softmax.cuh"

extern "C" __global__ void softmax(const real* x, real* y, int rows, int n) {
    const long long row = row_of_warp();
    if (row >= rows) return;
    x += row * n, y += row * n;
    const Softmax p = softmax_of(x, n);
    FOR_EACH_IN_ROW(i, n) y[i] = exp(x[i] - p.most) / p.total;
}

extern "C" __global__ void softmax_gradient(const real* g, const real* y, real* dx, int rows, int n) {
    const long long row = row_of_warp();
    if (row >= rows) return;
    g += row * n, y += row * n, dx += row * n;
    real sum = 0;
    FOR_EACH_IN_ROW(i, n) sum += g[i] * y[i];
    sum = sum_of_warp(sum);
    FOR_EACH_IN_ROW(i, n) dx[i] = y[i] * (g[i] - sum);
}

extern "C" __global__ void log_softmax(const real* x, real* y, int rows, int n) {
    const long long row = row_of_warp();
    if (row >= rows) return;
    x += row * n, y += row * n;
    const Softmax p = softmax_of(x, n);
    const real rest = log(p.total);
    FOR_EACH_IN_ROW(i, n) y[i] = (x[i] - p.most) - rest;
}

extern "C" __global__ void log_softmax_gradient(const real* g, const real* y, real* dx, int rows, int n) {
    const long long row = row_of_warp();
    if (row >= rows) return;
    g += row * n, y += row * n, dx += row * n;
    real sum = 0;
    FOR_EACH_IN_ROW(i, n) sum += g[i];
    sum = sum_of_warp(sum);
    FOR_EACH_IN_ROW(i, n) dx[i] = g[i] - exp(y[i]) * sum;
}
