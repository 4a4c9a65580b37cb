// Convolution as a product of matrices of which one is never written down; implicit_gemm.py says which, tile.cuh how.
//
// The left matrix of the product, made of x, is read where it lies: for each of its rows or columns a block notes in shared
// memory where in the image it begins (`Place`), and outside of the image it is zero. While a block multiplies one piece of
// DEPTH, the next one is already on its way from memory into registers (`fetch`): a read takes some 500 cycles, and so do the
// products.

#include "tile.cuh"

constexpr int N = CHANNELS / 8;  // of a tile's output channels, how many are a thread's
constexpr int OUTSIDE = -(1 << 30);  // a row that lies in no image, even if another one is added

struct Place {
    int row, column;  // in an image
    int offset;       // of that pixel's first number in x, counted from wherever the other index begins
    int other;        // row of the right matrix, or -1 where there is none: it is zero
};

__device__ real read(const real* x, int offset, int row, int column, int H, int W) {
    return unsigned(row) < unsigned(H) && unsigned(column) < unsigned(W) ? x[offset] : real(0);
}

// y[n, first + every (i, j), o] = bias[o] + sum over taps t and c of x[n, (i, j) stride + (a_t, b_t), c] w[slice_t, c, o]
//
// rows of the tile: pixels (n, i, j)        columns: channels o        summed over: (t, c), counted as one index k
//
// phases (first tap, last tap, first row, first column, rows, columns) have their own taps and pixels; taps (a, b, slice).
// If turned, w is read as w[slice, o, c]. Blocks: (tiles of pixels, tiles of channels, phases).
extern "C" __global__ void __launch_bounds__(THREADS)
convolve(const real* x, const real* w, const real* bias, const int* phases, const int* taps, real* y, int images, int H, int W,
         int C, int O, int stride_y, int stride_x, int y_H, int y_W, int every_y, int every_x, int turned) {
    __shared__ __align__(16) real left[DEPTH][ROWS + PADDING];
    __shared__ __align__(16) real right[DEPTH][CHANNELS + PADDING];
    __shared__ Place places[DEPTH];
    const int* phase = phases + 6 * blockIdx.z;
    const int first_tap = phase[0], first_i = phase[2], first_j = phase[3], rows = phase[4], columns = phase[5];
    const int terms = (phase[1] - first_tap) * C, pixels = images * rows * columns;
    const int first_pixel = blockIdx.x * ROWS, first_channel = blockIdx.y * CHANNELS, thread = threadIdx.x;
    if (first_pixel >= pixels) return;

    int row[8], column[8], offset[8];  // where in x the pixels begin that this thread fetches for
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int pixel = first_pixel + thread / DEPTH + 8 * i, image = pixel / (rows * columns);
        row[i] = pixel < pixels ? pixel / columns % rows * stride_y : OUTSIDE;
        column[i] = pixel % columns * stride_x;
        offset[i] = pixel < pixels ? ((image * H + row[i]) * W + column[i]) * C : 0;
    }

    auto find_places = [&](int k) {
        if (thread >= DEPTH) return;
        const int term = k + thread;
        if (term < terms) {
            const int* tap = taps + 3 * (first_tap + term / C);
            const int c = term % C;
            const int weights = turned ? tap[2] * O * C + c : (tap[2] * C + c) * O;
            places[thread] = {tap[0], tap[1], (tap[0] * W + tap[1]) * C + c, weights};
        } else {
            places[thread] = {OUTSIDE, 0, 0, -1};
        }
    };
    real next_left[8], next_right[N];
    auto fetch = [&] {
        const Place term = places[thread % DEPTH];
#pragma unroll
        for (int i = 0; i < 8; ++i)
            next_left[i] = read(x, offset[i] + term.offset, row[i] + term.row, column[i] + term.column, H, W);
#pragma unroll
        for (int i = 0; i < N; ++i) {  // neighbours in memory, c or o, go to neighbouring threads
            const int k = turned ? thread % DEPTH : (thread + THREADS * i) / CHANNELS;
            const int o = first_channel + (turned ? (thread + THREADS * i) / DEPTH : (thread + THREADS * i) % CHANNELS);
            const int from = places[k].other;
            next_right[i] = from >= 0 && o < O ? w[from + (turned ? o * C : o)] : real(0);
        }
    };
    auto put = [&] {
#pragma unroll
        for (int i = 0; i < 8; ++i) left[thread % DEPTH][thread / DEPTH + 8 * i] = next_left[i];
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const int n = thread + THREADS * i;
            if (turned)
                right[n % DEPTH][n / DEPTH] = next_right[i];
            else
                right[n / CHANNELS][n % CHANNELS] = next_right[i];
        }
    };

    real sums[8][N] = {};
    find_places(0);
    __syncthreads();
    fetch();
    for (int k = 0; k < terms; k += DEPTH) {
        __syncthreads();  // all have multiplied the piece before, and fetched this one
        put();
        find_places(k + DEPTH);
        __syncthreads();
        fetch();
        multiply_add<N>(sums, left, right);
    }

