// Where a thread stands, and how rows of the maps get into shared memory, to the threads and out again.
//
// The columns of a map are cut into tiles of V. A row in shared memory is, in NCHW, the tiles of all planes of the
// block one after the other, one for each thread; there is nothing between the planes, so that neighbouring threads
// never meet in a bank, and threads at the sides put zeros for what lies beyond. In channels_last it is the tiles of
// each image, with zero tiles between the images; a tile has a spare column that keeps its threads' banks apart from
// the next one's. A thread copies one unit of each row, 16 bytes where the tensor's alignment allows, asynchronously,
// and owns one: in NCHW the same, in channels_last V columns of few channels, so that both have the same arithmetic.
#pragma once

#include "plan.h"
#include "values.h"

namespace evenconv::cuda {

template <class T_, bool interleaved_, int unit_>
struct Tile {
  using T = T_;
  using S = Sum<T>;
  static constexpr bool interleaved = interleaved_;
  static constexpr int unit = unit_;
  static constexpr int U = unit / sizeof(T);
  static constexpr int Q = lanes_of(sizeof(T), interleaved);
  static constexpr int V = columns_of(sizeof(T), interleaved, unit);

  int own;          // of a row in shared memory: the element of this thread's first column and channel
  int width;        // elements there from column to column
  int tile;         // own one, of the block's
  int tiles;        // of the block
  int64_t image;    // offset from the first image of the block's group
  int64_t channel;  // first own
  int64_t column;   // first own, of the map; below 0 in the halo
  int block_lane;   // first own channel, counted from the block's first
  bool leads;       // the first thread of its channels
  bool counts;      // the columns are the block's own, not its halo
  bool edge;        // some own columns, or the halo beside them, lie beyond the map
  Steps band;       // rows of the block
  Steps images;     // images of the block

  __device__ Tile(const ChainParams& p, const Plan& plan) {
    int64_t index = blockIdx.x;
    const int64_t channels = index % plan.channel_blocks;
    index /= plan.channel_blocks;
    const int64_t column_tile = index % plan.column_tiles;
    index /= plan.column_tiles;
    band.begin = index % plan.bands * plan.band_rows;
    band.end = smaller(band.begin + plan.band_rows, p.H);
    images.begin = index / plan.bands * plan.images_per_chunk;
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
    own = interleaved ? static_cast<int>(image) * plan.slot + place((plan.margin + tile) * V) + unit_index * Q
                      : thread * V;
    block_lane = unit_index * Q;
    channel = channels * plan.units * Q + block_lane;
    const int64_t halo = plan.column_tiles > 1 ? (plan.column_halo + V - 1) / V * V : 0;
    const int64_t first = column_tile * plan.column_tile;
    column = first - halo + tile * V;
    counts = column >= first && column < first + plan.column_tile;
    edge = column < plan.column_halo || column + V + plan.column_halo > p.W;
  }

  __device__ static int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

  // Elements from the first column of a tile to another column.
  __device__ __forceinline__ int place(int distance) const {
    if constexpr (!interleaved) return distance;
    const int tiles_away = (distance < 0 ? distance - V + 1 : distance) / V;
    return (distance + tiles_away) * width;
  }

  // Columns [-kHalo, V + kHalo) around the own ones, of a row in shared memory.
  template <int kHalo>
  __device__ __forceinline__ void window(const T* row, S (&to)[V + 2 * kHalo][Q]) const {
    if constexpr (interleaved) {
#pragma unroll
      for (int v = -kHalo; v < V + kHalo; ++v) widen(load<Pack<T, Q>>(row + own + place(v)), to[v + kHalo]);
    } else {
      constexpr int sides = (kHalo + V - 1) / V;
#pragma unroll
      for (int s = -sides; s <= sides; ++s) {
        S part[V][Q];
        neighbour(row, s, part);
#pragma unroll
        for (int v = 0; v < V; ++v)
          if (s * V + v >= -kHalo && s * V + v < V + kHalo) to[s * V + v + kHalo][0] = part[v][0];
      }
    }
  }

