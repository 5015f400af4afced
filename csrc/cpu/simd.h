// Vectors of the instruction set that the including file is compiled for, through the compiler's vector extension, and
// the conversions between storage types and the type that sums are taken in.
//
// The including file defines EVENCONV_ISA, the namespace, and EVENCONV_VECTOR_BYTES (64 stands for AVX-512 and 32 for
// AVX2; a target pragma does not define the compiler's own macros in time). Nothing here uses a template of the standard library: what one instruction set's
// translation unit emits must never be picked by the linker for another.
#pragma once

#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#if EVENCONV_VECTOR_BYTES > 16
#include <immintrin.h>
#endif

namespace evenconv::EVENCONV_ISA {

constexpr int kVectorBytes = EVENCONV_VECTOR_BYTES;

// A group of interleaved channels fills a cache line, whatever the vector's width.
constexpr int kLineBytes = 64;

template <class T>
struct Simd {
  static constexpr int size = kVectorBytes / sizeof(T);
  typedef T Vec __attribute__((vector_size(kVectorBytes)));
  typedef T Unaligned __attribute__((vector_size(kVectorBytes), aligned(alignof(T)), may_alias));
};

template <class T>
using Vec = typename Simd<T>::Vec;

template <class T>
inline Vec<T> load(const T* p) {
  return *reinterpret_cast<const typename Simd<T>::Unaligned*>(p);
}

template <class T>
inline void store(T* p, Vec<T> v) {
  *reinterpret_cast<typename Simd<T>::Unaligned*>(p) = v;
}

// The first n (< a vector's) elements; the rest is zero when loaded and untouched when stored.
#if EVENCONV_VECTOR_BYTES == 64
inline Vec<float> load_partial(const float* p, int n) { return (Vec<float>)_mm512_maskz_loadu_ps((1u << n) - 1, p); }
inline Vec<double> load_partial(const double* p, int n) {
  return (Vec<double>)_mm512_maskz_loadu_pd((1u << n) - 1, p);
}
inline void store_partial(float* p, Vec<float> v, int n) { _mm512_mask_storeu_ps(p, (1u << n) - 1, (__m512)v); }
inline void store_partial(double* p, Vec<double> v, int n) { _mm512_mask_storeu_pd(p, (1u << n) - 1, (__m512d)v); }
#else
template <class T>
inline Vec<T> load_partial(const T* p, int n) {
  T lanes[Simd<T>::size] = {};
  for (int i = 0; i < n; ++i) lanes[i] = p[i];
  return load(lanes);
}
template <class T>
inline void store_partial(T* p, Vec<T> v, int n) {
  T lanes[Simd<T>::size];
  store(lanes, v);
  for (int i = 0; i < n; ++i) p[i] = lanes[i];
}
#endif

template <class T>
inline void zero(T* p, int64_t n) {
  constexpr int V = Simd<T>::size;
  for (; n >= V; n -= V, p += V) store(p, Vec<T>{});
  if (n > 0) store_partial(p, Vec<T>{}, static_cast<int>(n));
}

// Storage types of half the width; their arithmetic happens in float32.
struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

inline float from_bits(uint32_t u) {
  float f;
  std::memcpy(&f, &u, sizeof f);
  return f;
}
inline uint32_t to_bits(float f) {
  uint32_t u;
  std::memcpy(&u, &f, sizeof u);
  return u;
}

inline void widen(float& to, float from) { to = from; }
inline void widen(double& to, double from) { to = from; }
inline void widen(float& to, BFloat16 from) { to = from_bits(static_cast<uint32_t>(from.bits) << 16); }
inline void widen(float& to, Half from) {
  const uint32_t sign = (from.bits & 0x8000u) << 16, magnitude = from.bits & 0x7fffu;
  const float subnormal = static_cast<float>(static_cast<int32_t>(magnitude)) * 0x1p-24f;
  const uint32_t rebiased = (magnitude << 13) + (112u << 23);
  const uint32_t special = rebiased + (112u << 23);
  const uint32_t normal = magnitude >= 0x7c00u ? special : rebiased;
  to = from_bits(sign | (magnitude < 0x0400u ? to_bits(subnormal) : normal));
}

inline void narrow(float& to, float from) { to = from; }
inline void narrow(double& to, double from) { to = from; }
inline void narrow(BFloat16& to, float from) {
  const uint32_t u = to_bits(from);
  const uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  to.bits = static_cast<uint16_t>((u & 0x7fffffffu) > 0x7f800000u ? 0x7fc0u : rounded);
}
inline void narrow(Half& to, float from) {
  const uint32_t u = to_bits(from), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  // Adding one half leaves the multiple of 2^-24 that is nearest to a subnormal result in the low bits.
  const uint32_t subnormal = to_bits(from_bits(magnitude) + 0.5f) - (126u << 23);
  const uint32_t normal = (magnitude + 0x0fffu + ((magnitude >> 13) & 1u) - (112u << 23)) >> 13;
  const uint32_t finite = magnitude < (113u << 23) ? subnormal : normal;
  const uint32_t large = magnitude > 0x7f800000u ? 0x7e00u : 0x7c00u;
  to.bits = static_cast<uint16_t>(sign | (magnitude >= 0x477ff000u ? large : finite));
}

// Runs of n contiguous elements.
template <class T, class Storage>
inline void widen_run(T* to, const Storage* from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) widen(to[i], from[i]);
}
template <class Storage, class T>
inline void narrow_run(Storage* to, const T* from, int64_t n) {
  for (int64_t i = 0; i < n; ++i) narrow(to[i], from[i]);
}

