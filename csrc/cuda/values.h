// Elements as they are stored and as they are summed: float32 for every type but float64.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "memory.h"

namespace evenconv::cuda {

template <class T>
struct SumOf {
  using type = float;
};
template <>
struct SumOf<double> {
  using type = double;
};
template <class T>
using Sum = typename SumOf<T>::type;

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ double widen(double x) { return x; }
__device__ __forceinline__ float widen(__half x) { return __half2float(x); }
__device__ __forceinline__ float widen(__nv_bfloat16 x) { return __bfloat162float(x); }

__device__ __forceinline__ void narrow(float& to, double x) { to = static_cast<float>(x); }
__device__ __forceinline__ void narrow(double& to, double x) { to = x; }
__device__ __forceinline__ void narrow(__half& to, float x) { to = __float2half_rn(x); }
__device__ __forceinline__ void narrow(__nv_bfloat16& to, float x) { to = __float2bfloat16_rn(x); }

// Two at a time: the half types have one instruction for both.
template <class T>
__device__ __forceinline__ void narrow_pair(T* to, Sum<T> x, Sum<T> y) {
  narrow(to[0], x);
  narrow(to[1], y);
}
template <>
__device__ __forceinline__ void narrow_pair(__half* to, float x, float y) {
  const __half2 both = __float22half2_rn(make_float2(x, y));
  memcpy(to, &both, sizeof both);
}
template <>
__device__ __forceinline__ void narrow_pair(__nv_bfloat16* to, float x, float y) {
  const __nv_bfloat162 both = __float22bfloat162_rn(make_float2(x, y));
  memcpy(to, &both, sizeof both);
}

template <class T>
__device__ __forceinline__ void widen_pair(const T* from, Sum<T>* to) {
  to[0] = widen(from[0]);
  to[1] = widen(from[1]);
}
template <>
__device__ __forceinline__ void widen_pair(const __half* from, float* to) {
  __half2 both;
  memcpy(&both, from, sizeof both);
  const float2 wide = __half22float2(both);
  to[0] = wide.x;
  to[1] = wide.y;
}
// A bfloat16 is the upper half of a float32.
template <>
__device__ __forceinline__ void widen_pair(const __nv_bfloat16* from, float* to) {
  uint32_t both;
  memcpy(&both, from, sizeof both);
  const uint32_t wide[2] = {both << 16, both & 0xffff0000};
  memcpy(to, wide, sizeof wide);
}

template <class T, int n>
__device__ __forceinline__ void widen(const Pack<T, n>& pack, Sum<T>* to) {
  if constexpr (n == 1) {
    to[0] = widen(pack.value[0]);
  } else {
#pragma unroll
    for (int i = 0; i < n; i += 2) widen_pair(pack.value + i, to + i);
  }
}

template <class T, int n>
__device__ __forceinline__ Pack<T, n> narrow(const Sum<T>* from) {
  Pack<T, n> pack;
  if constexpr (n == 1) {
    narrow(pack.value[0], from[0]);
  } else {
#pragma unroll
    for (int i = 0; i < n; i += 2) narrow_pair(pack.value + i, from[i], from[i + 1]);
  }
  return pack;
}

}  // namespace evenconv::cuda
