// Mixed-radix Fourier transforms of `W` neighbouring pencils at once: the lanes of a vector belong to different pencils,
// so that every operation of a butterfly is one vector instruction. Stockham's order; no factor 1/n.
#pragma once
#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace fft {

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif

template <class T> struct Vector {
    typedef T V __attribute__((vector_size(BYTES)));
    static constexpr int W = BYTES / sizeof(T);
    // A complex number of every lane. An inverse transform is a forward one of numbers whose parts change places.
    struct C {
        V re, im;
        C operator+(C o) const { return {re + o.re, im + o.im}; }
        C operator-(C o) const { return {re - o.re, im - o.im}; }
        C times(T r, T i) const { return {re * r - im * i, re * i + im * r}; }
        C scaled(T r) const { return {re * r, im * r}; }
        C minus_i() const { return {im, -re}; }
        C swapped() const { return {im, re}; }
    };
};

// Butterflies: forward transforms of R numbers, in place.
template <int R, class T> struct Butterfly {
    typedef typename Vector<T>::C C;
    static inline __attribute__((always_inline)) void of(C* v) {
        if constexpr (R == 2) {
            two(v[0], v[1]);
        } else if constexpr (R == 3) {
            three(v[0], v[1], v[2]);
        } else if constexpr (R == 4) {
            four(v[0], v[1], v[2], v[3]);
        } else if constexpr (R == 5) {
            const T c1 = T(0.30901699437494742410), c2 = T(-0.80901699437494742410);
            const T s1 = T(0.95105651629515357212), s2 = T(0.58778525229247312917);
            const C a = v[1] + v[4], b = v[2] + v[3], d = (v[1] - v[4]).minus_i(), e = (v[2] - v[3]).minus_i();
            const C p = v[0] + a.scaled(c1) + b.scaled(c2), q = v[0] + a.scaled(c2) + b.scaled(c1);
            const C r = d.scaled(s1) + e.scaled(s2), s = d.scaled(s2) - e.scaled(s1);
            v[0] = v[0] + a + b, v[1] = p + r, v[4] = p - r, v[2] = q + s, v[3] = q - s;
        } else if constexpr (R == 6) {  // the prime factors 2 and 3, without twiddles
            three(v[0], v[2], v[4]), three(v[3], v[5], v[1]);
            two(v[0], v[3]), two(v[2], v[5]), two(v[4], v[1]);
            const C one = v[5], five = v[1];
            std::swap(v[2], v[4]), v[1] = one, v[5] = five;
        } else {
            static_assert(R == 8);
            const T h = T(0.70710678118654752440);
            four(v[0], v[2], v[4], v[6]), four(v[1], v[3], v[5], v[7]);
            const C a = v[3], b = v[5], c = v[7];
            v[3] = {(a.re + a.im) * h, (a.im - a.re) * h};
            v[5] = b.minus_i();
            v[7] = {(c.im - c.re) * h, (-c.im - c.re) * h};
            C o[8];
            for (int k = 0; k < 4; ++k) o[k] = v[2 * k] + v[2 * k + 1], o[k + 4] = v[2 * k] - v[2 * k + 1];
            std::copy(o, o + 8, v);
        }
    }

private:
    static inline __attribute__((always_inline)) void two(C& a, C& b) {
        const C s = a + b;
        b = a - b, a = s;
    }
    static inline __attribute__((always_inline)) void three(C& a, C& b, C& c) {
        const C s = b + c, d = (b - c).minus_i().scaled(T(0.86602540378443864676)), m = a - s.scaled(T(0.5));
        a = a + s, b = m + d, c = m - d;
    }
    static inline __attribute__((always_inline)) void four(C& a, C& b, C& c, C& d) {
        const C s = a + c, t = a - c, u = b + d, w = (b - d).minus_i();
        a = s + u, b = t + w, c = s - u, d = t - w;
    }
};

