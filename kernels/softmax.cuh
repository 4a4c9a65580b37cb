// Rows of numbers, one to a warp, and their softmax.
//
//     lane    0   1   2  ...  31   0   1  ...       lane j reads the numbers j, j + 32, j + 64, ... of its row:
//     row     l_0 l_1 l_2 ... l_31 l_32 l_33 ...    a warp reads 32 neighbours at once

#include "device.cuh"

#define FOR_EACH_IN_ROW(i, n) for (int i = threadIdx.x % 32; i < n; i += 32)

// The row that this warp does: blocks of whole warps, blockDim.x / 32 of them.
__device__ long long row_of_warp() { return (long long)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; }

struct Softmax {  // p_i = e^(l_i - most) / total
    real most, total;
};

// (That fmax prefers a number to NaN does no harm: the NaN is in the sum.)
__device__ Softmax softmax_of(const real* l, int n) {
    real most = l[0], total = 0;
    FOR_EACH_IN_ROW(i, n) most = fmax(most, l[i]);
    most = largest_of_warp(most);
    FOR_EACH_IN_ROW(i, n) total += exp(l[i] - most);
    return {most, sum_of_warp(total)};
}
