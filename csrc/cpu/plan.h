// How a chain is cut into tiles: a pure function of its parameters, so that weight gradients are summed in an order that
// no number of threads changes.
#pragma once

#include "../params.h"

namespace evenconv {

// Up to a cache line of channels that pad in one direction.
struct Block {
  int64_t channel;
  int32_t channels;  // a power of two
  Direction direction;
};

// A task is a block of channels × a chunk of images × a band of rows; it goes through its images a tile at a time.
// A tile's scratch buffer is rows of `pitch` pixels of interleaved channels:
//
//     halo rows | image 0: band rows, halo rows | image 1: ... | image `stacked` - 1: ...
//
// The last pitch - W pixels of a row are zeros: they pad its right and the next row's left.
struct Plan {
  int32_t line_channels;  // channels of a full block: a cache line's if x is channels_last, else 1
  int64_t blocks;
  int64_t stacked;  // images in a tile; more than one only where a tile holds the whole map
  int64_t images_per_chunk, chunks;
  int64_t band_rows, bands;
  int64_t halo, pitch;
  int64_t margin;        // scratch elements before and after each buffer
  int64_t buffer_size;   // scratch elements of one buffer, margins included
  int64_t gradients;     // of one channel: every tap and bias of the chain
  int64_t tasks() const { return blocks * chunks * bands; }
};

Plan make_plan(const ChainParams& params, bool backward);

Block block_at(const ChainParams& params, const Plan& plan, int64_t index);

}  // namespace evenconv
