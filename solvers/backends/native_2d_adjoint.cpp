// The gradients of the inner steps of `native_2d.cpp` by the discrete adjoint: the derivative of what the steps compute,
// not steps of an adjoint equation.
//
// Gradients are ∂L/∂Re + i ∂L/∂Im of the loss L, as PyTorch defines them. Those of a spectrum are divided by the number
// of times that a coefficient counts in the field (2, for k and −k, and 1 for kx = 0), written ḡ below: so all
// operators that multiply coefficients are transposed by conjugating their factors.
//
// First the steps are taken again, and every stage is kept: its state, its tendency and its fields u, v (and θ). Then,
// from the last step to the first, with N' the derivative of the tendency N at a stage, N'ᵀ its transpose and c the
// coefficients of the scheme:
//   ETDRK2:  a = c₀ u + c₁ N(u),  u⁺ = a + c₂ (N(a) − N(u))
//            ā = ū⁺ + N'(a)ᵀ c₂ ū⁺,  ū = c₀ ā + N'(u)ᵀ (c₁ ā − c₂ ū⁺)
//   ETDRK4:  a = c₁ u + c₂ N(u),  b = c₁ u + c₂ N(a),  d = c₁ a + c₂ (2 N(b) − N(u))
//            u⁺ = c₀ u + c₃ N(u) + c₄ (N(a) + N(b)) + c₅ N(d)
//            d̄ = N'(d)ᵀ c₅ ū⁺,  b̄ = N'(b)ᵀ (c₄ ū⁺ + 2 c₂ d̄),  ā = c₁ d̄ + N'(a)ᵀ (c₄ ū⁺ + c₂ b̄)
//            ū = c₀ ū⁺ + c₁ (ā + b̄) + N'(u)ᵀ (c₃ ū⁺ + c₂ (ā − d̄))
// The gradients of the coefficients are the products of what they multiply above, those of the forcing and the coupling
// follow from what N'ᵀ is applied to. Oddness about plates is an orthogonal projection, its own transpose.
//
// N goes to the cells, multiplies, and returns (see `native_2d.cpp`), with z = u + iv, K = kx − i ky and n = ny nx:
//     ẑ = ω̂ / (n K),   N̂ = G + conj G(−k),  G = −(i/4) K² F[z²],   and for a scalar  G = −(i/2) K F[zθ].
// Its transpose goes the same way with the conjugates of the factors in the opposite places:
//     q̂ = i K*² ḡ,  r̂ = i K* ḡ_θ,   s = q z* + r θ,   ω̄ = G + conj G(−k)  with  G = F[s] / (2 n K*),
//     θ̄ = F[Re(r* z)] / n,   and for a mean velocity  Ū + iV̄ = Σ s.
// So a stage costs as many transforms backwards as forwards, and an interval twice those of the steps alone. The work is
// cut into pieces, laid out and shared by threads as in `native_2d.cpp`, whose words are used here.
#include "layout_2d.h"

