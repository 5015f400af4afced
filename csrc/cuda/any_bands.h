// The row and column pass of any sizes, one of which may be missing: weights, the rows that the column pass needs and
// the gradients' sums are in shared memory.
#pragma once

#include "bands.h"

namespace evenconv::cuda {

// The weights and biases of a block's channels, [tap][channel]: those of the row pass, its bias, those of the column
// pass, its bias. A pass that is missing is a 1.
template <class Tile>
class SharedTaps {
  using S = typename Tile::S;
  static constexpr int Q = Tile::Q;

 public:
  const int row_size, column_size, width;

  __device__ SharedTaps(const ChainParams& p, const Plan& plan, const Tile& tile, char* memory)
      : row_size(plan.row_size),
        column_size(plan.column_size),
        width(plan.units * Q),
        lane_(tile.block_lane),
        taps_(reinterpret_cast<S*>(memory)) {
    if (!tile.leads) return;
    put(p, plan.row_stage, row_size, 0, tile);
    put(p, plan.column_stage, column_size, row_size + 1, tile);
  }

  __device__ int count() const { return row_size + column_size + 2; }
  __device__ int64_t bytes() const { return (count() * width * sizeof(S) + 15) / 16 * 16; }

  __device__ __forceinline__ void read(int tap, S (&to)[Q]) const {
#pragma unroll
    for (int q = 0; q < Q; ++q) to[q] = load<Pack<S, 1>>(taps_ + tap * width + lane_ + q).value[0];
  }
  __device__ __forceinline__ void row(int tap, S (&to)[Q]) const { read(tap, to); }
  __device__ __forceinline__ void column(int tap, S (&to)[Q]) const { read(row_size + 1 + tap, to); }

 private:
  __device__ void put(const ChainParams& p, int stage, int size, int at, const Tile& tile) {
    for (int t = 0; t <= size; ++t) {
      S value[Q];
#pragma unroll
      for (int q = 0; q < Q; ++q) value[q] = t < size ? 1 : 0;
      if (stage >= 0)
        read_parameter(value, t < size ? p.stage[stage].weight : p.stage[stage].bias, t < size ? size : 1,
                       t < size ? t : 0, p, tile);
#pragma unroll
      for (int q = 0; q < Q; ++q) store(taps_ + (at + t) * width + lane_ + q, Pack<S, 1>{value[q]});
    }
  }

  int lane_;
  S* taps_;
};

// Calls f(t, row) for the rows of a ring from row `first` on, in the order of a column pass's taps.
template <class F>
__device__ __forceinline__ void go_round(int first, int rows, int taps, F&& f) {
  const int before_end = rows - first < taps ? rows - first : taps;
  for (int t = 0; t < before_end; ++t) f(t, first + t);
  for (int t = before_end; t < taps; ++t) f(t, first + t - rows);
}

// Calls f(offset, columns) for each offset from -reach to reach, where columns[c] is column c + offset of the row, for
// c from -kHalo to below V + kHalo.
template <int kHalo, class Tile, class F>
__device__ __forceinline__ void slide(const Tile& tile, const typename Tile::T* row, int reach, F&& f) {
  constexpr int V = Tile::V, Q = Tile::Q, sides = (kHalo + V - 1) / V, parts = 2 + 2 * sides;
  typename Tile::S window[parts * V][Q] = {};
  const int last = (reach + kHalo + V - 1) / V;  // tile that has to be read
  int away = -((reach + V - 1) / V);
  const auto read = [&](int part) {
    const int there = away - sides + part;
    if (there >= -last && there <= last) tile.read(row + tile.neighbour(there), there, window + part * V);
  };
#pragma unroll
  for (int part = 0; part < parts - 1; ++part) read(part);
  for (; away * V <= reach; ++away) {
    read(parts - 1);
    if (away * V >= -reach && away * V + V - 1 <= reach) {
#pragma unroll
      for (int j = 0; j < V; ++j) f(away * V + j, window + sides * V + j);
    } else {
#pragma unroll
      for (int j = 0; j < V; ++j)
        if (away * V + j >= -reach && away * V + j <= reach) f(away * V + j, window + sides * V + j);
    }
#pragma unroll
    for (int v = 0; v < (parts - 1) * V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) window[v][q] = window[v + V][q];
  }
}

template <class Tile>
class Bands<Tile, 0> {
  using T = typename Tile::T;
  using S = typename Tile::S;
  static constexpr int V = Tile::V, Q = Tile::Q;
  using Unit = Pack<T, V * Q>;

