// The same tile by tensor cores, for float numbers that are rounded first: to tf32, or to bf16 (see tensor_cores.py).
//
// A warp multiplies as one: mma.sync makes 16 x 8 sums of 8 terms each, in one instruction, from what its 32 lanes hold. Which
// lane holds what is the instruction's own (PTX ISA, "Matrix Fragments for mma.m16n8k8"). With g = lane / 4 and m = lane % 4:
//
//                         8 columns                a lane's share
//                    +---------------+
//           8 terms  |       b       |             d    rows g, g + 8       columns 2 m, 2 m + 1
//                    +---------------+             a    rows g, g + 8       terms m, m + 4 (tf32), or 2 m, 2 m + 1 (bf16)
//        8 terms                                   b    column g            the same terms
//       +-------+    +---------------+
//    16 |       |    |               |             Two bf16 share a register, the first one in its lower half.
//  rows |   a   |    |       d       |
//       +-------+    +---------------+             Each of the two warps makes half of the tile's columns, all 64 rows: four
//                                                  such products below one another, N / 2 of them side by side.
//
// Products of rounded numbers are exact in float, and are added in float.

constexpr int PADDING = 8;  // so that lanes which read a fragment of tf32, 4 terms of 8 rows, meet 32 banks

__device__ int tile_row(int i) { return 8 * i + threadIdx.x % 32 / 4; }
template <int N> __device__ int tile_column(int j) {
    return threadIdx.x / 32 * 4 * N + j / 2 * 8 + threadIdx.x % 4 * 2 + j % 2;
}

#ifdef __CUDACC__  // a processor has its own, in tests/cuda/cuda_on_cpu.h

__device__ unsigned to_tf32(float x) {
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
}

__device__ unsigned to_bf16(float first, float second) {
    unsigned pair;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return pair;
}

// d += a b
__device__ void warp_multiply_add(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ void warp_multiply_add(float (&d)[4], const unsigned (&a)[2], const unsigned (&b)[1]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(b[0]));
}

#endif

constexpr int SHARE = PRECISION == TF32 ? 2 : 1;  // registers in which a lane holds its terms of a row of a, or a column of b

// The s-th of them, for a row (or column) of what lies in shared memory
template <int LENGTH> __device__ unsigned rounded(const float (*piece)[LENGTH], int at, int s) {
    const int m = threadIdx.x % 4;
#if PRECISION == TF32
    return to_tf32(piece[m + 4 * s][at]);
#else
    return to_bf16(piece[2 * m][at], piece[2 * m + 1][at]);
#endif
}

// sums[i][j] += sum over k of left[k][row i] right[k][column j], of rounded numbers
template <int N>
__device__ void multiply_add(float (&sums)[8][N], const float (*left)[ROWS + PADDING], const float (*right)[8 * N + PADDING]) {
    const int g = threadIdx.x % 32 / 4, first_column = threadIdx.x / 32 * 4 * N + g;
    unsigned b[N / 2][SHARE];
#pragma unroll
    for (int j = 0; j < N / 2; ++j)
#pragma unroll
        for (int s = 0; s < SHARE; ++s) b[j][s] = rounded(right, first_column + 8 * j, s);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        unsigned a[2 * SHARE];
#pragma unroll
        for (int s = 0; s < SHARE; ++s) {
            a[2 * s] = rounded(left, 16 * i + g, s);
            a[2 * s + 1] = rounded(left, 16 * i + 8 + g, s);
        }
#pragma unroll
        for (int j = 0; j < N / 2; ++j) {
            float d[4] = {sums[2 * i][2 * j], sums[2 * i][2 * j + 1], sums[2 * i + 1][2 * j], sums[2 * i + 1][2 * j + 1]};
            warp_multiply_add(d, a, b[j]);
            sums[2 * i][2 * j] = d[0], sums[2 * i][2 * j + 1] = d[1];
            sums[2 * i + 1][2 * j] = d[2], sums[2 * i + 1][2 * j + 1] = d[3];
        }
    }
}
