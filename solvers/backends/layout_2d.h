// The arrays of the inner steps in two dimensions and of their gradients, and what both do with them.
//
// Work is cut into pieces: slabs of `W` neighbouring rows y (the lanes of vectors), and pencils of a chunk of `H` = W/2
// neighbouring columns kx ≥ 0, whose lanes are these columns and then those of −kx, conjugated and mirrored in ky. Between
// them fields lie in planes, columns of such vectors (chunk, y). A complex number of a retained mode is one vector: H real
// parts and then H imaginary parts; states are (chunk, component, row), with the retained ky in the transform's own order.
#pragma once
#include "fft.h"
#include "team.h"

template <class T> class Layout {
protected:
    typedef typename fft::Vector<T>::V V;
    typedef typename fft::Vector<T>::C C;
    typedef fft::Halves<T> Halves;
    static constexpr int W = fft::Vector<T>::W, H = W / 2;

    const int ny, nx, rows, columns, components;  // rows, columns: the retained ky, and the retained kx ≥ 0
    const int chunks, groups, column;  // of columns; of rows; vectors from a column of a plane to the next
    const T* const root_y;
    const fft::InPlace<T> along_y, along_x;
    std::vector<int> kept, row, mirrored;  // the retained row at a position of `along_y`, or −1; what ky it is; that of −ky
    std::vector<team::Memory> memory;
    C* planes[2];  // (chunk, y)

    Layout(int ny, int nx, int rows, int columns, int components, const T* root_y, const T* root_x)
        : ny(ny), nx(nx), rows(rows), columns(columns), components(components), chunks((columns + H - 1) / H),
          groups((ny + W - 1) / W), column(groups * W | 1), root_y(root_y), along_y(ny, root_y), along_x(nx, root_x),
          kept(ny, -1) {
        for (int i = 0; i < ny; ++i) {
            const int ky = along_y.natural(i);
            if (ky < (rows + 1) / 2 || ky >= ny - rows / 2) kept[i] = int(row.size()), row.push_back(ky);
        }
        for (int r : row)
            mirrored.push_back(int(std::find(row.begin(), row.end(), (ny - r) % ny) - row.begin()));
        for (int i = 0; i < components; ++i) planes[i] = reserve<C>(size_t(chunks) * column);
    }
    template <class Kind> Kind* reserve(size_t numbers) {
        memory.emplace_back(numbers * sizeof(Kind));
        return (Kind*)memory.back().begin();
    }
    size_t numbers() const { return size_t(chunks) * components * rows; }  // vectors of a state

    static V halves(T low, T high) {
        V v;
        for (int i = 0; i < W; ++i) v[i] = i < H ? low : high;
        return v;
    }
    static V minus_plus() { return halves(-1, 1); }
    static V product(V a, V b, T sign = 1) {  // a b, or conj(a) b for a sign of −1
        return Halves::lows(a, a) * b + Halves::highs(a, a) * (sign * minus_plus() * Halves::swapped(b));
    }
    static C square(C z) {  // of v + iu. A uniform velocity must not make waves: its square is the same in all cells
        return {fft::rounded((z.im + z.re) * (z.im - z.re)), fft::rounded((z.im + z.im) * z.re)};
    }

    // Turns W rows into a line of their Fourier coefficients over all kx, and back.
    void read_rows(C* plane, int group, C* to) const {
        const int rest = std::min(W, ny - group * W);
        std::fill(to + columns, to + nx - columns + 1, C{});
        for (int chunk = 0; chunk < chunks; ++chunk) {
            C* const from = plane + size_t(chunk) * column + group * W;
            std::fill(from + rest, from + W, C{});  // rows that only fill the vector would grow from stage to stage
            const int first = chunk * H, some = std::min(H, columns - first);
            V v[W];
            for (int i = 0; i < W; ++i) v[i] = from[i].re;
            fft::Transpose<T>::of(v);
            for (int i = 0; i < H; ++i)
                if (i < some) to[first + i].re = v[i];
            for (int i = 0; i < H; ++i)
                if (i < some && first + i) to[nx - first - i].re = -v[H + i];
            for (int i = 0; i < W; ++i) v[i] = from[i].im;
            fft::Transpose<T>::of(v);
            for (int i = 0; i < H; ++i)
                if (i < some) to[first + i].im = v[i];
            for (int i = 0; i < H; ++i)
                if (i < some && first + i) to[nx - first - i].im = v[H + i];
        }
    }
    void write_rows(const C* from, int group, C* plane) const {
        for (int chunk = 0; chunk < chunks; ++chunk) {
            C* to = plane + size_t(chunk) * column + group * W;
            const int first = chunk * H, some = std::min(H, columns - first);
            V v[W];
            for (int i = 0; i < H; ++i) v[i] = i < some ? from[first + i].re : V{};
            for (int i = 0; i < H; ++i) v[H + i] = i < some ? from[first + i ? nx - first - i : 0].re : V{};
            fft::Transpose<T>::of(v);
            for (int i = 0; i < W; ++i) to[i].re = v[i];
            for (int i = 0; i < H; ++i) v[i] = i < some ? from[first + i].im : V{};
            for (int i = 0; i < H; ++i) v[H + i] = i < some ? -from[first + i ? nx - first - i : 0].im : V{};
            fft::Transpose<T>::of(v);
            for (int i = 0; i < W; ++i) to[i].im = v[i];
        }
    }

    // Keeps the part that changes its sign when row y and row ny − 1 − y change places: ŵ(m) − exp(2πi m/ny) ŵ(−m), halved.
    void make_odd(V* w) const {
        const V signs = minus_plus();
        for (int part = 0; part < components; ++part, w += rows)
            for (int i = 0; i < rows; ++i) {
                const int j = mirrored[i];
                if (j < i) continue;
                const T re = root_y[2 * row[i]], im = root_y[2 * row[i] + 1];
                const V a = w[i], b = w[j];
                w[j] = (b - (re * a + im * (signs * Halves::swapped(a)))) / 2;
                w[i] = (a - (re * b - im * (signs * Halves::swapped(b)))) / 2;
            }
    }

    // Between the tensor's layout and that of the chunks.
    void unpack(const T* from, int fields, int chunk, V* to) const {
        const int some = std::min(H, columns - chunk * H);
        for (int f = 0; f < fields; ++f, from += 2 * size_t(ny) * columns)
            for (int r = 0; r < rows; ++r) {
                V v{};
                const T* const at = from + 2 * (size_t(row[r]) * columns + chunk * H);
                if (some == H) std::memcpy(&v, at, fft::BYTES);
                else std::memcpy(&v, at, 2 * some * sizeof(T));
                *to++ = Halves::unzipped(v);
            }
    }
    void pack(const V* from, int fields, int chunk, T* to) const {
        const int some = std::min(H, columns - chunk * H);
        for (int f = 0; f < fields; ++f, to += 2 * size_t(ny) * columns)
            for (int r = 0; r < rows; ++r) {
                const V v = Halves::zipped(*from++);
                T* const at = to + 2 * (size_t(row[r]) * columns + chunk * H);
                if (some == H) std::memcpy(at, &v, fft::BYTES);
                else std::memcpy(at, &v, 2 * some * sizeof(T));
            }
    }

public:
    // How many threads can share the work of a trajectory. For each there must be half a millisecond of work: to start one
    // and to wait for its end takes some 50 µs, and more on a busy machine. And pieces must take microseconds, not less: two
    // threads gain nothing on 128 x 128 cells, and lose if one of them has to wait for a core.
    static int most_threads(int ny, int nx, double stages) {
        const double cells = double(ny) * nx;
        return int(std::max(1.0, std::min({cells * stages / (1 << 18), cells / (1 << 14), double(ny) / W})));
    }
};
