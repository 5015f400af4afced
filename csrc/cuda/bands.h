// The row pass (1×K) and the column pass (K×1) and their gradients, a row at a time. Kernels of the tuned sizes live in
// registers, with the rows that the column pass needs; those of any other sizes in shared memory.
#pragma once

#include "even.h"

namespace evenconv::cuda {

// The kernels of a thread's channels.
template <class Tile, int K>
struct BandsKernel {
  typename Tile::S row[K][Tile::Q], column[K][Tile::Q], row_bias[Tile::Q], column_bias[Tile::Q];

  __device__ BandsKernel(const ChainParams& p, const Plan& plan, const Tile& tile) {
    const Stage &row_stage = p.stage[plan.row_stage], &column_stage = p.stage[plan.column_stage];
#pragma unroll
    for (int t = 0; t < K; ++t) {
      read_parameter(row[t], row_stage.weight, K, t, p, tile);
      read_parameter(column[t], column_stage.weight, K, t, p, tile);
    }
    read_parameter(row_bias, row_stage.bias, 1, 0, p, tile);
    read_parameter(column_bias, column_stage.bias, 1, 0, p, tile);
  }
};

// Registers for each element of a thread: K - 1 sums of the column pass that lack rows below.
template <class Tile, int K>
class Bands {
  using T = typename Tile::T;
  using S = typename Tile::S;
  static constexpr int V = Tile::V, Q = Tile::Q;

 public:
  __device__ Bands(const ChainParams& p, const Plan& plan, const Tile& tile, char*) : kernel_(p, plan, tile) {
    reset();
  }

  __device__ __forceinline__ void reset() {
    stay_behind_branch();
#pragma unroll
    for (int i = 0; i < K - 1; ++i)
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int q = 0; q < Q; ++q) pending_[i][v][q] = kernel_.column_bias[q];
  }

  // The row pass of the row in shared memory.
  __device__ __forceinline__ void row(const Tile& tile, const T* from, S (&result)[V][Q]) const {
    S in[V + K - 1][Q];
    tile.template window<K / 2>(from, in);
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        S sum = kernel_.row_bias[q];
#pragma unroll
        for (int t = 0; t < K; ++t) sum = fma(kernel_.row[t][q], in[v + t][q], sum);
        result[v][q] = sum;
      }
  }

  // Takes row t of the row pass, gives row t - K/2 of the result.
  __device__ __forceinline__ void column(const S (&in)[V][Q], S (&result)[V][Q]) {
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        result[v][q] = fma(kernel_.column[K - 1][q], in[v][q], pending_[0][v][q]);
#pragma unroll
        for (int i = 0; i < K - 2; ++i)
          pending_[i][v][q] = fma(kernel_.column[K - 2 - i][q], in[v][q], pending_[i + 1][v][q]);
        pending_[K - 2][v][q] = fma(kernel_.column[0][q], in[v][q], kernel_.column_bias[q]);
      }
  }

 private:
  BandsKernel<Tile, K> kernel_;
  S pending_[K - 1][V][Q];
};

// Registers for each element of a thread: K rows of the result's gradient.
template <class Tile, int K>
class BandsGradient {
  using T = typename Tile::T;
  using S = typename Tile::S;
  static constexpr int V = Tile::V, Q = Tile::Q;

 public:
  __device__ BandsGradient(const ChainParams& p, const Plan& plan, const Tile& tile, char*) : kernel_(p, plan, tile) {
#pragma unroll
    for (int t = 0; t <= K; ++t)
#pragma unroll
      for (int q = 0; q < Q; ++q) row_sum_[t][q] = column_sum_[t][q] = 0;
    reset();
  }

  __device__ __forceinline__ void reset() {
    stay_behind_branch();
#pragma unroll
    for (int i = 0; i < K; ++i)
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int q = 0; q < Q; ++q) grad_[i][v][q] = 0;
  }

  // Takes row t + K/2 of the result's gradient, which is row `at` of those in shared memory.
  __device__ __forceinline__ void push(const Tile& tile, const T* grads, int at, int pitch) {
    S newest[V][Q];
    tile.template window<0>(grads + at * pitch, newest);
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) {
#pragma unroll
        for (int i = 0; i < K - 1; ++i) grad_[i][v][q] = grad_[i + 1][v][q];
        grad_[K - 1][v][q] = newest[v][q];
      }
  }

  // Row t of the row pass's gradient.
  __device__ __forceinline__ void column(const Tile&, S (&result)[V][Q]) const {
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        S sum = 0;
#pragma unroll
        for (int t = 0; t < K; ++t) sum = fma(kernel_.column[t][q], grad_[K - 1 - t][v][q], sum);
        result[v][q] = sum;
      }
  }

  // Adds the share of row t to the gradients of the column pass, whose input is the row pass of `in`.
  __device__ __forceinline__ void sum_column(const Tile& tile, const T* in) {
    S window[V + K - 1][Q];
    tile.template window<K / 2>(in, window);
    S row[V][Q];
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        row[v][q] = kernel_.row_bias[q];
#pragma unroll
        for (int t = 0; t < K; ++t) row[v][q] = fma(kernel_.row[t][q], window[v + t][q], row[v][q]);
      }
    tile.template clip<0>(row);
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) {
#pragma unroll
        for (int t = 0; t < K; ++t) column_sum_[t][q] = fma(row[v][q], grad_[K - 1 - t][v][q], column_sum_[t][q]);
        column_sum_[K][q] += grad_[K / 2][v][q];
      }
  }

  // The gradient of the row pass's input at columns [-kHalo, V + kHalo), from that of its result, and the share of the
  // row in the gradients of the row pass if it counts.
  template <int kHalo>
  __device__ __forceinline__ void row(const Tile& tile, const T* grad, const T* in, bool sum,
                                      S (&result)[V + 2 * kHalo][Q]) {
    S window[V + 2 * kHalo + K - 1][Q];
    tile.template window<kHalo + K / 2>(grad, window);
    if (sum) {
      S own[V][Q];
      tile.template window<0>(in, own);
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int q = 0; q < Q; ++q) {
#pragma unroll
          for (int t = 0; t < K; ++t) row_sum_[t][q] = fma(own[v][q], window[v + kHalo + K - 1 - t][q], row_sum_[t][q]);
          row_sum_[K][q] += window[v + kHalo + K / 2][q];
        }
    }
#pragma unroll
    for (int v = 0; v < V + 2 * kHalo; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) {
        S value = 0;
#pragma unroll
        for (int t = 0; t < K; ++t) value = fma(kernel_.row[t][q], window[v + K - 1 - t][q], value);
        result[v][q] = value;
      }
  }

  // The sums of the row pass and its bias, then those of the column pass.
  template <class F>
  __device__ __forceinline__ void for_each_sum(F&& f) const {
#pragma unroll
    for (int t = 0; t <= K; ++t) {
      f(t, row_sum_[t]);
      f(K + 1 + t, column_sum_[t]);
    }
  }

 private:
  BandsKernel<Tile, K> kernel_;
  S grad_[K][V][Q];
  S row_sum_[K + 1][Q], column_sum_[K + 1][Q];  // of each tap and the bias
};

}  // namespace evenconv::cuda
