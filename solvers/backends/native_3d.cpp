// The inner steps of `NavierStokes3D` on a CPU, without gradients.
//
// A stage takes the velocity u (and a scalar θ) from its retained Fourier coefficients to the cells, forms the products
//     A = u₁² − u₃², B = u₂² − u₃², C = u₁u₂, D = u₁u₃, E = u₂u₃   (Basdevant 1983, doi:10.1016/0021-9991(83)90064-5)
// and u θ, and takes these back: N̂ = −i P G with G = (k₁Â + k₂Ĉ + k₃D̂, k₁Ĉ + k₂B̂ + k₃Ê, k₁D̂ + k₂Ê), P the projection.
// Only pencils of retained modes are transformed: along z those of retained (ky, kx), along y those of retained kx.
// Work is cut into blocks that stay in a core's cache, in two phases with a barrier after each:
//   * `slab`: for `W` neighbouring planes z (the lanes): along y and x to the cells, products, along x and y back;
//   * `pencils`: for `W` neighbouring (ky, kx) (the lanes): along z, projection, update of the scheme, and along z back.
// Between the phases the fields lie in blocks of `W` pencils × `W` planes, transposed as they are read and written.
// Two rows y, y + 1 of a real field are transformed along x as one complex row.
#include "fft.h"
#include "threads.h"

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <thread>