  // The columns of the tile that is so many tiles away; zeros beyond those of the row.
  __device__ __forceinline__ void neighbour(const T* row, int away, S (*to)[Q]) const {
    if constexpr (interleaved) {
#pragma unroll
      for (int v = 0; v < V; ++v) widen(load<Pack<T, Q>>(row + own + away * place(V) + v * width), to[v]);
    } else {
      Pack<T, V> part{};
      if (tile + away >= 0 && tile + away < tiles) part = load<Pack<T, V>>(row + own + away * V);
      widen(part, to[0]);
    }
  }

  __device__ __forceinline__ void write(T* row, const S (&from)[V][Q]) const {
    if constexpr (interleaved) {
#pragma unroll
      for (int v = 0; v < V; ++v) store(row + own + v * width, narrow<T, Q>(from[v]));
    } else {
      store(row + own, narrow<T, V>(&from[0][0]));
    }
  }

  // Zeros where the columns, of which the first is `distance` from the first own, lie beyond the map.
  template <int n>
  __device__ __forceinline__ void clip(S (&values)[n][Q], int distance, int64_t W) const {
    if (!edge) return;
#pragma unroll
    for (int v = 0; v < n; ++v)
      if (column + distance + v < 0 || column + distance + v >= W)
        for (int q = 0; q < Q; ++q) values[v][q] = 0;
  }
};

// The unit of each row that a thread copies from a tensor to shared memory.
template <class Tile>
class Source {
  using T = typename Tile::T;
  static constexpr int U = Tile::U;

 public:
  // The map of p has the tensor's rows and columns stride apart, with zeros between them.
  __device__ Source(const ChainParams& p, const Plan& plan, const View& view, int piece, const Tile& tile, int stride_h,
                    int stride_w)
      : view_(view), piece_(piece), skip_h_(stride_h - 1), skip_w_(stride_w - 1), H_(p.H), W_(p.W) {
    channel_ = tile.channel;
    column_ = tile.column;
    to_ = tile.own;
    images_ = tile.images;
    image_ = tile.image;
    int64_t count = Tile::smaller(W_ - column_, U);
    if constexpr (Tile::interleaved) {
      const int parts = plan.units * Tile::Q / U;
      const int part = threadIdx.x % parts, index = threadIdx.x / parts;
      const int column = index % (plan.tiles * Tile::V);
      channel_ = tile.channel - tile.block_lane + part * U;
      column_ = tile.column - tile.tile * Tile::V + column;
      image_ = index / (plan.tiles * Tile::V);
      to_ = static_cast<int>(image_) * plan.slot + tile.place(plan.margin * Tile::V + column) + part * U;
      count = column_ < W_ && (column_ & skip_w_) == 0 ? Tile::smaller(p.C - channel_, U) : 0;
    } else if (channel_ >= p.C) {
      count = 0;
    }
    count_ = column_ < 0 || count < 0 ? 0 : static_cast<int>(count);
    from_ = static_cast<const T*>(view.data);
    if (count_ > 0) from_ += channel_ * view.stride[1] + (column_ >> skip_w_) * view.stride[3];
  }

  // Starts the copy of a row; zeros, where there is none.
  __device__ __forceinline__ void fetch(int64_t group, int64_t h, T* row) const {
    const int64_t n = group + image_;
    const bool there = n < images_.end && h >= 0 && h < H_ && (h & skip_h_) == 0;
    const int count = there ? count_ : 0;
    const T* from = count > 0 ? from_ + n * view_.stride[0] + (h >> skip_h_) * view_.stride[2] : from_;
    switch (piece_) {
      case 16: return pieces<16>(from, count, row + to_);
      case 8: return pieces<8>(from, count, row + to_);
      case 4: return pieces<4>(from, count, row + to_);
      default: return elements(from, count, row + to_);
    }
  }

 private:
  template <int bytes>
  __device__ __forceinline__ static void pieces(const T* from, int count, T* to) {
    if constexpr (bytes <= Tile::unit && bytes >= sizeof(T)) {
      constexpr int n = bytes / sizeof(T);
#pragma unroll
      for (int i = 0; i < U; i += n) {
        const int valid = count - i < 0 ? 0 : count - i > n ? n : count - i;
        __pipeline_memcpy_async(to + i, valid ? from + i : from, bytes, bytes - valid * sizeof(T));
      }
    }
  }