// A transform of n numbers as passes over its radices: 2, 3, 4, 5, 6, 8, and any prime by its definition.
class Plan {
public:
    explicit Plan(int length) : n(length) {
        std::vector<int> tried;
        search(n, 0, tried);
    }
    const int n;
    std::vector<int> radices;

private:
    double best = 1e9;
    void search(int left, double cost, std::vector<int>& tried) {
        if (cost >= best) return;
        if (left == 1) {
            if (tried.size() > 1 || n == tried[0]) best = cost, radices = tried;
            return;
        }
        // The cost of a pass for each number: loads, stores, twiddles and the butterfly, roughly.
        static constexpr struct { int radix; double cost; } known[] = {{8, 2.0}, {6, 2.1}, {5, 2.2}, {4, 1.6}, {3, 1.7}, {2, 1.3}};
        bool any = false;
        for (auto [radix, own] : known)
            if (left % radix == 0 && radix < n) {
                any = true;
                tried.push_back(radix), search(left / radix, cost + own, tried), tried.pop_back();
            }
        if (any) return;
        int radix = 7;
        while (left % radix) radix += 2;
        tried.push_back(radix), search(left / radix, cost + radix, tried), tried.pop_back();
    }
};

template <class T> class Transform {
    typedef typename Vector<T>::C C;
    typedef typename Vector<T>::V V;
    const Plan plan;
    const T* const root;  // exp(−2πi j/n), interleaved

public:
    Transform(int n, const T* roots) : plan(n), root(roots) {}

    // Transforms what `load(i)` returns, i = 0 … n − 1, and calls `store(i, value)`; `work` holds 2 n numbers.
    template <class Load, class Store> inline void operator()(C* work, const Load& load, const Store& store) const {
        const int n = plan.n, passes = int(plan.radices.size());
        C *from = work, *to = work + n;
        int stride = 1, left = n;
        for (int i = 0; i < passes; ++i) {
            const int radix = plan.radices[i];
            left /= radix;
            const Inner in{from}, out{to};
            if (i == 0) pass<true>(radix, stride, left, load, out);
            else if (i < passes - 1) pass<true>(radix, stride, left, in, out);
            else pass<false>(radix, stride, left, in, store);
            std::swap(from, to);
            stride *= radix;
        }
    }

private:
    struct Inner {  // not a lambda: its type is the same for all loads and stores, so that a pass is compiled once
        C* at;
        C operator()(int i) const { return at[i]; }
        void operator()(int i, C value) const { at[i] = value; }
    };

    template <bool TWIDDLES, class Load, class Store>
    inline void pass(int radix, int stride, int left, const Load& load, const Store& store) const {
        switch (radix) {
            case 2: return fixed<2, TWIDDLES>(stride, left, load, store);
            case 3: return fixed<3, TWIDDLES>(stride, left, load, store);
            case 4: return fixed<4, TWIDDLES>(stride, left, load, store);
            case 5: return fixed<5, TWIDDLES>(stride, left, load, store);
            case 6: return fixed<6, TWIDDLES>(stride, left, load, store);
            case 8: return fixed<8, TWIDDLES>(stride, left, load, store);
            default: return any(radix, stride, left, load, store);
        }
    }

    template <int R, bool TWIDDLES, class Load, class Store>
    __attribute__((noinline)) void fixed(int stride, int left, const Load load, const Store store) const {
        const int step = stride * left;
        for (int j = 0; j < left; ++j)
            for (int q = 0; q < stride; ++q) {
                C v[R];
                for (int l = 0; l < R; ++l) v[l] = load(q + stride * j + l * step);
                Butterfly<R, T>::of(v);
                const int o = q + stride * R * j;
                store(o, v[0]);
                for (int k = 1; k < R; ++k) {
                    if constexpr (TWIDDLES) {
                        const T* w = root + 2 * k * j * stride;
                        store(o + k * stride, v[k].times(w[0], w[1]));
                    } else {
                        store(o + k * stride, v[k]);
                    }
                }
            }
    }

    template <class Load, class Store>
    __attribute__((noinline)) void any(int radix, int stride, int left, const Load load, const Store store) const {
        const int step = stride * left;
        for (int j = 0; j < left; ++j)
            for (int q = 0; q < stride; ++q)
                for (int k = 0; k < radix; ++k) {
                    C sum = load(q + stride * j);
                    const T* turned = root + 2 * (long(k) * j * stride % plan.n);
                    sum = sum.times(turned[0], turned[1]);
                    for (int l = 1; l < radix; ++l) {
                        const T* w = root + 2 * (long(k) * (l * step + j * stride) % plan.n);
                        sum = sum + load(q + stride * j + l * step).times(w[0], w[1]);
                    }
                    store(q + stride * (radix * j + k), sum);
                }
    }
};