namespace {

template <class T> struct Problem {
    int n[3], modes[3];               // (z, y, x)
    int scalar, order;                // 1: a scalar too; 2 or 4
    T per_spacing[3], unit, power;    // unit: of the wavenumbers; power: of the forcing of fixed power
    const T *root[3];                 // exp(−2πi j/n), interleaved
    const T *wavenumber[3];           // of the retained modes, divided by the unit: they overflow no square
    int forced;                       // modes of the large scales that this forcing feeds; 0: there is none
    const int* forced_modes;          // where they lie in a component (kz, ky, kx)
    const T* forced_weights;          // what |û/N|² of each counts in the energy

    int inputs() const { return 3 + scalar; }         // fields that go to the cells
    int outputs() const { return scalar ? 8 : 5; }    // products that come back
    int depth() const { return 2 * modes[0] + 1; }    // retained kz
    int rows() const { return 2 * modes[1] + 1; }     // retained ky
    int columns() const { return modes[2] + 1; }      // retained kx
    int factors() const { return (order == 2 ? 3 : 6) * (1 + scalar); }  // of the scheme, for each mode
};

// The terms of one trajectory; null for a term that is absent.
template <class T> struct Trajectory {
    T* state;                               // (component, kz, ky, kx), interleaved
    const T* coefficients;                  // of the scheme: (chunk, kz, factors, lane)
    const T* forcing;                       // f̂ without divergence: (3, kz, ky, kx), interleaved
    const T *gravity, *gradient, *velocity; // (x, y, z): g of the buoyancy −gθ, G of the scalar's mean, U
    int steps;
};

class Barrier {
    std::atomic<int> waiting{0}, round{0};
    int size = 1;

public:
    void set(int threads) { size = threads; }
    void wait() {
        if (size == 1) return;
        const int own = round.load(std::memory_order_acquire);
        if (waiting.fetch_add(1, std::memory_order_acq_rel) == size - 1) {
            waiting.store(0, std::memory_order_relaxed);
            round.store(own + 1, std::memory_order_release);
            return;
        }
        for (int spins = 0; round.load(std::memory_order_acquire) == own; ++spins) {
            if (spins > 4000) std::this_thread::yield();
#if defined(__x86_64__)
            else __builtin_ia32_pause();
#endif
        }
    }
};

// Aligned memory of zeros.
class Memory {
    struct Free { void operator()(void* p) const { std::free(p); } };
    std::unique_ptr<void, Free> held;

public:
    explicit Memory(size_t bytes) : held(std::calloc(bytes + 64, 1)) {
        if (!held) throw std::bad_alloc();
    }
    char* begin() const { return (char*)(((uintptr_t)held.get() + 63) & ~uintptr_t(63)); }
};

template <class T> class Team;

template <class T> class Solver {
    typedef typename fft::Vector<T>::V V;
    typedef typename fft::Vector<T>::C C;
    static constexpr int W = fft::Vector<T>::W;
    static int padded(int n) { return (n + W - 1) / W * W; }

    const Problem<T>& p;
    const int nz, ny, nx, mz, my, mx, inputs, outputs, depth, rows, columns, factors;
    const int planes, area, chunks, groups;  // planes, area: z and (ky, kx) padded to whole vectors
    const int stride;                        // of a row of the slab
    const fft::Transform<T> along_z, along_y, along_x;

    // What transforms read and write. Those from coefficients to cells swap the parts: they are inverse.
    struct Read {
        const C* from;
        int stride;
        C operator()(int i) const { return from[i * stride]; }
    };
    struct Spread {  // retained coefficients 0 … most, −most … −1, and zeros between them
        const C* from;
        int stride, most, n;
        C operator()(int i) const {
            if (i <= most) return from[i * stride].swapped();
            return i >= n - most ? from[(i - n + 2 * most + 1) * stride].swapped() : C{};
        }
    };
    struct Pair {  // a + ib of the coefficients of two real rows
        const C *a, *b;
        int most, n;
        C operator()(int i) const {
            if (i <= most) return {a[i].im + b[i].re, a[i].re - b[i].im};
            const int k = n - i;
            return k <= most ? C{b[k].re - a[k].im, a[k].re + b[k].im} : C{};
        }
    };
    struct Product {
        const C *a, *b;
        C operator()(int i) const { return {a[i].re * b[i].re, a[i].im * b[i].im}; }
    };
    struct Squares {  // a² − b²
        const C *a, *b;
        C operator()(int i) const {
            const C s = a[i] + b[i], d = a[i] - b[i];
            return {s.re * d.re, s.im * d.im};
        }
    };
    struct Write {
        C* to;
        int stride;
        void operator()(int i, C v) const { to[i * stride] = v.swapped(); }
    };
    struct Keep {  // retained coefficients only
        C* to;
        int stride, most, n;
        void operator()(int i, C v) const {
            if (i <= most) to[i * stride] = v;
            else if (i >= n - most) to[(i - n + 2 * most + 1) * stride] = v;
        }
    };

    // What the threads of a team share, and what each has of its own.
    std::vector<Memory> memory;
    C *blocks, *u, *sum, *held, *stage, *forcing;  // blocks: (field, group, pencil); the others: (chunk, kz, field)
    struct alignas(128) Own {
        C *slab, *work, *line, *rows, *products, *fields;
        T fastest, feed;
    };
    std::vector<Own> own;
    int team = 1;  // threads at work
    Barrier barrier;
    Trajectory<T> t;
    struct Forced { int chunk, z, lane, mode; };
    std::vector<Forced> forced;  // sorted by chunk
    std::vector<T> large_scales; // û/N of the forced modes: (mode, component, re/im)

public:
    Solver(const Problem<T>& problem, bool keeps_stage, bool has_forcing)
        : p(problem), nz(p.n[0]), ny(p.n[1]), nx(p.n[2]), mz(p.modes[0]), my(p.modes[1]), mx(p.modes[2]),
          inputs(p.inputs()), outputs(p.outputs()), depth(p.depth()), rows(p.rows()), columns(p.columns()),
          factors(p.factors()), planes(padded(nz)), area(padded(rows * columns)), chunks(area / W), groups(planes / W),
          stride(outputs * columns | 1), along_z(nz, p.root[0]), along_y(ny, p.root[1]), along_x(nx, p.root[2]) {
        const size_t state = size_t(chunks) * depth * inputs;
        blocks = reserve(size_t(outputs) * groups * area);
        u = reserve(state);
        sum = held = stage = forcing = nullptr;
        if (p.order == 4) sum = reserve(state), held = reserve(state);
        if (keeps_stage) stage = reserve(state);
        if (has_forcing) forcing = reserve(state / inputs * 3);
        large_scales.resize(6 * size_t(p.forced));
        for (int i = 0; i < p.forced; ++i) {
            const int z = int(p.forced_modes[i] / (rows * columns)), pencil = int(p.forced_modes[i] % (rows * columns));
            forced.push_back({pencil / W, z, pencil % W, i});
        }
        std::stable_sort(forced.begin(), forced.end(), [](const Forced& a, const Forced& b) { return a.chunk < b.chunk; });
    }
    // How many threads can share the work of a trajectory.
    static int most_threads(const Problem<T>& p) {
        const double cells = double(p.n[0]) * p.n[1] * p.n[2];
        return std::max(1, int(std::min(cells / 4096, double(p.n[1]) / 2)));
    }
    // Makes room for another thread of the team.
    void add_thread() {
        const int longest = std::max({nz, ny, nx});
        const int odd = 1;  // an odd number of cache lines apart, arrays share no cache sets
        Own o;
        const int sizes[] = {stride * ny, 2 * longest + odd, std::max(planes, 2 * columns) + odd, inputs * (nx + odd), outputs * depth + odd,
                             inputs * depth + odd};
        size_t total = 0;
        for (int s : sizes) total += s;
        C* at = reserve(total);
        C** parts[] = {&o.slab, &o.work, &o.line, &o.rows, &o.products, &o.fields};
        for (int i = 0; i < 6; ++i) *parts[i] = at, at += sizes[i];
        own.push_back(o);
    }
    int threads() const { return int(own.size()); }  // that there is room for
    void start(const Trajectory<T>& trajectory, int threads) {
        t = trajectory, team = threads;
        barrier.set(threads);
        for (Own& o : own) o.fastest = 0;
    }
    T fastest() const {
        T largest = 0;
        for (const Own& o : own) largest = std::max(largest, o.fastest);
        return largest;
    }

    // What one thread of the team does.
    void run(int rank, bool watch) {
        const int first = int(long(chunks) * rank / team), last = int(long(chunks) * (rank + 1) / team);
        unpack(t.state, inputs, first, last, u);
        if (t.forcing) unpack(t.forcing, 3, first, last, forcing);
        for (int c = first; c < last; ++c) begin(rank, c);
        barrier.wait();
        for (int step = 0; step < t.steps; ++step) {
            const bool ends = step == t.steps - 1;
            if (p.order == 2) {
                phase<0>(rank, first, last, watch, false), phase<1>(rank, first, last, false, ends);
            } else {
                phase<2>(rank, first, last, watch, false), phase<3>(rank, first, last, false, false);
                phase<4>(rank, first, last, false, false), phase<5>(rank, first, last, false, ends);
            }
        }
        pack(u, first, last, t.state);
    }

private:
    C* reserve(size_t numbers) {
        memory.emplace_back((numbers + 1) * sizeof(C));
        return (C*)memory.back().begin();
    }

    template <int STAGE> void phase(int rank, int first, int last, bool watch, bool ends) {
        if (p.forced) own[rank].feed = feed();
        const int together = groups % team, apart = groups - together;
        for (int g = rank; g < apart; g += team) slab(own[rank], g, own[rank].slab, 0, 1, watch);
        for (int g = apart; g < groups; ++g) {  // groups that are left over are shared by all threads
            barrier.wait();
            slab(own[rank], g, own[0].slab, rank, team, watch);
        }
        barrier.wait();
        for (int c = first; c < last; ++c) pencils<STAGE>(rank, c, ends);
        barrier.wait();
    }

    // What the velocity of the forced modes is multiplied by in the forcing of fixed power, and by N.
    T feed() const {
        double energy = 0;
        for (int i = 0; i < p.forced; ++i) {
            double square = 0;
            for (int j = 0; j < 6; ++j) square += double(large_scales[6 * i + j]) * large_scales[6 * i + j];
            energy += p.forced_weights[i] * square;
        }
        return energy > 0 ? T(p.power / (2 * energy) * nx * ny * nz) : T(0);
    }

    // From the coefficients along z of W planes to those of the products.
    void slab(Own& o, int group, C* const slab, int rank, int size, bool watch) {
        C* const block = blocks + size_t(group) * area;
        const size_t field = size_t(groups) * area;
        const int columns = this->columns, stride = this->stride, my = this->my, mx = this->mx, ny = this->ny, nx = this->nx;
        for (int i = rank; i < inputs * columns; i += size) {
            const int f = i / columns, x = i % columns;
            along_y(o.work, Spread{block + f * field + x, columns, my, ny}, Write{slab + i, stride});
            if (x == 0)  // real numbers but for rounding
                for (int y = 0; y < ny; ++y) slab[i + y * stride].im = V{};
        }
        if (size > 1) barrier.wait();
        V fastest{};
        const int line = nx + 1;
        for (int pair = rank; pair < ny / 2; pair += size) {
            C *const upper = slab + 2 * pair * stride, *const lower = upper + stride;
            for (int f = 0; f < inputs; ++f) {
                const C *a = upper + f * columns, *b = lower + f * columns;
                along_x(o.work, Pair{a, b, mx, nx}, Write{o.rows + f * line, 1});
            }
            const C *u = o.rows, *v = u + line, *w = v + line, *s = w + line;
            if (watch) {
                const T px = p.per_spacing[2], py = p.per_spacing[1], pz = p.per_spacing[0];
                for (int x = 0; x < nx; ++x) {
                    const V a = magnitude(u[x].re) * px + magnitude(v[x].re) * py + magnitude(w[x].re) * pz;
                    const V b = magnitude(u[x].im) * px + magnitude(v[x].im) * py + magnitude(w[x].im) * pz;
                    fastest = fastest < a ? a : fastest;
                    fastest = fastest < b ? b : fastest;
                }
            }
            back(o, Squares{u, w}, upper, lower, 0), back(o, Squares{v, w}, upper, lower, 1);
            back(o, Product{u, v}, upper, lower, 2), back(o, Product{u, w}, upper, lower, 3);
            back(o, Product{v, w}, upper, lower, 4);
            if (p.scalar) {
                back(o, Product{u, s}, upper, lower, 5), back(o, Product{v, s}, upper, lower, 6);
                back(o, Product{w, s}, upper, lower, 7);
            }
        }
        for (int i = 0; i < W; ++i) o.fastest = std::max(o.fastest, fastest[i]);
        if (size > 1) barrier.wait();
        for (int i = rank; i < outputs * columns; i += size) {
            const int f = i / columns, x = i % columns;
            along_y(o.work, Read{slab + i, stride}, Keep{block + f * field + x, columns, my, ny});
        }
    }
    static V magnitude(V v) { return v < 0 ? -v : v; }

    // Transforms products of two rows along x; leaves twice the coefficients.
    template <class Load> inline void back(Own& o, const Load& load, C* upper, C* lower, int f) {
        const int mx = this->mx;
        C* const to = o.line;
        along_x(o.work, load, Keep{to, 1, mx, nx});
        upper += f * columns, lower += f * columns;
        for (int k = 0; k <= mx; ++k) {
            const C v = to[k], w = k ? to[2 * mx + 1 - k] : v;
            upper[k] = {v.re + w.re, v.im - w.im};
            lower[k] = {v.im + w.im, w.re - v.re};
        }
    }

    template <int STAGE> void pencils(int rank, int chunk, bool ends) {
        from_planes(own[rank], chunk);
        update<STAGE>(own[rank], chunk);
        if (!ends) to_planes(own[rank], chunk);
    }

    void from_planes(Own& o, int chunk) {
        for (int f = 0; f < outputs; ++f) {
            for (int g = 0; g < groups; ++g) transpose(block(f, g, chunk), o.line + g * W);
            along_z(o.work, Read{o.line, 1}, Keep{o.products + f * depth, 1, mz, nz});
        }
    }

    // The tendency of every mode, and the stage of the scheme; leaves the fields of the next stage.
    template <int STAGE> inline void update(Own& o, int chunk) {
        constexpr int COUNT = STAGE < 2 ? 3 : 6;
        const int inputs = this->inputs, depth = this->depth, factors = this->factors;
        const size_t at = size_t(chunk) * depth;
        C *const u = this->u + at * inputs, *const sum = this->sum + at * inputs, *const held = this->held + at * inputs;
        C* const kept = stage ? stage + at * inputs : nullptr;
        const V* coefficients = (const V*)t.coefficients + at * factors;
        const C* const product = o.products;
        V kx, ky;
        lanes(chunk, kx, ky);
        const Forced* all = forced.data();
        const Forced* first = std::lower_bound(all, all + forced.size(), chunk, comes_before);
        const Forced* last = std::lower_bound(first, all + forced.size(), chunk + 1, comes_before);
        const T half = p.unit / 2, scale = T(1) / (T(nx) * T(ny) * T(nz));
        for (int z = 0; z < depth; ++z) {
            const T kz = p.wavenumber[0][z];
            const C a = product[z], b = product[depth + z], c = product[2 * depth + z], d = product[3 * depth + z];
            const C e = product[4 * depth + z];
            const V square = kx * kx + ky * ky + kz * kz;
            C n[4];
            n[0] = tendency(kx * a.re + ky * c.re + kz * d.re, kx * a.im + ky * c.im + kz * d.im, half);
            n[1] = tendency(kx * c.re + ky * b.re + kz * e.re, kx * c.im + ky * b.im + kz * e.im, half);
            n[2] = tendency(kx * d.re + ky * e.re, kx * d.im + ky * e.im, half);
            if (p.scalar) {
                const C f = product[5 * depth + z], g = product[6 * depth + z], h = product[7 * depth + z];
                n[3] = tendency(kx * f.re + ky * g.re + kz * h.re, kx * f.im + ky * g.im + kz * h.im, half);
                const C* before = kept + z * 4;
                if (t.gravity)
                    for (int i = 0; i < 3; ++i) n[i] = n[i] - fluctuation(before[3], square).scaled(t.gravity[i]);
                if (t.gradient)
                    for (int i = 0; i < 3; ++i) n[3] = n[3] - fluctuation(before[i], square).scaled(t.gradient[i]);
            }
            const V inverse = T(1) / (square == 0 ? square + T(1) : square);
            const V re = (kx * n[0].re + ky * n[1].re + kz * n[2].re) * inverse;
            const V im = (kx * n[0].im + ky * n[1].im + kz * n[2].im) * inverse;
            n[0] = {n[0].re - kx * re, n[0].im - kx * im};
            n[1] = {n[1].re - ky * re, n[1].im - ky * im};
            n[2] = {n[2].re - kz * re, n[2].im - kz * im};
            if (t.forcing)
                for (int f = 0; f < 3; ++f) n[f] = n[f] + forcing[(at + z) * 3 + f];
            for (const Forced* f = first; f < last; ++f)
                if (f->z == z) add_large_scales(n, *f, o.feed);
            for (int f = 0; f < inputs; ++f) {
                const V* q = coefficients + z * factors + (f == 3 ? COUNT : 0);
                const int i = z * inputs + f;
                C next;
                if constexpr (STAGE == 0) {  // a = q₀ u + q₁ n; what remains of u is a − q₂ n
                    next = times(q[0], u[i]) + times(q[1], n[f]);
                    u[i] = next - times(q[2], n[f]);
                } else if constexpr (STAGE == 1) {
                    next = u[i] = u[i] + times(q[2], n[f]);
                } else if constexpr (STAGE == 2) {
                    const C half_u = times(q[1], u[i]), qn = times(q[2], n[f]);
                    next = half_u + qn;
                    sum[i] = times(q[0], u[i]) + times(q[3], n[f]);
                    held[i] = times(q[1], next) - qn;
                    u[i] = half_u;
                } else if constexpr (STAGE == 3) {
                    next = u[i] + times(q[2], n[f]);
                    sum[i] = sum[i] + times(q[4], n[f]);
                } else if constexpr (STAGE == 4) {
                    next = held[i] + times(q[2] + q[2], n[f]);
                    sum[i] = sum[i] + times(q[4], n[f]);
                } else {
                    next = u[i] = sum[i] + times(q[5], n[f]);
                }
                if (kept) kept[i] = next;
                o.fields[f * depth + z] = next.scaled(scale);
            }
        }
        keep_large_scales(o, first, last);
    }
    static bool comes_before(const Forced& f, int chunk) { return f.chunk < chunk; }
    static inline C fluctuation(C v, V square) { return {square != 0 ? v.re : V{}, square != 0 ? v.im : V{}}; }
    void add_large_scales(C* n, const Forced& f, T feed) const {
        for (int i = 0; i < 3; ++i) {
            T re[W] = {}, im[W] = {};
            re[f.lane] = feed * large_scales[6 * f.mode + 2 * i], im[f.lane] = feed * large_scales[6 * f.mode + 2 * i + 1];
            C added;
            std::memcpy(&added.re, re, sizeof re), std::memcpy(&added.im, im, sizeof im);
            n[i] = n[i] + added;
        }
    }
    void keep_large_scales(const Own& o, const Forced* first, const Forced* last) {
        for (; first < last; ++first)
            for (int i = 0; i < 3; ++i) {
                const C& v = o.fields[i * depth + first->z];
                large_scales[6 * first->mode + 2 * i] = v.re[first->lane];
                large_scales[6 * first->mode + 2 * i + 1] = v.im[first->lane];
            }
    }
    static inline C tendency(V re, V im, T half) { return {im * half, re * -half}; }
    static inline C times(V q, C v) { return {q * v.re, q * v.im}; }

    // The fields of the first stage.
    void begin(int rank, int chunk) {
        Own& o = own[rank];
        const T scale = T(1) / (T(nx) * T(ny) * T(nz));
        const size_t at = size_t(chunk) * depth * inputs;
        for (int z = 0; z < depth; ++z)
            for (int f = 0; f < inputs; ++f) {
                const C v = u[at + z * inputs + f];
                if (stage) stage[at + z * inputs + f] = v;
                o.fields[f * depth + z] = v.scaled(scale);
            }
        const Forced* all = forced.data();
        const Forced* first = std::lower_bound(all, all + forced.size(), chunk, comes_before);
        keep_large_scales(o, first, std::lower_bound(first, all + forced.size(), chunk + 1, comes_before));
        to_planes(o, chunk);
    }

    void to_planes(Own& o, int chunk) {
        if (t.velocity && chunk == 0)
            for (int f = 0; f < 3; ++f) o.fields[f * depth].re[0] += t.velocity[f];
        for (int f = 0; f < inputs; ++f) {
            along_z(o.work, Spread{o.fields + f * depth, 1, mz, nz}, Write{o.line, 1});
            std::fill(o.line + nz, o.line + planes, C{});
            for (int g = 0; g < groups; ++g) transpose(o.line + g * W, block(f, g, chunk));
        }
    }

    C* block(int field, int group, int chunk) const {
        return blocks + (size_t(field) * groups + group) * area + chunk * W;
    }
    static inline void transpose(const C* from, C* to) {
        V v[W];
        for (int i = 0; i < W; ++i) v[i] = from[i].re;
        fft::Transpose<T>::of(v);
        for (int i = 0; i < W; ++i) to[i].re = v[i];
        for (int i = 0; i < W; ++i) v[i] = from[i].im;
        fft::Transpose<T>::of(v);
        for (int i = 0; i < W; ++i) to[i].im = v[i];
    }

    void lanes(int chunk, V& kx, V& ky) const {
        for (int i = 0; i < W; ++i) {
            const int pencil = chunk * W + i, row = pencil / columns;
            kx[i] = row < rows ? p.wavenumber[2][pencil % columns] : T(0);
            ky[i] = row < rows ? p.wavenumber[1][row] : T(0);
        }
    }

    // Between the tensor's layout and that of the chunks.
    void unpack(const T* from, int fields, int first, int last, C* to) const {
        const int pencils = rows * columns;
        for (int c = first; c < last; ++c)
            for (int z = 0; z < depth; ++z)
                for (int f = 0; f < fields; ++f) {
                    const T* at = from + 2 * (size_t(f * depth + z) * pencils + c * W);
                    C& v = to[(size_t(c) * depth + z) * fields + f];
                    v = C{};
                    for (int i = 0, count = std::min(W, pencils - c * W); i < count; ++i)
                        v.re[i] = at[2 * i], v.im[i] = at[2 * i + 1];
                }
    }
    void pack(const C* from, int first, int last, T* to) const {
        const int pencils = rows * columns;
        for (int c = first; c < last; ++c)
            for (int z = 0; z < depth; ++z)
                for (int f = 0; f < inputs; ++f) {
                    T* at = to + 2 * (size_t(f * depth + z) * pencils + c * W);
                    const C& v = from[(size_t(c) * depth + z) * inputs + f];
                    for (int i = 0, count = std::min(W, pencils - c * W); i < count; ++i)
                        at[2 * i] = v.re[i], at[2 * i + 1] = v.im[i];
                }
    }
};

// Returns 0, or 1 if there was no memory.
template <class T>
int integrate(const int* sizes, const T* reals, const T* const* tables, int batch, T* state,
              const T* const* coefficients, const T* const* forcing, const T* const* gravity, const T* const* gradient,
              const T* const* velocity, const int* steps, int watch, T* fastest, int available) {
    Problem<T> p{{sizes[0], sizes[1], sizes[2]}, {sizes[3], sizes[4], sizes[5]}, sizes[6], sizes[7],
                 {reals[0], reals[1], reals[2]}, reals[3], reals[4], {tables[0], tables[1], tables[2]},
                 {tables[3], tables[4], tables[5]}, sizes[8], sizes + 9, tables[6]};
    const size_t field = size_t(2) * p.inputs() * p.depth() * p.rows() * p.columns();
    const bool keeps_stage = gravity || gradient;
    const int teams = std::max(1, std::min(available, batch));
    const int size = std::max(1, std::min(available / teams, Solver<T>::most_threads(p)));
    std::atomic<int> next{0};
    threads::run(teams, [&](int) {
        try {
            Solver<T> solver(p, keeps_stage, forcing);  // before it takes a trajectory: without memory others do its work
            solver.add_thread();
            try {
                while (solver.threads() < size) solver.add_thread();
            } catch (const std::bad_alloc&) {
            }
            for (int b; (b = next++) < batch;) {
                if (!steps[b]) {
                    fastest[b] = 0;
                    continue;
                }
                std::atomic<bool> started{false};
                std::vector<std::thread> others;
                try {
                    for (int i = 1; i < solver.threads(); ++i)
                        others.emplace_back([&, i] {
                            while (!started.load(std::memory_order_acquire)) std::this_thread::yield();
                            solver.run(i, watch);
                        });
                } catch (const std::exception&) {  // as many as can be started
                }
                solver.start({state + b * field, coefficients[b], forcing ? forcing[b] : nullptr,
                              gravity ? gravity[b] : nullptr, gradient ? gradient[b] : nullptr,
                              velocity ? velocity[b] : nullptr, steps[b]}, 1 + int(others.size()));
                started.store(true, std::memory_order_release);
                solver.run(0, watch);
                for (std::thread& o : others) o.join();
                fastest[b] = solver.fastest();
            }
        } catch (const std::bad_alloc&) {
        }
    });
    return next < batch;
}

}  // namespace

#define EXPORT(NAME, T)                                                                                              \
    extern "C" int integrate_##NAME(const int* sizes, const T* reals, const T* const* tables, int batch, T* state,     \
                                    const T* const* coefficients, const T* const* forcing, const T* const* gravity,  \
                                    const T* const* gradient, const T* const* velocity, const int* steps, int watch, \
                                    T* fastest, int threads) {                                                       \
        return integrate(sizes, reals, tables, batch, state, coefficients, forcing, gravity, gradient, velocity,     \
                         steps, watch, fastest, threads);                                                            \
    }                                                                                                                \
    extern "C" int lanes_##NAME() { return fft::Vector<T>::W; }
EXPORT(float, float)
EXPORT(double, double)
