// How a chain is cut into blocks and threads: a pure function of its parameters, which launchers, tests and benchmarks
// share.
#pragma once

#include "../params.h"

namespace evenconv::cuda {

// A step of a kernel goes down so many rows of the map between its barriers.
constexpr int kStepRows = 4;

// Rows of x in shared memory: those of a step and of the next; backward, the even pass's gradient needs x again later.
constexpr int x_rows_of(bool backward, int even) { return kStepRows * (backward && even ? 3 : 2); }

// Sizes of a row and a column pass that live in registers; others go through shared memory.
constexpr int kBands[] = {3, 5, 7, 9, 11};
constexpr bool tuned_for(int band, int element_size, bool interleaved, bool backward) {
  const bool crowded = interleaved && element_size == 2 && backward;  // the longest does not fit there
  return element_size < 8 && !(crowded && band > 9);
}

// Shared memory's banks lie side by side in so many bytes.
constexpr int kBankBytes = 128;

// A thread owns neighbouring columns of neighbouring channels (lanes): together a unit. In NCHW that is 16, 8 or 4
// bytes, as the rows' alignment allows. In channels_last ("interleaved"), where half types take pairs of channels, it
// is 16, or less where that would not fit into the registers or the shared memory.
constexpr int interleaved_unit(int element_size, int band, bool backward) {
  return element_size == 8 || (backward && (band == 0 || (element_size == 2 && band > 7))) ? 8 : 16;
}
constexpr int lanes_of(int element_size, bool interleaved) { return interleaved && element_size == 2 ? 2 : 1; }
constexpr int columns_of(int element_size, bool interleaved, int unit) {
  return unit / element_size / lanes_of(element_size, interleaved);
}
constexpr int kMaxThreads = 128;

// Of the largest blocks, that a multiprocessor has registers for.
constexpr int blocks_at_least(bool interleaved, bool backward, int band) {
  return !backward && band > 0 && band <= (interleaved ? 5 : 7) ? 3 : 2;
}

// Bytes of a row in shared memory, zeros included, of the kernels with a tuned K (any other: as many as it needs).
constexpr int kMaxWidthBytes = 64;  // of a channels_last column
constexpr int row_bytes(bool interleaved, int unit, int columns) {
  return kMaxThreads * unit + (interleaved ? columns * kMaxWidthBytes : kBankBytes);
}

// A block is images × units × tiles threads: so many images at once, of units × lanes channels and tiles × columns
// columns. It goes down a band of rows of one group of images after the other (chain_forward.h).
struct Plan {
  bool interleaved, backward;
  bool sums;  // backward: whether a weight's or a bias's gradient is wanted
  int32_t element_size;
  int32_t even;                                 // the even kernel's k, 0 for none
  int32_t band;                                 // K of the row and column pass, 1 for none, 0 for any sizes
  int32_t even_stage, row_stage, column_stage;  // places in ChainParams, -1 for none
  int32_t row_size, column_size;                // 1 for none
  int32_t gradients;                            // taps and biases of one channel
  int32_t unit, columns, lanes;                 // of a thread: bytes, and how they are shared out
  int32_t images, units, tiles, threads;        // of a block
  int32_t zeros, row;                           // elements of a row in shared memory: of its zeros, of all
  int32_t grad_rows, rows;                      // rows there of the result's gradient, of all maps
  int64_t map_bytes, shared_bytes;    // of shared memory: these rows, or the sums that come in their place; all of it
  int32_t column_halo;                // columns on each side of a block's own that it computes too
  int64_t column_tile, column_tiles;  // columns that a block owns, blocks side by side
  int64_t band_rows, bands;           // rows that a block owns, blocks below each other
  int64_t images_per_chunk, chunks;   // images that a block goes through
  int64_t channel_blocks;
  int32_t x_piece, y_piece, dx_piece;  // bytes of the widest aligned piece of a unit of x, y (its gradient), dx; or 0

  int64_t blocks() const { return channel_blocks * column_tiles * bands * chunks; }
  int64_t splits() const { return column_tiles * bands * chunks; }  // partial sums of one channel's gradients
};

Plan make_plan(const ChainParams& params, bool backward);

// A kernel goes from step to step, each of which computes row t of the maps between the passes. Its even pass then has
// x down to row t + even / 2, its column pass the result's gradient down to t + column_size / 2.
struct Steps {
  int64_t begin, end;
};

constexpr int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }

// The steps that the rows [begin, end) of the result (of dx, backward) need.
constexpr Steps steps_of(const Plan& plan, int64_t begin, int64_t end) {
  const int64_t half_even = plan.even / 2, half_column = plan.column_size / 2;
  const int64_t first = later(begin - (plan.backward ? half_even : half_column), 0);
  const int64_t with_x = later(first - half_even, 0) - half_even;
  // Registers are zero above the map, shared memory is not.
  const int64_t top = plan.band == 0 ? first - half_column : later(first - half_column, 0);
  const int64_t with_grad = plan.backward ? top - half_column : first;
  return {with_x < with_grad ? with_x : with_grad, end + (plan.backward ? half_even : half_column)};
}

}  // namespace evenconv::cuda
