// Normalisation of groups of channels; see spec.py for the equations.
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
// and third time they come from the cache.

#include "device.cuh"

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

extern "C" __global__ void forward(const real* x, const real* affine, real* y, int P, int C, int groups, real eps) {
    const Slab slab(P, C, groups, blockIdx.x % groups);
    const long long example = (long long)(blockIdx.x / groups) * P * C;
    x += example, y += example;
    const Statistics s = statistics_of(x, slab, eps);
    FOR_EACH_CHANNEL(slab, c) {
        const real scale = s.root * affine[c], shift = affine[C + c];
        FOR_EACH_POSITION(slab, p) y[p * C + c] = (x[p * C + c] - s.mean) * scale + shift;
    }
}

extern "C" __global__ void input_gradient(
    const real* g, const real* x, const real* affine, real* dx, int P, int C, int groups, real eps
) {
    const Slab slab(P, C, groups, blockIdx.x % groups);
    const long long example = (long long)(blockIdx.x / groups) * P * C;
    g += example, x += example, dx += example;
    const Statistics s = statistics_of(x, slab, eps);
    real sum_h = 0, sum_hx = 0;
    FOR_EACH_CHANNEL(slab, c) FOR_EACH_POSITION(slab, p) {
        const real h = affine[c] * g[p * C + c];
        sum_h += h;
        sum_hx += h * (x[p * C + c] - s.mean);
    }
    const real mean_h = sum_of_block(sum_h) / slab.numbers();
    const real mean_hx = sum_of_block(sum_hx) * s.root / slab.numbers();
    FOR_EACH_CHANNEL(slab, c) FOR_EACH_POSITION(slab, p) {
        const real x_hat = (x[p * C + c] - s.mean) * s.root;
        dx[p * C + c] = s.root * (affine[c] * g[p * C + c] - mean_h - x_hat * mean_hx);
    }
}

// Sums over examples and positions, for each channel. No two threads add to one number, so the result is the same at every run:
// a block goes through a fixed stretch of the examples, with two sums in shared memory for each slot and channel; then the
// slots are added up, and the host adds up the stretches, d (stretches, 2, C).
extern "C" __global__ void parameter_gradient(
    const real* g, const real* x, real* d, int N, int P, int C, int groups, int stretches, real eps
) {
    extern __shared__ real sums[];  // (slots, 2, width)
    const Slab slab(P, C, groups, blockIdx.x % groups);
    const int stretch = blockIdx.x / groups, width = slab.width;
    real* own = sums + 2 * width * slab.slot - slab.first;  // own[c] and own[width + c]
    FOR_EACH_CHANNEL(slab, c) own[c] = own[width + c] = 0;
    const int last = (long long)N * (stretch + 1) / stretches;
    for (int n = (long long)N * stretch / stretches; n < last; ++n) {
        const long long example = (long long)n * P * C;
        const Statistics s = statistics_of(x + example, slab, eps);
        FOR_EACH_CHANNEL(slab, c) {
            real sum_g = 0, sum_gx = 0;
            FOR_EACH_POSITION(slab, p) {
                sum_g += g[example + p * C + c];
                sum_gx += g[example + p * C + c] * (x[example + p * C + c] - s.mean);
            }
            own[c] += sum_gx * s.root;
            own[width + c] += sum_g;
        }
    }
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * width; i += blockDim.x) {
        real sum = 0;
        for (int slot = 0; slot < slab.slots; ++slot) sum += sums[2 * width * slot + i];
        d[(stretch * 2 + i / width) * C + slab.first + i % width] = sum;
    }
}
