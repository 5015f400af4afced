// A fused chain of depthwise convolutions: forward reads x once and writes the result once; backward reads x and the
// gradient once, computes the intermediate maps again, and writes dx once (but for the rows around a band, which both
// of its neighbours read). Between the stages a tile stays in cache.
#pragma once

#include "taps.h"
#include "tile.h"

namespace evenconv::EVENCONV_ISA {

template <class T, class Weight>
void pack_taps(Taps<T>& taps, const Stage& stage, const Block& block, int64_t pitch) {
  const int64_t top = leading_pad(stage.kh, pads_top(block.direction));
  const int64_t left = leading_pad(stage.kw, pads_left(block.direction));
  const bool row = stage.kh == 1;
  const int count = stage.kh * stage.kw;
  taps.along = row ? stage.kw : stage.kh;
  taps.across = count / taps.along;
  taps.first = -(top * pitch + left) * block.channels;
  taps.step = row ? block.channels : pitch * block.channels;
  const Weight* weight = static_cast<const Weight*>(stage.weight) + block.channel * count;
  const Weight* bias = static_cast<const Weight*>(stage.bias);
  for (int l = 0; l < kPeriod<T>; ++l) {
    const int c = l & (block.channels - 1);
    for (int t = 0; t < count; ++t) widen(taps.weight[t][l], weight[c * count + t]);
    taps.bias[l] = 0;
    if (bias) widen(taps.bias[l], bias[block.channel + c]);
  }
}

// Gradients of a task's weights and biases: of each tap and bias a row of one sum per lane of a packed weight. Within
// an image the sums are T's; the images' are added up in double.
template <class T>
struct Sums {
  static constexpr int kMax = kMaxStages * (kMaxTaps + 1);
  alignas(kLineBytes) T image[kMax][kPeriod<T>];
  alignas(kLineBytes) double all[kMax][kPeriod<T>];

  explicit Sums(int64_t gradients) { std::memset(all, 0, gradients * sizeof all[0]); }
  void begin_image(int64_t gradients) { std::memset(image, 0, gradients * sizeof image[0]); }
  void end_image(int64_t gradients) {
    for (int64_t g = 0; g < gradients; ++g)
      for (int l = 0; l < kPeriod<T>; ++l) all[g][l] += image[g][l];
  }
  // partial: [channel][gradient].
  void write(double* partial, int channels, int64_t gradients) const {
    for (int64_t g = 0; g < gradients; ++g)
      for (int l = 0; l < kPeriod<T>; ++l) partial[(l & (channels - 1)) * gradients + g] += all[g][l];
  }
};

// Adds the step's share of a stage's gradients.
template <class T>
void accumulate_rows(const Tile<T>& tile, const Stage& stage, const Taps<T>& taps, const Map<T>& grad, const Map<T>& in,
                     T (*sums)[kPeriod<T>]) {
  const int64_t begin = tile.index(tile.step.begin);
  const Area area = tile.area(tile.step);
  if (stage.grad_weight) accumulate(grad.data + begin, in.data + begin, area, taps, sums);
  if (stage.grad_bias) total(grad.data + begin, area, sums[taps.along * taps.across]);
}

// Makes the due rows of `out` from those of `in`.
template <class T>
void correlate_rows(const Tile<T>& tile, const Map<T>& in, const Map<T>& out, const Taps<T>& taps, int sign) {
  tile.extend(out, [&](Rows rows) {
    const int64_t begin = tile.index(rows.begin);
    correlate(in.data + begin, out.data + begin, tile.area(rows), taps, sign);
  });
}

template <class T>
struct Task {
  Tile<T> tile;
  Rows images;
  int64_t part;  // which of the partial sums of its channels is the task's

  Task(const ChainParams& p, const Plan& plan, int64_t index)
      : tile{plan, block_at(p, plan, index % plan.blocks), p.H, p.W, {0, 0}, 0, {0, 0}, 0}, part(index / plan.blocks) {
    const int64_t band = part % plan.bands, chunk = part / plan.bands;
    tile.band = part_of(p.H, plan.band_rows, band);
    images = part_of(p.N, plan.images_per_chunk, chunk);
  }