  __device__ __forceinline__ void elements(const T* from, int count, T* to) const {
    const int64_t apart = view_.stride[Tile::interleaved ? 1 : 3];
#pragma unroll
    for (int i = 0; i < U; ++i) {
      Pack<T, 1> element{};
      if constexpr (Tile::interleaved) {
        if (i < count) element = load<Pack<T, 1>>(from + i * apart);
      } else {
        if (i < count && ((column_ + i) & skip_w_) == 0)
          element = load<Pack<T, 1>>(from + (((column_ + i) >> skip_w_) - (column_ >> skip_w_)) * apart);
      }
      store(to + i, element);
    }
  }

  const View& view_;
  const T* from_;
  int piece_;
  int skip_h_, skip_w_;  // a stride of 1 or 2 as a shift and a mask
  int64_t H_, W_, channel_, column_, image_;
  Steps images_;
  int to_, count_;
};

// The unit of each row that a thread writes to a tensor, of which it keeps every stride-th row and column.
template <class Tile>
class Target {
  using T = typename Tile::T;
  using S = typename Tile::S;
  static constexpr int V = Tile::V, Q = Tile::Q;

 public:
  __device__ Target(const ChainParams& p, const View& view, int piece, const Tile& tile, int stride_h, int stride_w)
      : view_(view), tile_(tile), piece_(piece), skip_h_(stride_h - 1), skip_w_(stride_w - 1), W_(p.W) {
    lanes_ = static_cast<int>(Tile::smaller(p.C - tile.channel, Q));
    if (!tile.counts) lanes_ = 0;
    to_ = static_cast<T*>(view.data);
    if (lanes_ > 0) to_ += tile.channel * view.stride[1];
    whole_ = stride_w == 1 && tile.column + V <= W_ && lanes_ == Q;
  }

  __device__ __forceinline__ void put(int64_t group, int64_t h, const S (&values)[V][Q]) const {
    const int64_t n = group + tile_.image;
    if (lanes_ <= 0 || n >= tile_.images.end || (h & skip_h_)) return;
    T* to = to_ + n * view_.stride[0] + (h >> skip_h_) * view_.stride[2];
    if constexpr (Tile::interleaved) {
      const bool together = lanes_ == Q && piece_ >= static_cast<int>(Q * sizeof(T));
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const int64_t w = tile_.column + v;
        if (w >= W_ || (w & skip_w_)) continue;
        T* pixel = to + (w >> skip_w_) * view_.stride[3];
        if (together)
          store(pixel, narrow<T, Q>(values[v]));
        else
          for (int q = 0; q < lanes_; ++q) store(pixel + q * view_.stride[1], narrow<T, 1>(values[v] + q));
      }
    } else {
      T* row = to + (tile_.column >> skip_w_) * view_.stride[3];
      if (whole_ && piece_ == Tile::unit) return store(row, narrow<T, V>(&values[0][0]));
      if (whole_ && piece_ >= 8) return pieces<8>(row, values);
      if (whole_ && piece_ >= 4) return pieces<4>(row, values);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const int64_t w = tile_.column + v;
        if (w < W_ && (w & skip_w_) == 0) store(to + (w >> skip_w_) * view_.stride[3], narrow<T, 1>(values[v]));
      }
    }
  }

 private:
  template <int bytes>
  __device__ __forceinline__ static void pieces(T* to, const S (&values)[V][Q]) {
    if constexpr (bytes >= sizeof(T) && bytes <= Tile::unit) {
      constexpr int n = bytes / sizeof(T);
#pragma unroll
      for (int v = 0; v < V; v += n) store(to + v, narrow<T, n>(&values[v][0]));
    }
  }

  const View& view_;
  const Tile& tile_;
  T* to_;
  int piece_, skip_h_, skip_w_, lanes_;
  bool whole_;
  int64_t W_;
};

}  // namespace evenconv::cuda
