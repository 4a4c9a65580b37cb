// Samples of Gaussians and their divergences from N(0, 1), one number to a thread; see spec.py for the equations.
//
// What is stacked, (2, size), has z, or what belongs to it, in front. Floor, for a number of float: 20 bytes forward, 28 backward.

#include "device.cuh"

extern "C" __global__ void forward(const real* mean, const real* log_var, const real* eps, real* y, int size) {
    FOR_EACH(i, size) {
        const real m = mean[i], l = log_var[i];
        y[i] = m + exp(l / 2) * eps[i];
        y[size + i] = (expm1(l) - fmin(l, real(1e3)) + m * m) / 2;
    }
}

extern "C" __global__ void backward(
    const real* mean, const real* log_var, const real* eps, const real* g, real* d, int size
) {
    FOR_EACH(i, size) {
        const real l = log_var[i];
        d[i] = g[i] + g[size + i] * mean[i];
        d[size + i] = (g[i] * exp(l / 2) * eps[i] + g[size + i] * expm1(l)) / 2;
    }
}
