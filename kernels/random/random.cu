// Random numbers that are functions of their address; see spec.py for the equations, and cpu.py for the series and for what is
// written as fma, so that both give the same numbers to the last bit. Therefore there is no product here that a compiler could
// fuse with a sum by itself, and no logarithm or cosine of CUDA's.
//
//     thread n    block first + n of the stream    16 bytes of y: 4 numbers of float or uint32, 2 of double
//
// Floor: y is written once. The ten rounds are about 80 instructions for a block, which a GPU does in about the time that it
// needs to write 16 bytes.

typedef unsigned long long uint64;

struct Block {
    unsigned word[4];
};

__device__ Block philox(uint64 n, uint64 stream, uint64 key) {
    unsigned c0 = n, c1 = n >> 32, c2 = stream, c3 = stream >> 32, k0 = key, k1 = key >> 32;
    for (int round = 0; round < 10; ++round) {
        const uint64 a = 0xD2511F53ull * c0, b = 0xCD9E8D57ull * c2;
        c0 = unsigned(b >> 32) ^ c1 ^ k0, c1 = b;
        c2 = unsigned(a >> 32) ^ c3 ^ k1, c3 = a;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
}

// A floating type's parts: its bits as an integer, and how many of them are the fraction.
template <class Real> struct Parts;
template <> struct Parts<float> {
    typedef int Signed;
    typedef unsigned Unsigned;
    static const int SIZE = 32, FRACTION = 23, KEPT = 24;
    static const Signed ROOT_OF_HALF = 0x3F3504F3;
    static __device__ float unit() { return 2.3283064365386963e-10f; }  // 2^-32
    static __device__ float step() { return 5.9604644775390625e-08f; }  // 2^-24
};
template <> struct Parts<double> {
    typedef long long Signed;
    typedef uint64 Unsigned;
    static const int SIZE = 64, FRACTION = 52, KEPT = 53;
    static const Signed ROOT_OF_HALF = 0x3FE6A09E667F3BCD;
    static __device__ double unit() { return 5.421010862427522e-20; }  // 2^-64
    static __device__ double step() { return 1.1102230246251565e-16; }  // 2^-53
};
typedef Parts<real>::Signed Signed;
typedef Parts<real>::Unsigned Unsigned;

const int NUMBERS = 16 / sizeof(real);  // in a block

template <class To, class From> __device__ To bits_as(From x) {
    static_assert(sizeof(To) == sizeof(From), "");
    To y;
    memcpy(&y, &x, sizeof(y));
    return y;
}

__device__ Unsigned integer(const Block& block, int i) {
    if (sizeof(real) == 4) return block.word[i];
    return Unsigned(block.word[2 * i] | uint64(block.word[2 * i + 1]) << 32);
}

// sum_k c[k] x^(n - 1 - k), by Horner's scheme.
template <int n> __device__ real polynomial(real x, const double (&c)[n]) {
    real p = real(c[0]);
#pragma unroll
    for (int k = 1; k < n; ++k) p = fma(x, p, real(c[k]));
    return p;
}

__device__ real artanh_tail(real q) {  // (artanh s - s) / s^3, q = s^2
    if (sizeof(real) == 4) return polynomial(q, {1. / 9, 1. / 7, 1. / 5, 1. / 3});
    return polynomial(q, {1. / 21, 1. / 19, 1. / 17, 1. / 15, 1. / 13, 1. / 11, 1. / 9, 1. / 7, 1. / 5, 1. / 3});
}

__device__ real sine_tail(real z) {  // (sin x - x) / x^3, z = x^2
    if (sizeof(real) == 4) return polynomial(z, {1. / 362880, -1. / 5040, 1. / 120, -1. / 6});
    return polynomial(z, {1. / 355687428096000., -1. / 1307674368000., 1. / 6227020800., -1. / 39916800, 1. / 362880,
                          -1. / 5040, 1. / 120, -1. / 6});
}

__device__ real cosine(real z) {
    if (sizeof(real) == 4) return polynomial(z, {-1. / 3628800, 1. / 40320, -1. / 720, 1. / 24, -1. / 2, 1.});
    return polynomial(z, {-1. / 6402373705728000., 1. / 20922789888000., -1. / 87178291200., 1. / 479001600, -1. / 3628800,
                          1. / 40320, -1. / 720, 1. / 24, -1. / 2, 1.});
}

// Box and Muller's two numbers for two integers.
__device__ void normal_pair(Unsigned a, Unsigned b, real& y0, real& y1) {
    typedef Parts<real> P;
    const real u = (real(a) + real(0.5)) * P::unit();
    const Signed bits = bits_as<Signed>(u) - P::ROOT_OF_HALF;  // u = 2^e m with m in [sqrt(1/2), sqrt 2)
    const real e = real(bits >> P::FRACTION);
    const real m = bits_as<real>((bits & ((Signed(1) << P::FRACTION) - 1)) + P::ROOT_OF_HALF);
    const real s = (m - real(1)) / (m + real(1)), q = s * s;
    const real half_log_m = fma(s * q, artanh_tail(q), s);
    const real r = sqrt(fma(real(-4), half_log_m, e * real(-1.3862943611198906)));  // e times -2 log 2

    const Unsigned quarters = Unsigned(b + (Unsigned(1) << (P::SIZE - 3))) >> (P::SIZE - 2);
    const real x = real(Signed(b - (quarters << (P::SIZE - 2)))) * (real(6.283185307179586) * P::unit());
    const real z = x * x, c = cosine(z), t = fma(x * z, sine_tail(z), x);
    const real across = r * (quarters & 1 ? t : c), up = r * (quarters & 1 ? c : t);
    y0 = (quarters + 1) & 2 ? -across : across;
    y1 = quarters & 2 ? -up : up;
}

// The numbers of block n to their place in y: at once where that is whole and aligned to 16 bytes.
template <class T> struct alignas(16) Sixteen {
    T number[16 / sizeof(T)];
};
template <class T> __device__ void store(T* y, long long n, long long size, const Sixteen<T>& of) {
    const int count = 16 / sizeof(T);
    if (count * (n + 1) <= size && size_t(y) % 16 == 0) {
        reinterpret_cast<Sixteen<T>*>(y)[n] = of;
        return;
    }
    for (int i = 0; i < count; ++i)
        if (count * n + i < size) y[count * n + i] = of.number[i];
}

__device__ long long number_of_thread() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }

