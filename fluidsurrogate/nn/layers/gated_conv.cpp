// A periodic convolution of planes, with gates and an addition behind it, in one pass over memory:
//     out = v · clip(g/6 + 1/2, 0, 1)  [+ plus],   (v, g) = kernel ⋆ x + bias,
// or without gates, out = kernel ⋆ x + bias  [+ plus], which is how the gradient for x is computed. Channels are last in
// memory. The innermost loop multiplies a number of x by vectors of outgoing channels, whose sums for some neighbouring
// cells stay in registers. The sums of a cell do not depend on the batch or on the threads.
#include <algorithm>
#include <atomic>
#include <new>
#include <vector>
#include "threads.h"

namespace {

#if defined(__AVX512F__)
constexpr int BYTES = 64, SUMS = 16;
#elif defined(__AVX__)
constexpr int BYTES = 32, SUMS = 8;
#else
constexpr int BYTES = 16, SUMS = 8;
#endif

template <class T> struct Problem {
    int batch, height, width, incoming, channels, size, dilation, parts;  // parts: 2 with gates, or 1
    const T *x, *kernel, *bias;  // kernel: (chunk, tap, incoming, parts · channels of a chunk, padded to whole vectors)
    const T* plus;               // laid out as what comes out, or null
    T *out, *sums;               // sums: v and g, (…, parts · channels), or null
    // Channels of a chunk: their values and gates are the vectors of one pass.
    static constexpr int LANES = BYTES / sizeof(T);
    int chunk() const { return std::min(channels, 4 * LANES / parts); }
    int chunks() const { return (channels + chunk() - 1) / chunk(); }
    int vectors() const { return (parts * chunk() + LANES - 1) / LANES; }
};

template <class T, int N> class Rows {
    typedef T V __attribute__((vector_size(BYTES)));
    typedef T Unaligned __attribute__((vector_size(BYTES), aligned(sizeof(T))));
    static constexpr int LANES = Problem<T>::LANES, CELLS = SUMS / N;
    const Problem<T>& p;
    std::vector<int> columns;      // for each tap along x, where the cells that it reads begin within a row
    std::vector<const T*> lines;   // for each tap along y, the row that it reads

    template <int J> void cells(int x, const T* kernel, const T* bias, T* sums) const {
        V sum[J][N];
        for (int j = 0; j < J; ++j)
            for (int n = 0; n < N; ++n) sum[j][n] = *(const Unaligned*)(bias + n * LANES);
        for (int ty = 0; ty < p.size; ++ty)
            for (int tx = 0; tx < p.size; ++tx) {
                const T* from[J];
                for (int j = 0; j < J; ++j) from[j] = lines[ty] + columns[tx * p.width + x + j];
                for (int c = 0; c < p.incoming; ++c, kernel += N * LANES) {
                    V k[N];
                    for (int n = 0; n < N; ++n) k[n] = *(const Unaligned*)(kernel + n * LANES);
                    for (int j = 0; j < J; ++j)
                        for (int n = 0; n < N; ++n) sum[j][n] += (from[j][c] - V{}) * k[n];
                }
            }
        for (int j = 0; j < J; ++j)
            for (int n = 0; n < N; ++n) *(Unaligned*)(sums + (j * N + n) * LANES) = sum[j][n];
    }

    // What comes out of the sums of a cell: channels first … first + number.
    void finish(const T* sum, long cell, int first, int number) const {
        const T* gates = sum + p.chunk();
        T* out = p.out + cell * p.channels + first;
        if (p.parts == 1) {
            for (int c = 0; c < number; ++c) out[c] = sum[c];
        } else {
            for (int c = 0; c < number; ++c)
                out[c] = sum[c] * std::min(std::max(gates[c] * T(1.0 / 6) + T(0.5), T(0)), T(1));
        }
        if (p.plus) {
            const T* plus = p.plus + cell * p.channels + first;
            for (int c = 0; c < number; ++c) out[c] += plus[c];
        }
        if (p.sums) {
            std::copy(sum, sum + number, p.sums + cell * 2 * p.channels + first);
            std::copy(gates, gates + number, p.sums + (cell * 2 + 1) * p.channels + first);
        }
    }

public:
    explicit Rows(const Problem<T>& problem) : p(problem), columns(p.size * p.width), lines(p.size) {
        for (int tap = 0; tap < p.size; ++tap)
            for (int x = 0; x < p.width; ++x) columns[tap * p.width + x] = wrapped(x, tap, p.width) * p.incoming;
    }
    int wrapped(int i, int tap, int n) const { return ((i + (tap - p.size / 2) * p.dilation) % n + n) % n; }

    void run(int first, int last) {  // rows of the batch
        const int m = p.chunk(), taps = p.size * p.size;
        T sums[CELLS * N * LANES];
        for (int row = first; row < last; ++row) {
            const int b = row / p.height, y = row % p.height;
            for (int tap = 0; tap < p.size; ++tap)
                lines[tap] = p.x + (long(b) * p.height + wrapped(y, tap, p.height)) * p.width * p.incoming;
            for (int k = 0; k < p.chunks(); ++k) {
                const T* kernel = p.kernel + long(k) * taps * p.incoming * N * LANES;
                const T* bias = p.bias + long(k) * N * LANES;
                const int channels = std::min(m, p.channels - k * m);
                for (int x = 0, done; x < p.width; x += done) {
                    done = p.width - x >= CELLS ? CELLS : 1;
                    if (done == CELLS) cells<CELLS>(x, kernel, bias, sums);
                    else cells<1>(x, kernel, bias, sums);
                    for (int j = 0; j < done; ++j)
                        finish(sums + j * N * LANES, long(row) * p.width + x + j, k * m, channels);
                }
            }
        }
    }
};

// Returns whether memory was lacking.
template <class T, int N> bool compute(const Problem<T>& p, int available) {
    const int rows = p.batch * p.height, pieces = available == 1 ? 1 : std::min(rows, 8 * available);
    std::atomic<int> next{0};  // a thread whose core is busy with another process takes fewer pieces
    threads::run(available, [&](int) {
        try {
            Rows<T, N> of_thread(p);  // before it takes a piece: without memory the others are left to other threads
            for (int i; (i = next++) < pieces;)
                of_thread.run(long(rows) * i / pieces, long(rows) * (i + 1) / pieces);
        } catch (const std::bad_alloc&) {
        }
    });
    return next < pieces;
}

template <class T>
bool conv(const int* sizes, const T* x, const T* kernel, const T* bias, const T* plus, T* out, T* sums, int threads) {
    const Problem<T> p{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6], sizes[7],
                       x, kernel, bias, plus, out, sums};
    switch (p.vectors()) {
        case 1: return compute<T, 1>(p, threads);
        case 2: return compute<T, 2>(p, threads);
        case 3: return compute<T, 3>(p, threads);
        default: return compute<T, 4>(p, threads);
    }
}

