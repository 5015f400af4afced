// Stands in for CUDA's header of the same name where g++ compiles the kernels for the CPU: the language extensions as
// macros, the built-in variables and functions, and the launch. What needs state is in emulator.cpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <type_traits>

#include "../emulator.h"

#define EVENCONV_CUDA_ON_HOST 1

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(n) __attribute__((aligned(n)))
// One copy of a static shared array serves all blocks, as they run one after the other. Its own section lets the
// emulator find and fill it.
#define __shared__ static __attribute__((section("evenconv_shared")))

// Kernels say so before each access to global or shared memory.
#define EVENCONV_OBSERVE(pointer, bytes, is_write) ::evenconv::host::observe(pointer, bytes, is_write)

struct alignas(8) uint2 {
  unsigned x, y;
};
struct uint3 {
  unsigned x, y, z;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
struct alignas(16) double2 {
  double x, y;
};
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }
inline int4 make_int4(int x, int y, int z, int w) { return {x, y, z, w}; }
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline double2 make_double2(double x, double y) { return {x, y}; }

constexpr int warpSize = 32;
extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

using std::max;
using std::min;
// Of a NaN and a number CUDA takes the number.
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
inline double min(double a, double b) { return std::fmin(a, b); }
inline double max(double a, double b) { return std::fmax(a, b); }

template <class T>
T __ldg(const T* pointer) {
  return *pointer;
}

inline void __syncthreads(evenconv::host::Line line = evenconv::host::here()) { evenconv::host::block_barrier(line); }
inline void __syncwarp(unsigned mask = ~0u, evenconv::host::Line line = evenconv::host::here()) {
  evenconv::host::warp_barrier(mask, line);
}

namespace evenconv::host {

inline int lane() { return (threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z)) % warpSize; }

// The value of the source lane; a lane beyond the warp's ends stands for the calling one.
template <class T>
T shuffle(unsigned mask, T value, int source, Line line) {
  static_assert(std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8), "not a type that CUDA shuffles");
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = exchange(mask, bits, source < 0 || source >= warpSize ? lane() : source, line);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

}  // namespace evenconv::host

template <class T>
T __shfl_sync(unsigned mask, T value, int source, evenconv::host::Line line = evenconv::host::here()) {
  return evenconv::host::shuffle(mask, value, source & (warpSize - 1), line);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, evenconv::host::Line line = evenconv::host::here()) {
  return evenconv::host::shuffle(mask, value, evenconv::host::lane() - static_cast<int>(delta), line);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, evenconv::host::Line line = evenconv::host::here()) {
  return evenconv::host::shuffle(mask, value, evenconv::host::lane() + static_cast<int>(delta), line);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, evenconv::host::Line line = evenconv::host::here()) {
  return evenconv::host::shuffle(mask, value, evenconv::host::lane() ^ lane_mask, line);
}

enum cudaError_t { cudaSuccess = 0, cudaErrorInvalidValue = 1, cudaErrorInvalidConfiguration = 9 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
using cudaStream_t = struct CUstream_st*;
struct cudaLaunchAttribute;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute* attrs;
  unsigned numAttrs;
};

const char* cudaGetErrorString(cudaError_t error);
cudaError_t cudaGetLastError();

namespace evenconv::host {

// Runs the body once for each thread of the grid, to the end. Throws std::runtime_error at the first fault.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const std::function<void()>& body);
cudaError_t allow_dynamic_shared(const void* kernel, int bytes);

}  // namespace evenconv::host

template <class... ExpTypes, class... ActTypes>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(ExpTypes...), ActTypes&&... args) {
  const std::function<void()> body = [&] { kernel(args...); };
  return evenconv::host::launch(*config, reinterpret_cast<const void*>(kernel), body);
}

template <class Kernel>
cudaError_t cudaFuncSetAttribute(Kernel* kernel, cudaFuncAttribute, int value) {
  return evenconv::host::allow_dynamic_shared(reinterpret_cast<const void*>(kernel), value);
}