 public:
  __device__ Bands(const ChainParams& p, const Plan& plan, const Tile& tile, char* memory)
      : taps_(p, plan, tile, memory),
        ring_(reinterpret_cast<Unit*>(memory + taps_.bytes()) + threadIdx.x),
        apart_(plan.threads) {
    reset();
  }

  __device__ __forceinline__ void reset() {
    for (int i = 0; i < taps_.column_size; ++i) store(ring_ + i * apart_, Unit{});
    next_ = 0;
  }

  __device__ __forceinline__ void row(const Tile& tile, const T* from, S (&result)[V][Q]) const {
    S bias[Q];
    taps_.row(taps_.row_size, bias);
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) result[v][q] = bias[q];
    slide<0>(tile, from, taps_.row_size / 2, [&](int offset, S(*in)[Q]) {
      S weight[Q];
      taps_.row(offset + taps_.row_size / 2, weight);
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int q = 0; q < Q; ++q) result[v][q] = fma(weight[q], in[v][q], result[v][q]);
    });
  }

  __device__ __forceinline__ void column(const S (&in)[V][Q], S (&result)[V][Q]) {
    store(ring_ + next_ * apart_, narrow<T, V * Q>(in[0]));
    next_ = next_ + 1 == taps_.column_size ? 0 : next_ + 1;
    S bias[Q];
    taps_.column(taps_.column_size, bias);
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) result[v][q] = bias[q];
    go_round(next_, taps_.column_size, taps_.column_size, [&](int t, int at) {  // from the oldest row on
      S weight[Q], row[V][Q];
      taps_.column(t, weight);
      widen(load<Unit>(ring_ + at * apart_), row[0]);
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int q = 0; q < Q; ++q) result[v][q] = fma(weight[q], row[v][q], result[v][q]);
    });
  }

 private:
  SharedTaps<Tile> taps_;
  Unit* ring_;  // the rows of the row pass, this thread's unit of each
  int apart_, next_;
};

template <class Tile>
class BandsGradient<Tile, 0> {
  using T = typename Tile::T;
  using S = typename Tile::S;
  static constexpr int V = Tile::V, Q = Tile::Q;

 public:
  __device__ BandsGradient(const ChainParams& p, const Plan& plan, const Tile& tile, char* memory)
      : taps_(p, plan, tile, memory),
        sums_(reinterpret_cast<S*>(memory + taps_.bytes()) + threadIdx.x * Q),
        apart_(plan.threads * Q),
        rows_(plan.grad_rows),
        row_(plan.row),
        row_missing_(plan.row_stage < 0),
        column_missing_(plan.column_stage < 0) {
    for (int g = 0; g < taps_.count(); ++g) {
      S none[Q] = {};
      put(g, none);
    }
  }

  __device__ void reset() {}

  __device__ __forceinline__ void push(const Tile&, const T* grads, int newest, int) {
    grads_ = grads;
    newest_ = newest;
  }

