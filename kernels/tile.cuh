// A tile of a product of two matrices, the innermost loop of convolution and of attention on a GPU.
//
// A GPU multiplies some hundred times faster than it can read numbers from its memory. So each number that is read must be used
// often, and is brought nearer twice: from memory to the shared memory of a block of threads, and from there to registers.
//
//                          columns (8 N)                        64 threads hold the 64 x 8 N sums of a tile, 8 x N each. Of the
//                     +---------------------+                   left matrix DEPTH columns at a time lie in shared memory, of
//               DEPTH |  right, in shared   |                   the right one DEPTH rows; a thread takes 8 numbers of one and
//                     +---------------------+                   N of the other, and adds 8 N products to its sums.
//          DEPTH
//        +-------+    +------+------+---- +                     So for N = 8 a number from memory is used 64 times, and one
//        |       |    | 8xN  | 8xN  |     |                     from shared memory 8 times.
//        | left, |    +------+------+---- +
//     64 |  in   |    | 8xN  | 8xN  |     |                     A thread's 8 rows are two runs of 4, and so with columns: then
//  rows  |shared |    +------+------+---- +                     its neighbours' next four numbers follow upon its own, and one
//        |       |    |      |      |     |                     access of 16 bytes a thread is free of conflicts.
//        +-------+    +------+------+---- +
//
// Sums are plain `real`, and each thread multiplies for itself. Where PRECISION says otherwise, tensor cores multiply (see
// tensor_cores.cuh), and a thread's sums lie elsewhere in the tile: tile_row and tile_column say where.

#define FP32 0
#define TF32 1
#define BF16 2
#ifndef PRECISION
#define PRECISION FP32
#endif

constexpr int THREADS = 64, DEPTH = 8, ROWS = 64;

#if PRECISION == FP32

constexpr int PADDING = 4;  // after a row in shared memory, so that threads which write a column of it meet other banks

// The place in the tile of the i-th of N rows (or columns) that belong to a thread's group, of 8 groups.
template <int N> __device__ int owned(int group, int i) {
    constexpr int run = N < 4 ? N : 4;
    return i / run * 8 * run + group * run + i % run;
}

// Where in the tile sums[i][j] of this thread belongs: thread t is of row group t / 8 and of column group t % 8.
__device__ int tile_row(int i) { return owned<8>(threadIdx.x / 8, i); }
template <int N> __device__ int tile_column(int j) { return owned<N>(threadIdx.x % 8, j); }

// sums[i][j] += sum over k of left[k][row i] right[k][column j]
template <int N>
__device__ void multiply_add(real (&sums)[8][N], const real (*left)[ROWS + PADDING], const real (*right)[8 * N + PADDING]) {
#pragma unroll 4  // of 8: half the code, and so half the time that it takes to compile
    for (int k = 0; k < DEPTH; ++k) {
        real l[8], r[N];
#pragma unroll
        for (int i = 0; i < 8; ++i) l[i] = left[k][tile_row(i)];
#pragma unroll
        for (int j = 0; j < N; ++j) r[j] = right[k][tile_column<N>(j)];
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
            for (int j = 0; j < N; ++j) sums[i][j] += l[i] * r[j];
    }
}

#else

#include "tensor_cores.cuh"

#endif
