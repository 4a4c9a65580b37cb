// A bias and an activation after a product of matrices; see spec.py for the equations.
//
// Forward, one number to a thread. Backward, the sum over rows is made while the cotangents lie at hand:
//
//              32 columns
//     row 0    t0  t1  ... t31     A block of 32 x 8 threads does 32 columns of a stretch of rows. Each thread adds up every
//         1    t32 ...             eighth row of its column; then the eight threads of a column add up their sums, in shared
//         :                        memory, and the host those of the stretches. No two threads add to one number, so the
//         7    ...     ... t255    result is the same at every run.
//         8    t0  t1  ...
//
// Floor, for a number of float: 8 bytes forward, 12 backward.

#include "activations.cuh"

enum Activation { RELU, LEAKY_RELU, TANH, SIGMOID, SOFTPLUS, SILU, GELU };  // as in gpu.py

// All threads take the same way through a switch, which then costs little beside the memory.
__device__ real value_of(int activation, real x, real slope) {
    switch (activation) {
        case RELU: return value::relu(x);
        case LEAKY_RELU: return value::leaky_relu(x, slope);
        case TANH: return tanh(x);
        case SIGMOID: return sigmoid(x);
        case SOFTPLUS: return softplus(x);
        case SILU: return value::silu(x);
        default: return value::gelu(x);
    }
}

__device__ real gradient_of(int activation, real g, real x, real slope) {
    switch (activation) {
        case RELU: return gradient::relu(g, x);
        case LEAKY_RELU: return gradient::leaky_relu(g, x, slope);
        case TANH: return gradient::tanh(g, x);
        case SIGMOID: return gradient::sigmoid(g, x);
        case SOFTPLUS: return gradient::softplus(g, x);
        case SILU: return gradient::silu(g, x);
        default: return gradient::gelu(g, x);
    }
}

// rows (N + 1, C): N rows u, and b below them.
extern "C" __global__ void forward(const real* rows, real* y, int N, int C, int activation, real slope) {
    const real* b = rows + (long long)N * C;
    FOR_EACH(i, N * C) y[i] = value_of(activation, rows[i] + b[i % C], slope);
}

const int COLUMNS = 32, THREADS_OF_COLUMN = 8;

// d (N + 1, C), whose last row is left out; sums (stretches, C). kept is y, or rows for the activations from SOFTPLUS on.
extern "C" __global__ void backward(
    const real* g, const real* kept, real* d, real* sums, int N, int C, int rows_of_stretch, int activation, real slope
) {
    __shared__ real parts[THREADS_OF_COLUMN][COLUMNS];
    const int c = blockIdx.x * COLUMNS + threadIdx.x, first = blockIdx.y * rows_of_stretch;
    const int last = first + rows_of_stretch < N ? first + rows_of_stretch : N;
    real sum = 0;
    if (c < C) {
        const real b = activation >= SOFTPLUS ? kept[(long long)N * C + c] : real(0);
        for (int n = first + threadIdx.y; n < last; n += THREADS_OF_COLUMN) {
            const long long i = (long long)n * C + c;
            d[i] = gradient_of(activation, g[i], kept[i] + b, slope);
            sum += d[i];
        }
    }
    parts[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y == 0 && c < C) {
        sum = 0;
        for (int k = 0; k < THREADS_OF_COLUMN; ++k) sum += parts[k][threadIdx.x];
        sums[blockIdx.y * C + c] = sum;
    }
}
