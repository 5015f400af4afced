// A fused chain of depthwise convolutions: forward reads x once and writes the result once; backward reads x and the
// gradient once, computes the intermediate maps again, and writes dx once. Between the stages a tile stays in cache.
#pragma once

#include <new>

#include "taps.h"
#include "tile.h"

namespace evenconv::EVENCONV_ISA {

template <class T, class Weight>
void pack_taps(Taps<T>& taps, const Stage& stage, const Block& block, int64_t pitch) {
  const int top = leading_pad(stage.kh, pads_top(block.direction));
  const int left = leading_pad(stage.kw, pads_left(block.direction));
  taps.count = stage.kh * stage.kw;
  const Weight* weight = static_cast<const Weight*>(stage.weight) + block.channel * taps.count;
  const Weight* bias = static_cast<const Weight*>(stage.bias) + block.channel;
  for (int t = 0; t < taps.count; ++t) {
    taps.offset[t] = ((t / stage.kw - top) * pitch + (t % stage.kw - left)) * block.channels;
    for (int l = 0; l < Taps<T>::kPeriod; ++l) widen(taps.weight[t][l], weight[l % block.channels * taps.count + t]);
  }
  for (int l = 0; l < Taps<T>::kPeriod; ++l) {
    taps.bias[l] = 0;
    if (stage.bias) widen(taps.bias[l], bias[l % block.channels]);
  }
}

// Adds one tile's share of a stage's gradients to partial[channel][tap] and, after the taps, the bias.
template <class T>
void accumulate_stage(const Tile<T>& tile, const Stage& stage, const Taps<T>& taps, const T* grad, const T* in,
                      double* partial, int64_t gradients) {
  constexpr int V = Simd<T>::size, kMaxPhases = kLineBytes / kVectorBytes;
  const int64_t begin = tile.first(tile.band), length = tile.length(tile.band);
  const int S = tile.block.channels, phases = flat_step<T>(S) / V;
  auto add = [&](const Vec<T>* sums, int count, double* to) {
    for (int phase = 0; phase < phases; ++phase)
      for (int t = 0; t < count; ++t)
        for (int l = 0; l < V; ++l) to[(phase * V + l) % S * gradients + t] += sums[phase * count + t][l];
  };
  if (stage.grad_weight) {
    Vec<T> sums[kMaxPhases * kMaxTaps] = {};
    accumulate(grad + begin, in + begin, length, S, taps.count, taps.offset, sums);
    add(sums, taps.count, partial);
  }
  if (stage.grad_bias) {
    Vec<T> sums[kMaxPhases] = {};
    total(grad + begin, length, S, sums);
    add(sums, 1, partial + taps.count);
  }
}

template <class T>
struct Task {
  Tile<T> tile;
  int64_t image_end;
  int64_t part;  // which of the partial sums of its channels is the task's

  Task(const ChainParams& p, const Plan& plan, int64_t index)
      : tile{plan, block_at(p, plan, index % plan.blocks), p.H, p.W, 0, 0, {0, 0}}, part(index / plan.blocks) {
    const int64_t band = part % plan.bands, chunk = part / plan.bands;
    tile.band.begin = band * plan.band_rows;
    tile.band.end = tile.band.begin + plan.band_rows < p.H ? tile.band.begin + plan.band_rows : p.H;
    tile.image = chunk * plan.images_per_chunk;
    image_end = tile.image + plan.images_per_chunk < p.N ? tile.image + plan.images_per_chunk : p.N;
  }

  bool advance() {
    tile.image += tile.images;
    const int64_t left = image_end - tile.image;
    tile.images = left < tile.plan.stacked ? left : tile.plan.stacked;
    return left > 0;
  }

