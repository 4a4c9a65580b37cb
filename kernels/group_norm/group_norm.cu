// Normalisation of groups of channels, and an activation after it; see spec.py for the equations.
//
// One block of threads does one group of one example, a slab of P positions by `width` neighbouring channels of x (N, P, C):
//
//     channels     0 .. width-1        Each thread stays with one channel of the group, and takes every `slots`-th position:
//     position 0   t0   t1   t2   t3   here width = 4 and 8 threads are two slots. So a warp reads neighbours, nothing is
//              1   t4   t5   t6   t7   divided, and a sum over positions stays in its thread until all of it is there.
//              2   t0   t1   t2   t3   Where a group is wider than a block, a thread has several channels: t0 those of
//              3   t4   t5   t6   t7   number 0, T, 2T, ...
//
// Sums over the group are sums over the block. Deviations from the mean need a pass of their own: the shorter way,
// mean(x^2) - m^2, loses all digits where the mean is large. Floor: x (and g) read once and the result written once; the second
// and third time they come from the cache. f'(z) is found out twice, so that it need not be written and read.

#include "activations.cuh"

struct Slab {  // of the threads that have a place in it, and of the positions and channels that this one visits
    int P, C, width, slots, slot, lane, first;
    __device__ Slab(int P, int C, int groups, int group) : P(P), C(C), width(C / groups), first(group * (C / groups)) {
        const int T = blockDim.x;
        slots = width < T ? T / width : 1;
        slot = threadIdx.x / width;
        lane = width < T ? threadIdx.x % width : threadIdx.x;
        if (width >= T) slot = 0;
    }
    __device__ int numbers() const { return P * width; }
};

// For each (p, c) that the thread visits, c the number of the channel among all; threads without a slot visit none.
#define FOR_EACH_CHANNEL(slab, c) \
    for (int c = slab.first + slab.lane; slab.slot < slab.slots && c < slab.first + slab.width; c += blockDim.x)
#define FOR_EACH_POSITION(slab, p) for (int p = slab.slot; p < slab.P; p += slab.slots)

struct Statistics {
    real mean, root;  // m and r = 1 / sqrt(v + eps)
};

__device__ Statistics statistics_of(const real* x, const Slab& slab, real eps) {
    real sum = 0, squares = 0;
    FOR_EACH_CHANNEL(slab, c) FOR_EACH_POSITION(slab, p) sum += x[p * slab.C + c];
    const real mean = sum_of_block(sum) / slab.numbers();
    FOR_EACH_CHANNEL(slab, c) FOR_EACH_POSITION(slab, p) {
        const real deviation = x[p * slab.C + c] - mean;
        squares += deviation * deviation;
    }
    return {mean, real(1) / sqrt(sum_of_block(squares) / slab.numbers() + eps)};
}

enum Activation { NONE, RELU, SILU };  // as in gpu.py

// All threads take the same way.
__device__ real value_of(int activation, real z) {
    return activation == NONE ? z : activation == RELU ? value::relu(z) : value::silu(z);
}

__device__ real gradient_of(int activation, real g, real z) {
    return activation == NONE ? g : activation == RELU ? gradient::relu(g, z) : gradient::silu(g, z);
}

extern "C" __global__ void forward(
    const real* x, const real* affine, real* y, int P, int C, int groups, real eps, int activation
) {
    const Slab slab(P, C, groups, blockIdx.x % groups);
    const long long example = (long long)(blockIdx.x / groups) * P * C;
    x += example, y += example;
    const Statistics s = statistics_of(x, slab, eps);
    FOR_EACH_CHANNEL(slab, c) {
        const real scale = s.root * affine[c], shift = affine[C + c];
        FOR_EACH_POSITION(slab, p) y[p * C + c] = value_of(activation, (x[p * C + c] - s.mean) * scale + shift);
    }
}

// The cotangents of scale and shift are sums over examples and positions, for each channel. No two threads add to one number,
// so the result is the same at every run: a block goes through a fixed stretch of the examples, with two sums in shared memory
// for each slot and channel; then the slots are added up, and the host adds up the stretches, d (stretches, 2, C).
extern "C" __global__ void backward(
    const real* g, const real* x, const real* affine, real* dx, real* d, int N, int P, int C, int groups, int stretches,
    real eps, int activation
) {
    extern __shared__ real sums[];  // (slots, 2, width)
    const Slab slab(P, C, groups, blockIdx.x % groups);
    const int stretch = blockIdx.x / groups, width = slab.width;
    real* own = sums + 2 * width * slab.slot - slab.first;  // own[c] and own[width + c]
    FOR_EACH_CHANNEL(slab, c) own[c] = own[width + c] = 0;
    const int first = (long long)N * stretch / stretches, last = (long long)N * (stretch + 1) / stretches;
    const long long example = (long long)first * P * C;
    g += example, x += example, dx += example;
    for (int n = first; n < last; ++n, g += P * C, x += P * C, dx += P * C) {
        const Statistics s = statistics_of(x, slab, eps);
        real sum_h = 0, sum_hx = 0;
        FOR_EACH_CHANNEL(slab, c) {
            real sum = 0, sum_x = 0;
            FOR_EACH_POSITION(slab, p) {
                const real x_hat = (x[p * C + c] - s.mean) * s.root;
                const real dz = gradient_of(activation, g[p * C + c], affine[c] * x_hat + affine[C + c]);
                sum += dz;
                sum_x += dz * x_hat;
            }
            own[c] += sum_x;
            own[width + c] += sum;
            sum_h += affine[c] * sum;
            sum_hx += affine[c] * sum_x;
        }
        const real mean_h = sum_of_block(sum_h) / slab.numbers(), mean_hx = sum_of_block(sum_hx) / slab.numbers();
        FOR_EACH_CHANNEL(slab, c) FOR_EACH_POSITION(slab, p) {
            const real x_hat = (x[p * C + c] - s.mean) * s.root;
            const real dz = gradient_of(activation, g[p * C + c], affine[c] * x_hat + affine[C + c]);
            dx[p * C + c] = s.root * (affine[c] * dz - mean_h - x_hat * mean_hx);
        }
    }
    // (All own sums are there: the sums over the block have waited for them.)
    for (int i = threadIdx.x; i < 2 * width; i += blockDim.x) {
        real sum = 0;
        for (int slot = 0; slot < slab.slots; ++slot) sum += sums[2 * width * slot + i];
        d[(stretch * 2 + i / width) * C + slab.first + i % width] = sum;
    }
}
