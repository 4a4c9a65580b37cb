// Attention on a GPU: the T x S matrix of scores exists in tiles of 64 x 64, each made where it is used; gpu.py draws them.
//
// All kernels here are one scheme. A block owns 64 rows (queries, or keys) and goes over the other side in tiles of 64 columns:
//
//     scores     s = rows columns^T           a product summed over the depth D, in registers, 8 x 8 of them for each thread
//     weights    from s, each by itself       written to shared memory, where all threads of the block can read them
//     sums       += weights values            a product summed over the tile's 64 columns, in registers again
//
//                      rows        columns      weights                      values      sums
//     forward          queries     keys         p = exp(s - largest yet)     v           o
//     query_gradient   queries     keys         ds                           k           dq
//     key_gradient     keys        queries      ds                           q           dk
//     value_gradient   keys        queries      p = exp(s - l)               g           dv
//
// Each block writes its own rows: nothing is added atomically, at the price of making s three times in the backward pass. Sums
// are WIDTH wide; wider values are cut into slices, one block each, and the scores made for each again.

#include "tile.cuh"

constexpr int COLUMNS = 64, N = WIDTH / 8;
constexpr unsigned ALL_LANES = 0xffffffffu;

struct Shared {
    real left[DEPTH][ROWS + PADDING], right[DEPTH][COLUMNS + PADDING];  // of the product that makes scores
    real values[DEPTH][WIDTH + PADDING];
    real weights[COLUMNS][ROWS + PADDING];  // the left matrix of the second product: a row for each number that is summed over
};

struct Sizes {
    int heads, T, S, D, E, causal;
};

// Query i looks at key j if j <= last_seen(i). A key that the mask hides, or that does not exist, counts as NOBODYS instead of
// j, and a query that does not exist sees up to -1: so one comparison tells for each score, without a branch.
constexpr int NOBODYS = 0x7fffffff;
__device__ int last_seen(int i, const Sizes& n) { return i >= n.T ? -1 : n.causal ? i + n.S - n.T : n.S - 1; }
__device__ int shown(int j, const Sizes& n, const bool* mask) { return j < n.S && (!mask || mask[j]) ? j : NOBODYS; }

// sums[i][j] = <row i of a, row j of b>, for the rows of a from `row` on and of b from `column` on, of `depth` numbers each
__device__ void products(real (&sums)[8][8], const real* a, int row, int rows, const real* b, int column, int columns,
                         int depth, Shared& shared) {
    const int thread = threadIdx.x, first = thread / DEPTH;  // neighbouring threads read neighbouring numbers
    real next_left[8], next_right[8];
    auto fetch = [&](int k) {
        k += thread % DEPTH;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int r = row + first + 8 * i, c = column + first + 8 * i;
            next_left[i] = r < rows && k < depth ? a[r * depth + k] : real(0);
            next_right[i] = c < columns && k < depth ? b[c * depth + k] : real(0);
        }
    };
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < 8; ++j) sums[i][j] = 0;
    fetch(0);
    for (int k = 0; k < depth; k += DEPTH) {
        __syncthreads();  // all have multiplied the piece before
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            shared.left[thread % DEPTH][first + 8 * i] = next_left[i];
            shared.right[thread % DEPTH][first + 8 * i] = next_right[i];
        }
        __syncthreads();
        fetch(k + DEPTH);  // on its way from memory while this piece is multiplied
        multiply_add<8>(sums, shared.left, shared.right);
    }
}

// sums[i][j] += sum over the tile's columns c of weights[c][row i] values[column + c][first_value + j]. Nobody overwrites a
// weight that another thread still reads: before the next weights come the next products, with barriers of their own.
__device__ void add_weighted(real (&sums)[8][N], const real* values, int column, int columns, int first_value, int width,
                             Shared& shared) {
    const int thread = threadIdx.x;
    real next[N];
    auto fetch = [&](int c) {
#pragma unroll
        for (int i = 0; i < N; ++i) {
            const int row = column + c + (thread + THREADS * i) / WIDTH, value = first_value + (thread + THREADS * i) % WIDTH;
            next[i] = row < columns && value < width ? values[row * width + value] : real(0);
        }
    };
    fetch(0);
    for (int c = 0; c < COLUMNS; c += DEPTH) {
        __syncthreads();  // the first time, this also says that all weights are written
#pragma unroll
        for (int i = 0; i < N; ++i) shared.values[(thread + THREADS * i) / WIDTH][(thread + THREADS * i) % WIDTH] = next[i];
        __syncthreads();
        if (c + DEPTH < COLUMNS) fetch(c + DEPTH);
        multiply_add<N>(sums, shared.weights + c, shared.values);
    }
}