template <class T>
inline void copy_run(T* to, const T* from, int64_t n) {
  constexpr int V = Simd<T>::size;
  for (; n >= V; n -= V, to += V, from += V) store(to, load(from));
  if (n > 0) store_partial(to, load_partial(from, static_cast<int>(n)), static_cast<int>(n));
}
inline void widen_run(float* to, const float* from, int64_t n) { copy_run(to, from, n); }
inline void widen_run(double* to, const double* from, int64_t n) { copy_run(to, from, n); }
inline void narrow_run(float* to, const float* from, int64_t n) { copy_run(to, from, n); }
inline void narrow_run(double* to, const double* from, int64_t n) { copy_run(to, from, n); }

#if EVENCONV_VECTOR_BYTES > 16
inline void widen_run(float* to, const Half* from, int64_t n) {
  for (; n >= 8; n -= 8, to += 8, from += 8)
    _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
  for (int64_t i = 0; i < n; ++i) widen(to[i], from[i]);
}
inline void narrow_run(Half* to, const float* from, int64_t n) {
  for (; n >= 8; n -= 8, to += 8, from += 8)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph(_mm256_loadu_ps(from), _MM_FROUND_TO_NEAREST_INT));
  for (int64_t i = 0; i < n; ++i) narrow(to[i], from[i]);
}
#endif

// A vector of contiguous elements, or its first n.
template <class T, class Storage>
[[gnu::always_inline]] inline Vec<T> widen_vector(const Storage* from, int n = Simd<T>::size) {
  if constexpr (std::is_same_v<T, Storage>) {
    return n == Simd<T>::size ? load(from) : load_partial(from, n);
  } else {
    alignas(kLineBytes) T lanes[Simd<T>::size] = {};
    widen_run(lanes, from, n);
    return load(lanes);
  }
}
template <class T, class Storage>
[[gnu::always_inline]] inline void narrow_vector(Storage* to, Vec<T> from, int n = Simd<T>::size) {
  if constexpr (std::is_same_v<T, Storage>) {
    n == Simd<T>::size ? store(to, from) : store_partial(to, from, n);
  } else {
    alignas(kLineBytes) T lanes[Simd<T>::size];
    store(lanes, from);
    narrow_run(to, lanes, n);
  }
}

// Pairs of rows D apart exchange their lanes D apart; doing so for D = V/2, ..., 1 transposes a square of vectors.
template <class T, int D, class Lanes = std::make_integer_sequence<int, Simd<T>::size>>
struct Exchange;
template <class T, int D, int... L>
struct Exchange<T, D, std::integer_sequence<int, L...>> {
  using Index = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  static constexpr int V = Simd<T>::size;

  [[gnu::always_inline]] static void run(Vec<T>* rows) {
#pragma GCC unroll 16
    for (int i = 0; i < V; ++i) {
      if (i & D) continue;
      const Vec<T> a = rows[i], b = rows[i + D];
      rows[i] = __builtin_shuffle(a, b, Vec<Index>{(L & D ? V + L - D : L)...});
      rows[i + D] = __builtin_shuffle(a, b, Vec<Index>{(L & D ? V + L : L + D)...});
    }
    if constexpr (D > 1) Exchange<T, D / 2>::run(rows);
  }
};
template <class T>
[[gnu::always_inline]] inline void transpose(Vec<T>* square) {
  Exchange<T, Simd<T>::size / 2>::run(square);
}

}  // namespace evenconv::EVENCONV_ISA
