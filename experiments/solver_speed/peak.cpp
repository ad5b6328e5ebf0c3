// Prints how many floating-point operations a second a core does at most: multiplications with additions of whole
// vectors, as many at once as it has room for.
#include "fft.h"

#include <chrono>
#include <cstdio>

int main() {
    typedef fft::Vector<float>::V V;
    V sums[12] = {};
    const V factor = V{} + 0.999f, term = V{} + 0.001f;
    const int repetitions = 2000000;
    double best = 1e9;
    for (int round = 0; round < 20; ++round) {
        const auto began = std::chrono::steady_clock::now();
        for (int i = 0; i < repetitions; ++i)
            for (V& sum : sums) sum = sum * factor + term;
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    }
    float kept = 0;
    for (const V& sum : sums) kept += sum[0];
    std::printf("%g\n", kept > 0 ? 2.0 * 12 * fft::Vector<float>::W * repetitions / best : 0.0);
}