namespace {

template <class T> struct Problem {
    int ny, nx, rows, columns;         // rows, columns: the retained ky, and the retained kx ≥ 0
    int components, order, plates;     // 1: ω, 2: ω and θ; 2 or 4; 1: all is kept odd about y = 0
    const T *root_y, *root_x;              // exp(−2πi j/n), interleaved
    const T *velocity, *advection, *flux;  // 1 / (kx − i ky) / (ny nx), −(i/4) (kx − i ky)², −(i/2) (kx − i ky):
                                           // (chunk of columns, row, re/im, column of the chunk)
};

// What a trajectory reads, and the gradients that it writes; null for a term that is absent, or a gradient not wanted.
template <class T> struct Trajectory {
    int steps;
    const T *state, *coefficients, *forcing, *coupling, *drift;           // as in `native_2d.cpp`
    T *to_state, *to_coefficients, *to_forcing, *to_coupling, *to_drift;  // to_state holds that of the end, at first
};

template <class T> class Adjoint : public Layout<T> {
    using Base = Layout<T>;
    using typename Base::C, typename Base::Halves, typename Base::V;
    using Base::H, Base::W, Base::along_x, Base::along_y, Base::chunks, Base::column, Base::columns, Base::components;
    using Base::groups, Base::halves, Base::kept, Base::make_odd, Base::numbers, Base::nx, Base::ny;
    using Base::mirrored, Base::pack, Base::planes, Base::product, Base::read_rows, Base::rows, Base::square, Base::unpack;
    using Base::write_rows;
    template <class Kind> Kind* reserve(size_t numbers) { return Base::template reserve<Kind>(numbers); }

    // The factor f(k) = scale · (re ± i im) of a table, f(−k) being `even` · conj f(k).
    struct Factor { const T* table; T scale, sign, even; };
    struct Stage {
        V *w, *n;  // a state and its tendency: (chunk, component, row)
        C* z;      // v + iu: (group of rows, nx)
        V* theta;  // (group of rows, nx)
    };
    struct alignas(128) Own {
        C *line, *scalar, *work;
        V *from, *to;  // what N'ᵀ is applied to, and the result; or the other way round, N's
    };

    const Problem<T>& p;
    const int count;  // coefficients of the scheme
    std::vector<Own> own;
    V* mean;       // a table of 1/n
    V *g, *a, *b, *d, *forcing, *coupling, *coupled, *sum_forcing, *sum_coupling;  // (chunk, component, row)
    std::vector<Stage> stages;
    team::Phases phases;
    Trajectory<T> t;
    int last;  // the number of the last stage

public:
    Adjoint(const Problem<T>& p, int steps)
        : Base(p.ny, p.nx, p.rows, p.columns, p.components, p.root_y, p.root_x), p(p), count(p.order == 2 ? 3 : 6) {
        const size_t state = numbers(), cells = size_t(groups) * nx;
        for (V** v : {&g, &a, &b, &d, &forcing, &coupling, &coupled, &sum_forcing, &sum_coupling}) *v = reserve<V>(state);
        mean = reserve<V>(size_t(chunks) * rows);
        std::fill_n(mean, size_t(chunks) * rows, halves(T(1) / (T(ny) * T(nx)), 0));
        for (int i = 0; i < steps * p.order; ++i)
            stages.push_back({reserve<V>(state), reserve<V>(state), reserve<C>(cells),
                              components == 2 ? reserve<V>(cells) : nullptr});
    }
    void add_thread() {
        Own o;
        o.line = reserve<C>(nx), o.work = reserve<C>(std::max(ny, nx));
        o.scalar = components == 2 ? reserve<C>(nx) : nullptr;
        o.from = reserve<V>(2 * size_t(rows)), o.to = reserve<V>(2 * size_t(rows));
        own.push_back(o);
    }
    int threads() const { return int(own.size()); }  // that there is room for
    void start(const Trajectory<T>& trajectory, int threads) {
        t = trajectory, last = t.steps * p.order - 1;
        phases.set(t.steps ? 3 + 4 * last + 2 : 0, chunks, groups, threads);
    }

    // What one thread of the team does: the pencils of the initial state; then slabs and pencils in turn, of the stages
    // from the first to the last and back to the first.
    void run(int rank) {
        Own& o = own[rank];
        phases.run(rank, [&](int phase, int piece) {
            const int number = (phase - 1) / 2, stage = number <= last ? number : 2 * last + 1 - number;
            if (!phase) begin(o, piece);
            else if (number <= last) phase % 2 ? slab(o, piece, stage) : pencil(o, piece, stage);
            else phase % 2 ? slab_back(o, piece, stage) : pencil_back(o, piece, stage);
        });
    }

private:
    // -- along x. Up to the cells the parts of all numbers have changed places: an inverse transform is a forward one then.

    void slab(Own& o, int group, int number) {
        const Stage& at = stages[number];
        C *const kept = at.z + size_t(group) * nx, *const scalar = o.scalar;
        V* const theta = at.theta + size_t(group) * nx;
        const T drift_x = t.drift ? t.drift[0] : 0, drift_y = t.drift ? t.drift[1] : 0;
        if (scalar) {
            read_rows(planes[1], group, scalar);
            along_x.to_coefficients(scalar, o.work, [=](int i, C value) { theta[i] = value.im; });
        }
        read_rows(planes[0], group, o.line);
        if (number == last && !t.to_coefficients)  // nobody asks for its tendency
            return along_x.to_coefficients(o.line, o.work, [=](int i, C z) { kept[i] = {z.re + drift_y, z.im + drift_x}; });
        along_x.through(o.line, o.work, [=](int i, C z) {
            z = {z.re + drift_y, z.im + drift_x}, kept[i] = z;
            return square(z);
        });
        write_rows(o.line, group, planes[0]);
        if (!scalar) return;
        along_x.to_numbers(scalar, o.work, [=](int i) { return C{kept[i].im * theta[i], kept[i].re * theta[i]}; });
        write_rows(scalar, group, planes[1]);
    }

    void slab_back(Own& o, int group, int number) {
        const Stage& at = stages[number];
        const C* const kept = at.z + size_t(group) * nx;
        const V* const theta = at.theta + size_t(group) * nx;
        C* const scalar = o.scalar;
        read_rows(planes[0], group, o.line);
        if (!scalar) {
            along_x.through(o.line, o.work, [=](int i, C q) { return conjugate_product(q, kept[i]); });
            return write_rows(o.line, group, planes[0]);
        }
        read_rows(planes[1], group, scalar);
        along_x.to_coefficients(scalar, o.work, [=](int i, C r) { scalar[i] = r; });
        along_x.through(o.line, o.work, [=](int i, C q) {
            const C r = scalar[i];
            scalar[i] = {r.im * kept[i].im + r.re * kept[i].re, V{}};
            return conjugate_product(q, kept[i]) + C{r.im * theta[i], r.re * theta[i]};
        });
        write_rows(o.line, group, planes[0]);
        along_x.to_numbers(scalar, o.work, [=](int i) { return scalar[i]; });
        write_rows(scalar, group, planes[1]);
    }
    static C conjugate_product(C q, C z) { return {q.im * z.im + q.re * z.re, q.re * z.im - q.im * z.re}; }

    // -- along y

    void begin(Own& o, int chunk) {
        const size_t at = size_t(chunk) * components * rows;
        unpack(t.state, components, chunk, stages[0].w + at);
        unpack(t.to_state, components, chunk, g + at);
        for (int i = 0; i < components * rows; ++i) g[at + i] /= weight(chunk);
        if (t.forcing) unpack(t.forcing, 1, chunk, forcing + size_t(chunk) * rows);
        if (t.coupling) unpack(t.coupling, 2, chunk, coupling + at);
        if (t.to_forcing) std::fill_n(sum_forcing + size_t(chunk) * rows, rows, V{});
        if (t.to_coupling) std::fill_n(sum_coupling + at, 2 * rows, V{});
        to_cells(o, chunk, stages[0].w + at);
    }
    void to_cells(Own& o, int chunk, const V* w) {
        to_planes(o, chunk, 0, {p.velocity, 1, 1, -1}, w);
        if (components == 2) to_planes(o, chunk, 1, {(const T*)mean, 1, 1, 1}, w + rows);
    }

    // Ends a stage of a step, and begins the next one.
    void pencil(Own& o, int chunk, int number) {
        const int numbers = components * rows, in_step = number % p.order;
        const size_t at = size_t(chunk) * numbers;
        const Stage* const of_step = &stages[number - in_step];
        const V* const w = of_step[in_step].w + at;
        V* const n = of_step[in_step].n + at;
        if (number < last || t.to_coefficients) {
            from_planes(o, chunk, 0, {p.advection, 1, 1, 1}, n);
            if (components == 2) from_planes(o, chunk, 1, {p.flux, 1, 1, -1}, n + rows);
            if (t.forcing)
                for (int r = 0; r < rows; ++r) n[r] += forcing[size_t(chunk) * rows + r];
            if (t.coupling)
                for (int r = 0; r < numbers; ++r) n[r] += product(coupling[at + r], w[other(r)], 1);
        }
        if (number == last) return begin_step_back(o, chunk, number);
        V* const next = stages[number + 1].w + at;
        const auto kept = [=](int stage) { return of_step[stage].w + at; };
        const auto tendency = [=](int stage) { return of_step[stage].n + at; };
        const V *const u = kept(0), *const n0 = tendency(0);
        if (p.order == 2 && in_step == 0) {
            each<3>(chunk, [=](int i, auto c) { next[i] = c(0) * u[i] + c(1) * n0[i]; });
        } else if (p.order == 2) {
            each<3>(chunk, [=](int i, auto c) { next[i] = w[i] + c(2) * (n[i] - n0[i]); });
        } else if (in_step < 2) {
            each<6>(chunk, [=](int i, auto c) { next[i] = c(1) * u[i] + c(2) * n[i]; });
        } else if (in_step == 2) {
            const V* const second = kept(1);
            each<6>(chunk, [=](int i, auto c) { next[i] = c(1) * second[i] + c(2) * (n[i] + n[i] - n0[i]); });
        } else {
            const V *const n1 = tendency(1), *const n2 = tendency(2);
            each<6>(chunk, [=](int i, auto c) {
                next[i] = c(0) * u[i] + c(3) * n0[i] + c(4) * (n1[i] + n2[i]) + c(5) * n[i];
            });
        }
        if (p.plates && in_step == p.order - 1) make_odd(next);
        to_cells(o, chunk, next);
    }

    // With g, the gradient of the state after a step, whose last stage has this number.
    void begin_step_back(Own& o, int chunk, int number) {
        const size_t at = size_t(chunk) * components * rows;
        V* const h = o.from;
        const V* const g = this->g + at;
        if (p.plates) make_odd(this->g + at);
        if (p.order == 2) each<3>(chunk, [=](int i, auto c) { h[i] = c(2) * g[i]; });
        else each<6>(chunk, [=](int i, auto c) { h[i] = c(5) * g[i]; });
        to_cells_back(o, chunk, number);
    }

    // Ends N'ᵀ of a stage, and begins that of the stage before it.
    void pencil_back(Own& o, int chunk, int number) {
        const int numbers = components * rows, in_step = number % p.order;
        const size_t at = size_t(chunk) * numbers;
        V* const r = o.to;
        from_planes(o, chunk, 0, {p.velocity, T(0.5), -1, -1}, r);
        if (components == 2) from_planes(o, chunk, 1, {(const T*)mean, T(0.5), 1, 1}, r + rows);
        if (t.coupling)
            for (int i = 0; i < numbers; ++i) r[i] += coupled[at + i];
        V *const h = o.from, *const g = this->g + at, *const a = this->a + at, *const b = this->b + at, *const d = this->d + at;
        const Stage* const of_step = &stages[number - in_step];
        const auto kept = [=](int stage) { return of_step[stage].w + at; };
        const auto tendency = [=](int stage) { return of_step[stage].n + at; };
        const V *const u = kept(0), *const n0 = tendency(0), *const w1 = kept(1), *const n1 = tendency(1);
        T* const to = t.to_coefficients ? t.to_coefficients + at * count * H : nullptr;
        if (in_step == 0) {
            for (int i = 0; i < numbers; ++i) g[i] += r[i];
            if (number) return begin_step_back(o, chunk, number - 1);
            return end(chunk);
        }
        if (p.order == 2) {
            if (to)
                for (int i = 0; i < numbers; ++i) {
                    const V first = g[i] + r[i];
                    add(to, chunk, i, {first * u[i], first * n0[i], g[i] * (n1[i] - n0[i])});
                }
            each<3>(chunk, [=](int i, auto c) {
                const V first = g[i] + r[i];
                h[i] = c(1) * first - c(2) * g[i], g[i] = c(0) * first;
            });
        } else if (in_step == 3) {
            each<6>(chunk, [=](int i, auto c) { d[i] = r[i], h[i] = c(4) * g[i] + c(2) * (r[i] + r[i]); });
        } else if (in_step == 2) {
            each<6>(chunk, [=](int i, auto c) { b[i] = r[i], h[i] = c(4) * g[i] + c(2) * r[i]; });
        } else {
            each<6>(chunk, [=](int i, auto c) { a[i] = r[i] + c(1) * d[i]; });
            const V *const n2 = tendency(2), *const n3 = tendency(3);
            if (to)
                for (int i = 0; i < numbers; ++i)
                    add(to, chunk, i,
                        {g[i] * u[i], (a[i] + b[i]) * u[i] + d[i] * w1[i],
                         a[i] * n0[i] + b[i] * n1[i] + d[i] * (n2[i] + n2[i] - n0[i]), g[i] * n0[i],
                         g[i] * (n1[i] + n2[i]), g[i] * n3[i]});
            each<6>(chunk, [=](int i, auto c) {
                h[i] = c(3) * g[i] + c(2) * (a[i] - d[i]), g[i] = c(0) * g[i] + c(1) * (a[i] + b[i]);
            });
        }
        to_cells_back(o, chunk, number - 1);
    }

    // Begins N'ᵀ of o.from at a stage, and adds up the gradients of forcing and coupling.
    void to_cells_back(Own& o, int chunk, int number) {
        const int numbers = components * rows;
        const size_t at = size_t(chunk) * numbers;
        V* const h = o.from;
        const V* const w = stages[number].w + at;
        if (t.to_forcing)
            for (int r = 0; r < rows; ++r) sum_forcing[size_t(chunk) * rows + r] += h[r];
        if (t.to_coupling)
            for (int r = 0; r < numbers; ++r) sum_coupling[at + r] += product(w[other(r)], h[r], -1);
        if (t.coupling)
            for (int r = 0; r < numbers; ++r) coupled[at + other(r)] = product(coupling[at + r], h[r], -1);
        if (!chunk)
            for (int part = 0; part < components; ++part) make_real(h + part * rows);
        to_planes(o, chunk, 0, {p.advection, 4, -1, 1}, h);
        if (components == 2) to_planes(o, chunk, 1, {p.flux, 2, -1, -1}, h + rows);
    }

    void end(int chunk) {
        const auto write = [&](V* from, int fields, T* to) {
            from += size_t(chunk) * fields * rows;
            for (int i = 0; i < fields * rows; ++i) from[i] *= weight(chunk);
            pack(from, fields, chunk, to);
        };
        write(g, components, t.to_state);
        if (t.to_forcing) write(sum_forcing, 1, t.to_forcing);
        if (t.to_coupling) write(sum_coupling, 2, t.to_coupling);
    }

    // Adds the gradients of the coefficients of the scheme at the number i of a chunk.
    void add(T* to, int chunk, int i, std::initializer_list<V> products) const {
        to += size_t(i) * count * H;
        for (V v : products) {
            const V both = weight(chunk) * (v + Halves::swapped(v));  // of the real and the imaginary part
            for (int k = 0; k < H; ++k) to[k] += both[k];
            to += H;
        }
    }

    // How often the coefficients of a chunk's columns count in a field.
    static V weight(int chunk) {
        V v = halves(2, 2);
        if (!chunk) v[0] = v[H] = 1;
        return v;
    }
    int other(int r) const { return r < rows ? r + rows : r - rows; }  // the same mode of the other component

    // Calls f(i, c) for all numbers of a chunk, c(k) being the coefficients of the scheme.
    template <int COUNT, class F> void each(int chunk, const F& f) const {
        const int numbers = components * rows;
        const T* q = t.coefficients + size_t(chunk) * numbers * COUNT * H;
        for (int i = 0; i < numbers; ++i, q += COUNT * H) f(i, [q](int k) { return Halves::twice(q + k * H); });
    }

    // From coefficients w times f to a plane; and from a plane: f G + conj (f G)(−k) of its transforms G.
    void to_planes(Own& o, int chunk, int part, Factor f, const V* w) {
        const int* const kept = this->kept.data();
        const V re_signs = halves(f.scale, f.scale * f.even), im_signs = halves(f.scale * f.sign, -f.scale * f.sign * f.even);
        const V* const factors = (const V*)f.table + size_t(chunk) * rows;
        along_y.to_numbers(planes[part] + size_t(chunk) * column, o.work, [=](int i) {
            const int r = kept[i];
            if (r < 0) return C{};
            const V re = Halves::lows(w[r], w[r]), im = Halves::highs(w[r], w[r]);
            const V a = re_signs * Halves::lows(factors[r], factors[r]), b = im_signs * Halves::highs(factors[r], factors[r]);
            return C{a * im + b * re, a * re - b * im};
        });
    }
    void from_planes(Own& o, int chunk, int part, Factor f, V* to) {
        const int* const kept = this->kept.data();
        const V signs = halves(-f.scale * f.sign, f.scale * f.sign);
        const T scale = f.scale, even = f.even;
        const V* const factors = (const V*)f.table + size_t(chunk) * rows;
        T* const drift = part == 0 && chunk == 0 && f.table == p.velocity ? t.to_drift : nullptr;
        along_y.to_coefficients(planes[part] + size_t(chunk) * column, o.work, [=](int i, C g) {
            const int r = kept[i];
            if (r < 0) return;
            if (drift && i == 0) drift[0] += g.re[0], drift[1] += g.im[0];
            const V own = Halves::lows(g.re, g.im), other = Halves::highs(g.re, g.im) * even;
            to[r] = scale * Halves::lows(factors[r], factors[r]) * (own + other)
                    + Halves::highs(factors[r], factors[r]) * (signs * Halves::swapped(own - other));
        });
    }

    // Of the column kx = 0, in chunk 0, keeps the part that belongs to a real field: (ŵ(ky) + conj ŵ(−ky)) / 2.
    void make_real(V* w) const {
        for (int i = 0; i < rows; ++i) {
            const int j = mirrored[i];
            if (j < i) continue;
            const T re = (w[i][0] + w[j][0]) / 2, im = (w[i][H] - w[j][H]) / 2;
            w[i][0] = w[j][0] = re, w[i][H] = im, w[j][H] = -im;
        }
    }
};

// Returns 0, or 1 if there was no memory. Gradients are arrays over the batch, of zeros at first but `to_state`.
template <class T>
int backpropagate(const int* sizes, const T* const* tables, int batch, const T* state, const T* const* coefficients,
                  const T* const* forcing, const T* const* coupling, const T* const* drift, const int* steps,
                  T* to_state, T* to_coefficients, T* to_forcing, T* to_coupling, T* to_drift, int threads) {
    const Problem<T> p{sizes[0], sizes[1], sizes[2], sizes[3], sizes[4], sizes[5], sizes[6],
                       tables[0], tables[1], tables[2], tables[3], tables[4]};
    constexpr int H = fft::Vector<T>::W / 2;
    const size_t component = size_t(2) * p.ny * p.columns, field = p.components * component;
    const size_t scheme = size_t((p.columns + H - 1) / H) * p.components * p.rows * (p.order == 2 ? 3 : 6) * H;
    const int most = *std::max_element(steps, steps + batch);
    const auto at = [](auto* values, size_t offset) { return values ? values + offset : nullptr; };
    return team::run(
        batch, threads, Adjoint<T>::most_threads(p.ny, p.nx, 2.0 * p.order * most), [&] { return std::make_unique<Adjoint<T>>(p, most); },
        [&](Adjoint<T>& adjoint, int b, int team) {
            adjoint.start({steps[b], state + b * field, coefficients[b], forcing ? forcing[b] : nullptr,
                           coupling ? coupling[b] : nullptr, drift ? drift[b] : nullptr, to_state + b * field,
                           at(to_coefficients, b * scheme), at(to_forcing, b * component), at(to_coupling, b * field),
                           at(to_drift, 2 * b)}, team);
        },
        [](const Adjoint<T>&, int) {});
}

}  // namespace

#define EXPORT(NAME, T)                                                                                              \
    extern "C" int backpropagate_##NAME(                                                                             \
        const int* sizes, const T* const* tables, int batch, const T* state, const T* const* coefficients,           \
        const T* const* forcing, const T* const* coupling, const T* const* drift, const int* steps, T* to_state,     \
        T* to_coefficients, T* to_forcing, T* to_coupling, T* to_drift, int threads) {                               \
        return backpropagate(sizes, tables, batch, state, coefficients, forcing, coupling, drift, steps, to_state,   \
                             to_coefficients, to_forcing, to_coupling, to_drift, threads);                           \
    }
EXPORT(float, float)
EXPORT(double, double)