// Transforms in place, with the coefficients in an order of the plan's: `to_coefficients` takes numbers in their natural
// order to it, `to_numbers` takes it back. No pass reorders, and the numbers stay in the cache that they are in. Both
// are forward transforms: the second is the transpose of the first.
template <class T> class InPlace {
    typedef typename Vector<T>::C C;
    const Plan plan;
    const T* const root;  // exp(−2πi j/n), interleaved

public:
    InPlace(int n, const T* roots) : plan(n), root(roots) {}

    // The coefficient that is found at a position.
    int natural(int position) const {
        int found = 0, scale = 1, left = plan.n;
        for (int radix : plan.radices) {
            left /= radix;
            found += scale * (position / left), position %= left, scale *= radix;
        }
        return found;
    }

    // Calls `store(position, coefficient)` instead of writing them. `work` holds as many numbers as the largest radix.
    template <class Store> inline void to_coefficients(C* x, C* work, const Store& store) const {
        const int last = int(plan.radices.size()) - 1;
        down(x, work, last);
        const int radix = plan.radices[last], count = plan.n / radix;
        switch (radix) {
            case 2: return last_down<2>(x, count, store);
            case 3: return last_down<3>(x, count, store);
            case 4: return last_down<4>(x, count, store);
            case 5: return last_down<5>(x, count, store);
            case 6: return last_down<6>(x, count, store);
            case 8: return last_down<8>(x, count, store);
        }
        for (int b = 0; b < count; ++b) {
            any(x + b * radix, work, radix, 1);
            for (int k = 0; k < radix; ++k) store(b * radix + k, x[b * radix + k]);
        }
    }

    // Calls `load(position)` instead of reading them.
    template <class Load> inline void to_numbers(C* x, C* work, const Load& load) const {
        const int last = int(plan.radices.size()) - 1, radix = plan.radices[last], count = plan.n / radix;
        switch (radix) {
            case 2: first_up<2>(x, count, load); break;
            case 3: first_up<3>(x, count, load); break;
            case 4: first_up<4>(x, count, load); break;
            case 5: first_up<5>(x, count, load); break;
            case 6: first_up<6>(x, count, load); break;
            case 8: first_up<8>(x, count, load); break;
            default:
                for (int b = 0; b < count; ++b) {
                    for (int k = 0; k < radix; ++k) x[b * radix + k] = load(b * radix + k);
                    any(x + b * radix, work, radix, 1);
                }
        }
        up(x, work, last);
    }

    // Both, with `change(position, coefficient)` in between.
    template <class Change> inline void through(C* x, C* work, const Change& change) const {
        const int last = int(plan.radices.size()) - 1, radix = plan.radices[last], count = plan.n / radix;
        down(x, work, last);
        switch (radix) {
            case 2: turn<2>(x, count, change); break;
            case 3: turn<3>(x, count, change); break;
            case 4: turn<4>(x, count, change); break;
            case 5: turn<5>(x, count, change); break;
            case 6: turn<6>(x, count, change); break;
            case 8: turn<8>(x, count, change); break;
            default:
                for (int b = 0; b < count; ++b) {
                    any(x + b * radix, work, radix, 1);
                    for (int k = 0; k < radix; ++k) x[b * radix + k] = change(b * radix + k, x[b * radix + k]);
                    any(x + b * radix, work, radix, 1);
                }
        }
        up(x, work, last);
    }

private:
    void down(C* x, C* work, int passes) const {
        int count = 1, left = plan.n;
        for (int i = 0; i < passes; ++i) {
            const int radix = plan.radices[i];
            left /= radix;
            pass<true>(x, work, radix, count, left);
            count *= radix;
        }
    }
    void up(C* x, C* work, int passes) const {
        int count = plan.n / plan.radices[passes], left = plan.radices[passes];
        for (int i = passes - 1; i >= 0; --i) {
            const int radix = plan.radices[i];
            count /= radix;
            pass<false>(x, work, radix, count, left);
            left *= radix;
        }
    }

    // Butterflies of numbers `left` apart in each of `count` blocks, with their factors behind (down) or before them.
    template <bool DOWN> void pass(C* x, C* work, int radix, int count, int left) const {
        switch (radix) {
            case 2: return fixed<2, DOWN>(x, count, left);
            case 3: return fixed<3, DOWN>(x, count, left);
            case 4: return fixed<4, DOWN>(x, count, left);
            case 5: return fixed<5, DOWN>(x, count, left);
            case 6: return fixed<6, DOWN>(x, count, left);
            case 8: return fixed<8, DOWN>(x, count, left);
        }
        for (int b = 0; b < count; ++b)
            for (int j = 0; j < left; ++j) {
                C* const at = x + b * radix * left + j;
                if (DOWN) any(at, work, radix, left);
                for (int k = 1; k < radix; ++k) {
                    const T* w = root + 2L * k * j * count;
                    at[k * left] = at[k * left].times(w[0], w[1]);
                }
                if (!DOWN) any(at, work, radix, left);
            }
    }

    template <int R, bool DOWN> __attribute__((noinline)) void fixed(C* const x, int count, int left) const {
        for (int b = 0; b < count; ++b)
            for (int j = 0; j < left; ++j) {
                C* const at = x + b * R * left + j;
                C v[R];
                v[0] = at[0];
                for (int k = 1; k < R; ++k) {
                    const T* w = root + 2L * k * j * count;
                    v[k] = DOWN ? at[k * left] : at[k * left].times(w[0], w[1]);
                }
                Butterfly<R, T>::of(v);
                at[0] = v[0];
                for (int k = 1; k < R; ++k) {
                    const T* w = root + 2L * k * j * count;
                    at[k * left] = DOWN ? v[k].times(w[0], w[1]) : v[k];
                }
            }
    }
    template <int R, class Store> __attribute__((noinline)) void last_down(const C* x, int count, const Store store) const {
        for (int at = 0; at < count * R; at += R) {
            C v[R];
            for (int k = 0; k < R; ++k) v[k] = x[at + k];
            Butterfly<R, T>::of(v);
            for (int k = 0; k < R; ++k) store(at + k, v[k]);
        }
    }
    template <int R, class Load> __attribute__((noinline)) void first_up(C* x, int count, const Load load) const {
        for (int at = 0; at < count * R; at += R) {
            C v[R];
            for (int k = 0; k < R; ++k) v[k] = load(at + k);
            Butterfly<R, T>::of(v);
            for (int k = 0; k < R; ++k) x[at + k] = v[k];
        }
    }
    template <int R, class Change> __attribute__((noinline)) void turn(C* x, int count, const Change change) const {
        for (int at = 0; at < count * R; at += R) {
            C v[R];
            for (int k = 0; k < R; ++k) v[k] = x[at + k];
            Butterfly<R, T>::of(v);
            for (int k = 0; k < R; ++k) v[k] = change(at + k, v[k]);
            Butterfly<R, T>::of(v);
            for (int k = 0; k < R; ++k) x[at + k] = v[k];
        }
    }

    // The transform of a prime number of numbers by its definition.
    __attribute__((noinline)) void any(C* at, C* work, int radix, int step) const {
        const int unit = plan.n / radix;
        for (int k = 0; k < radix; ++k) {
            C sum = at[0];
            for (int l = 1; l < radix; ++l) {
                const T* w = root + 2 * (long(k) * l % radix * unit);
                sum = sum + at[l * step].times(w[0], w[1]);
            }
            work[k] = sum;
        }
        for (int k = 0; k < radix; ++k) at[k * step] = work[k];
    }
};

