// Images drawn pixel by pixel, a block of threads for each, or for a few: see gpu.py, and spec.py for what instructions mean.
//
// An affine instruction at a pixel is a small product of matrices, and its weights are most of what is read:
//
//                     32 outputs
//                    o0 o1 ... o31      A warp takes 32 outputs, a lane each, so that it reads 128 neighbouring bytes of
//      warp 0   k=0   .  .      .       weights; and of the terms k = (tap, channel) every eighth one, with the images' numbers
//      warp 1   k=1   .  .      .       for it, the same in all lanes. The eight warps' sums meet in shared memory, and are
//        :                              added in their order. A barrier before and after: then the next instruction may read.
//      warp 0   k=8   .  .      .
//
// Pixels depend on each other as closely as instructions do, so all of it is one chain of barriers, two for each instruction.

#include "device.cuh"

constexpr int WARPS = 8;
enum Code { AFFINE, RELU, GATE, ADD };  // as in gpu.py

struct Place {
    int start, row, column;  // of the first number; steps to the next row and the next column
    __device__ int at(int i, int j) const { return start + i * row + j * column; }
};

struct Line {
    int code;
    Place y;
    int outputs;
    Place x;
    int inputs;
    union {
        Place z;
        struct {
            int weights, bias, first_tap, taps;
        };
    };
};

struct Network {
    const Line* lines;
    const int* taps;
    const real* weights;
    real* memory;  // of the block's first image
    int numbers;   // of each image
    int images, H, W;
};

__device__ void affine(const Network& net, const Line& line, int i, int j, real (*parts)[IMAGES][32]) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, C = line.inputs, O = line.outputs;
    for (int first = 0; first < O; first += 32) {
        real sums[IMAGES] = {};
        const int o = first + lane;
        int tap = 0, c = warp;
        for (int k = warp; k < line.taps * C; k += WARPS, c += WARPS) {
            while (c >= C) c -= C, ++tap;
            const int row = i + net.taps[2 * (line.first_tap + tap)], column = j + net.taps[2 * (line.first_tap + tap) + 1];
            if (row < 0 || row >= net.H || column < 0 || column >= net.W) continue;  // outside there are zeros
            const real weight = o < O ? net.weights[line.weights + k * O + o] : real(0);
            const real* x = net.memory + line.x.at(row, column) + c;
#pragma unroll
            for (int n = 0; n < IMAGES; ++n)
                if (n < net.images) sums[n] += weight * x[n * net.numbers];
        }
#pragma unroll
        for (int n = 0; n < IMAGES; ++n) parts[warp][n][lane] = sums[n];
        __syncthreads();
        if (warp < net.images && o < O) {  // from here on a warp has an image
            real sum = net.weights[line.bias + o];
            for (int w = 0; w < WARPS; ++w) sum += parts[w][warp][lane];
            net.memory[warp * net.numbers + line.y.at(i, j) + o] = sum;
        }
        __syncthreads();
    }
}

__device__ void run(const Network& net, const Line& line, int i, int j, real (*parts)[IMAGES][32]) {
    if (line.code == AFFINE) return affine(net, line, i, j, parts);
    const int image = threadIdx.x / 32 * net.numbers;
    const real* x = net.memory + image + line.x.at(i, j);
    real* y = net.memory + image + line.y.at(i, j);
    if (threadIdx.x / 32 < net.images)
        for (int c = threadIdx.x % 32; c < line.outputs; c += 32)
            if (line.code == RELU)
                y[c] = x[c] > 0 || x[c] != x[c] ? x[c] : real(0);  // NaN stays NaN
            else if (line.code == GATE)
                y[c] = tanh(x[c]) * sigmoid(x[line.outputs + c]);
            else
                y[c] = x[c] + net.memory[image + line.z.at(i, j) + c];
    __syncthreads();
}

// The level that a uniform number u chooses, by a warp: of two, the second if its probability exceeds u; of more, the first
// whose cumulated probability exceeds it. If a logit is NaN, all comparisons fail, and it is the first.
__device__ int choice(const real* logits, int levels, double u, double* cumulated) {
    if (levels == 1) return u < sigmoid(logits[0]);
    const int lane = threadIdx.x % 32;
    real most = logits[0];
    for (int k = lane; k < levels; k += 32) most = fmax(most, logits[k]);
    most = largest_of_warp(most);
    for (int k = lane; k < levels; k += 32) cumulated[k] = exp(logits[k] - most);
    __syncwarp();
    if (lane == 0)
        for (int k = 1; k < levels; ++k) cumulated[k] += cumulated[k - 1];
    __syncwarp();
    int below = 0;
    for (int k = lane; k < levels - 1; k += 32) below += u * cumulated[levels - 1] >= cumulated[k];
    for (int apart = 16; apart > 0; apart /= 2) below += __shfl_xor_sync(ALL_LANES, below, apart);
    return below;
}

// x (N, H, W): the first `known` pixels are kept. memory (N, numbers), uniforms (H W - known, N), colours. Lines from 0 on are
// those of a row, from `pixels` on of a pixel, from `head` to `end` of the head. levels: of the logits, 1 for two. image and
// its steps: where it lies. Blocks: IMAGES images each.
extern "C" __global__ void __launch_bounds__(32 * WARPS)
sample(int* x, const Line* lines, const int* taps, const real* weights, real* memory, const double* uniforms,
       const real* colours, int N, int H, int W, int known, int levels, int numbers, int logits, int image, int image_row,
       int image_column, int pixels, int head, int end) {
    extern __shared__ double cumulated[];
    __shared__ real parts[WARPS][IMAGES][32];
    const int first = blockIdx.x * IMAGES, mine = threadIdx.x / 32, images = min(IMAGES, N - first);
    const Network net = {lines, taps, weights, memory + (long long)first * numbers, numbers, images, H, W};
    for (int i = 0; i < H; ++i) {
        for (int line = 0; line < pixels; ++line)
            for (int j = 0; j < W; ++j) run(net, lines[line], i, j, parts);
        for (int j = 0; j < W; ++j) {
            for (int line = pixels; line < head; ++line) run(net, lines[line], i, j, parts);
            const int pixel = i * W + j;
            if (pixel >= known)
                for (int line = head; line < end; ++line) run(net, lines[line], i, j, parts);
            if (mine < images) {
                int& level = x[((first + mine) * H + i) * W + j];
                real* values = net.memory + mine * numbers;
                int chosen = level;
                if (pixel >= known) {
                    const double u = uniforms[(pixel - known) * N + first + mine];
                    chosen = choice(values + logits, levels, u, cumulated + mine * levels);
                }
                if (threadIdx.x % 32 == 0) {
                    level = chosen;
                    values[image + i * image_row + j * image_column] = colours[chosen];
                }
            }
            __syncthreads();
        }
    }
}
