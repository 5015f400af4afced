#include "plan.h"

#include <algorithm>
#include <cstdlib>

namespace evenconv {
namespace {

static int64_t kScratchBytes = (getenv("EC_KB") ? atoi(getenv("EC_KB")) : 640) << 10;  // of one thread: within a core's second-level cache
static const int64_t kStackBytes = (getenv("EC_STACK") ? atoi(getenv("EC_STACK")) : 8) << 10;
static const int64_t kMinTasks = getenv("EC_TASKS") ? atoi(getenv("EC_TASKS")) : 64;

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
  static const int env = getenv("EC_LINE") ? atoi(getenv("EC_LINE")) : 16;
  plan.line_channels = p.x.stride[1] == 1 && p.x.stride[3] != 1 ? 64/element : std::min<int>(64/element, env);
  if (one_direction(p)) {
    plan.blocks = count_blocks(p.C, plan.line_channels);
  } else {
    for (int group = 0; group < 4; ++group)
      plan.blocks += count_blocks(group_begin(p.C, group + 1) - group_begin(p.C, group), plan.line_channels);
  }

  int32_t column_pad = 0, row_pad = 0, row_pads = 0;
  for (int s = 0; s < p.stages; ++s) {
    column_pad = std::max(column_pad, p.stage[s].kw / 2);
    row_pad = std::max(row_pad, p.stage[s].kh / 2);
    row_pads += p.stage[s].kh / 2;
    plan.gradients += p.stage[s].kh * p.stage[s].kw + 1;
  }
  plan.pitch = p.W + column_pad;
  plan.margin = column_pad * plan.line_channels + 128;

  const int64_t row_bytes = plan.pitch * plan.line_channels * element;
  const int64_t buffers = backward ? p.stages + 2 : 2;
  const int64_t budget = std::max<int64_t>(kScratchBytes / (buffers * row_bytes), 1);
  if (p.H + 2 * row_pad <= budget) {
    plan.halo = row_pad;
    plan.band_rows = p.H;
    plan.stacked = std::clamp<int64_t>(kStackBytes / (row_bytes * (p.H + row_pad)), 1, std::max<int64_t>(p.N, 1));
  } else {
    plan.halo = row_pads;
    plan.band_rows = std::max<int64_t>(budget - 2 * row_pads, std::min<int64_t>(p.H, 2 * row_pads + 1));
    plan.band_rows = ceil_div(p.H, ceil_div(p.H, plan.band_rows));
    plan.stacked = 1;
  }
  plan.bands = ceil_div(p.H, plan.band_rows);

  const int64_t tiles = ceil_div(std::max<int64_t>(p.N, 1), plan.stacked);
  const int64_t wanted = std::min(tiles, ceil_div(kMinTasks, plan.blocks * plan.bands));
  plan.images_per_chunk = ceil_div(tiles, wanted) * plan.stacked;
  plan.chunks = ceil_div(std::max<int64_t>(p.N, 1), plan.images_per_chunk);

  const int64_t rows = plan.stacked * (plan.band_rows + plan.halo) + plan.halo;
  plan.buffer_size = rows * plan.pitch * plan.line_channels + 2 * plan.margin;
  return plan;
}

}  // namespace evenconv