// The sum, or the largest, of the eight threads that hold the columns of one row: neighbours in a warp
__device__ real sum_of_row(real value) {
    for (int bit = 1; bit < 8; bit *= 2) value += __shfl_xor_sync(ALL_LANES, value, bit);
    return value;
}
__device__ real largest_of_row(real value) {
    for (int bit = 1; bit < 8; bit *= 2) value = max(value, __shfl_xor_sync(ALL_LANES, value, bit));
    return value;
}

// Online softmax (Milakov and Gimelshein 2018): scores come tile by tile, and both sums of
//
//     o_i = sum_j exp(s_ij - m_i) v_j / sum_j exp(s_ij - m_i)         m_i: the largest score of the row
//
// begin before m_i is known. When a tile raises m to m', what has been summed is multiplied by exp(m - m').
//
// Blocks: (examples and heads, tiles of queries, slices of values).
extern "C" __global__ void __launch_bounds__(THREADS)
forward(const real* q, const real* k, const real* v, const bool* key_mask, real* o, real* l, int heads, int T, int S, int D,
        int E, int causal, real scale) {
    __shared__ __align__(16) Shared shared;
    const Sizes n = {heads, T, S, D, E, causal};
    const real infinite = __int_as_float(0x7f800000);
    const int head = blockIdx.x, row_group = threadIdx.x / 8, column_group = threadIdx.x % 8, first_value = blockIdx.z * WIDTH;
    const int first = (gridDim.y - 1 - blockIdx.y) * ROWS;  // the last queries see most keys if causal: begin with them
    const int end = causal ? min(S, min(first + ROWS, T) + S - T) : S;  // behind the last key that any of these queries sees
    q += head * T * D, k += head * S * D, v += head * S * E, o += head * T * E, l += head * T;
    if (key_mask) key_mask += head / heads * S;

    real sums[8][N] = {}, m[8], total[8] = {};
    for (int i = 0; i < 8; ++i) m[i] = -infinite;
    for (int column = 0; column < end; column += COLUMNS) {
        real s[8][8];
        int key[8];
        products(s, q, first, T, k, column, end, D, shared);
#pragma unroll
        for (int j = 0; j < 8; ++j) key[j] = shown(column + owned<8>(column_group, j), n, key_mask);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int row = owned<8>(row_group, i), last = last_seen(first + row, n);
            real largest = m[i];
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                s[i][j] = key[j] <= last ? s[i][j] * scale : -infinite;
                largest = max(largest, s[i][j]);
            }
            largest = largest_of_row(largest);
            const real shift = largest == -infinite ? real(0) : largest, correction = exp(m[i] - shift);
            real sum = 0;
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                const real p = exp(s[i][j] - shift);
                sum += p;
                shared.weights[owned<8>(column_group, j)][row] = p;
            }
            total[i] = total[i] * correction + sum_of_row(sum);
            m[i] = largest;
#pragma unroll
            for (int j = 0; j < N; ++j) sums[i][j] *= correction;
        }
        add_weighted(sums, v, column, end, first_value, E, shared);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        const int row = first + owned<8>(row_group, i);
        if (row >= T) continue;
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const int value = first_value + owned<N>(column_group, j);
            if (value < E) o[row * E + value] = total[i] == 0 ? real(0) : sums[i][j] / total[i];
        }
        if (column_group == 0 && blockIdx.z == 0) l[row] = total[i] == 0 ? -infinite : m[i] + log(total[i]);
    }
}

// r_i = <g_i, o_i> - h_i, a warp for each row
extern "C" __global__ void row_statistics(const real* o, const real* g, const real* h, real* r, int rows, int E) {
    const int row = (blockIdx.x * blockDim.x + threadIdx.x) / 32, lane = threadIdx.x % 32;
    real sum = 0;
    if (row < rows)
        for (int e = lane; e < E; e += 32) sum += g[row * E + e] * o[row * E + e];
    for (int bit = 16; bit; bit /= 2) sum += __shfl_xor_sync(ALL_LANES, sum, bit);
    if (row < rows && lane == 0) r[row] = sum - h[row];
}

struct Arrays {  // of one head
    const real *q, *k, *v, *g, *l, *r;
    const bool* key_mask;
};

