// a @ x = b for a triangular matrix a, one system or many, for a CPU with AVX-512.
//
// Rows are solved as many at once (a block) as stay in registers, three vectors of columns in each (a panel): what earlier
// rows make of them is taken away, then what they make of one another. An upper triangular matrix is a lower one that is
// read from its end. `vectors.h` stands before this.

namespace {

constexpr int64_t VECTORS = 3, ROWS = 8;
constexpr int64_t FEW = 1 << 15;  // multiplications that one thread does sooner than several

// What all blocks of a panel have in common.
struct Panel {
    int64_t a_row, a_column, b_row, x_row;
    bool unit;
    Mask last;  // which columns there are of the last vector
};

// R rows after `done` others, V vectors of columns. a: of the first of these rows; x: of the first of all.
template <int R, int V>
void block(const Panel& of, int64_t done, const Number* a, const Number* b, Number* x) {
    Vector rows[R][V];
    const int64_t a_row = of.a_row, a_column = of.a_column, x_row = of.x_row;
    const Mask last = of.last;
    #pragma GCC unroll 8
    for (int i = 0; i < R; ++i)
        #pragma GCC unroll 3
        for (int v = 0; v < V; ++v) rows[i][v] = load(v + 1 < V ? ALL : last, b + i * of.b_row + v * WIDTH);
    for (int64_t p = 0; p < done; ++p) {
        Vector found[V];
        #pragma GCC unroll 3
        for (int v = 0; v < V; ++v) found[v] = load(v + 1 < V ? ALL : last, x + v * WIDTH);
        #pragma GCC unroll 8
        for (int i = 0; i < R; ++i) {
            const Vector factor = everywhere(a[i * a_row]);
            #pragma GCC unroll 3
            for (int v = 0; v < V; ++v) rows[i][v] = taken(factor, found[v], rows[i][v]);
        }
        a += a_column;
        x += x_row;
    }
    #pragma GCC unroll 8
    for (int i = 0; i < R; ++i) {
        if (!of.unit) {
            const Vector diagonal = everywhere(a[i * a_row]);
            #pragma GCC unroll 3
            for (int v = 0; v < V; ++v) rows[i][v] = rows[i][v] / diagonal;
        }
        #pragma GCC unroll 3
        for (int v = 0; v < V; ++v) store(x + v * WIDTH, v + 1 < V ? ALL : last, rows[i][v]);
        #pragma GCC unroll 8
        for (int k = 0; k < R; ++k) {
            if (k <= i) continue;
            const Vector factor = everywhere(a[k * a_row]);
            #pragma GCC unroll 3
            for (int v = 0; v < V; ++v) rows[k][v] = taken(factor, rows[i][v], rows[k][v]);
        }
        a += a_column;
        x += x_row;
    }
}

template <int R, int V>
void blocks(int64_t count, const Panel& of, int64_t done, const Number* a, const Number* b, Number* x) {
    if (count == R) return block<R, V>(of, done, a, b, x);
    if constexpr (R > 1) blocks<R - 1, V>(count, of, done, a, b, x);
}

// All rows, in equal shares.
template <int V>
void panel(int64_t count, const Panel& of, const Number* a, const Number* b, Number* x) {
    const int64_t shares = (count + ROWS - 1) / ROWS;
    for (int64_t s = 0, i = 0; s < shares; ++s) {
        const int64_t share = count / shares + (s < count % shares);
        blocks<ROWS, V>(share, of, i, a + i * of.a_row, b + i * of.b_row, x);
        i += share;
    }
}

struct System {
    const Number *a, *b;
    Number* x;
    Lies of_a, of_b, of_x;
    int64_t n, m;
    bool unit;

    // The columns from j on, `width` of them, of matrix z.
    void part(int64_t z, int64_t j, int64_t width) const {
        const int64_t vectors = (width + WIDTH - 1) / WIDTH;
        const Number* from = b + z * of_b.batch + j * of_b.column;
        Number* to = x + z * of_x.batch + j;
        Panel shared{of_a.row, of_a.column, of_b.row, of_x.row, unit, some(width - (vectors - 1) * WIDTH)};
        if (of_b.column != 1) {  // vectors are read of what lies row by row: of the solution, put there first
            for (int64_t k = 0; k < width; ++k)
                for (int64_t i = 0; i < n; ++i) to[i * of_x.row + k] = from[i * of_b.row + k * of_b.column];
            from = to;
            shared.b_row = of_x.row;
        }
        (vectors == 3 ? panel<3> : vectors == 2 ? panel<2> : panel<1>)(n, shared, a + z * of_a.batch, from, to);
    }
};

}  // namespace

extern "C" void kernel(
    const Number* a, const Number* b, Number* x,
    int64_t a_first, int64_t a_batch, int64_t a_row, int64_t a_column,
    int64_t b_first, int64_t b_batch, int64_t b_row, int64_t b_column,
    int64_t batch, int64_t n, int64_t m, int64_t upper, int64_t unit) {
    if (!batch || !n || !m) return;
    System system{
        a + a_first, b + b_first, x,
        {a_batch, a_row, a_column}, {b_batch, b_row, b_column}, {n * m, m, 1}, n, m, unit != 0};
    if (upper) {
        system.a += (n - 1) * (a_row + a_column), system.of_a.row = -a_row, system.of_a.column = -a_column;
        system.b += (n - 1) * b_row, system.of_b.row = -b_row;
        system.x += (n - 1) * m, system.of_x.row = -m;
    }
    const int64_t vectors = (m + WIDTH - 1) / WIDTH;
    const bool several = batch * n * n * m / 2 > FEW;
    const int64_t shares = several ? (omp_get_max_threads() + batch - 1) / batch : 1;
    const int64_t panels = std::max((vectors + VECTORS - 1) / VECTORS, std::min(vectors, shares));
    #pragma omp parallel for collapse(2) if (several)
    for (int64_t z = 0; z < batch; ++z)
        for (int64_t s = 0; s < panels; ++s) {
            const int64_t j = vectors * s / panels * WIDTH, end = std::min(m, vectors * (s + 1) / panels * WIDTH);
            system.part(z, j, end - j);
        }
}
