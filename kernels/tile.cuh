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
// Sums are plain `real`: float is not rounded to tf32, and tensor cores are left out.

constexpr int THREADS = 64, DEPTH = 8, ROWS = 64;
constexpr int PADDING = 4;  // after a row in shared memory, so that threads which write a column of it meet other banks

// The place in the tile of the i-th of N rows (or columns) that belong to a thread's group, of 8 groups.
template <int N> __device__ int owned(int group, int i) {
    constexpr int run = N < 4 ? N : 4;
    return i / run * 8 * run + group * run + i % run;
}

// sums[i][j] += sum over k of left[k][row i] right[k][column j]. Thread t is of row group t / 8 and of column group t % 8.
template <int N>
__device__ void multiply_add(real (&sums)[8][N], const real (*left)[ROWS + PADDING], const real (*right)[8 * N + PADDING]) {
    const int row_group = threadIdx.x / 8, column_group = threadIdx.x % 8;
#pragma unroll 4  // of 8: half the code, and so half the time that it takes to compile
    for (int k = 0; k < DEPTH; ++k) {
        real l[8], r[N];
#pragma unroll
        for (int i = 0; i < 8; ++i) l[i] = left[k][owned<8>(row_group, i)];
#pragma unroll
        for (int j = 0; j < N; ++j) r[j] = right[k][owned<N>(column_group, j)];
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
            for (int j = 0; j < N; ++j) sums[i][j] += l[i] * r[j];
    }
}
