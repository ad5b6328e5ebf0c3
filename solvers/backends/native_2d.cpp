// The inner steps of `NavierStokes2D` on a CPU, without gradients.
//
// u and v travel as one complex field z = u + iv, so that a stage is one inverse and one forward transform:
//     ẑ = ω̂ / (kx − i ky),   z² = (u² − v²) + 2i uv,   N̂ = G + conj G(−k)  with  G = −(i/4) (kx − i ky)² F[z²],
// and with a scalar θ one more of each, −∇·(uθ) being of the same form with G = −(i/2) (kx − i ky) F[zθ].
// Work is cut into blocks that stay in a core's cache, in two phases with a barrier after each:
//   * `slab`: for `W` neighbouring rows y (the lanes): along x to the cells, products, and along x back;
//   * `pencils`: for `H` = W/2 neighbouring columns kx ≥ 0: along y, the scheme's update, and along y back. The lanes are
//     these columns and then those of −kx, conjugated and mirrored in ky, so that G(k) and G(−k) lie in one vector.
// Between the phases the fields lie in columns of such vectors; a slab transposes what it reads and writes. All transforms
// are in place. Between two transforms along y coefficients lie in the transform's own order of ky, and so do states and
// coefficients of the scheme. A complex number of a retained mode is one vector: H real parts and then H imaginary parts.
#include "layout_2d.h"