  // Calls f(tile to follow) for each tile.
  template <class F>
  void for_each_tile(const ChainParams& p, int64_t index, F&& f) {
    while (advance()) {
      Task next = *this;
      if (!next.advance()) new (&next) Task(p, tile.plan, index + 1 < tile.plan.tasks() ? index + 1 : index), next.advance();
      f(next.tile);
    }
  }
};

template <class T, class Storage, class Weight>
void chain_forward(const ChainParams& p, const Plan& plan, int64_t index, void* scratch) {
  Task<T> task(p, plan, index);
  const Tile<T>& tile = task.tile;
  Taps<T> taps[kMaxStages];
  int32_t reach[kMaxStages + 1] = {};  // rows beyond the band that stage s must read
  for (int s = p.stages - 1; s >= 0; --s) {
    pack_taps<T, Weight>(taps[s], p.stage[s], tile.block, plan.pitch);
    reach[s] = reach[s + 1] + p.stage[s].kh / 2;
  }
  T* in = static_cast<T*>(scratch) + plan.margin;
  T* out = in + plan.buffer_size;
  task.for_each_tile(p, index, [&](const Tile<T>& next) {
    load_tile<Storage>(tile, in, tile.around_band(reach[0]), p.x, 1, 1);
    prefetch_tile<Storage, true>(tile, tile.band, p.y);
    prefetch_tile<Storage, false>(next, next.band, p.x);
    for (int s = 0; s < p.stages; ++s) {
      const Rows rows = tile.around_band(reach[s + 1]);
      const int64_t begin = tile.first(rows);
      correlate(in + begin, out + begin, tile.length(rows), tile.block.channels, taps[s], 1);
      if (s + 1 < p.stages) tile.seal(out, rows);
      T* const swap = in;
      in = out;
      out = swap;
    }
    store_tile<Storage>(tile, in, p.y, p.stride_h, p.stride_w);
  });
}

template <class T, class Storage, class Weight>
void chain_backward(const ChainParams& p, const Plan& plan, int64_t index, void* scratch, double* partials) {
  Task<T> task(p, plan, index);
  const Tile<T>& tile = task.tile;
  Taps<T> taps[kMaxStages];
  int32_t reach[kMaxStages + 1] = {}, grad_reach[kMaxStages + 1] = {};
  int64_t first_gradient[kMaxStages + 1] = {};
  int last_wanted = -1;  // stage whose weight or bias gradient is asked for
  for (int s = p.stages - 1; s >= 0; --s) reach[s] = reach[s + 1] + p.stage[s].kh / 2;
  for (int s = 0; s < p.stages; ++s) {
    pack_taps<T, Weight>(taps[s], p.stage[s], tile.block, plan.pitch);
    grad_reach[s + 1] = grad_reach[s] + p.stage[s].kh / 2;
    first_gradient[s + 1] = first_gradient[s] + taps[s].count + 1;
    if (p.stage[s].grad_weight || p.stage[s].grad_bias) last_wanted = s;
  }

  T* maps[kMaxStages + 2];
  for (int b = 0; b < p.stages + 2; ++b)
    maps[b] = static_cast<T*>(scratch) + plan.margin + b * plan.buffer_size;
  T *grad = maps[p.stages], *next_grad = maps[p.stages + 1];
  double* partial = partials + (task.part * p.C + tile.block.channel) * plan.gradients;

  task.for_each_tile(p, index, [&](const Tile<T>& next) {
    if (last_wanted >= 0) load_tile<Storage>(tile, maps[0], tile.around_band(reach[0]), p.x, 1, 1);
    for (int s = 0; s < last_wanted; ++s) {
      const Rows rows = tile.around_band(reach[s + 1]);
      const int64_t begin = tile.first(rows);
      correlate(maps[s] + begin, maps[s + 1] + begin, tile.length(rows), tile.block.channels, taps[s], 1);
      tile.seal(maps[s + 1], rows);
    }
    load_tile<Storage>(tile, grad, tile.around_band(grad_reach[p.stages]), p.y, p.stride_h, p.stride_w);
    if (p.dx.data) prefetch_tile<Storage, true>(tile, tile.band, p.dx);
    prefetch_tile<Storage, false>(next, next.band, p.x);
    prefetch_tile<Storage, false>(next, next.band, p.y);
    for (int s = p.stages - 1; s >= 0; --s) {
      accumulate_stage(tile, p.stage[s], taps[s], grad, maps[s], partial + first_gradient[s], plan.gradients);
      if (s == 0 && !p.dx.data) break;
      const Rows rows = tile.around_band(grad_reach[s]);
      const int64_t begin = tile.first(rows);
      correlate(grad + begin, next_grad + begin, tile.length(rows), tile.block.channels, taps[s], -1);
      if (s > 0) tile.seal(next_grad, rows);
      T* const swap = grad;
      grad = next_grad;
      next_grad = swap;
    }
    if (p.dx.data) store_tile<Storage>(tile, grad, p.dx, 1, 1);
  });
}

template <class Weight>
void chain_reduce(const ChainParams& p, const Plan& plan, int64_t channel, const double* partials) {
  auto sum = [&](int64_t gradient, void* to, int64_t index) {
    double total = 0;
    for (int64_t part = 0; part < plan.chunks * plan.bands; ++part)
      total += partials[(part * p.C + channel) * plan.gradients + gradient];
    if constexpr (sizeof(Weight) == sizeof(double))
      narrow(static_cast<Weight*>(to)[index], total);
    else
      narrow(static_cast<Weight*>(to)[index], static_cast<float>(total));
  };
  int64_t gradient = 0;
  for (int s = 0; s < p.stages; ++s) {
    const Stage& stage = p.stage[s];
    const int count = stage.kh * stage.kw;
    for (int t = 0; t < count; ++t, ++gradient)
      if (stage.grad_weight) sum(gradient, stage.grad_weight, channel * count + t);
    if (stage.grad_bias) sum(gradient, stage.grad_bias, channel);
    ++gradient;
  }
}

}  // namespace evenconv::EVENCONV_ISA