// One of the three gradients: of the queries if by_query, otherwise of the keys or, if of_values, of the values
template <bool by_query, bool of_values>
__device__ void gradient(Arrays a, real* target, const Sizes n, real scale, Shared& shared) {
    const int head = blockIdx.x, row_group = threadIdx.x / 8, column_group = threadIdx.x % 8;
    const int rows = by_query ? n.T : n.S, width = of_values ? n.E : n.D;
    const int first = blockIdx.y * ROWS, first_value = blockIdx.z * WIDTH, shift = n.S - n.T;
    a.q += head * n.T * n.D, a.k += head * n.S * n.D, a.v += head * n.S * n.E, a.g += head * n.T * n.E;
    a.l += head * n.T, a.r += head * n.T, target += head * rows * width;
    if (a.key_mask) a.key_mask += head / n.heads * n.S;
    // If causal: where the columns begin that any of these rows meets, and where they end
    const int begin = n.causal && !by_query ? max(0, first - shift) / COLUMNS * COLUMNS : 0;
    const int end = !by_query ? n.T : n.causal ? min(n.S, min(first + ROWS, n.T) + shift) : n.S;

    real sums[8][N] = {};
    for (int column = begin; column < end; column += COLUMNS) {
        real s[8][8];
        // What a score needs to know of its query and key: as numbers of rows and columns, whichever of the two they are
        int key[8], last[8];
        real l[8], r[8];
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            const int row = first + owned<8>(row_group, i), other = column + owned<8>(column_group, i);
            const int query = by_query ? row : other;
            last[i] = last_seen(query, n);
            key[i] = shown(by_query ? other : row, n, a.key_mask);
            l[i] = query < n.T ? a.l[query] : real(0);
            r[i] = query < n.T && !of_values ? a.r[query] : real(0);
        }
        products(s, by_query ? a.q : a.k, first, rows, by_query ? a.k : a.q, column, end, n.D, shared);
#pragma unroll
        for (int i = 0; i < 8; ++i)
#pragma unroll
            for (int j = 0; j < 8; ++j) {
                const int of_query = by_query ? i : j, of_key = by_query ? j : i;
                const real p = exp(s[i][j] * scale - l[of_query]);
                shared.weights[owned<8>(column_group, j)][owned<8>(row_group, i)] = key[of_key] <= last[of_query] ? p : real(0);
            }
        if (!of_values) {  // each thread reads its own weights p back, which leaves its registers to the other product
            products(s, by_query ? a.g : a.v, first, rows, by_query ? a.v : a.g, column, end, n.E, shared);
#pragma unroll
            for (int i = 0; i < 8; ++i)
#pragma unroll
                for (int j = 0; j < 8; ++j) {
                    const int of_query = by_query ? i : j, of_key = by_query ? j : i;
                    real& p = shared.weights[owned<8>(column_group, j)][owned<8>(row_group, i)];
                    p = key[of_key] <= last[of_query] ? p * (s[i][j] - r[of_query]) * scale : real(0);
                }
        }
        add_weighted(sums, by_query ? a.k : of_values ? a.g : a.q, column, end, first_value, width, shared);
    }
#pragma unroll
    for (int i = 0; i < 8; ++i)
#pragma unroll
        for (int j = 0; j < N; ++j) {
            const int row = first + owned<8>(row_group, i), value = first_value + owned<N>(column_group, j);
            if (row < rows && value < width) target[row * width + value] = sums[i][j];
        }
}

// Blocks: (examples and heads, tiles of rows, slices of the gradient).
extern "C" __global__ void __launch_bounds__(THREADS)
query_gradient(const real* q, const real* k, const real* v, const real* g, const real* l, const real* r, const bool* key_mask,
               real* dq, int heads, int T, int S, int D, int E, int causal, real scale) {
    __shared__ __align__(16) Shared shared;
    gradient<true, false>({q, k, v, g, l, r, key_mask}, dq, {heads, T, S, D, E, causal}, scale, shared);
}

extern "C" __global__ void __launch_bounds__(THREADS)
key_gradient(const real* q, const real* k, const real* v, const real* g, const real* l, const real* r, const bool* key_mask,
             real* dk, int heads, int T, int S, int D, int E, int causal, real scale) {
    __shared__ __align__(16) Shared shared;
    gradient<false, false>({q, k, v, g, l, r, key_mask}, dk, {heads, T, S, D, E, causal}, scale, shared);
}

extern "C" __global__ void __launch_bounds__(THREADS)
value_gradient(const real* q, const real* k, const real* v, const real* g, const real* l, const real* r, const bool* key_mask,
               real* dv, int heads, int T, int S, int D, int E, int causal, real scale) {
    __shared__ __align__(16) Shared shared;
    gradient<false, true>({q, k, v, g, l, r, key_mask}, dv, {heads, T, S, D, E, causal}, scale, shared);
}
