// The even pass and its gradient, a row at a time, in registers. Channels pad to different sides: columns and rows are
// shifted by a select, as neighbouring threads and lanes may differ. A row of the pass needs x down to half a kernel
// below it; a channel that is padded at the top has it a row earlier than the others and keeps it back.
#pragma once

#include "rows.h"

namespace evenconv::cuda {

// One tap or bias of a thread's channels.
template <class Tile>
__device__ __forceinline__ void read_parameter(typename Tile::S (&to)[Tile::Q], const void* from, int64_t count,
                                               int64_t tap, const ChainParams& p, const Tile& tile) {
#pragma unroll
  for (int q = 0; q < Tile::Q; ++q) {
    to[q] = 0;
    if (!from || tile.channel + q >= p.C) continue;
    const int64_t index = (tile.channel + q) * count + tap;
    using T = typename Tile::T;
    if (p.weight_dtype == p.dtype)
      to[q] = widen(load<Pack<T, 1>>(static_cast<const T*>(from) + index).value[0]);
    else
      to[q] = load<Pack<float, 1>>(static_cast<const float*>(from) + index).value[0];
  }
}

// The kernels of a thread's channels, and which sides of them are padded more.
template <class Tile, int E>
struct EvenKernel {
  bool top[Tile::Q], left[Tile::Q];
  typename Tile::S weight[E * E][Tile::Q], bias[Tile::Q];

  __device__ EvenKernel(const ChainParams& p, const Plan& plan, const Tile& tile) {
    const Stage& stage = p.stage[plan.even_stage];
#pragma unroll
    for (int t = 0; t < E * E; ++t) read_parameter(weight[t], stage.weight, E * E, t, p, tile);
    read_parameter(bias, stage.bias, 1, 0, p, tile);
#pragma unroll
    for (int q = 0; q < Tile::Q; ++q) {
      int group = 3;
      while (group > 0 && tile.channel + q < group_begin(p.C, group)) --group;
      top[q] = pads_top(p.direction[group]);
      left[q] = pads_left(p.direction[group]);
    }
  }
};

template <class Tile, int E>
class Even {
  using S = typename Tile::S;
  static constexpr int V = Tile::V, Q = Tile::Q;

 public:
  __device__ explicit Even(const EvenKernel<Tile, E>& kernel) : kernel_(kernel) { reset(); }

  __device__ __forceinline__ void reset() {
    stay_behind_branch();
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        done_[v][q] = kernel_.bias[q];
#pragma unroll
        for (int i = 0; i < E - 1; ++i) pending_[i][v][q] = kernel_.bias[q];
      }
  }

  // Takes columns [-E/2, V + E/2) of row t + E/2 of x, gives row t of the result.
  __device__ __forceinline__ void push(const S (&x)[V + E][Q], S (&result)[V][Q]) {
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        const S previous = done_[v][q];
#pragma unroll
        for (int i = E - 1; i >= 0; --i) {
          S sum = i > 0 ? pending_[E - 1 - i][v][q] : kernel_.bias[q];
#pragma unroll
          for (int j = 0; j < E; ++j)
            sum = fma(kernel_.weight[i * E + j][q], kernel_.left[q] ? x[v + j][q] : x[v + j + 1][q], sum);
          (i == E - 1 ? done_[v][q] : pending_[E - 2 - i][v][q]) = sum;
        }
        result[v][q] = kernel_.top[q] ? previous : done_[v][q];
      }
  }

 private:
  const EvenKernel<Tile, E>& kernel_;
  S pending_[E - 1][V][Q];  // rows that lack x below, the one to be done next first
  S done_[V][Q];
};

// dx[h, w] = Σ weight[i, j] G[i, j] and dweight[i, j] = Σ x[h, w] G[i, j], where G[i, j] = grad[h + top - i,
// w + left - j] is the gradient of the pass's result.
template <class Tile, int E>
class EvenGradient {
  using S = typename Tile::S;
  static constexpr int V = Tile::V, Q = Tile::Q;

 public:
  static constexpr int kGradients = E * E + 1;

  __device__ explicit EvenGradient(const EvenKernel<Tile, E>& kernel) : kernel_(kernel) {
#pragma unroll
    for (int g = 0; g < kGradients; ++g)
#pragma unroll
      for (int q = 0; q < Q; ++q) sum_[g][q] = 0;
    reset();
  }

  __device__ __forceinline__ void reset() {
    stay_behind_branch();
#pragma unroll
    for (int i = 0; i <= E; ++i)
#pragma unroll
      for (int v = 0; v < V + E - 1; ++v)
#pragma unroll
        for (int q = 0; q < Q; ++q) row_[i][v][q] = 0;
  }

  // Takes columns [-E/2, V + E/2) of row t of the gradient; x and dx are rows t - E/2. `sum_row` and `sum_bias` say
  // whether that row of x and row t of the gradient count.
  __device__ __forceinline__ void push(const S (&grad)[V + E][Q], const S (&x)[V][Q], bool sum_row, bool sum_bias,
                                       S (&dx)[V][Q]) {
    if (sum_bias) {
#pragma unroll
      for (int q = 0; q < Q; ++q)
#pragma unroll
        for (int v = 0; v < V; ++v) sum_[E * E][q] += grad[v + E / 2][q];
    }
    // row_[0] is the newest row of all, row_[1 + i] the one that meets the taps of row i.
#pragma unroll
    for (int q = 0; q < Q; ++q)
#pragma unroll
      for (int v = 0; v < V + E - 1; ++v) {
        const S newest = kernel_.left[q] ? grad[v + 1][q] : grad[v][q];
#pragma unroll
        for (int i = E; i > 1; --i) row_[i][v][q] = row_[i - 1][v][q];
        row_[1][v][q] = kernel_.top[q] ? newest : row_[0][v][q];
        row_[0][v][q] = newest;
      }
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        S sum = 0;
#pragma unroll
        for (int i = 0; i < E; ++i)
#pragma unroll
          for (int j = 0; j < E; ++j) sum = fma(kernel_.weight[i * E + j][q], row_[1 + i][v + E - 1 - j][q], sum);
        dx[v][q] = sum;
      }
    if (!sum_row) return;
#pragma unroll
    for (int i = 0; i < E; ++i)
#pragma unroll
      for (int j = 0; j < E; ++j)
#pragma unroll
        for (int v = 0; v < V; ++v)
#pragma unroll
          for (int q = 0; q < Q; ++q)
            sum_[i * E + j][q] = fma(x[v][q], row_[1 + i][v + E - 1 - j][q], sum_[i * E + j][q]);
  }

  template <class F>
  __device__ __forceinline__ void for_each_sum(F&& f) const {
#pragma unroll
    for (int g = 0; g < kGradients; ++g) f(g, sum_[g]);
  }

 private:
  const EvenKernel<Tile, E>& kernel_;
  S row_[E + 1][V + E - 1][Q];
  S sum_[kGradients][Q];  // of each tap and the bias
};

}  // namespace evenconv::cuda