// The three below: stream_at, where it is not null, is where the number of the stream is found when the kernel runs.

extern "C" __global__ void bits(unsigned* y, long long size, uint64 key, uint64 stream, const uint64* stream_at, uint64 first) {
    const long long n = number_of_thread();
    if (stream_at) stream = *stream_at;
    const Block block = philox(first + n, stream, key);
    store(y, n, size, Sixteen<unsigned>{{block.word[0], block.word[1], block.word[2], block.word[3]}});
}

extern "C" __global__ void uniform(real* y, long long size, uint64 key, uint64 stream, const uint64* stream_at, uint64 first) {
    const long long n = number_of_thread();
    if (stream_at) stream = *stream_at;
    const Block block = philox(first + n, stream, key);
    Sixteen<real> of;
    for (int i = 0; i < NUMBERS; ++i)
        of.number[i] = real(integer(block, i) >> (Parts<real>::SIZE - Parts<real>::KEPT)) * Parts<real>::step();
    store(y, n, size, of);
}

extern "C" __global__ void normal(real* y, long long size, uint64 key, uint64 stream, const uint64* stream_at, uint64 first) {
    const long long n = number_of_thread();
    if (stream_at) stream = *stream_at;
    const Block block = philox(first + n, stream, key);
    Sixteen<real> of;
    for (int i = 0; i < NUMBERS; i += 2)
        normal_pair(integer(block, i), integer(block, i + 1), of.number[i], of.number[i + 1]);
    store(y, n, size, of);
}

// order[k] = the place in u of the k-th smallest number, equal ones in the order in which they come. A thread counts those that
// come before its own: all threads of a warp read the same u[j], at once, and from the cache.
extern "C" __global__ void order(long long* order, const real* u, int size) {
    const long long i = number_of_thread();
    if (i >= size) return;
    int before = 0;
    for (int j = 0; j < size; ++j) before += u[j] < u[i] || (u[j] == u[i] && j < i);
    order[before] = i;
}
