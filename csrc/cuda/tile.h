// Where a thread stands, and how rows of the maps lie in shared memory.
//
// The columns of a map are cut into tiles of V. A row in shared memory is zeros, then the tiles of all planes (NCHW) or
// images (channels_last) of the block one after the other; a thread at the side of its map reads zeros in place of the
// tile that is not there. In NCHW every thread has a tile, one unit of bytes. In channels_last a tile's columns each
// are the block's channels; a tile begins with another column than the one before it, so that threads of neighbouring
// tiles meet in no bank. A thread copies one unit (plan.h) of each row and owns one: in NCHW the same, in channels_last
// V columns of few channels, so that both have the same arithmetic.
#pragma once

#include "plan.h"
#include "values.h"

namespace evenconv::cuda {

// kSides: tiles on each side whose place is kept at hand.
template <class T_, bool interleaved_, int unit_, int kSides>
struct Tile {
  using T = T_;
  using S = Sum<T>;
  static constexpr bool interleaved = interleaved_;
  static constexpr int unit = unit_;
  static constexpr int U = unit / sizeof(T);
  static constexpr int Q = lanes_of(sizeof(T), interleaved);
  static constexpr int V = columns_of(sizeof(T), interleaved, unit);

  int own;                 // of a row in shared memory: this thread's tile, at its first channel
  int width;               // elements there from column to column
  int index;               // of the tile, of all in a row
  int tile, tiles;         // of the tile, of those side by side in a map; their number
  int image;               // offset from the first image of the block's group
  int64_t channel;         // first own
  int column;              // first own, of the map; below 0 in the halo
  int block_lane;          // first own channel, counted from the block's first
  bool leads;              // the first thread of its channels
  bool counts;             // the columns are the block's own, not its halo
  int inside;              // own columns before the first that lies beyond the map
  int first_row, end_row;  // of the block
  Steps images;            // images of the block

  __device__ Tile(const ChainParams& p, const Plan& plan) {
    int64_t block = blockIdx.x;
    const int64_t channels = block % plan.channel_blocks;
    block /= plan.channel_blocks;
    const int64_t column_tile = block % plan.column_tiles;
    block /= plan.column_tiles;
    first_row = static_cast<int>(block % plan.bands * plan.band_rows);
    end_row = static_cast<int>(smaller(first_row + plan.band_rows, p.H));
    images.begin = block / plan.bands * plan.images_per_chunk;
    images.end = smaller(images.begin + plan.images_per_chunk, p.N);

    const int thread = threadIdx.x;
    int unit_index;
    if constexpr (interleaved) {
      unit_index = thread % plan.units;
      tile = thread / plan.units % plan.tiles;
    } else {
      tile = thread % plan.tiles;
      unit_index = thread / plan.tiles % plan.units;
    }
    tiles = plan.tiles;
    image = thread / (plan.units * plan.tiles);
    leads = tile == 0 && image == 0;
    width = interleaved ? plan.units * Q : 1;
    index = interleaved ? image * tiles + tile : thread;
    own = plan.zeros + index * V * width + (interleaved ? unit_index * Q : 0);
    block_lane = unit_index * Q;
    channel = channels * plan.units * Q + block_lane;
    const int halo = plan.column_tiles > 1 ? (plan.column_halo + V - 1) / V * V : 0;
    const int first = static_cast<int>(column_tile * plan.column_tile);
    column = first - halo + tile * V;
    counts = column >= first && column < first + plan.column_tile;
    inside = V;
    outside = 0;
    for (int v = V + kMaxHalo - 1; v >= -kMaxHalo; --v) {
      if (column + v >= 0 && column + v < p.W) continue;
      outside |= 1u << (v + kMaxHalo);
      if (v >= 0) inside = v;
    }
#pragma unroll
    for (int v = 0; v < V; ++v) hold(at[v] = place(v) * static_cast<int>(sizeof(T)));
#pragma unroll
    for (int s = -kSides; s <= kSides; ++s) hold(beside[s + kSides] = neighbour(s) * static_cast<int>(sizeof(T)));
  }

  __device__ static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

  // Where in a tile, `away` tiles from the own one, its column v lies.
  __device__ __forceinline__ int place(int v, int away = 0) const {
    return interleaved ? ((v + index + away) & (V - 1)) * width : v;
  }

  // The tile so many away; zeros beyond the map, in the banks of the tile that would be there.
  __device__ __forceinline__ int neighbour(int away) const {
    if (away == 0 || (tile + away >= 0 && tile + away < tiles)) return own + away * V * width;
    return interleaved ? block_lane : ((index + away) & (kBankBytes / unit - 1)) * V;
  }

  __device__ __forceinline__ void read(const T* from, int away, S (*to)[Q]) const {
    if constexpr (interleaved) {
#pragma unroll
      for (int v = 0; v < V; ++v) widen(load<Pack<T, Q>>(from + place(v, away)), to[v]);
    } else {
      widen(load<Pack<T, V>>(from), to[0]);
    }
  }

  // Columns [-kHalo, V + kHalo) around the own ones, of a row in shared memory.
  template <int kHalo>
  __device__ __forceinline__ void window(const T* row, S (&to)[V + 2 * kHalo][Q]) const {
    constexpr int sides = (kHalo + V - 1) / V;
#pragma unroll
    for (int s = -sides; s <= sides; ++s) {
      const T* const from = advance(row, beside[s + kSides]);
      if constexpr (interleaved) {
#pragma unroll
        for (int v = 0; v < V; ++v)
          if (s * V + v >= -kHalo && s * V + v < V + kHalo)
            widen(load<Pack<T, Q>>(advance(from, at[(v + s) & (V - 1)])), to[s * V + v + kHalo]);
      } else {
        S part[V][Q];
        read(from, s, part);
#pragma unroll
        for (int v = 0; v < V; ++v)
          if (s * V + v >= -kHalo && s * V + v < V + kHalo) to[s * V + v + kHalo][0] = part[v][0];
      }
    }
  }

  __device__ __forceinline__ void write(T* row, const S (&from)[V][Q]) const {
    T* const to = advance(row, beside[kSides]);
    if constexpr (interleaved) {
#pragma unroll
      for (int v = 0; v < V; ++v) store(advance(to, at[v]), narrow<T, Q>(from[v]));
    } else {
      store(to, narrow<T, V>(&from[0][0]));
    }
  }

  // Zeros where own columns of the rows of a step in shared memory lie beyond the map.
  __device__ __forceinline__ void clip(T* rows, int pitch) const {
    if (inside == V) return;
#pragma unroll 1
    for (int r = 0; r < kStepRows; ++r)
#pragma unroll 1
      for (int v = inside; v < V; ++v) store(rows + r * pitch + own + place(v), Pack<T, Q>{});
  }

  // Zeros where columns [-kHalo, V + kHalo) lie beyond the map.
  template <int kHalo>
  __device__ __forceinline__ void clip(S (&values)[V + 2 * kHalo][Q]) const {
    if (outside == 0) return;
    stay_behind_branch();
#pragma unroll
    for (int v = 0; v < V + 2 * kHalo; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q)
        if (outside >> (v - kHalo + kMaxHalo) & 1) values[v][q] = 0;
  }

 private:
  static constexpr int kMaxHalo = 2;
  int beside[2 * kSides + 1];  // bytes to the neighbouring tiles of a row, the own one in the middle
  int at[V];                   // and to the own tile's columns
  unsigned outside;            // a bit for each column from -kMaxHalo on that lies beyond the map
};

}  // namespace evenconv::cuda
