#include "plan.h"

#include <algorithm>

namespace evenconv {
namespace {

constexpr int64_t kLineBytes = 64;

// Of one map, that a step adds: long sweeps, which the processor's prefetchers follow, over windows that together stay
// in a second-level cache (but for maps so wide that a single row is more).
constexpr int64_t kStepBytes = 64 << 10;

// Enough tasks to keep the cores of a large machine even; each task packs its weights once.
constexpr int64_t kMinTasks = 64;

// A band is so many times its halo, whose rows it computes again.
constexpr int64_t kBandHalos = 8;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool one_direction(const ChainParams& p) {
  return std::all_of(p.direction, p.direction + 4, [&](Direction d) { return d == p.direction[0]; });
}

// Blocks of n channels: full lines, then the powers of two that the rest is a sum of.
int64_t count_blocks(int64_t n, int32_t line) { return n / line + __builtin_popcountll(n % line); }

}  // namespace

Block block_at(const ChainParams& p, const Plan& plan, int64_t index) {
  const bool whole = one_direction(p);
  for (int group = 0;; ++group) {
    const int64_t begin = whole ? 0 : group_begin(p.C, group), end = whole ? p.C : group_begin(p.C, group + 1);
    const int64_t blocks = count_blocks(end - begin, plan.line_channels);
    if (index >= blocks) {
      index -= blocks;
      continue;
    }
    const int64_t lines = (end - begin) / plan.line_channels;
    if (index < lines) return {begin + index * plan.line_channels, plan.line_channels, p.direction[group]};
    int64_t channel = begin + lines * plan.line_channels, rest = end - channel;
    for (int64_t skip = index - lines;; --skip) {
      const int64_t channels = int64_t{1} << (63 - __builtin_clzll(rest));
      if (skip == 0) return {channel, static_cast<int32_t>(channels), p.direction[group]};
      channel += channels;
      rest -= channels;
    }
  }
}

Plan make_plan(const ChainParams& p, bool backward) {
  Plan plan{};
  const int64_t element = p.dtype == Dtype::float64 ? 8 : 4;
  plan.line_channels = static_cast<int32_t>(kLineBytes / element);
  if (one_direction(p)) {
    plan.blocks = count_blocks(p.C, plan.line_channels);
  } else {
    for (int group = 0; group < 4; ++group)
      plan.blocks += count_blocks(group_begin(p.C, group + 1) - group_begin(p.C, group), plan.line_channels);
  }

  int32_t column_pad = 0;
  for (int s = 0; s < p.stages; ++s) {
    column_pad = std::max(column_pad, p.stage[s].kw / 2);
    plan.halo += p.stage[s].kh / 2;
    plan.gradients += p.stage[s].kh * p.stage[s].kw + 1;
  }
  plan.pitch = p.W + column_pad;

  const int64_t images = std::max<int64_t>(p.N, 1);
  const int64_t wanted = ceil_div(kMinTasks, plan.blocks);
  plan.images_per_chunk = ceil_div(images, std::min(images, wanted));
  plan.chunks = ceil_div(images, plan.images_per_chunk);
  const int64_t least_rows = std::max<int64_t>(kBandHalos * plan.halo, 1);
  plan.band_rows = ceil_div(p.H, std::clamp<int64_t>(p.H / least_rows, 1, ceil_div(wanted, plan.chunks)));
  plan.bands = ceil_div(p.H, plan.band_rows);

  // No block is wider; narrow ones take more rows a step.
  const int64_t widest = std::min<int64_t>(plan.line_channels, one_direction(p) ? p.C : group_begin(p.C, 1));
  const int64_t row = plan.pitch * widest;
  plan.step_rows = std::clamp<int64_t>(kStepBytes / (row * element), 1, plan.band_rows);
  // Twice what a step reads, so that a window seldom moves; no more than there is.
  plan.window_rows = std::min(2 * (plan.step_rows + 2 * plan.halo), plan.band_rows + 2 * plan.halo);
  plan.margin = column_pad * plan.line_channels + 2 * plan.line_channels;
  plan.window_size = plan.window_rows * row + 2 * plan.margin;
  const int64_t maps = backward ? 2 * p.stages + 1 : p.stages + 1;
  plan.scratch_bytes = maps * plan.window_size * element;
  return plan;
}

}  // namespace evenconv
