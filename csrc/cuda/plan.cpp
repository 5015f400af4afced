#include "plan.h"

#include <algorithm>
#include <iterator>

namespace evenconv::cuda {
namespace {

// So much of an SM's shared memory as every architecture from 7.5 on gives to a block.
constexpr int64_t kMaxSharedBytes = 64 << 10;

// Two blocks for each multiprocessor of the largest GPUs; so many that blocks of unlike length even out.
constexpr int64_t kLeastBlocks = 264, kEnoughBlocks = 2112;

// Partial sums of the gradients take no more than this share of x's bytes, as long as there are enough blocks.
constexpr double kPartialShare = 0.01;

// A band is at least so many times the rows that it computes for its neighbours.
constexpr int64_t kBandHalos = 8;

// Blocks of channels_last read whole sectors of memory, unless shared memory is short.
constexpr int kSectorBytes = 32, kNarrowThreads = 64;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

// The widest piece, a power of two, that every unit of this view is made of; 0 if its elements do not lie side by side.
int32_t piece_of(const ChainParams& p, const Plan& plan, const View& view) {
  const int dense = plan.interleaved ? 1 : 3;
  const int64_t size[4] = {p.N, p.C, p.H, p.W};
  if (view.stride[dense] != 1 && size[dense] > 1) return 0;
  int64_t bits = static_cast<int64_t>(reinterpret_cast<uintptr_t>(view.data)) | plan.unit;
  for (int d = 0; d < 4; ++d)
    if (d != dense && size[d] > 1) bits |= view.stride[d] * plan.element_size;
  return static_cast<int32_t>(bits & -bits);
}

void choose_kernel(const ChainParams& p, Plan& plan) {
  plan.even_stage = plan.row_stage = plan.column_stage = -1;
  plan.row_size = plan.column_size = 1;
  for (int s = 0; s < p.stages; ++s) {
    const Stage& stage = p.stage[s];
    plan.gradients += stage.kh * stage.kw + 1;
    plan.sums |= plan.backward && (stage.grad_weight || stage.grad_bias);
    if (s == 0 && stage.kh == stage.kw && stage.kh % 2 == 0) {
      plan.even = stage.kh;
      plan.even_stage = s;
    } else if (stage.kh == 1 && plan.row_stage < 0) {
      plan.row_size = stage.kw;
      plan.row_stage = s;
    } else {
      plan.column_size = stage.kh;
      plan.column_stage = s;
    }
  }
  const bool bands = plan.row_stage >= 0 || plan.column_stage >= 0;
  const bool tuned = std::find(std::begin(kBands), std::end(kBands), plan.row_size) != std::end(kBands) &&
                     plan.row_size == plan.column_size && plan.even <= 2 && p.dtype != Dtype::float64;
  plan.band = !bands ? 1 : tuned ? plan.row_size : 0;
}

// Threads, and what they keep in shared memory, for blocks of up to so many threads.
void choose_block(const ChainParams& p, Plan& plan, int64_t threads) {
  const int64_t U = plan.unit / plan.element_size;
  const int64_t halo = plan.column_halo = plan.even / 2 + plan.row_size / 2;
  const int64_t reach = plan.backward ? halo : std::max(plan.even / 2, plan.row_size / 2);
  const int64_t sector = threads <= kNarrowThreads ? U : std::max<int64_t>(U, kSectorBytes / plan.element_size);
  const int64_t least_channels = plan.interleaved ? std::min(round_up(p.C, U), sector) : 1;
  const int64_t most_tiles = std::max<int64_t>(threads * plan.lanes / least_channels, 1);
  plan.tiles = static_cast<int32_t>(std::min(ceil_div(p.W, plan.columns), most_tiles));
  plan.column_tile = p.W;
  plan.column_tiles = 1;
  if (int64_t{plan.tiles} * plan.columns < p.W) {
    const int64_t sides = 2 * ceil_div(halo, plan.columns), owned = std::max<int64_t>(plan.tiles - sides, 1);
    plan.column_tiles = ceil_div(p.W, owned * plan.columns);
    plan.column_tile = round_up(ceil_div(p.W, plan.column_tiles), plan.columns);
    plan.column_tiles = ceil_div(p.W, plan.column_tile);
    plan.tiles = static_cast<int32_t>(plan.column_tile / plan.columns + sides);
  }
  const int64_t granule = plan.interleaved ? U : 1, all = round_up(p.C, granule);
  const int64_t most = threads * plan.lanes / plan.tiles / granule * granule;
  const int64_t channels = std::clamp(most, std::min(least_channels, all), all);
  plan.channel_blocks = ceil_div(p.C, channels);
  plan.units = static_cast<int32_t>(round_up(ceil_div(p.C, plan.channel_blocks), granule) / plan.lanes);
  plan.channel_blocks = ceil_div(p.C, int64_t{plan.units} * plan.lanes);
  plan.images = 1;
  if (plan.channel_blocks == 1 && plan.column_tiles == 1)
    plan.images = static_cast<int32_t>(
        std::clamp<int64_t>(threads / (plan.units * plan.tiles), 1, std::max<int64_t>(p.N / kLeastBlocks, 1)));
  plan.threads = plan.images * plan.units * plan.tiles;

  if (plan.interleaved) {
    const int64_t tile = (plan.columns + 1) * plan.units * plan.lanes;
    plan.margin = static_cast<int32_t>(ceil_div(reach, plan.columns));
    plan.slot = static_cast<int32_t>((plan.tiles + plan.margin) * tile);
    plan.row = static_cast<int32_t>(plan.images * plan.slot + plan.margin * tile);
  } else {
    plan.row = plan.threads * plan.columns;
  }

  const bool bands = plan.band != 1;
  const int64_t sum_size = p.dtype == Dtype::float64 ? 8 : 4;
  plan.x_rows = kStepRows * (plan.backward && plan.even ? 3 : 2);
  plan.grad_rows = plan.backward ? kStepRows * 2 : 0;
  if (plan.backward && plan.band == 0)
    plan.grad_rows += static_cast<int32_t>(round_up(plan.column_size - 1, kStepRows));
  plan.even_rows = plan.even && bands ? kStepRows : 0;
  plan.row_grad_rows = plan.backward && bands ? kStepRows : 0;
  const int64_t rows = plan.x_rows + plan.grad_rows + plan.even_rows + plan.row_grad_rows;
  const int64_t sums = plan.backward ? int64_t{plan.gradients} * plan.threads * plan.lanes * sum_size : 0;
  plan.map_bytes = plan.shared_bytes = std::max(round_up(rows * plan.row * plan.element_size, 16), round_up(sums, 16));
  if (plan.band == 0) {
    const int64_t taps = plan.row_size + plan.column_size + 2;
    plan.shared_bytes += round_up(taps * plan.units * plan.lanes * sum_size, 16);
    plan.shared_bytes += plan.backward ? taps * plan.threads * plan.lanes * sum_size
                                       : int64_t{plan.column_size} * plan.threads * plan.unit;
  }
}

// Bands of rows and chunks of images, for blocks in number.
void choose_grid(const ChainParams& p, Plan& plan) {
  const int64_t across = plan.channel_blocks * plan.column_tiles;
  const int64_t groups = ceil_div(std::max<int64_t>(p.N, 1), plan.images);
  const auto chunks_for = [&](int64_t blocks) { return std::clamp<int64_t>(ceil_div(blocks, across), 1, groups); };
  int64_t chunks = chunks_for(kEnoughBlocks);
  if (plan.backward) {
    const double map_bytes = static_cast<double>(p.N) * p.H * p.W * plan.element_size;
    const double split_bytes = static_cast<double>(plan.gradients) * plan.column_tiles * sizeof(float);
    const auto affordable = static_cast<int64_t>(kPartialShare * map_bytes / split_bytes);
    chunks = std::min(chunks, std::max(affordable, chunks_for(kLeastBlocks)));
  }
  plan.images_per_chunk = ceil_div(groups, chunks) * plan.images;
  plan.chunks = ceil_div(std::max<int64_t>(p.N, 1), plan.images_per_chunk);
  const int64_t halo = plan.even / 2 + plan.column_size / 2;
  const int64_t most_bands = std::max<int64_t>(p.H / std::max<int64_t>(kBandHalos * halo, kStepRows), 1);
  const int64_t bands = std::clamp<int64_t>(ceil_div(kLeastBlocks, across * plan.chunks), 1, most_bands);
  plan.band_rows = round_up(ceil_div(p.H, bands), p.stride_h);
  plan.bands = ceil_div(p.H, plan.band_rows);
}

}  // namespace

Plan make_plan(const ChainParams& p, bool backward) {
  Plan plan{};
  plan.backward = backward;
  plan.interleaved = p.x.stride[1] == 1 && p.x.stride[3] != 1 && p.C > 1;
  plan.element_size = p.dtype == Dtype::float64 ? 8 : p.dtype == Dtype::float32 ? 4 : 2;
  choose_kernel(p, plan);
  plan.unit = unit_bytes(plan.element_size, plan.interleaved, plan.band, backward);
  plan.lanes = lanes_of(plan.element_size, plan.interleaved);
  plan.columns = columns_of(plan.element_size, plan.interleaved, plan.unit);
  for (int64_t threads = max_threads(plan.interleaved);; threads /= 2) {
    choose_block(p, plan, threads);
    choose_grid(p, plan);
    if (threads == 32 || (plan.shared_bytes <= kMaxSharedBytes && plan.blocks() >= kLeastBlocks)) break;
  }
  plan.x_piece = piece_of(p, plan, p.x);
  plan.y_piece = plan.backward && p.stride_w > 1 && !plan.interleaved ? 0 : piece_of(p, plan, p.y);
  plan.dx_piece = p.dx.data ? piece_of(p, plan, p.dx) : 0;
  return plan;
}

}  // namespace evenconv::cuda
