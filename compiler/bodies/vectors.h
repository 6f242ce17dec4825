// What kernels for CPUs with AVX-512 share: 64 bytes of the numbers they are compiled for, float or double (NUMBER).

#include <immintrin.h>
#include <omp.h>
#include <algorithm>
#include <cstdint>

namespace {

template <typename> struct Of;
template <> struct Of<float> {
    using Vector = __m512;
    using Mask = __mmask16;
    using Index = int32_t;
};
template <> struct Of<double> {
    using Vector = __m512d;
    using Mask = __mmask8;
    using Index = int64_t;
};

using Number = NUMBER;
using Vector = Of<Number>::Vector;
using Mask = Of<Number>::Mask;
constexpr int64_t WIDTH = sizeof(Vector) / sizeof(Number);
constexpr Mask ALL = static_cast<Mask>(-1);

// Which of the numbers of a vector there are, where `left` are left.
inline Mask some(int64_t left) { return left >= WIDTH ? ALL : static_cast<Mask>((1u << left) - 1); }

inline __m512 load(__mmask16 mask, const float* from) { return _mm512_maskz_loadu_ps(mask, from); }
inline __m512d load(__mmask8 mask, const double* from) { return _mm512_maskz_loadu_pd(mask, from); }

inline void store(float* to, __mmask16 mask, __m512 x) { _mm512_mask_storeu_ps(to, mask, x); }
inline void store(double* to, __mmask8 mask, __m512d x) { _mm512_mask_storeu_pd(to, mask, x); }

inline __m512 everywhere(float x) { return _mm512_set1_ps(x); }
inline __m512d everywhere(double x) { return _mm512_set1_pd(x); }

// x * y + z
inline __m512 added(__m512 x, __m512 y, __m512 z) { return _mm512_fmadd_ps(x, y, z); }
inline __m512d added(__m512d x, __m512d y, __m512d z) { return _mm512_fmadd_pd(x, y, z); }

// z - x * y
inline __m512 taken(__m512 x, __m512 y, __m512 z) { return _mm512_fnmadd_ps(x, y, z); }
inline __m512d taken(__m512d x, __m512d y, __m512d z) { return _mm512_fnmadd_pd(x, y, z); }

// The numbers of x, followed by those of y, that `which` counts.
inline __m512 picked(__m512 x, __m512i which, __m512 y) { return _mm512_permutex2var_ps(x, which, y); }
inline __m512d picked(__m512d x, __m512i which, __m512d y) { return _mm512_permutex2var_pd(x, which, y); }

// Where numbers lie: those of matrix z, row i and column j at z * batch + i * row + j * column.
struct Lies {
    int64_t batch, row, column;
};

}  // namespace
