// Vectors of the instruction set that the including file is compiled for, through the compiler's vector extension, and
// the conversions between storage types and the type that sums are taken in.
//
// The including file defines EVENCONV_ISA, the namespace, and EVENCONV_VECTOR_BYTES (64 stands for AVX-512 and 32 for
// AVX2; a target pragma does not define the compiler's own macros in time). Of the standard library only types are
// used: what one instruction set's translation unit emits must never be picked by the linker for another.
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
inline Vec<double> load_partial(const double* p, int n) { return (Vec<double>)_mm512_maskz_loadu_pd((1u << n) - 1, p); }
inline void store_partial(float* p, Vec<float> v, int n) { _mm512_mask_storeu_ps(p, (1u << n) - 1, (__m512)v); }
inline void store_partial(double* p, Vec<double> v, int n) { _mm512_mask_storeu_pd(p, (1u << n) - 1, (__m512d)v); }
#else
template <class T>
inline Vec<T> load_partial(const T* p, int n) {
  T lanes[Simd<T>::size] = {};
  for (int i = 0; i < Simd<T>::size; ++i)
    if (i < n) lanes[i] = p[i];
  return load(lanes);
}
template <class T>
inline void store_partial(T* p, Vec<T> v, int n) {
  T lanes[Simd<T>::size];
  store(lanes, v);
  for (int i = 0; i < Simd<T>::size; ++i)
    if (i < n) p[i] = lanes[i];
}
#endif

template <class T>
inline void zero(T* p, int64_t n) {
  constexpr int V = Simd<T>::size;
  for (; n >= V; n -= V, p += V) {
    store(p, Vec<T>{});
    asm("" : "+r"(p));  // or GCC makes the loop a call of memset, which costs more than a few vectors
  }
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

// Vectors of float32 from and to contiguous elements of half the width.
typedef uint32_t Bits32 __attribute__((vector_size(kVectorBytes)));
typedef uint16_t Bits16 __attribute__((vector_size(kVectorBytes / 2), aligned(alignof(uint16_t)), may_alias));

inline Vec<float> widen_vector(const BFloat16* from) {
  return (Vec<float>)(__builtin_convertvector(*reinterpret_cast<const Bits16*>(from), Bits32) << 16);
}
inline void narrow_vector(BFloat16* to, Vec<float> from) {
  const Bits32 u = (Bits32)from, rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  const Bits32 result = (u & 0x7fffffffu) > 0x7f800000u ? Bits32{} + 0x7fc0u : rounded;
  *reinterpret_cast<Bits16*>(to) = __builtin_convertvector(result, Bits16);
}
#if EVENCONV_VECTOR_BYTES == 64
// Full masks, for the unmasked forms make GCC 12 warn of an uninitialized value.
inline Vec<float> widen_vector(const Half* from) {
  return (Vec<float>)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)));
}
inline void narrow_vector(Half* to, Vec<float> from) {
  const __m256i bits = _mm512_maskz_cvtps_ph(0xffff, (__m512)from, _MM_FROUND_TO_NEAREST_INT);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bits);
}
#elif EVENCONV_VECTOR_BYTES == 32
inline Vec<float> widen_vector(const Half* from) {
  return (Vec<float>)_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}
inline void narrow_vector(Half* to, Vec<float> from) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_cvtps_ph((__m256)from, _MM_FROUND_TO_NEAREST_INT));
}
#else
inline Vec<float> widen_vector(const Half* from) {
  float lanes[Simd<float>::size];
  for (int i = 0; i < Simd<float>::size; ++i) widen(lanes[i], from[i]);
  return load(lanes);
}
inline void narrow_vector(Half* to, Vec<float> from) {
  for (int i = 0; i < Simd<float>::size; ++i) narrow(to[i], from[i]);
}
#endif
inline Vec<float> widen_vector(const float* from) { return load(from); }
inline Vec<double> widen_vector(const double* from) { return load(from); }
inline void narrow_vector(float* to, Vec<float> from) { store(to, from); }
inline void narrow_vector(double* to, Vec<double> from) { store(to, from); }

// The first n (< a vector's) elements.
template <class T, class Storage>
inline Vec<T> widen_partial(const Storage* from, int n) {
  if constexpr (std::is_same_v<T, Storage>) {
    return load_partial(from, n);
  } else {
    T lanes[Simd<T>::size] = {};
    for (int i = 0; i < n; ++i) widen(lanes[i], from[i]);
    return load(lanes);
  }
}
template <class T, class Storage>
inline void narrow_partial(Storage* to, Vec<T> from, int n) {
  if constexpr (std::is_same_v<T, Storage>) {
    store_partial(to, from, n);
  } else {
    for (int i = 0; i < n; ++i) narrow(to[i], from[i]);
  }
}

// Runs of n contiguous elements.
template <class T, class Storage>
inline void widen_run(T* to, const Storage* from, int64_t n) {
  constexpr int V = Simd<T>::size;
  for (; n >= V; n -= V, to += V, from += V) store(to, widen_vector(from));
  if (n > 0) store_partial(to, widen_partial<T>(from, static_cast<int>(n)), static_cast<int>(n));
}
template <class Storage, class T>
inline void narrow_run(Storage* to, const T* from, int64_t n) {
  constexpr int V = Simd<T>::size;
  for (; n >= V; n -= V, to += V, from += V) narrow_vector(to, load(from));
  if (n > 0) narrow_partial<T>(to, load_partial(from, static_cast<int>(n)), static_cast<int>(n));
}

// The lanes I of a and, from V on, of b.
template <class T, int... I>
[[gnu::always_inline]] inline Vec<T> select(Vec<T> a, Vec<T> b) {
#if __has_builtin(__builtin_shufflevector)
  return __builtin_shufflevector(a, b, I...);
#else  // GCC before 12
  return __builtin_shuffle(a, b, Vec<std::conditional_t<sizeof(T) == 4, int32_t, int64_t>>{I...});
#endif
}

// Pairs of rows D apart exchange their lanes D apart; doing so for D = V/2, ..., 1 transposes a square of vectors.
template <class T, int D, class Lanes = std::make_integer_sequence<int, Simd<T>::size>>
struct Exchange;
template <class T, int D, int... L>
struct Exchange<T, D, std::integer_sequence<int, L...>> {
  static constexpr int V = Simd<T>::size;

  [[gnu::always_inline]] static void run(Vec<T>* rows) {
#pragma GCC unroll 16
    for (int i = 0; i < V; ++i) {
      if (i & D) continue;
      const Vec<T> a = rows[i], b = rows[i + D];
      rows[i] = select<T, (L & D ? V + L - D : L)...>(a, b);
      rows[i + D] = select<T, (L & D ? V + L : L + D)...>(a, b);
    }
    if constexpr (D > 1) Exchange<T, D / 2>::run(rows);
  }
};
template <class T>
[[gnu::always_inline]] inline void transpose(Vec<T>* square) {
  Exchange<T, Simd<T>::size / 2>::run(square);
}

}  // namespace evenconv::EVENCONV_ISA
