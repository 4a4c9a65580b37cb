// Kernels with a fault each, for test_harness.py; where FAULT is 0, the same kernels without it.

extern "C" __global__ void scale(const real* x, real* y, int size, real factor) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size || FAULT) y[i] = factor * x[i];  // the fault: threads beyond the end
}

extern "C" __global__ void scale_before(real* y) { y[int(threadIdx.x) - FAULT] *= 2; }  // the fault: one number too early

extern "C" __global__ void copy(const real* x, real* y, int size) {
    if (threadIdx.x < size || FAULT) y[threadIdx.x] = x[threadIdx.x];
}

extern "C" __global__ void read_beyond(const real* x, real* y) { y[threadIdx.x] = x[threadIdx.x + FAULT]; }

extern "C" __global__ void reverse(const real* x, real* y) {
    __shared__ real kept[64];
    kept[threadIdx.x] = x[threadIdx.x];
    if (!FAULT) __syncthreads();
    y[threadIdx.x] = kept[63 - threadIdx.x];
}

// A barrier before and after the exchange of the two warps' numbers; the fault: none after it, so that one warp can be a turn ahead.
extern "C" __global__ void exchange_twice(real* y) {
    __shared__ real kept[2];
    real mine = threadIdx.x / 32 + 1;
    for (int turn = 0; turn < 2; ++turn) {
        if (threadIdx.x % 32 == 0) kept[threadIdx.x / 32] = mine;
        __syncthreads();
        mine = 2 * mine + __shfl_sync(0xffffffffu, kept[1 - threadIdx.x / 32], 0);
        if (!FAULT) __syncthreads();
    }
    y[threadIdx.x] = mine;
}

extern "C" __global__ void reverse_dynamic(const real* x, real* y) {
    extern __shared__ real kept[];
    kept[threadIdx.x + FAULT] = x[threadIdx.x];  // the fault: beyond the end of shared memory
    __syncthreads();
    y[threadIdx.x] = kept[blockDim.x - 1 - threadIdx.x];
}

extern "C" __global__ void before_dynamic(const real* x, real* y) {
    extern __shared__ real kept[];
    kept[int(threadIdx.x) - FAULT] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = kept[threadIdx.x];
}

extern "C" __global__ void static_beyond(const real* x, real* y) {
    __shared__ real kept[64];
    __shared__ real others[64];
    others[threadIdx.x] = 0;
    __syncthreads();
    kept[threadIdx.x + FAULT] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = kept[threadIdx.x] + others[threadIdx.x];
}

extern "C" __global__ void static_beyond_the_last(const real* x, real* y) {
    __shared__ real kept[64];
    kept[threadIdx.x + FAULT] = x[threadIdx.x];
    __syncthreads();
    y[threadIdx.x] = kept[threadIdx.x];
}

extern "C" __global__ void never_written(real* y) {
    __shared__ real kept[64];
    if (!FAULT) kept[threadIdx.x] = 1;
    y[threadIdx.x] = kept[threadIdx.x];
}

extern "C" __global__ void half_a_barrier(real* y) {
    if (threadIdx.x < 32 || !FAULT) __syncthreads();
    y[threadIdx.x] = 1;
}

extern "C" __global__ void two_barriers(real* y) {
    if (threadIdx.x < 32 && FAULT)
        __syncthreads();
    else
        __syncthreads();
    y[threadIdx.x] = 1;
}

extern "C" __global__ void absent_lane(real* y) {
    if (threadIdx.x < 20 || !FAULT) y[threadIdx.x] = __shfl_xor_sync(0xffffffffu, real(threadIdx.x), 1);
}

extern "C" __global__ void lane_outside_the_mask(real* y) {
    if (threadIdx.x < 16) y[threadIdx.x] = __shfl_sync(0xffffu, real(threadIdx.x), FAULT ? 16 : 15);
}

extern "C" __global__ void stranger(real* y) { y[threadIdx.x] = __shfl_sync(FAULT ? 0xffffu : 0xffffffffu, real(1), 0); }

extern "C" __global__ void between_blocks(real* y) {  // the fault: a block reads what another writes
    if (threadIdx.x == 0) y[blockIdx.x] = FAULT && blockIdx.x ? y[blockIdx.x - 1] + 1 : 1;
}

extern "C" __global__ void warp_sums(const real* x, real* sums, unsigned* ballots, int* votes) {
    real down = x[threadIdx.x], butterfly = down, up = down;
    for (int by = 16; by; by >>= 1) down += __shfl_down_sync(0xffffffffu, down, by);
    for (int bit = 16; bit; bit >>= 1) butterfly += __shfl_xor_sync(0xffffffffu, butterfly, bit);
    for (int by = 1; by < 32; by <<= 1) {
        real before = __shfl_up_sync(0xffffffffu, up, by);
        if (threadIdx.x % 32 >= by) up += before;
    }
    unsigned odd = __ballot_sync(0xffffffffu, threadIdx.x % 2);
    if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = down, ballots[threadIdx.x / 32] = odd;
    sums[2 + threadIdx.x] = butterfly;
    sums[66 + threadIdx.x] = up;
    sums[130 + threadIdx.x] = __shfl_sync(0xffffffffu, x[threadIdx.x], 3, 8);  // of its eight lanes
    if (threadIdx.x == 0) atomicAdd(votes, 5);
}

extern "C" __global__ void where(int* y) {
    int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] = 1000 * block + thread;
}
