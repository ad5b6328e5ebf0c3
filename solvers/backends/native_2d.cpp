// The inner steps of `NavierStokes2D` on a CPU, without gradients. A thread computes one trajectory at a time, in its
// cache.
//
// u and v travel as one complex field z = u + iv, so that a stage is one inverse and one forward transform:
//     ẑ = ω̂ / (kx − i ky),   z² = (u² − v²) + 2i uv,   N̂ = G + conj G(−k)  with  G = −(i/4) (kx − i ky)² F[z²],
// and with a scalar θ one more of each, −∇·(uθ) being of the same form with G = −(i/2) (kx − i ky) F[zθ].
// The columns kx < 0 are carried, conjugated and mirrored in ky, as a second set of columns kx ≥ 0. Transforms are
// Stockham's, of `W` neighbouring columns or rows at once; real and imaginary parts lie in separate arrays.
#include "fft.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <exception>
#include <new>
#include <thread>
#include <vector>

namespace {

using fft::BYTES;

template <class T> struct Problem {
    int ny, nx, rows, columns;         // rows, columns: the retained ky, and the retained kx ≥ 0
    int components, order, plates;     // 1: ω, 2: ω and θ; 2 or 4; 1: all is kept odd about y = 0
    T per_dy, per_dx;
    const T *root_y, *root_x;          // exp(−2πi j/n), interleaved
    const T *velocity, *advection, *flux;  // 1 / (kx − i ky) / (ny nx), −(i/4) (kx − i ky)², −(i/2) (kx − i ky):
                                           // (re/im, rows, columns)
    int row(int r) const { return r < (rows + 1) / 2 ? r : r + ny - rows; }  // of the whole spectrum
};

// The terms of one trajectory; null for a term that is absent.
template <class T> struct Trajectory {
    const T *coefficients;  // of the scheme: (3 or 6, components, rows, columns)
    const T *forcing;       // f̂, laid out as a state of one component
    const T *coupling;      // what θ̂ adds to ∂ω̂/∂t and ω̂ to ∂θ̂/∂t, laid out as a state
    const T *drift;         // U, V
};

template <class T> class Solver {
    typedef typename fft::Vector<T>::V V;
    static constexpr int W = fft::Vector<T>::W;
    static int padded(int n) { return (n + W - 1) / W * W; }
    struct Line { V *re, *im; };
    struct Plane { T *re, *im; };  // (y, lanes): columns kx ≥ 0, then the mirrored ones

    const Problem<T>& p;
    const int size, lanes;  // numbers in a component's real part; in a row of a plane
    struct alignas(BYTES) Chunk { char bytes[BYTES]; };
    std::vector<Chunk> memory;
    Line x, spare, held;
    Plane planes[2];
    T* spectra[7];

public:
    explicit Solver(const Problem<T>& problem)
        : p(problem), size(p.rows * p.columns), lanes(padded(2 * p.columns)) {
        // 8 more than needed: arrays a power of two apart would share cache sets.
        const int line = std::max(p.ny, p.nx) + 8, plane = padded(p.ny) * lanes / W;
        const int spectrum = padded(2 * p.components * size) / W, arrays = 7;
        memory.resize(6 * line + 2 * p.components * plane + arrays * spectrum);
        V* at = (V*)memory.data();
        for (V** v : {&x.re, &x.im, &spare.re, &spare.im, &held.re, &held.im}) *v = at, at += line;
        for (int i = 0; i < p.components; ++i)
            for (T** v : {&planes[i].re, &planes[i].im}) *v = (T*)at, at += plane;
        for (T*& v : spectra) v = (T*)at, at += spectrum;
    }

    // Takes `state` (component, ny, columns, re/im) through `steps`; returns the largest |u|/Δx + |v|/Δy at the
    // beginning of one.
    T run(T* state, const Trajectory<T>& given, int steps, bool watch) {
        T *__restrict u = spectra[0], *__restrict a = spectra[1], *__restrict b = spectra[2];
        T *__restrict n0 = spectra[3], *__restrict n1 = spectra[4];
        Trajectory<T> own = given;
        unpack(state, u, p.components);
        if (given.forcing) unpack(given.forcing, spectra[5], 1), own.forcing = spectra[5];
        if (given.coupling) unpack(given.coupling, spectra[6], 2), own.coupling = spectra[6];
        const T* c[6];
        for (int i = 0; i < (p.order == 2 ? 3 : 6); ++i) c[i] = given.coefficients + i * p.components * size;
        T fastest = 0;
        for (int step = 0; step < steps; ++step) {
            fastest = std::max(fastest, tendency(u, own, n0, watch));
            if (p.order == 2) {
                each([=](int i, int k) { a[i] = c[0][k] * u[i] + c[1][k] * n0[i]; });
                tendency(a, own, n1, false);
                each([=](int i, int k) { u[i] = a[i] + c[2][k] * (n1[i] - n0[i]); });
            } else {
                each([=](int i, int k) { a[i] = c[1][k] * u[i] + c[2][k] * n0[i]; });
                tendency(a, own, n1, false);
                each([=](int i, int k) {
                    b[i] = c[1][k] * u[i] + c[2][k] * n1[i];
                    u[i] = c[0][k] * u[i] + c[3][k] * n0[i] + c[4][k] * n1[i];
                });
                tendency(b, own, n1, false);
                each([=](int i, int k) {
                    b[i] = c[1][k] * a[i] + c[2][k] * (2 * n1[i] - n0[i]);
                    u[i] += c[4][k] * n1[i];
                });
                tendency(b, own, n1, false);
                each([=](int i, int k) { u[i] += c[5][k] * n1[i]; });
            }
            if (p.plates)
                for (int part = 0; part < p.components; ++part) make_odd(u + 2 * part * size);
        }
        pack(u, state);
        return fastest;
    }

private:
    T tendency(const T* w, const Trajectory<T>& own, T* out, bool watch) {
        const int C = p.columns, low = (p.rows + 1) / 2, high = p.ny - p.rows / 2;
        const bool carries = p.components == 2;
        const T *theta = w + 2 * size, drift_x = own.drift ? own.drift[0] : 0, drift_y = own.drift ? own.drift[1] : 0;
        for (int r = 0; r < p.rows; ++r) {
            T *__restrict re = planes[0].re + p.row(r) * lanes, *__restrict im = planes[0].im + p.row(r) * lanes;
            const T *wr = w + r * C, *wi = wr + size, *sr = p.velocity + r * C, *si = sr + size;
            for (int c = 0; c < C; ++c) {
                const T rr = sr[c] * wr[c], ri = sr[c] * wi[c], ir = si[c] * wr[c], ii = si[c] * wi[c];
                re[c] = rr - ii, im[c] = ri + ir, re[c + C] = -rr - ii, im[c + C] = ir - ri;
            }
        }
        if (carries) {
            const T per_cell = T(1) / (T(p.ny) * T(p.nx));
            for (int r = 0; r < p.rows; ++r) {
                T *__restrict re = planes[1].re + p.row(r) * lanes, *__restrict im = planes[1].im + p.row(r) * lanes;
                const T *tr = theta + r * C, *ti = tr + size;
                for (int c = 0; c < C; ++c) re[c] = re[c + C] = per_cell * tr[c], im[c] = im[c + C] = per_cell * ti[c];
            }
        }
        for (int part = 0; part < p.components; ++part)
            for (int lane = 0; lane < lanes; lane += W) {
                std::fill(x.re + low, x.re + high, V{}), std::fill(x.im + low, x.im + high, V{});
                load(planes[part], lane, 0, low), load(planes[part], lane, high, p.ny);
                backward(p.ny, p.root_y);
                store(lane, 0, p.ny, planes[part]);
            }
        // Clear the rows that only fill the last vector: leftovers in them would grow from stage to stage.
        for (int part = 0; part < p.components; ++part)
            for (T* plane : {planes[part].re, planes[part].im})
                std::fill(plane + p.ny * lanes, plane + padded(p.ny) * lanes, T(0));
        V fastest{};
        for (int y = 0; y < p.ny; y += W) {
            rows_to_line(planes[0], y);
            backward(p.nx, p.root_x);
            if (own.drift)
                for (int i = 0; i < p.nx; ++i) x.re[i] += drift_x, x.im[i] += drift_y;
            if (watch)
                for (int i = 0; i < p.nx; ++i) {
                    const V u = x.re[i], v = x.im[i];
                    const V rate = (u < 0 ? -u : u) * p.per_dx + (v < 0 ? -v : v) * p.per_dy;
                    fastest = fastest < rate ? rate : fastest;
                }
            if (carries) {
                std::swap(x, held);
                rows_to_line(planes[1], y);
                backward(p.nx, p.root_x);
                for (int i = 0; i < p.nx; ++i) x.im[i] = held.im[i] * x.re[i], x.re[i] = held.re[i] * x.re[i];
                forward(p.nx, p.root_x);
                line_to_rows(y, planes[1]);
                std::swap(x, held);
            }
            for (int i = 0; i < p.nx; ++i) {
                const V u = x.re[i], v = x.im[i];
                x.re[i] = (u + v) * (u - v), x.im[i] = (u + u) * v;
            }
            forward(p.nx, p.root_x);
            line_to_rows(y, planes[0]);
        }
        for (int part = 0; part < p.components; ++part) {
            for (int lane = 0; lane < lanes; lane += W) {
                load(planes[part], lane, 0, p.ny);
                forward(p.ny, p.root_y);
                store(lane, 0, low, planes[part]), store(lane, high, p.ny, planes[part]);
            }
            for (int r = 0; r < p.rows; ++r) {
                const T *re = planes[part].re + p.row(r) * lanes, *im = planes[part].im + p.row(r) * lanes;
                const T *ar = (part ? p.flux : p.advection) + r * C, *ai = ar + size;
                const T even = part ? -1 : 1;  // the factor of G at −k: that of k, or its opposite
                T *__restrict to_re = out + 2 * part * size + r * C, *__restrict to_im = to_re + size;
                for (int c = 0; c < C; ++c) {
                    const T br = even * re[c + C], bi = even * im[c + C];
                    to_re[c] = ar[c] * (re[c] + br) - ai[c] * (im[c] - bi);
                    to_im[c] = ar[c] * (im[c] + bi) + ai[c] * (re[c] - br);
                }
            }
        }
        if (own.forcing)
            for (int i = 0; i < 2 * size; ++i) out[i] += own.forcing[i];
        if (own.coupling) {
            add_product(own.coupling, theta, out);
            add_product(own.coupling + 2 * size, w, out + 2 * size);
        }
        T largest = 0;
        for (int i = 0; i < W; ++i) largest = std::max(largest, fastest[i]);
        return largest;
    }

    void add_product(const T* __restrict a, const T* __restrict b, T* __restrict to) const {
        for (int i = 0, j = size; i < size; ++i, ++j) {
            to[i] += a[i] * b[i] - a[j] * b[j];
            to[j] += a[i] * b[j] + a[j] * b[i];
        }
    }

    // Keeps the part that changes its sign when row y and row ny − 1 − y change places: ŵ(m) − exp(2πi m/ny) ŵ(−m), halved.
    void make_odd(T* w) const {
        for (int r = 0; r <= p.rows / 2; ++r) {
            const int other = (p.rows - r) % p.rows;
            const T tr = p.root_y[2 * r], ti = -p.root_y[2 * r + 1];
            for (int c = 0, i = r * p.columns, j = other * p.columns; c < p.columns; ++c, ++i, ++j) {
                const T ar = w[i], ai = w[size + i], br = w[j], bi = w[size + j];
                w[i] = (ar - tr * br + ti * bi) / 2, w[size + i] = (ai - tr * bi - ti * br) / 2;
                w[j] = (br - tr * ar - ti * ai) / 2, w[size + j] = (bi - tr * ai + ti * ar) / 2;
            }
        }
    }

    // Turns W rows from y on into a line of their Fourier coefficients over all kx; line_to_rows turns them back.
    void rows_to_line(const Plane& from, int y) {
        const int C = p.columns, n = p.nx, step = lanes;
        const Line to = x;
        const T *from_re = from.re + y * step, *from_im = from.im + y * step;
        V re[W], im[W];
        std::fill(to.re + C, to.re + n - C + 1, V{}), std::fill(to.im + C, to.im + n - C + 1, V{});
        for (int lane = 0; lane < lanes; lane += W) {
            for (int i = 0; i < W; ++i) {
                std::memcpy(re + i, from_re + i * step + lane, BYTES);
                std::memcpy(im + i, from_im + i * step + lane, BYTES);
            }
            fft::Transpose<T>::of(re), fft::Transpose<T>::of(im);
            for (int i = 0, j = lane; i < W; ++i, ++j) {
                if (j < C) to.re[j] = re[i], to.im[j] = im[i];
                else if (j > C && j < 2 * C) to.re[n + C - j] = re[i], to.im[n + C - j] = -im[i];
            }
        }
    }

    void line_to_rows(int y, Plane& to) {
        const int C = p.columns, n = p.nx, step = lanes;
        const Line from = x;
        T *to_re = to.re + y * step, *to_im = to.im + y * step;
        V re[W], im[W];
        for (int lane = 0; lane < lanes; lane += W) {
            for (int i = 0, j = lane; i < W; ++i, ++j) {
                if (j < C) re[i] = from.re[j], im[i] = from.im[j];
                else if (j == C) re[i] = from.re[0], im[i] = -from.im[0];
                else if (j < 2 * C) re[i] = from.re[n + C - j], im[i] = -from.im[n + C - j];
                else re[i] = im[i] = V{};
            }
            fft::Transpose<T>::of(re), fft::Transpose<T>::of(im);
            for (int i = 0; i < W; ++i) {
                std::memcpy(to_re + i * step + lane, re + i, BYTES);
                std::memcpy(to_im + i * step + lane, im + i, BYTES);
            }
        }
    }

    void load(const Plane& from, int lane, int first, int last) {
        V *re = x.re, *im = x.im;
        const T *from_re = from.re + lane, *from_im = from.im + lane;
        for (int y = first, step = lanes; y < last; ++y) {
            std::memcpy(re + y, from_re + y * step, BYTES), std::memcpy(im + y, from_im + y * step, BYTES);
        }
    }
    void store(int lane, int first, int last, Plane& to) {
        const V *re = x.re, *im = x.im;
        T *to_re = to.re + lane, *to_im = to.im + lane;
        for (int y = first, step = lanes; y < last; ++y) {
            std::memcpy(to_re + y * step, re + y, BYTES), std::memcpy(to_im + y * step, im + y, BYTES);
        }
    }

    // Stockham's transform of x, without a factor 1/n; `stride` is the product of the radices behind.
    void forward(int n, const T* root) {
        for (int left = n, stride = 1; left > 1;) {
            int radix = left % 4 ? 2 : 4;
            while (left % radix) ++radix;
            left /= radix;
            if (radix == 4) pass4(stride, left, root);
            else if (radix == 2) pass2(stride, left, root);
            else pass(n, radix, stride, left, root);
            std::swap(x, spare);
            stride *= radix;
        }
    }
    void backward(int n, const T* root) {
        for (Line* l : {&x, &spare}) std::swap(l->re, l->im);
        forward(n, root);
        for (Line* l : {&x, &spare}) std::swap(l->re, l->im);
    }

    void pass4(int stride, int left, const T* root) {
        const V *__restrict re = x.re, *__restrict im = x.im;
        V *__restrict to_re = spare.re, *__restrict to_im = spare.im;
        const int h = stride * left;
        for (int j = 0; j < left; ++j) {
            const T *w1 = root + 2 * j * stride, *w2 = root + 4 * j * stride, *w3 = root + 6 * j * stride;
            for (int i = j * stride, o = 4 * i; i < (j + 1) * stride; ++i, ++o) {
                const V ar = re[i] + re[i + 2 * h], ai = im[i] + im[i + 2 * h];
                const V br = re[i] - re[i + 2 * h], bi = im[i] - im[i + 2 * h];
                const V cr = re[i + h] + re[i + 3 * h], ci = im[i + h] + im[i + 3 * h];
                const V dr = im[i + h] - im[i + 3 * h], di = re[i + 3 * h] - re[i + h];
                to_re[o] = ar + cr, to_im[o] = ai + ci;
                const V er = br + dr, ei = bi + di, fr = ar - cr, fi = ai - ci, gr = br - dr, gi = bi - di;
                to_re[o + stride] = er * w1[0] - ei * w1[1], to_im[o + stride] = er * w1[1] + ei * w1[0];
                to_re[o + 2 * stride] = fr * w2[0] - fi * w2[1], to_im[o + 2 * stride] = fr * w2[1] + fi * w2[0];
                to_re[o + 3 * stride] = gr * w3[0] - gi * w3[1], to_im[o + 3 * stride] = gr * w3[1] + gi * w3[0];
            }
        }
    }

    void pass2(int stride, int left, const T* root) {
        const V *__restrict re = x.re, *__restrict im = x.im;
        V *__restrict to_re = spare.re, *__restrict to_im = spare.im;
        const int h = stride * left;
        for (int j = 0; j < left; ++j) {
            const T* w = root + 2 * j * stride;
            for (int i = j * stride, o = 2 * i; i < (j + 1) * stride; ++i, ++o) {
                const V dr = re[i] - re[i + h], di = im[i] - im[i + h];
                to_re[o] = re[i] + re[i + h], to_im[o] = im[i] + im[i + h];
                to_re[o + stride] = dr * w[0] - di * w[1], to_im[o + stride] = dr * w[1] + di * w[0];
            }
        }
    }

    void pass(int n, int radix, int stride, int left, const T* root) {
        const V *__restrict re = x.re, *__restrict im = x.im;
        V *__restrict to_re = spare.re, *__restrict to_im = spare.im;
        for (int j = 0; j < left; ++j)
            for (int k = 0; k < radix; ++k)
                for (int q = 0; q < stride; ++q) {
                    V sr{}, si{};
                    for (int l = 0; l < radix; ++l) {
                        const T* w = root + 2 * (long(k) * (l * stride * left + j * stride) % n);
                        const V &ur = re[q + stride * (j + l * left)], &ui = im[q + stride * (j + l * left)];
                        sr += ur * w[0] - ui * w[1], si += ur * w[1] + ui * w[0];
                    }
                    to_re[q + stride * (radix * j + k)] = sr, to_im[q + stride * (radix * j + k)] = si;
                }
    }

    // Calls f(position in a state, position in a coefficient) for every number of a state.
    template <class F> void each(F f) const {
        for (int part = 0; part < 2 * p.components; ++part)
            for (int i = 0, k = part / 2 * size; i < size; ++i) f(part * size + i, k + i);
    }
    void unpack(const T* from, T* to, int components) const {
        for (int part = 0; part < components; ++part, from += 2L * p.ny * p.columns, to += 2 * size)
            for (int r = 0; r < p.rows; ++r)
                for (int c = 0, o = r * p.columns; c < p.columns; ++c, ++o) {
                    const T* z = from + 2L * (p.row(r) * p.columns + c);
                    to[o] = z[0], to[size + o] = z[1];
                }
    }
    void pack(const T* from, T* to) const {
        for (int part = 0; part < p.components; ++part, from += 2 * size, to += 2L * p.ny * p.columns)
            for (int r = 0; r < p.rows; ++r)
                for (int c = 0, o = r * p.columns; c < p.columns; ++c, ++o) {
                    T* z = to + 2L * (p.row(r) * p.columns + c);
                    z[0] = from[o], z[1] = from[size + o];
                }
    }
};

// Returns 0, or 1 if there was no memory.
template <class T>
int integrate(const int* sizes, const T* per_spacing, const T* const* tables, int batch, T* state,
               const T* const* coefficients, const T* const* forcing, const T* const* coupling, const T* const* drift,
               const int* steps, int watch, T* fastest, int threads) {
    const Problem<T> p{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6],
                       per_spacing[0], per_spacing[1], tables[0], tables[1], tables[2], tables[3], tables[4]};
    const long field = 2L * p.components * p.ny * p.columns;
    std::atomic<int> next{0};
    auto work = [&] {
        try {
            Solver<T> solver(p);  // before it takes a trajectory: without memory the others are left to other threads
            for (int b; (b = next++) < batch;) {
                const Trajectory<T> own{coefficients[b], forcing ? forcing[b] : nullptr,
                                        coupling ? coupling[b] : nullptr, drift ? drift[b] : nullptr};
                fastest[b] = solver.run(state + b * field, own, steps[b], watch);
            }
        } catch (const std::bad_alloc&) {
        }
    };
    std::vector<std::thread> others;
    try {
        for (int i = 1; i < std::min(threads, batch); ++i) others.emplace_back(work);
    } catch (const std::exception&) {  // no more threads can be started: those that there are do the work
    }
    work();
    for (std::thread& t : others) t.join();
    return next < batch;
}

}  // namespace

#define EXPORT(NAME, T)                                                                                              \
    extern "C" int NAME(const int* sizes, const T* per_spacing, const T* const* tables, int batch, T* state,           \
                        const T* const* coefficients, const T* const* forcing, const T* const* coupling,             \
                        const T* const* drift, const int* steps, int watch, T* fastest, int threads) {               \
        return integrate(sizes, per_spacing, tables, batch, state, coefficients, forcing, coupling, drift, steps,     \
                         watch, fastest, threads);                                                                    \
    }
EXPORT(integrate_float, float)
EXPORT(integrate_double, double)
extern "C" int lanes_float() { return fft::Vector<float>::W; }
extern "C" int lanes_double() { return fft::Vector<double>::W; }
