// The way of a block through its images and rows, which both chain kernels go, and the launch of a kernel.
#pragma once

#include <stdexcept>
#include <string>
#include <type_traits>

#include "any_bands.h"

namespace evenconv::cuda {

// Steps from `step` on, in a group of images.
struct Walk {
  int64_t group, last_image;
  int group_size, first_step, end_step, step;

  template <class Tile>
  __device__ Walk(const Plan& plan, const Tile& tile)
      : group(tile.images.begin), last_image(tile.images.end), group_size(plan.images) {
    const Steps steps = steps_of(plan, tile.first_row, tile.end_row);
    step = first_step = static_cast<int>(steps.begin);
    end_step = static_cast<int>(steps.end);
  }

  __device__ __forceinline__ bool more() const { return group < last_image; }
  __device__ __forceinline__ bool enters_image() const { return step == first_step; }
  __device__ __forceinline__ void advance() {
    step += kStepRows;
    if (step < end_step) return;
    step = first_step;
    group += group_size;
  }
};

// The zeros of every row in shared memory.
template <class T>
__device__ __forceinline__ void write_zeros(const Plan& plan) {
  T* const rows = reinterpret_cast<T*>(dynamic_shared());
  for (int i = threadIdx.x; i < plan.rows * plan.zeros; i += plan.threads)
    store(rows + i / plan.zeros * plan.row + i % plan.zeros, Pack<T, 1>{});
}

// Elements from row to row in shared memory, known to the compiler where the kernel is tuned.
template <class Tile, int K>
__device__ __forceinline__ int row_pitch(const Plan& plan) {
  return K == 0 ? plan.row
                : row_bytes(Tile::interleaved, Tile::unit, Tile::V) / static_cast<int>(sizeof(typename Tile::T));
}

// In place of a pass that a chain lacks.
struct None {
  template <class... Args>
  __device__ explicit None(const Args&...) {}
};

inline void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // or the next one to ask would be told of this error
  throw std::runtime_error(std::string("evenconv_cuda: a kernel did not start: ") + cudaGetErrorString(error));
}

template <class... Params, class... Args>
void launch(void (*kernel)(Params...), int64_t blocks, int64_t threads, int64_t shared_bytes, cudaStream_t stream,
            const Args&... args) {
  if (blocks == 0) return;
  if (blocks > INT32_MAX) throw std::runtime_error("evenconv_cuda: the tensor is too large for one launch");
  if (shared_bytes > 48 << 10)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)));
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(static_cast<unsigned>(blocks));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = shared_bytes;
  config.stream = stream;
  check(cudaLaunchKernelEx(&config, kernel, args...));
}

// Calls f with what the plan has of the kernels' template arguments, as types: the layout, the unit, k and K.
template <class T, bool backward, class F>
void with_kernel(const Plan& plan, F&& f) {
  const auto with_unit = [&](auto k, auto K) {
    using std::integral_constant;
    constexpr int band = decltype(K)::value;
    if constexpr (band <= 1 || tuned_for(band, sizeof(T), true, backward)) {
      constexpr int unit = interleaved_unit(sizeof(T), band, backward);
      if (plan.interleaved) return f(std::true_type(), integral_constant<int, unit>(), k, K);
    }
    if constexpr (sizeof(T) < 8) {
      if (plan.unit == 16) return f(std::false_type(), integral_constant<int, 16>(), k, K);
      if (plan.unit == 4) return f(std::false_type(), integral_constant<int, 4>(), k, K);
    }
    return f(std::false_type(), integral_constant<int, 8>(), k, K);
  };
  const auto with_even = [&](auto K) {
    constexpr bool only_even = decltype(K)::value == 1, any = decltype(K)::value == 0;
    if constexpr (!only_even)
      if (plan.even == 0) return with_unit(std::integral_constant<int, 0>(), K);
    if (plan.even == 2) return with_unit(std::integral_constant<int, 2>(), K);
    if constexpr (only_even || any) return with_unit(std::integral_constant<int, 4>(), K);
  };
  switch (plan.band) {
    case 0: return with_even(std::integral_constant<int, 0>());
    case 1: return with_even(std::integral_constant<int, 1>());
    default: break;
  }
  if constexpr (!std::is_same_v<T, double>) {
    switch (plan.band) {
      case 3: return with_even(std::integral_constant<int, 3>());
      case 5: return with_even(std::integral_constant<int, 5>());
      case 7: return with_even(std::integral_constant<int, 7>());
      case 9: return with_even(std::integral_constant<int, 9>());
      case 11: return with_even(std::integral_constant<int, 11>());
    }
  }
  throw std::logic_error("evenconv_cuda: a plan names a kernel that was not compiled");
}

}  // namespace evenconv::cuda
