// CUDA C on a processor: included before a .cu file, this header makes it C++ that g++ compiles and one thread runs.
//
// A CUDA thread becomes a fiber: a stack of its own, left and entered again by longjmp. Blocks run one after another. Within a
// block, a fiber runs until it ends or waits, at a barrier or for the lanes of its warp; then the next one runs:
//
//      fiber 0   ====|            ======|              = runs          | waits or ends
//      fiber 1        ====|              ======|
//      fiber 2             ====|                ======|
//                               ^ all wait at one barrier: it opens
//
// What waits for ever is a fault of the kernel, and reported as one: a barrier that some threads never reach, a shuffle that
// names a lane which never comes. In what order fibers (and blocks) run is the schedule: forwards; backwards, where
// each warp runs as far ahead as it can before the next; shuffled. A kernel without races gives the same under each. Shared
// memory is filled with NaN before each block, so what is read before it is written shows. Before and behind dynamic shared
// memory, and each array of the static one, lie guard words, NaN of other bits, which are looked at after each block.
//
// Not seen: races between threads of a warp that the three orders happen to hide, coalescing, bank conflicts, occupancy, speed.
#pragma once
#include <algorithm>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <type_traits>
#include <ucontext.h>
#include <utility>
#include <vector>

// The language's words

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __shared__ SHARED_GUARD(__COUNTER__) SHARED  // static: in one place, so that it can be filled with NaN
#define SHARED static __attribute__((section("shared_memory")))
#define DYNAMIC_SHARED(type, name) type* name = reinterpret_cast<type*>(emulator::dynamic.data() + emulator::GUARD)

#ifdef __SANITIZE_ADDRESS__  // which brings guards of its own
#define SHARED_GUARD(n)
#else
#define SHARED_GUARD(n) SHARED_GUARD_NAMED(n)
#define SHARED_GUARD_NAMED(n)                                                                                              \
    SHARED unsigned guard_##n[emulator::STATIC_GUARD];                                                                      \
    static emulator::Guard guard_at_##n __attribute__((section("shared_guards"), used)) = {guard_##n, __LINE__};
#endif