// From the gradient of v · gate(g) to those of v and g.
template <class T> void gate_gradient(long cells, int channels, const T* gradient, const T* sums, T* out) {
    for (long cell = 0; cell < cells; ++cell, gradient += channels, sums += 2 * channels, out += 2 * channels)
        for (int c = 0; c < channels; ++c) {
            const T v = sums[c], g = sums[channels + c];
            out[c] = gradient[c] * std::min(std::max(g * T(1.0 / 6) + T(0.5), T(0)), T(1));
            out[channels + c] = g > T(-3) && g < T(3) ? gradient[c] * v * T(1.0 / 6) : T(0);
        }
}

}  // namespace

extern "C" {
int lanes_float() { return Problem<float>::LANES; }
int lanes_double() { return Problem<double>::LANES; }
// sizes: batch, height, width, incoming, channels, size, dilation, parts.
int conv_float(const int* sizes, const float* x, const float* kernel, const float* bias, const float* plus, float* out,
                float* sums, int threads) {
    return conv(sizes, x, kernel, bias, plus, out, sums, threads);
}
int conv_double(const int* sizes, const double* x, const double* kernel, const double* bias, const double* plus,
                 double* out, double* sums, int threads) {
    return conv(sizes, x, kernel, bias, plus, out, sums, threads);
}
void gate_gradient_float(long cells, int channels, const float* gradient, const float* sums, float* out) {
    gate_gradient(cells, channels, gradient, sums, out);
}
void gate_gradient_double(long cells, int channels, const double* gradient, const double* sums, double* out) {
    gate_gradient(cells, channels, gradient, sums, out);
}
}