  static Rows part_of(int64_t total, int64_t size, int64_t i) {
    return {i * size, (i + 1) * size < total ? (i + 1) * size : total};
  }
};

template <class T>
void place_windows(const Plan& plan, void* scratch, Map<T>* maps, int count) {
  for (int m = 0; m < count; ++m) maps[m].data = static_cast<T*>(scratch) + m * plan.window_size + plan.margin;
}

template <class T, class Storage, class Weight>
void chain_forward(const ChainParams& p, const Plan& plan, int64_t index, void* scratch) {
  Task<T> task(p, plan, index);
  Tile<T>& tile = task.tile;
  Taps<T> taps[kMaxStages];
  Map<T> maps[kMaxStages + 1] = {};
  const int count = p.stages + 1;
  for (int s = p.stages - 1; s >= 0; --s) {
    pack_taps<T, Weight>(taps[s], p.stage[s], tile.block, plan.pitch);
    maps[s].pad = p.stage[s].kh / 2;
    maps[s].reach = maps[s + 1].reach + maps[s].pad;
  }
  place_windows(plan, scratch, maps, count);
  for (int64_t n = task.images.begin; n < task.images.end; ++n) {
    for (tile.begin_image(n); tile.advance(maps, count);) {
      load_rows<Storage>(tile, maps[0], p.x, 1, 1);
      for (int s = 0; s < p.stages; ++s) correlate_rows(tile, maps[s], maps[s + 1], taps[s], 1);
      store_rows<Storage>(tile, maps[p.stages], p.y, p.stride_h, p.stride_w);
    }
  }
}

template <class T, class Storage, class Weight>
void chain_backward(const ChainParams& p, const Plan& plan, int64_t index, void* scratch, double* partials) {
  Task<T> task(p, plan, index);
  Tile<T>& tile = task.tile;
  Taps<T> taps[kMaxStages];
  Map<T> maps[2 * kMaxStages + 1] = {};
  Map<T>* grads = maps + p.stages;  // of the result of stage s - 1, that of x first
  const int count = 2 * p.stages + 1;
  int64_t first_gradient[kMaxStages + 1] = {};
  int last_wanted = -1;  // stage whose weight or bias gradient is asked for
  for (int s = p.stages - 1; s >= 0; --s) {
    maps[s].pad = p.stage[s].kh / 2;
    maps[s].reach = maps[s].pad + (s + 1 < p.stages ? maps[s + 1].reach : 0);
  }
  for (int s = 0; s < p.stages; ++s) {
    pack_taps<T, Weight>(taps[s], p.stage[s], tile.block, plan.pitch);
    grads[s + 1].pad = maps[s].pad;
    grads[s + 1].reach = grads[s].reach + maps[s].pad;
    first_gradient[s + 1] = first_gradient[s] + p.stage[s].kh * p.stage[s].kw + 1;
    if (p.stage[s].grad_weight || p.stage[s].grad_bias) last_wanted = s;
  }
  place_windows(plan, scratch, maps, count);
  Sums<T> sums(plan.gradients);
  for (int64_t n = task.images.begin; n < task.images.end; ++n) {
    sums.begin_image(plan.gradients);
    for (tile.begin_image(n); tile.advance(maps, count);) {
      if (last_wanted >= 0) load_rows<Storage>(tile, maps[0], p.x, 1, 1);
      for (int s = 0; s < last_wanted; ++s) correlate_rows(tile, maps[s], maps[s + 1], taps[s], 1);
      load_rows<Storage>(tile, grads[p.stages], p.y, p.stride_h, p.stride_w);
      for (int s = p.stages - 1; s >= 0; --s) {
        accumulate_rows(tile, p.stage[s], taps[s], grads[s + 1], maps[s], sums.image + first_gradient[s]);
        if (s > 0 || p.dx.data) correlate_rows(tile, grads[s + 1], grads[s], taps[s], -1);
      }
      if (p.dx.data) store_rows<Storage>(tile, grads[0], p.dx, 1, 1);
    }
    sums.end_image(plan.gradients);
  }
  sums.write(partials + (task.part * p.C + tile.block.channel) * plan.gradients, tile.block.channels, plan.gradients);
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