// Keeps the compiler from fusing a product with an addition that follows: the difference of equal products is zero then.
template <class V> inline __attribute__((always_inline)) V rounded(V v) {
#if defined(__AVX512F__)
    asm("" : "+v"(v));
#elif defined(__SSE2__)
    asm("" : "+x"(v));
#elif defined(__aarch64__)
    asm("" : "+w"(v));
#endif
    return v;
}

// A vector of chosen numbers of two: those of `a` count from 0, those of `b` from W.
template <class T, int... L> inline __attribute__((always_inline)) typename Vector<T>::V pick(
    typename Vector<T>::V a, typename Vector<T>::V b, std::integer_sequence<int, L...>) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
    return __builtin_shufflevector(a, b, L...);
#endif
#endif
    constexpr int W = Vector<T>::W, from[] = {L...};
    typename Vector<T>::V v;
    for (int i = 0; i < W; ++i) v[i] = from[i] < W ? a[from[i]] : b[from[i] - W];
    return v;
}

// What is done with the halves of vectors.
template <class T> class Halves {
    typedef typename Vector<T>::V V;
    static constexpr int W = Vector<T>::W, H = W / 2;
    typedef std::make_integer_sequence<int, W> Lanes;
    template <int... L> using Chosen = std::integer_sequence<int, L...>;

    template <int... L> static V lows(V a, V b, Chosen<L...>) { return pick<T>(a, b, Chosen<(L < H ? L : W + L - H)...>()); }
    template <int... L> static V highs(V a, V b, Chosen<L...>) { return pick<T>(a, b, Chosen<(L < H ? H + L : W + L)...>()); }
    template <int... L> static V swapped(V a, Chosen<L...>) { return pick<T>(a, a, Chosen<((L + H) % W)...>()); }
    template <int... L> static V unzipped(V a, Chosen<L...>) { return pick<T>(a, a, Chosen<(L < H ? 2 * L : 2 * (L - H) + 1)...>()); }
    template <int... L> static V zipped(V a, Chosen<L...>) { return pick<T>(a, a, Chosen<(L % 2 * H + L / 2)...>()); }

public:
    static V lows(V a, V b) { return lows(a, b, Lanes()); }      // the first half of each
    static V highs(V a, V b) { return highs(a, b, Lanes()); }    // the second half of each
    static V swapped(V a) { return swapped(a, Lanes()); }        // its halves in the other order
    static V unzipped(V a) { return unzipped(a, Lanes()); }      // the numbers at even positions, then the others
    static V zipped(V a) { return zipped(a, Lanes()); }          // back
    static V twice(const T* half) { return twice(half, Lanes()); }  // half a vector from memory, in both halves

private:
    template <int... L> static V twice(const T* half, Chosen<L...>) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
        typedef T Half __attribute__((vector_size(BYTES / 2)));
        Half h;
        std::memcpy(&h, half, BYTES / 2);
        return __builtin_shufflevector(h, h, L...);
#endif
#endif
        V v;
        std::memcpy((char*)&v, half, BYTES / 2), std::memcpy((char*)&v + BYTES / 2, half, BYTES / 2);
        return v;
    }
};

// Transposes W vectors of W numbers.
template <class T> class Transpose {
    typedef typename Vector<T>::V V;
    static constexpr int W = Vector<T>::W;

public:
    static inline __attribute__((always_inline)) void of(V* v) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
        return blocks<W / 2>(v, std::make_integer_sequence<int, W>());
#endif
#endif
        V u[W];
        for (int i = 0; i < W; ++i)
            for (int j = 0; j < W; ++j) u[i][j] = v[j][i];
        std::copy(u, u + W, v);
    }

private:
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
    template <int S, int... L> static inline __attribute__((always_inline)) void blocks(V* v, std::integer_sequence<int, L...> lanes) {
        for (int i = 0; i < W; ++i)
            if (!(i & S)) {
                const V a = v[i], b = v[i + S];
                v[i] = __builtin_shufflevector(a, b, ((L & S) ? W + L - S : L)...);
                v[i + S] = __builtin_shufflevector(a, b, ((L & S) ? W + L : L + S)...);
            }
        if constexpr (S > 1) blocks<S / 2>(v, lanes);
    }
#endif
#endif
};

}  // namespace fft
