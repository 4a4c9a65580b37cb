// Activations, one element to a thread.
//
// Floor: each array is read or written once, so 8 bytes for an element of float for a function, 12 for a gradient: no
// arithmetic here takes as long as that.

#include "activations.cuh"

extern "C" __global__ void relu_gradient(const real* g, const real* y, real* result, int size) {
    FOR_EACH(i, size) result[i] = gradient::relu(g[i], y[i]);
}

extern "C" __global__ void leaky_relu(const real* x, real* result, int size, real slope) {
    FOR_EACH(i, size) result[i] = value::leaky_relu(x[i], slope);
}

extern "C" __global__ void leaky_relu_gradient(const real* g, const real* x, real* result, int size, real slope) {
    FOR_EACH(i, size) result[i] = gradient::leaky_relu(g[i], x[i], slope);
}

extern "C" __global__ void tanh_gradient(const real* g, const real* y, real* result, int size) {
    FOR_EACH(i, size) result[i] = gradient::tanh(g[i], y[i]);
}

extern "C" __global__ void sigmoid_of(const real* x, real* result, int size) {
    FOR_EACH(i, size) result[i] = sigmoid(x[i]);
}

extern "C" __global__ void sigmoid_gradient(const real* g, const real* y, real* result, int size) {
    FOR_EACH(i, size) result[i] = gradient::sigmoid(g[i], y[i]);
}

extern "C" __global__ void softplus_of(const real* x, real* result, int size) {
    FOR_EACH(i, size) result[i] = softplus(x[i]);
}

extern "C" __global__ void softplus_gradient(const real* g, const real* x, real* result, int size) {
    FOR_EACH(i, size) result[i] = gradient::softplus(g[i], x[i]);
}

extern "C" __global__ void silu(const real* x, real* result, int size) {
    FOR_EACH(i, size) result[i] = value::silu(x[i]);
}

extern "C" __global__ void silu_gradient(const real* g, const real* x, real* result, int size) {
    FOR_EACH(i, size) result[i] = gradient::silu(g[i], x[i]);
}

extern "C" __global__ void gelu(const real* x, real* result, int size) {
    FOR_EACH(i, size) result[i] = value::gelu(x[i]);
}

extern "C" __global__ void gelu_gradient(const real* g, const real* x, real* result, int size) {
    FOR_EACH(i, size) result[i] = gradient::gelu(g[i], x[i]);
}
