// Bernoulli log-likelihoods, one logit to a thread; see spec.py for the equations.
//
// x has the last axes of the logits, its numbers are used again for each of the axes before: number i of the logits belongs to
// number i mod `period` of x. Floor: 8 bytes for a logit of float, and x once, which then comes from the cache.

#include "device.cuh"

extern "C" __global__ void log_prob(const real* x, const real* logits, real* y, int size, int period) {
    FOR_EACH(i, size) y[i] = x[i % period] * logits[i] - softplus(logits[i]);
}

extern "C" __global__ void residual(const real* x, const real* logits, real* y, int size, int period) {
    FOR_EACH(i, size) y[i] = x[i % period] - sigmoid(logits[i]);
}