#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int pixel = first_pixel + tile_row(i);
        if (pixel >= pixels) continue;
        const int image = pixel / (rows * columns), y_row = first_i + pixel / columns % rows * every_y;
        real* target = y + ((image * y_H + y_row) * y_W + first_j + pixel % columns * every_x) * O;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const int o = first_channel + tile_column<N>(j);
            if (o < O) target[o] = bias ? sums[i][j] + bias[o] : sums[i][j];
        }
    }
}

// partial[group, (t, c), o] = sum over the group's pixels (n, i, j) of x[n, (i, j) stride + (a_t, b_t), c] g[n, i, j, o]
//
// rows of the tile: (t, c), counted as one index        columns: channels o        summed over: pixels
//
// Blocks: (tiles of rows, tiles of channels, groups). A group is `length` pixels.
extern "C" __global__ void __launch_bounds__(THREADS)
weight_gradient(const real* x, const real* g, const int* taps, real* partial, int images, int H, int W, int C, int O, int rows,
                int columns, int stride_y, int stride_x, int tap_count, int length) {
    __shared__ __align__(16) real left[DEPTH][ROWS + PADDING];
    __shared__ __align__(16) real right[DEPTH][CHANNELS + PADDING];
    __shared__ Place places[DEPTH];
    const int first_row = blockIdx.x * ROWS, first_channel = blockIdx.y * CHANNELS, thread = threadIdx.x;
    const int first_pixel = blockIdx.z * length, end = min(first_pixel + length, images * rows * columns);
    const int height = tap_count * C, mine = first_row + thread;  // each thread fetches for one row
    const int a = mine < height ? taps[3 * (mine / C)] : OUTSIDE, b = mine < height ? taps[3 * (mine / C) + 1] : 0;
    const int offset = mine < height ? (a * W + b) * C + mine % C : 0;

    auto find_places = [&](int k) {
        if (thread >= DEPTH) return;
        const int pixel = k + thread;
        if (pixel < end) {
            const int image = pixel / (rows * columns);
            const int row = pixel / columns % rows * stride_y, column = pixel % columns * stride_x;
            places[thread] = {row, column, ((image * H + row) * W + column) * C, pixel * O};
        } else {
            places[thread] = {OUTSIDE, 0, 0, -1};
        }
    };
    real next_left[DEPTH], next_right[N];
    auto fetch = [&] {
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) {
            const Place pixel = places[k];
            next_left[k] = read(x, offset + pixel.offset, a + pixel.row, b + pixel.column, H, W);
        }
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const int from = places[(thread + THREADS * i) / CHANNELS].other;
            const int o = first_channel + (thread + THREADS * i) % CHANNELS;
            next_right[i] = from >= 0 && o < O ? g[from + o] : real(0);
        }
    };
    auto put = [&] {
#pragma unroll
        for (int k = 0; k < DEPTH; ++k) left[k][thread] = next_left[k];
#pragma unroll
        for (int i = 0; i < N; ++i) right[(thread + THREADS * i) / CHANNELS][(thread + THREADS * i) % CHANNELS] = next_right[i];
    };

    real sums[8][N] = {};
    find_places(first_pixel);
    __syncthreads();
    fetch();
    for (int k = first_pixel; k < end; k += DEPTH) {
        __syncthreads();
        put();
        find_places(k + DEPTH);
        __syncthreads();
        fetch();
        multiply_add<N>(sums, left, right);
    }

#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const int row = first_row + tile_row(i), o = first_channel + tile_column<N>(j);
            if (row < height && o < O) partial[(blockIdx.z * height + row) * O + o] = sums[i][j];
        }
}

// dw[slice, c, o] = sum over groups of partial[group, (tap_of[slice], c), o], in their order; 0 where there is no such tap
extern "C" __global__ void add_groups(const real* partial, const int* tap_of, real* dw, int size, int numbers, int groups,
                                      int group_size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int tap = tap_of[i / numbers];
    real sum = 0;
    if (tap >= 0)
        for (int group = 0; group < groups; ++group) sum += partial[group * group_size + tap * numbers + i % numbers];
    dw[i] = sum;
}
