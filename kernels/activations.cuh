// Activations and their gradients, as functions of one number; see activations/spec.py for the equations, and for what becomes
// of infinity and NaN. (CUDA's own fmax and fmin prefer a number to a NaN: but each result has a factor that is NaN then, too.)

#include "device.cuh"

// s(x) is 0 or 1 there in any precision: numbers beyond it stand at it, so that inf is not multiplied by 0
const real FAR = 1e3;

__device__ real near(real x) { return fmin(fmax(x, -FAR), FAR); }

struct Normal {  // Phi(x) and phi(x), the distribution function and the density of N(0, 1)
    real distribution, density;
};

// For double, Phi is CUDA's erfc. For float that would lose digits in the tail, where an error of x / sqrt 2 is multiplied by
// x^2; instead Phi(-|x|) = e^(-x^2 / 2) t P(t), t = 1 / (1 + 0.35 |x|), with the polynomial of vector_math.py and x^2 as the
// sum of two numbers, the second of which is what the first lost in rounding.
__device__ Normal normal(real x) {
    const real z = fabs(x) > real(40) ? real(40) : fabs(x);
    const real square = z * z, lost = fma(z, z, -square);
    const real e = exp(real(-0.5) * square) * (real(1) - real(0.5) * lost), density = e * real(0.3989422804014327);
    if (sizeof(real) == 8) return {real(0.5) * erfc(x * real(-0.7071067811865476)), density};
    const real t = real(1) / (real(1) + real(0.35) * z);
    real p = real(-0.0291461345);
    p = p * t + real(0.143972683);
    p = p * t + real(-0.255716268);
    p = p * t + real(0.159176432);
    p = p * t + real(-0.0231113755);
    p = p * t + real(0.105508645);
    p = p * t + real(0.119832709);
    p = p * t + real(0.139861891);
    p = p * t + real(0.139621403);
    const real tail = e * (p * t);
    return {x > real(0) ? real(1) - tail : tail, density};
}

namespace value {
__device__ real relu(real x) { return x <= real(0) ? real(0) : x; }  // NaN stays NaN
__device__ real leaky_relu(real x, real slope) { return x > real(0) ? x : slope * x; }
__device__ real silu(real x) { return fmax(x, -FAR) * sigmoid(x); }
__device__ real gelu(real x) { return fmax(x, -FAR) * normal(x).distribution; }
}  // namespace value

namespace gradient {  // g times the derivative, by the result y where that says it all
__device__ real relu(real g, real y) { return y > real(0) ? g : real(0); }
__device__ real leaky_relu(real g, real x, real slope) { return x > real(0) ? g : slope * g; }
__device__ real tanh(real g, real y) { return g * (real(1) - y * y); }
__device__ real sigmoid(real g, real y) { return g * (y * (real(1) - y)); }
__device__ real softplus(real g, real x) { return g * ::sigmoid(x); }
__device__ real silu(real g, real x) { return g * (::sigmoid(x) * (real(1) + near(x) * ::sigmoid(-x))); }
__device__ real gelu(real g, real x) {
    const Normal n = normal(x);
    return g * (n.distribution + near(x) * n.density);
}
}  // namespace gradient
