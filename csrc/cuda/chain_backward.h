// The whole chain backward: x and the result's gradient are read once and dx is written once, 3 T of traffic, plus the
// rows and columns that a block computes for its neighbours. The maps between the passes are computed again. Where no
// weight's gradient is wanted, x is not read.
//
// As forward (chain_forward.h), down the rows: the even pass again, to shared memory; the column pass's gradient, from
// the rows of the result's gradient that a thread keeps, to shared memory; the row pass's gradient and the even pass's.
// Each thread sums the gradients of its channels' weights and biases; at the end the block adds them up in a fixed
// order, and writes one partial sum that reduce.cu adds to those of the other blocks. Rows and sums that a thread keeps
// are in registers, for a row and column pass of untuned sizes in shared memory (any_bands.h).
#pragma once

#include "walk.h"

namespace evenconv::cuda {

// The sums of a block's threads, in shared memory as [gradient][image and column][channel], halved until one is left;
// then to partials as [split][gradient][C].
template <class Tile>
__device__ __forceinline__ void write_partials(const ChainParams& p, const Plan& plan, const Tile& tile,
                                               typename Tile::S* sums, typename Tile::S* partials) {
  using One = Pack<typename Tile::S, 1>;
  const int channels = plan.units * Tile::Q, threads = plan.threads;
  const int pitch = threads * Tile::Q;
  for (int left = plan.images * plan.tiles; left > 1;) {
    const int half = (left + 1) / 2, added = (left - half) * channels;
    for (int i = threadIdx.x; i < plan.gradients * added; i += threads) {
      auto* sum = sums + i / added * pitch + i % added;
      store(sum, One{load<One>(sum).value[0] + load<One>(sum + half * channels).value[0]});
    }
    __syncthreads();
    left = half;
  }
  const int64_t split = blockIdx.x / plan.channel_blocks, first = tile.channel - tile.block_lane;
  for (int i = threadIdx.x; i < plan.gradients * channels; i += threads) {
    const int gradient = i / channels, lane = i % channels;
    if (first + lane < p.C)
      store(partials + (split * plan.gradients + gradient) * p.C + first + lane,
            load<One>(sums + gradient * pitch + lane));
  }
}

template <class T, bool interleaved, int unit, int E, int K>
__global__ void __launch_bounds__(kMaxThreads, blocks_at_least(interleaved, true, K))
    chain_backward(const __grid_constant__ ChainParams p, const __grid_constant__ Plan plan, Sum<T>* const partials) {
  constexpr int columns = columns_of(sizeof(T), interleaved, unit), reach = E / 2 + K / 2;
  using Tile = cuda::Tile<T, interleaved, unit, (reach + columns - 1) / columns>;
  using EvenKernel = std::conditional_t<E != 0, cuda::EvenKernel<Tile, E>, None>;
  using Even = std::conditional_t<E != 0 && K != 1, cuda::Even<Tile, E>, None>;
  using EvenGradient = std::conditional_t<E != 0, cuda::EvenGradient<Tile, E>, None>;
  using BandsGradient = std::conditional_t<K != 1, cuda::BandsGradient<Tile, K>, None>;
  using S = Sum<T>;
  constexpr int V = Tile::V, Q = Tile::Q;
  [[maybe_unused]] constexpr int at_once = K > 9 || (K == 0 && E == 4) ? 1 : 2;  // rows, as many as registers allow

  const Tile tile(p, plan);
  const int pitch = row_pitch<Tile, K>(plan);
  const int x_count = x_rows_of(true, E), grad_count = K == 0 ? plan.grad_rows : 2 * kStepRows;
  T* const x_rows = reinterpret_cast<T*>(dynamic_shared());
  T* const grad_rows = x_rows + x_count * pitch;
  T* const even_rows = grad_rows + grad_count * pitch;
  T* const row_grad_rows = even_rows + (E != 0 && K != 1 ? kStepRows : 0) * pitch;
  write_zeros<T>(plan);
  Source<Tile> x_source(p, plan, p.x, plan.x_piece, tile, 1, 1);
  Source<Tile> grad_source(p, plan, p.y, plan.y_piece, tile, p.stride_h, p.stride_w);
  Target<Tile> target(p, p.dx, plan.dx_piece, tile, 1, 1);
  const EvenKernel even_kernel(p, plan, tile);
  Even even(even_kernel);
  EvenGradient even_gradient(even_kernel);
  BandsGradient bands(p, plan, tile, dynamic_shared() + plan.map_bytes);
  __syncthreads();

  const unsigned H = static_cast<unsigned>(p.H), band_rows = tile.end_row - tile.first_row;
  const int column_half = plan.column_size / 2;
  Walk now(plan, tile), next = now;
  int x_at = 0, grad_at = 0;
  const auto fetch_next = [&] {
    if (next.more()) {
      if (next.enters_image()) {
        x_source.enter(next.group, next.step + E / 2);
        grad_source.enter(next.group, next.step + column_half);
      }
      if (plan.sums) x_source.fetch(next.step + E / 2, x_rows + x_at * pitch, pitch);
      grad_source.fetch(next.step + column_half, grad_rows + grad_at * pitch, pitch);
    }
    __pipeline_commit();
  };
  fetch_next();
  for (; now.more(); now = next) {
    __pipeline_wait_prior(0);
    __syncthreads();
    const int x_now = x_at, grad_now = grad_at;
    x_at = x_at + kStepRows == x_count ? 0 : x_at + kStepRows;
    grad_at = grad_at + kStepRows == grad_count ? 0 : grad_at + kStepRows;
    next.advance();
    fetch_next();
    if (now.enters_image()) target.enter(now.group, tile.first_row);
    const auto in_map = [&](int t) { return static_cast<unsigned>(t) < H; };
    const auto in_band = [&](int t) { return static_cast<unsigned>(t - tile.first_row) < band_rows; };
    const auto counts = [&](int t) { return plan.sums && in_band(t); };

    if constexpr (E != 0 && K != 1) {
      if (plan.sums) {
        if (now.enters_image()) even.reset();
#pragma unroll at_once
        for (int r = 0; r < kStepRows; ++r) {
          S window[V + E][Q], result[V][Q];
          tile.template window<E / 2>(x_rows + (x_now + r) * pitch, window);
          even.push(window, result);
          tile.write(even_rows + r * pitch, result);
        }
        tile.clip(even_rows, pitch);
        __syncthreads();
      }
    }
    const T* const in = E != 0 ? even_rows : x_rows + x_now * pitch;
    if constexpr (K != 1) {
      if (now.enters_image()) bands.reset();
#pragma unroll at_once
      for (int r = 0; r < kStepRows; ++r) {
        const int t = now.step + r;
        bands.push(tile, grad_rows, grad_now + r, pitch);
        S result[V][Q] = {};
        if (in_map(t)) bands.column(tile, result);
        tile.write(row_grad_rows + r * pitch, result);
        if (counts(t)) bands.sum_column(tile, in + r * pitch);
      }
      __syncthreads();
    }
    if constexpr (E != 0)
      if (now.enters_image()) even_gradient.reset();
#pragma unroll at_once
    for (int r = 0; r < kStepRows; ++r) {
      const int t = now.step + r, h = t - E / 2;
      S grad[V + E][Q] = {};
      if constexpr (K == 1) {
        tile.template window<E / 2>(grad_rows + (grad_now + r) * pitch, grad);
      } else if (in_map(t)) {
        bands.template row<E / 2>(tile, row_grad_rows + r * pitch, in + r * pitch, counts(t), grad);
        tile.template clip<E / 2>(grad);
      }
      if constexpr (E == 0) {
        if (p.dx.data && in_band(h)) target.put(h, grad);
      } else {
        const int x_row = x_now + r - E;  // row h
        S x[V][Q], dx[V][Q];
        tile.template window<0>(x_rows + (x_row < 0 ? x_row + x_count : x_row) * pitch, x);
        even_gradient.push(grad, x, counts(h), counts(t), dx);
        if (p.dx.data && in_band(h)) target.put(h, dx);
      }
    }
  }

  if (!plan.sums) return;
  __pipeline_wait_prior(0);
  __syncthreads();
  S* const sums = reinterpret_cast<S*>(dynamic_shared());
  const int column = threadIdx.x / (interleaved ? plan.units : 1) % plan.tiles;
  const int place = (tile.image * plan.tiles + column) * plan.units * Q + tile.block_lane;
  int first = 0;
  const auto write = [&](int gradient, const S(&sum)[Q]) {
#pragma unroll
    for (int q = 0; q < Q; ++q)
      store(sums + (first + gradient) * plan.threads * Q + place + q, Pack<S, 1>{tile.counts ? sum[q] : S(0)});
  };
  if constexpr (E != 0) {
    even_gradient.for_each_sum(write);
    first = E * E + 1;
  }
  if constexpr (K != 1) bands.for_each_sum(write);
  __syncthreads();
  write_partials(p, plan, tile, sums, partials);
}

template <class T>
void launch_backward(const ChainParams& p, const Plan& plan, void* partials, cudaStream_t stream) {
  with_kernel<T, true>(plan, [&](auto interleaved, auto unit, auto E, auto K) {
    launch(chain_backward<T, interleaved, unit, E, K>, plan.blocks(), plan.threads, plan.shared_bytes, stream, p, plan,
           static_cast<Sum<T>*>(partials));
  });
}

}  // namespace evenconv::cuda