struct uint3 { unsigned x, y, z; };
struct dim3 { unsigned x = 1, y = 1, z = 1; };
struct alignas(8) float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(16) double2 { double x, y; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

static constexpr int warpSize = 32;
static uint3 threadIdx, blockIdx;
static dim3 blockDim, gridDim;

namespace emulator {

// Shared memory, and its guards

struct Guard {  // the words before a static array, and behind the one that was declared before it; its line
    unsigned* words;
    unsigned line;
};

#ifdef __SANITIZE_ADDRESS__
static constexpr size_t GUARD = 0;
#else
static constexpr size_t GUARD = 4096;  // bytes before and behind dynamic shared memory
#endif
static constexpr unsigned STATIC_GUARD = 16, GUARD_WORD = 0xfff5a5a5;  // NaN as a float, and two of them as a double
static std::vector<unsigned char> dynamic;

}  // namespace emulator

extern "C" __attribute__((weak, visibility("hidden"))) char __start_shared_memory[], __stop_shared_memory[];  // by the linker
extern "C" __attribute__((weak, visibility("hidden"))) emulator::Guard __start_shared_guards[], __stop_shared_guards[];

template <class To, class From> To same_bits(From a) {
    static_assert(sizeof(To) == sizeof(From));
    To b;
    memcpy(&b, &a, sizeof b);
    return b;
}

namespace emulator {

// Fibers

enum State { READY, AT_BARRIER, IN_WARP, ENDED };

struct Fiber {
    ucontext_t context;
    jmp_buf place;
    bool started = false;
    State state;
    unsigned line, mask;              // where it waits, and for which lanes
    int operation;                    // of the warp
    unsigned char given[32], taken[32];  // what it hands to its warp, and a copy of that from when all lanes had come
};

static constexpr size_t STACK = 256 << 10;
static std::vector<Fiber> fibers;
static char* stacks;
static int current, threads;
static bool ahead;  // whether each warp runs as far as it can before the next
static std::vector<int> order;
static void (*kernel)(void**);
static void** arguments;
static char error[512];
static ucontext_t scheduler;
static jmp_buf scheduler_place;

// A context's first entry makes system calls, longjmp none: so a fiber is entered once, and then runs thread after thread.
// Under AddressSanitizer, which takes longjmp for the end of functions, each entry is of the first kind.
inline void to_scheduler(Fiber& f) {
#ifdef __SANITIZE_ADDRESS__
    swapcontext(&f.context, &scheduler);
#else
    if (!_setjmp(f.place)) _longjmp(scheduler_place, 1);
#endif
}

inline void to_fiber(Fiber& f) {
#ifdef __SANITIZE_ADDRESS__
    swapcontext(&scheduler, &f.context);
#else
    if (_setjmp(scheduler_place)) return;
    if (f.started) _longjmp(f.place, 1);
    f.started = true;
    setcontext(&f.context);
#endif
}

inline void run_threads() {
    for (;;) {
        kernel(arguments);
        fibers[current].state = ENDED;
        to_scheduler(fibers[current]);
    }
}

inline void create(Fiber& f, char* stack) {
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = stack;
    f.context.uc_stack.ss_size = STACK;
    f.context.uc_link = nullptr;
    f.started = false;
    makecontext(&f.context, run_threads, 0);
}

inline void create_fibers() {
    if (!stacks) {
        int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        stacks = static_cast<char*>(mmap(nullptr, 1024 * STACK, PROT_READ | PROT_WRITE, flags, -1, 0));
        fibers.resize(1024);
    }
    for (int t = 0; t < 1024; ++t) create(fibers[t], stacks + t * STACK);
}

inline bool fail(const char* format, ...) {
    int n = snprintf(error, sizeof error, "block (%u, %u, %u): ", blockIdx.x, blockIdx.y, blockIdx.z);
    va_list rest;
    va_start(rest, format);
    vsnprintf(error + n, sizeof error - n, format, rest);
    va_end(rest);
    return false;
}

inline void wait(State state, unsigned line, int operation = 0, unsigned mask = 0) {
    Fiber& f = fibers[current];
    f.state = state, f.line = line, f.operation = operation, f.mask = mask;
    to_scheduler(f);
}

// A block

inline bool together(const Fiber& a, const Fiber& b) {
    return b.state == IN_WARP && b.mask == a.mask && b.operation == a.operation && b.line == a.line;
}

inline int absent_lane(int t) {  // the first lane which the thread's operation names and which is not there; -1 if none
    for (int lane = 0; lane < 32; ++lane) {
        int other = t / 32 * 32 + lane;
        if (fibers[t].mask >> lane & 1 && (other >= threads || !together(fibers[t], fibers[other]))) return lane;
    }
    return -1;
}

inline bool wake_warps() {  // whose lanes have all come
    bool any = false;
    for (int t = 0; t < threads; ++t) {
        if (fibers[t].state != IN_WARP || absent_lane(t) >= 0) continue;
        unsigned mask = fibers[t].mask;
        for (int lane = 0; lane < 32; ++lane)
            if (mask >> lane & 1) {
                Fiber& f = fibers[t / 32 * 32 + lane];
                memcpy(f.taken, f.given, sizeof f.given);
                f.state = READY;
            }
        any = true;
    }
    return any;
}

__attribute__((no_sanitize("address"))) inline void spoil_shared_memory() {  // all bits set is NaN
#ifdef __SANITIZE_ADDRESS__
    for (volatile char* p = __start_shared_memory; p && p < __stop_shared_memory; ++p) *p = char(0xFF);
#else
    if (__start_shared_memory) memset(__start_shared_memory, 0xFF, __stop_shared_memory - __start_shared_memory);
#endif
    if (!dynamic.empty()) memset(dynamic.data(), 0xFF, dynamic.size());
    for (Guard* guard = __start_shared_guards; guard < __stop_shared_guards; ++guard)
        std::fill_n(guard->words, STATIC_GUARD, GUARD_WORD);
    for (size_t at = 0; at < GUARD; at += sizeof GUARD_WORD)
        for (unsigned char* guard : {dynamic.data(), dynamic.data() + dynamic.size() - GUARD})
            memcpy(guard + at, &GUARD_WORD, sizeof GUARD_WORD);
}

inline bool guards_are_whole() {
    for (Guard* guard = __start_shared_guards; guard < __stop_shared_guards; ++guard)
        if (std::count(guard->words, guard->words + STATIC_GUARD, GUARD_WORD) != STATIC_GUARD)
            return fail("wrote beyond static shared memory, beside what line %u declares", guard->line);
    for (size_t at = 0; at < GUARD; at += sizeof GUARD_WORD)
        for (bool behind : {false, true})
            if (memcmp(dynamic.data() + (behind ? dynamic.size() - GUARD : 0) + at, &GUARD_WORD, sizeof GUARD_WORD))
                return fail("wrote %s its %zu bytes of dynamic shared memory", behind ? "behind" : "before",
                            dynamic.size() - 2 * GUARD);
    return true;
}

inline bool explain_deadlock(int ended, int at_barrier, unsigned line, unsigned other_line) {
    for (int t = 0; t < threads; ++t)
        if (fibers[t].state == IN_WARP)
            return fail("thread %d waits in a warp operation on line %u for lane %d, which does not come", t, fibers[t].line,
                        absent_lane(t));
    if (line != other_line) return fail("threads wait at different barriers, on lines %u and %u", line, other_line);
    return fail("%d threads wait at the barrier on line %u, which %d never reach", at_barrier, line, ended);
}

inline bool resume(int t) {  // until it waits or ends; whether without a fault
    if (fibers[t].state != READY) return true;
    current = t;
    threadIdx = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
    to_fiber(fibers[t]);
    return !error[0];
}

inline bool run_block() {
    spoil_shared_memory();
    for (int t = 0; t < threads; ++t) fibers[t].state = READY;
    for (;;) {
        if (ahead)
            for (int first = (threads - 1) / 32 * 32; first >= 0; first -= 32) do {
                    for (int t = std::min(first + 32, threads) - 1; t >= first; --t)
                        if (!resume(t)) return false;
                } while (wake_warps());
        else
            for (int t : order)
                if (!resume(t)) return false;
        int ended = 0, at_barrier = 0;
        unsigned line = 0, other_line = 0;
        for (int t = 0; t < threads; ++t) {
            const Fiber& f = fibers[t];
            ended += f.state == ENDED;
            if (f.state == AT_BARRIER) {
                if (!at_barrier++) line = other_line = f.line;
                if (f.line != line) other_line = f.line;
            }
        }
        if (ended == threads) return guards_are_whole();
        if (wake_warps()) continue;
        if (at_barrier != threads || line != other_line) return explain_deadlock(ended, at_barrier, line, other_line);
        for (int t = 0; t < threads; ++t) fibers[t].state = READY;
    }
}

// A launch

inline std::vector<int> permutation(int n, unsigned schedule) {  // 0: forwards, 1: backwards, otherwise shuffled
    std::vector<int> p(n);
    for (int i = 0; i < n; ++i) p[i] = schedule == 1 ? n - 1 - i : i;
    for (uint32_t i = n - 1, random = schedule; schedule > 1 && i > 0 && i < uint32_t(n); --i) {
        random = random * 1664525u + 1013904223u;
        std::swap(p[i], p[(random >> 8) % (i + 1)]);
    }
    return p;
}

inline int launch(void (*k)(void**), const unsigned* sizes, size_t shared, unsigned schedule, void** args) {
    gridDim = {sizes[0], sizes[1], sizes[2]};
    blockDim = {sizes[3], sizes[4], sizes[5]};
    threads = int(blockDim.x * blockDim.y * blockDim.z);
    if (!stacks || error[0]) create_fibers();  // a launch that failed left its fibers in the middle of the kernel
    error[0] = 0;
    dynamic.assign(shared + 2 * GUARD, 0);
    dynamic.shrink_to_fit();
    kernel = k, arguments = args;
    order = permutation(threads, schedule);
    ahead = schedule == 1;
    for (int b : permutation(int(gridDim.x * gridDim.y * gridDim.z), schedule)) {
        blockIdx = {b % gridDim.x, b / gridDim.x % gridDim.y, b / (gridDim.x * gridDim.y)};
        if (!run_block()) return 1;
    }
    return 0;
}

template <class T> void describe(char*& s) {  // as NumPy writes types: f4, i4; a pointer with a *, or + if to constants
    if constexpr (std::is_pointer_v<T>) {
        using Element = std::remove_pointer_t<T>;
        *s++ = std::is_const_v<Element> ? '+' : '*';
        describe<std::remove_const_t<Element>>(s);
    } else {
        const char kind = std::is_same_v<T, bool> ? 'b' : std::is_floating_point_v<T> ? 'f' : std::is_signed_v<T> ? 'i' : 'u';
        s += sprintf(s, "%c%d ", std::is_arithmetic_v<T> ? kind : 'V', int(sizeof(T)));
    }
}

template <class... A, size_t... I> void call(void (*f)(A...), void** args, std::index_sequence<I...>) {
    f(*static_cast<std::remove_cv_t<A>*>(args[I])...);
}

template <auto> struct Kernel;
template <class... A, void (*K)(A...)> struct Kernel<K> {
    static void run(void** args) { call(K, args, std::index_sequence_for<A...>{}); }
    static const char* signature() {
        static char text[64 * (sizeof...(A) + 1)];
        char* end = text;
        (describe<std::remove_cv_t<A>>(end), ...);
        return text;
    }
};

// The warp's operations: each lane gives a value, all wait for the lanes of the mask, and each takes the value of some lane

template <class T> T from_lane(int lane) {
    T value;
    memcpy(&value, fibers[current / 32 * 32 + lane].taken, sizeof value);
    return value;
}

template <class T> T exchange(unsigned mask, T value, int source, int operation, unsigned line) {
    static_assert(sizeof(T) <= sizeof Fiber::given);
    int lane = current % 32;
    if (!(mask >> lane & 1)) fail("thread %d, on line %u, is not among the lanes of its mask %08x", current, line, mask);
    else if (!(mask >> source & 1))
        fail("thread %d, on line %u, reads lane %d, which its mask %08x leaves out", current, line, source, mask);
    memcpy(fibers[current].given, &value, sizeof value);
    wait(IN_WARP, line, operation, mask);
    return from_lane<T>(source);
}

inline int lane() { return current % 32; }

}  // namespace emulator

#define CALLER unsigned line = __builtin_LINE()

inline void __syncthreads(CALLER) { emulator::wait(emulator::AT_BARRIER, line); }
inline void __syncwarp(unsigned mask = ~0u, CALLER) { emulator::exchange(mask, 0, emulator::lane(), 0, line); }

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, CALLER) {
    int lane = emulator::lane();
    return emulator::exchange(mask, value, (lane & ~(width - 1)) | (source & (width - 1)), 1, line);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32, CALLER) {
    int lane = emulator::lane();
    return emulator::exchange(mask, value, (lane & (width - 1)) + int(by) < width ? lane + int(by) : lane, 2, line);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32, CALLER) {
    int lane = emulator::lane();
    return emulator::exchange(mask, value, (lane & (width - 1)) >= int(by) ? lane - int(by) : lane, 3, line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, CALLER) {
    int lane = emulator::lane(), source = lane ^ bits;
    return emulator::exchange(mask, value, source < (lane & ~(width - 1)) + width ? source : lane, 4, line);
}
inline unsigned __ballot_sync(unsigned mask, int vote, CALLER) {
    unsigned votes = 0;
    emulator::exchange(mask, int(vote != 0), emulator::lane(), 5, line);
    for (int lane = 0; lane < 32; ++lane)
        if (mask >> lane & 1 && emulator::from_lane<int>(lane)) votes |= 1u << lane;
    return votes;
}
inline int __any_sync(unsigned mask, int vote, CALLER) { return __ballot_sync(mask, vote, line) != 0; }
inline int __all_sync(unsigned mask, int vote, CALLER) { return __ballot_sync(mask, vote, line) == mask; }

// Tensor cores: mma.sync.m16n8k8, d += a b with float sums. Which lane holds which number, and in which of its registers, is
// said here from the side of the matrices, after the PTX ISA's "Matrix Fragments for mma.m16n8k8"; tensor_cores.cuh says it
// from the side of the lanes.

namespace emulator {

struct Fragments { unsigned a[4], b[2]; };

template <bool bf16> void warp_multiply_add(float (&d)[4], const Fragments& mine, unsigned line) {
    auto number = [&](unsigned word, int k) {
        if (!bf16 && word & 0x1fff && word != 0x7fffffff)
            fail("thread %d, on line %u: a number that tensor cores multiply is not rounded to tf32", current, line);
        return same_bits<float>(!bf16 ? word : k % 2 ? word & 0xffff0000 : word << 16);
    };
    exchange(~0u, mine, lane(), 6, line);
    for (int i = 0; i < 4; ++i) {
        const int row = lane() / 4 + i / 2 * 8, column = lane() % 4 * 2 + i % 2;
        for (int k = 0; k < 8; ++k) {
            const int place = bf16 ? k / 2 : k % 4, word = bf16 ? 0 : k / 4;
            const auto left = from_lane<Fragments>(row % 8 * 4 + place), right = from_lane<Fragments>(column * 4 + place);
            d[i] += number(left.a[row / 8 + 2 * word], k) * number(right.b[word], k);
        }
    }
}

}  // namespace emulator

inline unsigned to_tf32(float x) {  // cvt.rna: to the nearest, a tie away from zero
    const unsigned bits = same_bits<unsigned>(x);
    return x != x ? 0x7fffffff : isinf(x) ? bits : (bits + 0x1000) & ~0x1fffu;
}
inline unsigned to_bf16(float first, float second) {  // cvt.rn: to the nearest, a tie to the even one
    auto round = [](float x) {
        const unsigned bits = same_bits<unsigned>(x);
        return x != x ? 0x7fffu : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
    };
    return round(second) << 16 | round(first);
}
inline void warp_multiply_add(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2], CALLER) {
    emulator::warp_multiply_add<false>(d, {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}}, line);
}
inline void warp_multiply_add(float (&d)[4], const unsigned (&a)[2], const unsigned (&b)[1], CALLER) {
    emulator::warp_multiply_add<true>(d, {{a[0], a[1]}, {b[0]}}, line);
}

