#include "plan.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <stdexcept>

namespace evenconv::cuda {
namespace {

// So much of an SM's shared memory as every architecture from 7.5 on gives to a block.
constexpr int64_t kMaxSharedBytes = 64 << 10;

// Four blocks for each multiprocessor of an H200, so that none waits long for another; so many that blocks of
// unlike length even out; and threads whose rows under way are what memory takes to be busy.
constexpr int64_t kLeastBlocks = 528, kEnoughBlocks = 1056, kEnoughThreads = 1 << 16;

// Blocks do not get smaller for the sake of their number, and no smaller for that of shared memory.
constexpr int64_t kFewThreads = 64, kFewestThreads = 32;

// Partial sums of the gradients take no more than this share of x's bytes, or the plan counts for so much less.
constexpr double kPartialShare = 0.01, kLavish = 0.5;

// A plan that is worth so much is taken, whatever smaller blocks would be worth.
constexpr double kGood = 0.8;

// A band is at least so many times the rows that it computes for its neighbours.
constexpr int64_t kBandHalos = 8;

// Channels of a block at least: bytes of a column of channels_last, unless shared memory is short; of NCHW's planes.
constexpr int64_t kSectorBytes = 32, kPlaneBytes = 256;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
constexpr int64_t round_up(int64_t a, int64_t b) { return ceil_div(a, b) * b; }

int64_t sum_size(const ChainParams& p) { return p.dtype == Dtype::float64 ? 8 : 4; }

// The widest piece, a power of two, that the units of this view are made of; 0 if its elements do not lie side by side.
int32_t piece_of(const ChainParams& p, const Plan& plan, const View& view) {
  const int dense = plan.interleaved ? 1 : 3;
  const int64_t size[4] = {p.N, p.C, p.H, p.W};
  if (view.stride[dense] != 1 && size[dense] > 1) return 0;
  int64_t bits = static_cast<int64_t>(reinterpret_cast<uintptr_t>(view.data)) | 16;
  for (int d = 0; d < 4; ++d)
    if (d != dense && size[d] > 1) bits |= view.stride[d] * plan.element_size;
  return static_cast<int32_t>(bits & -bits);
}

void choose_unit(const ChainParams& p, Plan& plan) {
  plan.x_piece = piece_of(p, plan, p.x);
  plan.y_piece = piece_of(p, plan, p.y);
  plan.dx_piece = p.dx.data ? piece_of(p, plan, p.dx) : 0;
  if (p.stride_w > 1 && !plan.interleaved) plan.y_piece = 0;
  if (plan.interleaved || plan.element_size == 8) {
    plan.unit = plan.interleaved ? interleaved_unit(plan.element_size, plan.band, plan.backward) : 8;
  } else {
    int64_t bits = 16 | p.W * plan.element_size;
    for (int32_t piece : {plan.x_piece, plan.y_piece, plan.dx_piece}) bits |= piece;
    plan.unit = static_cast<int32_t>(std::max<int64_t>(bits & -bits, 4));
  }
  for (int32_t* piece : {&plan.x_piece, &plan.y_piece, &plan.dx_piece}) *piece = std::min(*piece, plan.unit);
  plan.lanes = lanes_of(plan.element_size, plan.interleaved);
  plan.columns = columns_of(plan.element_size, plan.interleaved, plan.unit);
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
                     plan.row_size == plan.column_size && plan.even <= 2 &&
                     tuned_for(plan.row_size, plan.element_size, plan.interleaved, plan.backward);
  plan.band = !bands ? 1 : tuned ? plan.row_size : 0;
}

// Channels of a block: of so many threads at the most, and the fewest.
struct Widths {
  int64_t widest, narrowest, granule;
};

Widths widths_of(const ChainParams& p, const Plan& plan, int64_t threads, bool narrow) {
  if (!plan.interleaved) return {threads, std::min(threads, ceil_div(kPlaneBytes, p.H * p.W * plan.element_size)), 1};
  const int64_t unit = plan.unit / plan.element_size;
  const int64_t least = narrow ? unit : std::max(unit, kSectorBytes / plan.element_size);
  return {std::max<int64_t>(kMaxWidthBytes / plan.element_size, least), least, unit};
}

// Threads, and what they keep in shared memory, for blocks of up to so many threads and channels.
void choose_block(const ChainParams& p, Plan& plan, int64_t threads, int64_t most_channels, const Widths& widths) {
  const int64_t halo = plan.column_halo = plan.even / 2 + plan.row_size / 2;
  const int64_t all = round_up(p.C, widths.granule), least = plan.interleaved ? std::min(widths.narrowest, all) : 1;
  const int64_t most_tiles = std::max<int64_t>(threads * plan.lanes / least, 1);
  plan.tiles = static_cast<int32_t>(std::min(ceil_div(p.W, plan.columns), most_tiles));
  plan.column_tile = p.W;
  plan.column_tiles = 1;
  if (int64_t{plan.tiles} * plan.columns < p.W) {
    const int64_t sides = 2 * ceil_div(halo, plan.columns), owned = std::max(plan.tiles - sides, sides / 2);
    plan.column_tiles = ceil_div(p.W, owned * plan.columns);
    plan.column_tile = round_up(ceil_div(p.W, plan.column_tiles), plan.columns);
    plan.column_tiles = ceil_div(p.W, plan.column_tile);
    plan.tiles = static_cast<int32_t>(plan.column_tile / plan.columns + sides);
  }
  const int64_t fitting = threads * plan.lanes / plan.tiles / widths.granule * widths.granule;
  const int64_t channels = std::clamp(std::min(fitting, most_channels), least, all);
  plan.channel_blocks = ceil_div(p.C, channels);
  plan.units = static_cast<int32_t>(round_up(ceil_div(p.C, plan.channel_blocks), widths.granule) / plan.lanes);
  plan.channel_blocks = ceil_div(p.C, int64_t{plan.units} * plan.lanes);
  plan.images = 1;
  if (plan.column_tiles == 1)
    plan.images = static_cast<int32_t>(std::clamp<int64_t>(
        threads / (plan.units * plan.tiles), 1, std::max<int64_t>(p.N * plan.channel_blocks / kLeastBlocks, 1)));
  plan.threads = plan.images * plan.units * plan.tiles;

  const int64_t width = plan.interleaved ? plan.units * plan.lanes : 1;  // elements of a column
  plan.zeros = static_cast<int32_t>(plan.interleaved ? plan.columns * width : kBankBytes / plan.element_size);
  plan.row = plan.band == 0 ? static_cast<int32_t>(plan.zeros + int64_t{plan.threads} * plan.unit / plan.element_size)
                            : row_bytes(plan.interleaved, plan.unit, plan.columns) / plan.element_size;
  const bool bands = plan.band != 1;
  plan.grad_rows = plan.backward ? kStepRows * 2 : 0;
  if (plan.backward && plan.band == 0)
    plan.grad_rows += static_cast<int32_t>(round_up(plan.column_size - 1, kStepRows));
  plan.rows = x_rows_of(plan.backward, plan.even) + plan.grad_rows + (plan.even && bands ? kStepRows : 0) +
              (plan.backward && bands ? kStepRows : 0);
  const int64_t rows = int64_t{plan.rows} * plan.row * plan.element_size;
  const int64_t sums = plan.backward ? int64_t{plan.gradients} * plan.threads * plan.lanes * sum_size(p) : 0;
  plan.map_bytes = plan.shared_bytes = round_up(std::max(rows, sums), 16);
  if (plan.band == 0) {
    const int64_t taps = plan.row_size + plan.column_size + 2;
    plan.shared_bytes += round_up(taps * plan.units * plan.lanes * sum_size(p), 16);
    plan.shared_bytes += plan.backward ? taps * plan.threads * plan.lanes * sum_size(p)
                                       : int64_t{plan.column_size} * plan.threads * plan.unit;
  }
}

// Bytes of partial sums as a share of x's.
double partial_share(const ChainParams& p, const Plan& plan, int64_t splits) {
  const double map_bytes = static_cast<double>(p.N) * p.H * p.W * plan.element_size;
  return static_cast<double>(splits * plan.gradients * sum_size(p)) / std::max(map_bytes, 1.0);
}

// Bands of rows and chunks of images, for blocks in number; frugal, for no more of them than the partial sums allow.
void choose_grid(const ChainParams& p, Plan& plan, bool frugal) {
  const int64_t across = plan.channel_blocks * plan.column_tiles;
  const int64_t groups = ceil_div(std::max<int64_t>(p.N, 1), plan.images);
  const auto chunks_for = [&](int64_t blocks) { return std::clamp<int64_t>(ceil_div(blocks, across), 1, groups); };
  int64_t chunks = chunks_for(kEnoughBlocks);
  if (plan.backward) {
    const auto affordable = static_cast<int64_t>(kPartialShare / partial_share(p, plan, plan.column_tiles));
    chunks = std::min(chunks, frugal ? std::max<int64_t>(affordable, 1) : chunks_for(kLeastBlocks));
  }
  plan.images_per_chunk = ceil_div(groups, chunks) * plan.images;
  plan.chunks = ceil_div(std::max<int64_t>(p.N, 1), plan.images_per_chunk);
  const int64_t halo = plan.even / 2 + plan.column_size / 2;
  const int64_t most_bands = std::max<int64_t>(p.H / std::max<int64_t>(kBandHalos * halo, kStepRows), 1);
  const int64_t blocks = across * plan.chunks;
  const int64_t wanted = std::max(ceil_div(kLeastBlocks, blocks), ceil_div(kEnoughThreads, blocks * plan.threads));
  const int64_t bands = std::clamp<int64_t>(frugal && plan.backward ? 1 : wanted, 1, most_bands);
  plan.band_rows = round_up(ceil_div(p.H, bands), p.stride_h);
  plan.bands = ceil_div(p.H, plan.band_rows);
}

// How much of a GPU a plan keeps busy with what has to be done: at most 1.
double merit_of(const ChainParams& p, const Plan& plan) {
  const double columns = static_cast<double>(plan.column_tiles) * plan.tiles * plan.columns;
  const double rows =
      plan.bands > 1 ? static_cast<double>(plan.band_rows + 2 * (plan.even / 2 + plan.column_size / 2)) / plan.band_rows
                     : 1;
  // A block that is alone on a multiprocessor is faster.
  const double busy = std::sqrt(static_cast<double>(std::min(plan.blocks(), kLeastBlocks)) / kLeastBlocks);
  const bool frugal = !plan.backward || partial_share(p, plan, plan.splits()) <= kPartialShare;
  return busy * round_up(p.W, plan.columns) / columns / rows * (frugal ? 1 : kLavish);
}

}  // namespace

Plan make_plan(const ChainParams& p, bool backward) {
  Plan plan{};
  plan.backward = backward;
  plan.interleaved = p.x.stride[1] == 1 && p.x.stride[3] != 1 && p.C > 1;
  plan.element_size = p.dtype == Dtype::float64 ? 8 : p.dtype == Dtype::float32 ? 4 : 2;
  choose_kernel(p, plan);
  choose_unit(p, plan);
  double best = -1;
  Plan chosen = plan;
  for (bool narrow : {false, true}) {
    if (narrow && !plan.interleaved) break;
    for (int64_t threads = kMaxThreads; threads >= kFewestThreads; threads /= 2) {
      const Widths widths = widths_of(p, plan, threads, narrow);
      for (int64_t channels = widths.widest; channels >= widths.narrowest; channels /= 2) {
        choose_block(p, plan, threads, channels, widths);
        if (plan.shared_bytes > kMaxSharedBytes || plan.threads > kMaxThreads) continue;
        for (bool frugal : {true, false}) {
          choose_grid(p, plan, frugal);
          const double merit = merit_of(p, plan);
          if (merit > best) chosen = plan;
          best = std::max(best, merit);
        }
      }
      if (best >= 0 && (best >= kGood || threads <= kFewThreads)) return chosen;
    }
  }
  if (best < 0) throw std::logic_error("evenconv_cuda: no block of this chain fits into shared memory");
  return chosen;
}

}  // namespace evenconv::cuda
