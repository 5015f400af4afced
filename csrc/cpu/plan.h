// How a chain is cut into tasks and steps: a pure function of its parameters, so that weight gradients are summed in an
// order that no number of threads changes.
#pragma once

#include "../params.h"

namespace evenconv {

// Up to a cache line of channels that pad in one direction.
struct Block {
  int64_t channel;
  int32_t channels;  // a power of two
  Direction direction;
};

// A task is a block of channels × a chunk of images × a band of rows; it goes through the band of one image after the
// other, some rows a step (chain.h). Every map of the chain has a window of rows in scratch, each row `pitch` pixels of
// interleaved channels. The last pitch - W pixels of a row are zeros: they pad its right and the next row's left.
struct Plan {
  int32_t line_channels;  // channels of a full block
  int64_t blocks;
  int64_t images_per_chunk, chunks;
  int64_t band_rows, bands;
  int64_t pitch;
  int64_t halo;         // rows around its band that a chain reads
  int64_t step_rows;    // of the band, that a step adds
  int64_t window_rows;  // of a map, that scratch holds
  int64_t margin;       // scratch elements before and after a window
  int64_t window_size;  // scratch elements of one window, margins included
  int64_t scratch_bytes;
  int64_t gradients;  // of one channel: every tap and bias of the chain
  int64_t tasks() const { return blocks * chunks * bands; }
};

Plan make_plan(const ChainParams& params, bool backward);

Block block_at(const ChainParams& params, const Plan& plan, int64_t index);

}  // namespace evenconv