#undef CALLER

// Functions that CUDA has and C++ has not, or has elsewhere

template <class T> T __ldg(const T* p) { return *p; }
template <class A, class B> std::common_type_t<A, B> min(A a, B b) {
    if constexpr (std::is_floating_point_v<std::common_type_t<A, B>>) return fmin(a, b);  // which NaN loses, as on a GPU
    return b < a ? b : a;
}
template <class A, class B> std::common_type_t<A, B> max(A a, B b) {
    if constexpr (std::is_floating_point_v<std::common_type_t<A, B>>) return fmax(a, b);
    return a < b ? b : a;
}
inline int __float_as_int(float a) { return same_bits<int>(a); }
inline unsigned __float_as_uint(float a) { return same_bits<unsigned>(a); }
inline float __int_as_float(int a) { return same_bits<float>(a); }
inline float __uint_as_float(unsigned a) { return same_bits<float>(a); }
inline long long __double_as_longlong(double a) { return same_bits<long long>(a); }
inline double __longlong_as_double(long long a) { return same_bits<double>(a); }
inline unsigned __umulhi(unsigned a, unsigned b) { return unsigned(uint64_t(a) * b >> 32); }
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline float rsqrtf(float a) { return 1 / sqrtf(a); }
inline double rsqrt(double a) { return 1 / sqrt(a); }
inline float rsqrt(float a) { return rsqrtf(a); }

// Of whole numbers only: floating sums would depend on the order
inline int atomicAdd(int* p, int a) { int before = *p; *p += a; return before; }
inline unsigned atomicAdd(unsigned* p, unsigned a) { unsigned before = *p; *p += a; return before; }

#define EXPORT(name)                                                                                                       \
    extern "C" __attribute__((visibility("default"))) int name##__launch(const unsigned* sizes, size_t shared,              \
                                                                         unsigned schedule, void** args) {                  \
        return emulator::launch(&emulator::Kernel<&name>::run, sizes, shared, schedule, args);                              \
    }                                                                                                                       \
    extern "C" __attribute__((visibility("default"))) const char* name##__signature() {                                     \
        return emulator::Kernel<&name>::signature();                                                                        \
    }
extern "C" __attribute__((visibility("default"), used)) inline const char* emulator_error() { return emulator::error; }
