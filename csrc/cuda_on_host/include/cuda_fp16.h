// Stands in for CUDA's header of the same name on the CPU: half precision as bits, converted as IEEE 754 has it, to the
// nearest and of two equally near to the even one.
#pragma once

#include <cstdint>
#include <cstring>

#include "cuda_runtime.h"

struct __half {
  uint16_t bits;
};
struct alignas(4) __half2 {
  __half x, y;
};
using half = __half;
using half2 = __half2;

inline __half __float2half_rn(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t sign = bits >> 16 & 0x8000;
  bits &= 0x7fffffff;
  uint32_t magnitude;
  if (bits > 0x7f800000) {
    magnitude = 0x7fff;  // NaN
  } else if (bits >= 0x477ff000) {
    magnitude = 0x7c00;  // 65520 and above round to infinity
  } else if (bits >= 0x38800000) {
    bits += 0xfff + (bits >> 13 & 1);
    magnitude = (bits >> 13) - (112 << 10);
  } else {  // subnormal: next to 0.5 a float is spaced as they are, so the sum rounds
    const float sum = std::fabs(value) + 0.5f;
    std::memcpy(&bits, &sum, sizeof bits);
    magnitude = bits - 0x3f000000;
  }
  return {static_cast<uint16_t>(sign | magnitude)};
}

inline float __half2float(__half value) {
  uint32_t magnitude = (value.bits & 0x7fffu) << 13;
  float result;
  if (magnitude >= 0x7c00 << 13) {
    magnitude |= 0x7f800000;
    std::memcpy(&result, &magnitude, sizeof result);
  } else {
    std::memcpy(&result, &magnitude, sizeof result);
    result *= 0x1p112f;  // the difference of the exponents' biases; also normalizes a subnormal
  }
  return value.bits & 0x8000 ? -result : result;
}

inline float2 __half22float2(__half2 value) { return {__half2float(value.x), __half2float(value.y)}; }
inline __half2 __float22half2_rn(float2 value) { return {__float2half_rn(value.x), __float2half_rn(value.y)}; }
