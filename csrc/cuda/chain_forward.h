// The whole chain forward: x is read once and the result written once, 2 T of traffic, plus the rows and columns that a
// block computes for its neighbours (none where it has whole maps).
//
// A block goes down its rows, kStepRows at a time. A thread owns a few columns (Tile): in its registers are the weights
// of its channels and the unfinished rows of the even pass and of the column pass (of a row and column pass of untuned
// sizes they are in shared memory, any_bands.h). In shared memory are the rows of x of this step and, under way, of the
// next; and those of the even pass, in the tensor's own type, where the row pass reads its neighbours' columns.
#pragma once

#include "walk.h"

namespace evenconv::cuda {

template <class T, bool interleaved, int unit, int E, int K>
__global__ void __launch_bounds__(kMaxThreads, blocks_at_least(interleaved, false, K))
    chain_forward(const __grid_constant__ ChainParams p, const __grid_constant__ Plan plan) {
  constexpr int columns = columns_of(sizeof(T), interleaved, unit), reach = (E > K ? E : K) / 2;
  using Tile = cuda::Tile<T, interleaved, unit, (reach + columns - 1) / columns>;
  using EvenKernel = std::conditional_t<E != 0, cuda::EvenKernel<Tile, E>, None>;
  using Even = std::conditional_t<E != 0, cuda::Even<Tile, E>, None>;
  using Bands = std::conditional_t<K != 1, cuda::Bands<Tile, K>, None>;
  using S = Sum<T>;
  constexpr int V = Tile::V, Q = Tile::Q;

  const Tile tile(p, plan);
  const int pitch = row_pitch<Tile, K>(plan);
  T* const x_rows = reinterpret_cast<T*>(dynamic_shared());
  T* const even_rows = x_rows + x_rows_of(false, E) * pitch;
  write_zeros<T>(plan);
  Source<Tile> source(p, plan, p.x, plan.x_piece, tile, 1, 1);
  Target<Tile> target(p, p.y, plan.y_piece, tile, p.stride_h, p.stride_w);
  const EvenKernel even_kernel(p, plan, tile);
  Even even(even_kernel);
  Bands bands(p, plan, tile, dynamic_shared() + plan.map_bytes);
  __syncthreads();

  const unsigned H = static_cast<unsigned>(p.H), band_rows = tile.end_row - tile.first_row;
  const auto in_band = [&](int h) { return static_cast<unsigned>(h - tile.first_row) < band_rows; };
  const int column_half = plan.column_size / 2;
  Walk now(plan, tile), next = now;
  int at = 0;
  const auto fetch_next = [&] {
    if (next.more()) {
      if (next.enters_image()) source.enter(next.group, next.step + E / 2);
      source.fetch(next.step + E / 2, x_rows + at * pitch, pitch);
    }
    __pipeline_commit();
  };
  fetch_next();
  for (; now.more(); now = next) {
    __pipeline_wait_prior(0);
    __syncthreads();
    const T* const x = x_rows + at * pitch;
    at = at ? 0 : kStepRows;
    next.advance();
    fetch_next();
    if (now.enters_image()) target.enter(now.group, tile.first_row);

    if constexpr (E != 0) {
      if (now.enters_image()) even.reset();
#pragma unroll
      for (int r = 0; r < kStepRows; ++r) {
        S window[V + E][Q], result[V][Q];
        tile.template window<E / 2>(x + r * pitch, window);
        even.push(window, result);
        if constexpr (K == 1) {
          const int h = now.step + r;
          if (in_band(h)) target.put(h, result);
        } else {
          tile.write(even_rows + r * pitch, result);
        }
      }
      if constexpr (K != 1) tile.clip(even_rows, pitch);
      if constexpr (K != 1) __syncthreads();
    }
    if constexpr (K != 1) {
      const T* const in = E != 0 ? even_rows : x;
      if (now.enters_image()) bands.reset();
#pragma unroll
      for (int r = 0; r < kStepRows; ++r) {
        const int t = now.step + r, h = t - column_half;
        S row[V][Q] = {}, result[V][Q];
        if (static_cast<unsigned>(t) < H) bands.row(tile, in + r * pitch, row);
        bands.column(row, result);
        if (in_band(h)) target.put(h, result);
      }
    }
  }
}

template <class T>
void launch_forward(const ChainParams& p, const Plan& plan, cudaStream_t stream) {
  with_kernel<T, false>(plan, [&](auto interleaved, auto unit, auto E, auto K) {
    launch(chain_forward<T, interleaved, unit, E, K>, plan.blocks(), plan.threads, plan.shared_bytes, stream, p, plan);
  });
}

}  // namespace evenconv::cuda
