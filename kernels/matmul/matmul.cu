// A product of matrices, tile by tile; tile.cuh says how a tile is made, and gpu.py what is done before.
//
//                                   columns
//                            +------+------+------+
//                            |      |right |      |       A block makes one tile of y, 64 rows by WIDTH columns. It goes along
//                      depth |      |      |      |       the rows of the left matrix and down the columns of the right one,
//                            +------+------+------+       DEPTH at a time: fetched into registers while the piece before is
//                 depth                                   multiplied, since a read takes some 500 cycles, and so do the
//            +-------------+ +------+------+------+       products; then put into shared memory.
//            |             | |      |      |      |
//      rows  +-------------+ +------+------+------+       Which way a matrix lies in memory decides how threads share out what
//            |    left     | |      | tile |      |       they fetch, neighbours taking neighbouring numbers: along the sum,
//            +-------------+ +------+------+------+       8 threads to a row, or across it, as many as the tile is wide.
//            |             | |      |      |      |
//            +-------------+ +------+------+------+       Behind the end of a row or column lie zeros.

#include "tile.cuh"

constexpr int N = WIDTH / 8;  // of a tile's columns, how many are a thread's

// y[group, batch](i, j) = sum over the group's k of left[batch](i, k) right[batch](k, j), at i row_step + j column_step
//
// left (rows, depth), or (depth, rows) if left_turned; right (depth, columns), or (columns, depth) if right_turned. A batch is
// (outer, inner), and *_outer and *_inner tell how many matrices apart two neighbours are: 0 where one is for all.
// Blocks: (tiles of rows in each batch, tiles of columns, groups). A group is `length` terms of the sum.
extern "C" __global__ void __launch_bounds__(THREADS)
multiply(const real* left, const real* right, real* y, int rows, int columns, int depth, int length, int left_turned,
         int right_turned, int row_step, int column_step, int inner, int left_outer, int right_outer, int left_inner,
         int right_inner) {
    __shared__ __align__(16) real left_piece[DEPTH][ROWS + PADDING];
    __shared__ __align__(16) real right_piece[DEPTH][WIDTH + PADDING];
    const int row_tiles = (rows + ROWS - 1) / ROWS, batch = blockIdx.x / row_tiles, thread = threadIdx.x;
    const int first_row = blockIdx.x % row_tiles * ROWS, first_column = blockIdx.y * WIDTH;
    const int first_term = blockIdx.z * length, end = min(first_term + length, depth);
    left += (long long)(batch / inner * left_outer + batch % inner * left_inner) * rows * depth;
    right += (long long)(batch / inner * right_outer + batch % inner * right_inner) * depth * columns;
    y += (long long)(blockIdx.z * (gridDim.x / row_tiles) + batch) * rows * columns;

    real next_left[8], next_right[N];
    auto fetch = [&](int first) {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int k = first + (left_turned ? i : thread % DEPTH);
            const int row = first_row + (left_turned ? thread : thread / DEPTH + 8 * i);
            const int place = left_turned ? k * rows + row : row * depth + k;
            next_left[i] = row < rows && k < end ? left[place] : real(0);
        }
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const int n = thread + THREADS * i;
            const int k = first + (right_turned ? n % DEPTH : n / WIDTH);
            const int column = first_column + (right_turned ? n / DEPTH : n % WIDTH);
            const int place = right_turned ? column * depth + k : k * columns + column;
            next_right[i] = column < columns && k < end ? right[place] : real(0);
        }
    };
    auto put = [&] {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            if (left_turned)
                left_piece[i][thread] = next_left[i];
            else
                left_piece[thread % DEPTH][thread / DEPTH + 8 * i] = next_left[i];
        }
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const int n = thread + THREADS * i;
            if (right_turned)
                right_piece[n % DEPTH][n / DEPTH] = next_right[i];
            else
                right_piece[n / WIDTH][n % WIDTH] = next_right[i];
        }
    };

    real sums[8][N] = {};
    fetch(first_term);
    for (int k = first_term; k < end; k += DEPTH) {
        __syncthreads();  // all have multiplied the piece before
        put();
        __syncthreads();
        fetch(k + DEPTH);
        multiply_add<N>(sums, left_piece, right_piece);
    }

#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const int row = first_row + tile_row(i), column = first_column + tile_column<N>(j);
            if (row < rows && column < columns) y[row * row_step + column * column_step] = sums[i][j];
        }
}

// y[i] = sum over groups of partial[group, i], in their order
extern "C" __global__ void add_groups(const real* partial, real* y, int size, int groups) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    real sum = 0;
    for (int group = 0; group < groups; ++group) sum += partial[(long long)group * size + i];
    y[i] = sum;
}
