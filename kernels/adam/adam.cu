// Adam, one parameter to a thread; see spec.py for the equations.
//
// Floor: four arrays are read and three written, 28 bytes for a parameter of float, which is all the memory traffic that there
// has to be. What depends on t alone comes ready from the host.

#include "device.cuh"

extern "C" __global__ void update(
    const real* p, const real* g, const real* m, const real* v, real* new_p, real* new_m, real* new_v, int size,
    real beta1, real rest1, real beta2, real rest2, real eps, real weight_decay,
    const double* pace_at, double pace1, double pace2, double pace3  // where the pace is found or, for a null pointer, the pace
) {
    const real scale1 = real(pace_at ? pace_at[0] : pace1), scale2 = real(pace_at ? pace_at[1] : pace2);
    const real learning_rate = real(pace_at ? pace_at[2] : pace3);
    FOR_EACH(i, size) {
        new_m[i] = beta1 * m[i] + rest1 * g[i];
        new_v[i] = beta2 * v[i] + rest2 * (g[i] * g[i]);
        const real step = scale1 * new_m[i] / (sqrt(scale2 * new_v[i]) + eps);
        new_p[i] = p[i] - learning_rate * (step + weight_decay * p[i]);
    }
}
