// c = beta * total + alpha * a @ b, one product or many, for a CPU with AVX-512.
//
// Columns are taken four vectors at a time (a panel), rows as many at once (a tile) as leave all sums in registers. What
// lies across in `b` is turned first, square by square. The inner size is taken in blocks, so that a block of `b` stays in
// the first cache. `vectors.h` stands before this.

namespace {

constexpr int64_t VECTORS = 4, PANEL = WIDTH * VECTORS, BLOCK = 128;
constexpr int64_t FEW = 1 << 15;  // multiplications that one thread does sooner than several

// What all tiles of a panel have in common.
struct Panel {
    int64_t inner, a_row, a_column, b_row, total_row, c_row;
    Number beta, alpha;
    Mask last;  // which columns there are of the last vector
};

// R rows, V vectors of columns.
template <int R, int V>
void tile(const Panel& of, const Number* a, const Number* b, const Number* total, Number* c) {
    Vector sums[R][V] = {};
    const int64_t inner = of.inner, a_row = of.a_row, a_column = of.a_column, b_row = of.b_row;
    const Mask last = of.last;
    for (int64_t p = 0; p < inner; ++p) {
        Vector columns[V];
        #pragma GCC unroll 4
        for (int v = 0; v < V; ++v)
            columns[v] = load(v + 1 < V ? ALL : last, b + v * WIDTH);
        #pragma GCC unroll 8
        for (int i = 0; i < R; ++i) {
            const Vector x = everywhere(a[i * a_row]);
            #pragma GCC unroll 4
            for (int v = 0; v < V; ++v) sums[i][v] = added(x, columns[v], sums[i][v]);
        }
        a += a_column;
        b += b_row;
    }
    #pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
        #pragma GCC unroll 4
        for (int v = 0; v < V; ++v) {
            const Mask mask = v + 1 < V ? ALL : last;
            Vector found = everywhere(of.alpha) * sums[i][v];
            if (of.beta != 0) {
                const Vector old = load(mask, total + i * of.total_row + v * WIDTH);
                found = added(everywhere(of.beta), old, found);
            }
            store(c + i * of.c_row + v * WIDTH, mask, found);
        }
}

template <int R, int V>
void rows(int64_t count, const Panel& of, const Number* a, const Number* b, const Number* total, Number* c) {
    if (count == R) return tile<R, V>(of, a, b, total, c);
    if constexpr (R > 1) rows<R - 1, V>(count, of, a, b, total, c);
}

// All rows, in equal shares.
template <int V>
void panel(int64_t count, const Panel& of, const Number* a, const Number* b, const Number* total, Number* c) {
    constexpr int MOST = V == 4 ? 6 : 8;
    const int64_t shares = (count + MOST - 1) / MOST;
    for (int64_t s = 0, i = 0; s < shares; ++s) {
        const int64_t share = count / shares + (s < count % shares);
        rows<MOST, V>(share, of, a + i * of.a_row, b, total + i * of.total_row, c + i * of.c_row);
        i += share;
    }
}

// A square of vectors, whose rows become columns. There are `n` rows, and `k` numbers in each.
inline void turned(const Number* from, int64_t from_row, int64_t n, int64_t k, Number* to, int64_t to_row) {
    Vector x[WIDTH];
    #pragma GCC unroll 16
    for (int i = 0; i < WIDTH; ++i)
        x[i] = i < n ? load(some(k), from + i * from_row) : Vector{};
    #pragma GCC unroll 4
    for (int half = WIDTH / 2; half; half /= 2) {
        alignas(64) Of<Number>::Index lower[WIDTH], upper[WIDTH];
        #pragma GCC unroll 16
        for (int l = 0; l < WIDTH; ++l) {
            lower[l] = l & half ? WIDTH + l - half : l;
            upper[l] = l & half ? WIDTH + l : l + half;
        }
        const __m512i low = _mm512_load_si512(lower), up = _mm512_load_si512(upper);
        #pragma GCC unroll 16
        for (int i = 0; i < WIDTH; ++i) {
            if (i & half) continue;
            const Vector y = picked(x[i], low, x[i + half]);
            x[i + half] = picked(x[i], up, x[i + half]);
            x[i] = y;
        }
    }
    #pragma GCC unroll 16
    for (int i = 0; i < WIDTH; ++i) store(to + i * to_row, ALL, x[i]);
}

struct Product {
    const Number *a, *b, *total;
    Number* c;
    Lies of_a, of_b, of_total, of_c;
    int64_t k, n;
    Number beta, alpha;

    // The rows from `top` on, `count` of them, of the panel of matrix z that begins at column j.
    void part(int64_t z, int64_t top, int64_t count, int64_t j) const {
        alignas(64) Number across[BLOCK * PANEL];
        const int64_t width = std::min(PANEL, n - j), vectors = (width + WIDTH - 1) / WIDTH;
        const auto tiles = vectors == 4 ? panel<4> : vectors == 3 ? panel<3> : vectors == 2 ? panel<2> : panel<1>;
        const Mask last = some(width - (vectors - 1) * WIDTH);
        Number* to = c + z * of_c.batch + top * of_c.row + j;
        const Number* sum = total + z * of_total.batch + top * of_total.row + j;
        Panel shared{0, of_a.row, of_a.column, of_b.row, of_total.row, of_c.row, beta, alpha, last};
        int64_t p = 0;
        do {
            shared.inner = std::min(BLOCK, k - p);
            const Number* x = a + z * of_a.batch + top * of_a.row + p * of_a.column;
            const Number* y = b + z * of_b.batch + p * of_b.row + j * of_b.column;
            if (of_b.column != 1) {
                for (int64_t u = 0; u < width; u += WIDTH)
                    for (int64_t q = 0; q < shared.inner; q += WIDTH)
                        turned(y + u * of_b.column + q, of_b.column, width - u, shared.inner - q,
                               across + q * PANEL + u, PANEL);
                y = across;
                shared.b_row = PANEL;
            }
            tiles(count, shared, x, y, sum, to);
            sum = to, shared.total_row = of_c.row, shared.beta = 1;  // the next block adds to what there is
            p += BLOCK;
        } while (p < k);
    }
};

}  // namespace

extern "C" void kernel(
    const Number* a, const Number* b, const Number* total, Number* c,
    int64_t a_first, int64_t a_batch, int64_t a_row, int64_t a_column,
    int64_t b_first, int64_t b_batch, int64_t b_row, int64_t b_column,
    int64_t total_first, int64_t total_batch, int64_t total_row, int64_t c_batch, int64_t c_row,
    int64_t batch, int64_t m, int64_t k, int64_t n, Number beta, Number alpha) {
    if (!batch || !m || !n) return;
    const Product product{
        a + a_first, b + b_first, total + total_first, c,
        {a_batch, a_row, a_column}, {b_batch, b_row, b_column}, {total_batch, total_row, 1}, {c_batch, c_row, 1},
        k, n, beta, alpha};
    const int64_t panels = (n + PANEL - 1) / PANEL, enough = 2 * omp_get_max_threads(), each = batch * panels;
    const int64_t parts = each >= enough ? 1 : std::min((m + 31) / 32, (enough + each - 1) / each);
    #pragma omp parallel for collapse(3) if (batch * m * k * n > FEW)
    for (int64_t z = 0; z < batch; ++z)
        for (int64_t s = 0; s < panels; ++s)
            for (int64_t i = 0; i < parts; ++i) {
                const int64_t top = m * i / parts;
                product.part(z, top, m * (i + 1) / parts - top, s * PANEL);
            }
}