namespace {

template <class T> struct Problem {
    int ny, nx, rows, columns;         // rows, columns: the retained ky, and the retained kx ≥ 0
    int components, order, plates;     // 1: ω, 2: ω and θ; 2 or 4; 1: all is kept odd about y = 0
    T per_dy, per_dx;
    const T *root_y, *root_x;              // exp(−2πi j/n), interleaved
    const T *velocity, *advection, *flux;  // 1 / (kx − i ky) / (ny nx), −(i/4) (kx − i ky)², −(i/2) (kx − i ky):
                                           // (chunk of columns, row, re/im, column of the chunk)
};

// The terms of one trajectory; null for a term that is absent. States and all that is laid out like them are
// (component, ny, columns), interleaved.
template <class T> struct Trajectory {
    T* state;
    const T* coefficients;  // of the scheme: (chunk, component, row, 3 or 6, column of the chunk)
    const T* forcing;       // f̂, laid out as a state of one component
    const T* coupling;      // what θ̂ adds to ∂ω̂/∂t and ω̂ to ∂θ̂/∂t, laid out as a state
    const T* drift;         // U, V
    int steps;
};

template <class T> class Solver : public Layout<T> {
    using Base = Layout<T>;
    using typename Base::C, typename Base::Halves, typename Base::V;
    using Base::H, Base::W, Base::along_x, Base::along_y, Base::chunks, Base::column, Base::columns, Base::components;
    using Base::groups, Base::kept, Base::make_odd, Base::minus_plus, Base::numbers, Base::nx, Base::ny;
    using Base::pack, Base::planes, Base::product, Base::read_rows, Base::row, Base::rows, Base::square, Base::unpack;
    using Base::write_rows;
    template <class Kind> Kind* reserve(size_t numbers) { return Base::template reserve<Kind>(numbers); }

    const Problem<T>& p;
    const int watch;  // 1: keep the advection rate at the beginning of steps; 2: find that of the state, and take no steps

    struct alignas(128) Own {
        C *line, *scalar, *work;
        V *tendency, *next;
        T fastest;
    };
    std::vector<Own> own;
    V *u, *sum, *held, *stage, *forcing, *coupling;  // (chunk, component, row)
    team::Phases phases;
    Trajectory<T> t;

public:
    Solver(const Problem<T>& p, int watches, bool has_forcing, bool has_coupling)
        : Base(p.ny, p.nx, p.rows, p.columns, p.components, p.root_y, p.root_x), p(p), watch(watches) {
        const size_t state = numbers();
        u = reserve<V>(state);
        sum = held = stage = forcing = coupling = nullptr;
        if (p.order == 4) sum = reserve<V>(state), held = reserve<V>(state);
        if (has_coupling) stage = reserve<V>(state), coupling = reserve<V>(state);
        if (has_forcing) forcing = reserve<V>(size_t(chunks) * rows);
    }
    // Makes room for another thread of the team.
    void add_thread() {
        Own o;
        const int longest = std::max(ny, nx);
        o.line = reserve<C>(nx), o.work = reserve<C>(longest);
        o.scalar = components == 2 ? reserve<C>(nx) : nullptr;
        o.tendency = reserve<V>(2 * size_t(rows)), o.next = reserve<V>(2 * size_t(rows));
        own.push_back(o);
    }
    int threads() const { return int(own.size()); }  // that there is room for
    void start(const Trajectory<T>& trajectory, int threads) {
        t = trajectory;
        phases.set(watch == 2 ? 2 : t.steps ? 1 + 2 * p.order * t.steps : 0, chunks, groups, threads);
        for (Own& o : own) o.fastest = 0;
    }
    // The largest |u|/Δx + |v|/Δy that was met; not a number if one was none, or infinite.
    T fastest() const {
        T largest = 0;
        for (const Own& o : own) largest = larger(largest, o.fastest);
        return largest;
    }

    // What one thread of the team does: the pencils of the initial state, and then slabs and pencils in turn.
    void run(int rank) {
        Own& o = own[rank];
        phases.run(rank, [&](int phase, int piece) {
            const int stages = (phase - 1) / 2, stage = stages % p.order;
            if (!phase) begin(o, piece);
            else if (phase % 2) slab(o, piece, watch && stage == 0);
            else pencil(o, piece, stage + (p.order == 2 ? 0 : 2), stages == p.order * t.steps - 1);
        });
    }

private:
    // -- along x. Up to the cells the parts of all numbers have changed places: an inverse transform is a forward one then.

    void slab(Own& o, int group, bool watches) {
        if (!watches && !t.drift && components == 1) {
            read_rows(planes[0], group, o.line);
            along_x.through(o.line, o.work, [](int, C z) { return square(z); });
        } else {
            const T drift_x = t.drift ? t.drift[0] : 0, drift_y = t.drift ? t.drift[1] : 0, px = p.per_dx, py = p.per_dy;
            V most{}, broken{};
            V *const to_most = &most, *const to_broken = &broken;
            const auto keep_rate = [=](C z) {
                const V rate = magnitude(z.im) * px + magnitude(z.re) * py;
                *to_most = *to_most < rate ? rate : *to_most, *to_broken += rate * 0;
            };
            C* const scalar = watch == 2 ? nullptr : o.scalar;
            if (scalar) {
                read_rows(planes[1], group, scalar);
                along_x.to_coefficients(scalar, o.work, [=](int i, C value) { scalar[i] = value; });
            }
            read_rows(planes[0], group, o.line);
            if (watch == 2)
                along_x.to_coefficients(o.line, o.work, [=](int, C z) { keep_rate({z.re + drift_y, z.im + drift_x}); });
            else
                along_x.through(o.line, o.work, [=](int i, C z) {
                    z = {z.re + drift_y, z.im + drift_x};
                    if (watches) keep_rate(z);
                    if (scalar) scalar[i] = {z.im * scalar[i].im, z.re * scalar[i].im};
                    return square(z);
                });
            if (scalar) {
                along_x.to_numbers(scalar, o.work, [=](int i) { return scalar[i]; });
                write_rows(scalar, group, planes[1]);
            }
            for (int i = 0; i < W; ++i) o.fastest = larger(o.fastest, most[i] + broken[i]);
            if (watch == 2) return;
        }
        write_rows(o.line, group, planes[0]);
    }
    static T larger(T a, T b) { return a != a || b <= a ? a : b; }
    static V magnitude(V v) { return v < 0 ? -v : v; }


    // -- along y

    void begin(Own& o, int chunk) {
        const size_t at = size_t(chunk) * components * rows;
        unpack(t.state, components, chunk, u + at);
        if (t.forcing) unpack(t.forcing, 1, chunk, forcing + size_t(chunk) * rows);
        if (t.coupling) {
            unpack(t.coupling, 2, chunk, coupling + at);
            std::copy(u + at, u + at + components * rows, stage + at);
        }
        to_planes(o, chunk, u + at);
    }

    void pencil(Own& o, int chunk, int number, bool ends) {
        const size_t at = size_t(chunk) * components * rows;
        from_planes(o, chunk);
        add_terms(o, chunk);
        switch (number) {
            case 0: update<0>(o, chunk); break;
            case 1: update<1>(o, chunk); break;
            case 2: update<2>(o, chunk); break;
            case 3: update<3>(o, chunk); break;
            case 4: update<4>(o, chunk); break;
            case 5: update<5>(o, chunk);
        }
        const bool is_last = number == 1 || number == 5;  // of a step
        if (is_last && p.plates) make_odd(u + at);
        if (is_last && stage) std::copy(u + at, u + at + components * rows, stage + at);
        if (ends) pack(u + at, components, chunk, t.state);
        else to_planes(o, chunk, is_last ? u + at : stage ? stage + at : o.next);
    }

    void from_planes(Own& o, int chunk) const {
        const int* const kept = this->kept.data();
        const V signs = minus_plus();
        for (int part = 0; part < components; ++part) {
            const V* const factors = (const V*)(part ? p.flux : p.advection) + size_t(chunk) * rows;
            V* const to = o.tendency + part * rows;
            const T even = part ? -1 : 1;  // the factor of G at −k: that of k, or its opposite
            along_y.to_coefficients(planes[part] + size_t(chunk) * column, o.work, [=](int i, C g) {
                const int r = kept[i];
                if (r < 0) return;
                const V own = Halves::lows(g.re, g.im), other = Halves::highs(g.re, g.im) * even, f = factors[r];
                to[r] = Halves::lows(f, f) * (own + other) + Halves::highs(f, f) * (signs * Halves::swapped(own - other));
            });
        }
    }
    void add_terms(Own& o, int chunk) const {
        if (t.forcing) {
            const V* const given = forcing + size_t(chunk) * rows;
            for (int r = 0; r < rows; ++r) o.tendency[r] += given[r];
        }
        if (t.coupling) {
            const size_t at = size_t(chunk) * 2 * rows;
            for (int r = 0; r < 2 * rows; ++r)
                o.tendency[r] += product(coupling[at + r], stage[at + (r < rows ? r + rows : r - rows)]);
        }
    }

    template <int STAGE> void update(Own& o, int chunk) {
        constexpr int COUNT = STAGE < 2 ? 3 : 6;
        const int numbers = components * rows;
        const size_t at = size_t(chunk) * numbers;
        const T* q = t.coefficients + at * COUNT * H;
        V *__restrict const u = this->u + at, *__restrict const sum = this->sum + at, *__restrict const held = this->held + at;
        V* __restrict const next = stage ? stage + at : o.next;
        const V* __restrict const tendency = o.tendency;
        for (int i = 0; i < numbers; ++i, q += COUNT * H) {
            const auto c = [q](int k) { return Halves::twice(q + k * H); };
            const V n = tendency[i];
            if constexpr (STAGE == 0) {  // a = c₀ u + c₁ n; what remains of u is a − c₂ n
                const V a = c(0) * u[i] + c(1) * n;
                next[i] = a, u[i] = a - c(2) * n;
            } else if constexpr (STAGE == 1) {
                u[i] += c(2) * n;
            } else if constexpr (STAGE == 2) {
                const V half = c(1) * u[i], cn = c(2) * n, a = half + cn;
                sum[i] = c(0) * u[i] + c(3) * n;
                next[i] = a, held[i] = c(1) * a - cn, u[i] = half;
            } else if constexpr (STAGE == 3) {
                next[i] = u[i] + c(2) * n, sum[i] += c(4) * n;
            } else if constexpr (STAGE == 4) {
                next[i] = held[i] + c(2) * (n + n), sum[i] += c(4) * n;
            } else {
                u[i] = sum[i] + c(5) * n;
            }
        }
    }


    void to_planes(Own& o, int chunk, const V* w) const {
        const int* const kept = this->kept.data();
        const V signs = minus_plus();
        const V* const factors = (const V*)p.velocity + size_t(chunk) * rows;
        along_y.to_numbers(planes[0] + size_t(chunk) * column, o.work, [=](int i) {
            const int r = kept[i];
            if (r < 0) return C{};
            const V re = Halves::lows(w[r], w[r]), im = Halves::highs(w[r], w[r]), f = factors[r];
            const V a = signs * Halves::lows(f, f), b = Halves::highs(f, f);
            return C{b * re - a * im, -a * re - b * im};
        });
        if (components == 1) return;
        const V* const theta = w + rows;
        const T per_cell = T(1) / (T(ny) * T(nx));
        along_y.to_numbers(planes[1] + size_t(chunk) * column, o.work, [=](int i) {
            const int r = kept[i];
            if (r < 0) return C{};
            const V scaled = theta[r] * per_cell;
            return C{Halves::highs(scaled, scaled), Halves::lows(scaled, scaled)};
        });
    }

};

template <class T>
int integrate(const int* sizes, const T* per_spacing, const T* const* tables, int batch, T* state,
               const T* const* coefficients, const T* const* forcing, const T* const* coupling, const T* const* drift,
               const int* steps, int watch, T* fastest, int threads) {
    const Problem<T> p{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6],
                       per_spacing[0], per_spacing[1], tables[0], tables[1], tables[2], tables[3], tables[4]};
    const size_t field = size_t(2) * p.components * p.ny * p.columns;
    return team::run(
        batch, threads, Solver<T>::most_threads(p.ny, p.nx, double(p.order) * *std::max_element(steps, steps + batch)),
        [&] { return std::make_unique<Solver<T>>(p, watch, forcing, coupling); },
        [&](Solver<T>& solver, int b, int team) {
            solver.start({state + b * field, coefficients[b], forcing ? forcing[b] : nullptr,
                          coupling ? coupling[b] : nullptr, drift ? drift[b] : nullptr, steps[b]}, team);
        },
        [&](const Solver<T>& solver, int b) { fastest[b] = solver.fastest(); });
}

}  // namespace

#define EXPORT(NAME, T)                                                                                              \
    extern "C" int integrate_##NAME(const int* sizes, const T* per_spacing, const T* const* tables, int batch, T* state, \
                                    const T* const* coefficients, const T* const* forcing, const T* const* coupling, \
                                    const T* const* drift, const int* steps, int watch, T* fastest, int threads) {   \
        return integrate(sizes, per_spacing, tables, batch, state, coefficients, forcing, coupling, drift, steps,     \
                         watch, fastest, threads);                                                                    \
    }                                                                                                                \
    extern "C" int lanes_##NAME() { return fft::Vector<T>::W; }
EXPORT(float, float)
EXPORT(double, double)
// Writes in which order the retained ky of an axis of n cells, −modes … modes, lie in coefficients and tables.
extern "C" void row_order(int n, int modes, int* order) {
    const fft::InPlace<float> along_y(n, nullptr);
    for (int i = 0; i < n; ++i) {
        const int ky = along_y.natural(i);
        if (ky <= modes || ky >= n - modes) *order++ = ky;
    }
}