  __device__ __forceinline__ void column(const Tile& tile, S (&result)[V][Q]) const {
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) result[v][q] = 0;
    for_each_grad([&](int t, const T* from) {
      S weight[Q], grad[V][Q];
      taps_.column(t, weight);
      tile.template window<0>(from, grad);
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int q = 0; q < Q; ++q) result[v][q] = fma(weight[q], grad[v][q], result[v][q]);
    });
  }

  __device__ __forceinline__ void sum_column(const Tile& tile, const T* in) {
    if (column_missing_) return;
    const int half = taps_.row_size / 2;
    S row[V][Q], bias[Q];
    taps_.row(taps_.row_size, bias);
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) row[v][q] = bias[q];
    slide<0>(tile, in, half, [&](int offset, S(*columns)[Q]) {
      S weight[Q];
      taps_.row(offset + half, weight);
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int q = 0; q < Q; ++q) row[v][q] = fma(weight[q], columns[v][q], row[v][q]);
    });
    tile.template clip<0>(row);
    const int first = taps_.row_size + 1;
    S grad[V][Q];
    for_each_grad([&](int t, const T* from) {
      S sum[Q];
      tile.template window<0>(from, grad);
      get(first + t, sum);
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int q = 0; q < Q; ++q) sum[q] = fma(row[v][q], grad[v][q], sum[q]);
      put(first + t, sum);
    });
    const int same = newest_ - taps_.column_size / 2;
    tile.template window<0>(grads_ + (same < 0 ? same + rows_ : same) * row_, grad);
    add(first + taps_.column_size, grad);
  }

  template <int kHalo>
  __device__ __forceinline__ void row(const Tile& tile, const T* grad, const T* in, bool sum,
                                      S (&result)[V + 2 * kHalo][Q]) {
    const int half = taps_.row_size / 2;
    sum = sum && !row_missing_;
    S own[V][Q];
    tile.template window<0>(in, own);
#pragma unroll
    for (int v = 0; v < V + 2 * kHalo; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) result[v][q] = 0;
    slide<kHalo>(tile, grad, half, [&](int offset, S(*columns)[Q]) {
      S weight[Q];
      taps_.row(half - offset, weight);
#pragma unroll
      for (int v = -kHalo; v < V + kHalo; ++v)
#pragma unroll
        for (int q = 0; q < Q; ++q) result[v + kHalo][q] = fma(weight[q], columns[v][q], result[v + kHalo][q]);
      if (!sum) return;
      S total[Q];
      get(half - offset, total);
#pragma unroll
      for (int v = 0; v < V; ++v)
#pragma unroll
        for (int q = 0; q < Q; ++q) total[q] = fma(own[v][q], columns[v][q], total[q]);
      put(half - offset, total);
    });
    if (!sum) return;
    tile.template window<0>(grad, own);
    add(taps_.row_size, own);
  }

  template <class F>
  __device__ __forceinline__ void for_each_sum(F&& f) const {
    int gradient = 0;
    for (int g = 0; g < taps_.count(); ++g) {
      if (g <= taps_.row_size ? row_missing_ : column_missing_) continue;
      S sum[Q];
      get(g, sum);
      f(gradient++, sum);
    }
  }

 private:
  // Calls f(t, row) for each tap of the column pass and the row of the result's gradient that it meets.
  template <class F>
  __device__ __forceinline__ void for_each_grad(F&& f) const {
    const int last = taps_.column_size - 1, oldest = newest_ - last;
    go_round(oldest < 0 ? oldest + rows_ : oldest, rows_, taps_.column_size,
             [&](int back, int at) { f(last - back, grads_ + at * row_); });
  }
  __device__ __forceinline__ void get(int g, S (&to)[Q]) const {
#pragma unroll
    for (int q = 0; q < Q; ++q) to[q] = load<Pack<S, 1>>(sums_ + g * apart_ + q).value[0];
  }
  __device__ __forceinline__ void put(int g, const S (&from)[Q]) {
#pragma unroll
    for (int q = 0; q < Q; ++q) store(sums_ + g * apart_ + q, Pack<S, 1>{from[q]});
  }
  __device__ __forceinline__ void add(int g, const S (&values)[V][Q]) {
    S sum[Q];
    get(g, sum);
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q) sum[q] += values[v][q];
    put(g, sum);
  }

  SharedTaps<Tile> taps_;
  S* sums_;
  int apart_, rows_, row_;
  bool row_missing_, column_missing_;
  const T* grads_ = nullptr;
  int newest_ = 0;
};

}  // namespace evenconv::cuda
