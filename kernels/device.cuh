// What several kernels need on the device. `real` is float or double, a define.

// The elements that this thread does, one after another: all threads of the grid take neighbouring ones, and then go on by the
// size of the grid. So a warp reads 32 neighbours at once, and any number of threads is enough.
#define FOR_EACH(i, size) \
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)(size); i += gridDim.x * blockDim.x)

__device__ real sigmoid(real x) {
    const real e = exp(-fabs(x));  // in [0, 1]: it cannot overflow
    return (x >= real(0) ? real(1) : e) / (real(1) + e);
}

// log(1 + e^x): neither does this overflow, nor is the tail lost.
__device__ real softplus(real x) { return fmax(x, real(0)) + log1p(exp(-fabs(x))); }

__device__ real not_a_number() { return real(0) / real(0); }  // NVRTC knows no NAN

const unsigned ALL_LANES = 0xffffffff;

// The sum of the 32 numbers that the lanes of a warp hold, in each of them:
//
//     lane  0   1   2   3   ...        after the first exchange, lanes 16 apart hold the same sum of two;
//           |___|___|                  after the fifth, all hold that of 32
__device__ real sum_of_warp(real x) {
    for (int apart = 16; apart > 0; apart /= 2) x += __shfl_xor_sync(ALL_LANES, x, apart);
    return x;
}

__device__ real largest_of_warp(real x) {
    for (int apart = 16; apart > 0; apart /= 2) x = fmax(x, __shfl_xor_sync(ALL_LANES, x, apart));
    return x;
}

// The sum over a block of whole warps, in each thread: of warps first, then of their sums. All threads must come here.
__device__ real sum_of_block(real x) {
    __shared__ real sums[32];
    x = sum_of_warp(x);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
    __syncthreads();
    x = sum_of_warp(threadIdx.x % 32 < blockDim.x / 32 ? sums[threadIdx.x % 32] : real(0));
    __syncthreads();  // or the next sum would be written over one that somebody has not read yet
    return x;
}
