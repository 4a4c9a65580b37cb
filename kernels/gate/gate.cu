// Gates, one pair (a, b) of a row to a thread; see spec.py for the equations.
//
//     x    a_0 a_1 ... a_C-1  b_0 b_1 ... b_C-1      a row of 2 C; neighbouring threads read neighbouring a, and b
//     y    y_0 y_1 ... y_C-1
//
// Floor, for a pair of float: 12 bytes forward, 20 backward, where CuPy's operators would move 40 and 100.

#include "device.cuh"

extern "C" __global__ void forward(const real* x, real* y, int size, int channels) {
    FOR_EACH(i, size) {
        const unsigned a = i + i / channels * channels, b = a + channels;
        y[i] = tanh(x[a]) * sigmoid(x[b]);
    }
}

extern "C" __global__ void backward(const real* g, const real* x, real* dx, int size, int channels) {
    FOR_EACH(i, size) {
        const unsigned a = i + i / channels * channels, b = a + channels;
        const real t = tanh(x[a]), s = sigmoid(x[b]);
        dx[a] = g[i] * s * (real(1) - t * t);
        dx[b] = g[i] * t * s * sigmoid(-x[b]);  // 1 - s(b) = s(-b) loses no digits
    }
}
