// Rows of tensors on their way to shared memory, and from the threads out to tensors.
#pragma once

#include "tile.h"

namespace evenconv::cuda {

// Bytes of the pieces that these elements can be moved in, of at most the piece that the tensor's alignment allows.
__device__ inline int fitting_piece(int piece, int count, int element_size) {
  while (piece > element_size && count * element_size % piece) piece /= 2;
  return piece;
}

// What a thread copies from a tensor to shared memory: a unit of each row. The map has the tensor's rows and columns
// stride apart, with zeros between them.
template <class Tile>
class Source {
  using T = typename Tile::T;
  static constexpr int U = Tile::U;

 public:
  __device__ Source(const ChainParams& p, const Plan& plan, const View& view, int piece, const Tile& tile, int stride_h,
                    int stride_w)
      : view_(view),
        last_image_(tile.images.end),
        H_(static_cast<int>(p.H)),
        skip_h_(stride_h - 1),
        skip_w_(stride_w - 1),
        to_(tile.own),
        image_(tile.image),
        column_(tile.column) {
    int64_t channel = tile.channel;
    if constexpr (Tile::interleaved) {
      const int parts = plan.units * Tile::Q / U, columns = plan.tiles * Tile::V;
      const int part = threadIdx.x % parts, column = threadIdx.x / parts % columns;
      channel += part * U - tile.block_lane;
      column_ += column - tile.tile * Tile::V;
      image_ = threadIdx.x / parts / columns;
      const int to_tile = threadIdx.x / parts / Tile::V, away = to_tile - tile.index;
      to_ = plan.zeros + to_tile * Tile::V * tile.width + tile.place(column % Tile::V, away) + part * U;
    }
    bool there = column_ >= 0 && column_ < p.W && channel < p.C;
    if (Tile::interleaved && (column_ & skip_w_)) there = false;
    const int64_t left = Tile::interleaved ? p.C - channel : p.W - column_;
    count_ = !there ? 0 : left < U ? static_cast<int>(left) : U;
    piece_ = fitting_piece(piece, count_, sizeof(T));
    base_ = from_ = next_ = static_cast<const T*>(view.data);
    if (there) base_ += channel * view.stride[1] + (column_ >> skip_w_) * view.stride[3];
  }

  // To the images from `group` on, where row `first` is the next one.
  __device__ __forceinline__ void enter(int64_t group, int first) {
    const bool there = group + image_ < last_image_;
    now_ = there ? count_ : 0;
    rows_ = now_ ? H_ : 0;
    if (there) from_ = base_ + (group + image_) * view_.stride[0];
    next_ = from_ + first * view_.stride[2];
  }

  // Starts the copies of the next kStepRows rows, of which the first is `first`, to rows `pitch` apart; zeros, where
  // there is none.
  __device__ __forceinline__ void fetch(int first, T* to, int pitch) {
    to += to_;
    if (piece_ == Tile::unit && !skip_h_) {
#pragma unroll
      for (int r = 0; r < kStepRows; ++r, next_ += view_.stride[2])
        if (static_cast<unsigned>(first + r) < rows_)
          __pipeline_memcpy_async(to + r * pitch, next_, Tile::unit);
        else
          store(to + r * pitch, Pack<T, U>{});
    } else {
#pragma unroll 1
      for (int r = 0; r < kStepRows; ++r) {
        const int h = first + r;
        const bool there = h >= 0 && h < H_ && !(h & skip_h_);
        copy(from_ + (there ? (h >> skip_h_) * view_.stride[2] : 0), there ? now_ : 0, to + r * pitch);
      }
    }
  }

 private:
  // A unit of memory that is not as regular.
  __device__ __forceinline__ void copy(const T* from, int count, T* to) const {
    if (piece_ >= 8) return pieces<8>(from, count, to);
    if (piece_ == 4) return pieces<4>(from, count, to);
    const int64_t apart = view_.stride[Tile::interleaved ? 1 : 3];
    const int skip = Tile::interleaved ? 0 : skip_w_;
#pragma unroll 1
    for (int i = 0; i < U; ++i) {
      Pack<T, 1> element{};
      if (i < count && !((column_ + i) & skip))
        element = load<Pack<T, 1>>(from + (((column_ + i) >> skip) - (column_ >> skip)) * apart);
      store(to + i, element);
    }
  }

  template <int bytes>
  __device__ __forceinline__ static void pieces(const T* from, int count, T* to) {
    if constexpr (bytes >= sizeof(T) && bytes <= Tile::unit) {
      constexpr int n = bytes / sizeof(T);
#pragma unroll
      for (int i = 0; i < U; i += n)
        if (i < count)
          __pipeline_memcpy_async(to + i, from + i, bytes);
        else
          store(to + i, Pack<T, n>{});
    }
  }

  const View& view_;
  const T *base_, *from_, *next_;  // the unit in the first row of the first image; of the image; in the next row
  int64_t last_image_;
  int H_, skip_h_, skip_w_;  // strides of 1 or 2 as a shift and a mask
  int to_, image_, column_;
  int count_, now_ = 0;  // elements of the tensor in a unit; in one of the image
  unsigned rows_ = 0;    // of the image
  int piece_;
};

// What a thread writes to a tensor: its columns of each row, of which the tensor keeps those stride apart.
template <class Tile>
class Target {
  using T = typename Tile::T;
  using S = typename Tile::S;
  static constexpr int V = Tile::V, Q = Tile::Q;

 public:
  __device__ Target(const ChainParams& p, const View& view, int piece, const Tile& tile, int stride_h, int stride_w)
      : view_(view),
        last_image_(tile.images.end),
        skip_h_(stride_h - 1),
        skip_w_(stride_w - 1),
        image_(tile.image),
        column_(tile.column),
        lanes_(Q) {
    const bool there = tile.counts && tile.channel < p.C && column_ < p.W;
    columns_ = !there ? 0 : p.W - column_ < V ? static_cast<int>(p.W - column_) : V;
    while (lanes_ > 1 && p.C - tile.channel < lanes_) --lanes_;
    piece_ = fitting_piece(piece, Tile::interleaved ? lanes_ : columns_, sizeof(T));
    direct_ = !skip_w_ && piece_ >= static_cast<int>((Tile::interleaved ? Q : V) * sizeof(T));
    base_ = next_ = static_cast<T*>(view.data);
    if (there) base_ += tile.channel * view.stride[1] + (column_ >> skip_w_) * view.stride[3];
  }

  // To the images from `group` on, where row `first` is the next one.
  __device__ __forceinline__ void enter(int64_t group, int first) {
    now_ = group + image_ < last_image_ ? columns_ : 0;
    if (now_) next_ = base_ + (group + image_) * view_.stride[0] + (first >> skip_h_) * view_.stride[2];
  }

  // The next row, which is row h of the map.
  __device__ __forceinline__ void put(int h, const S (&values)[V][Q]) {
    if (h & skip_h_) return;
    T* to = next_;
    next_ += view_.stride[2];
    if (!direct_) return scatter(to, values);
    if constexpr (Tile::interleaved) {
#pragma unroll
      for (int v = 0; v < V; ++v, to += view_.stride[3])
        if (v < now_) store(to, narrow<T, Q>(values[v]));
    } else if (now_) {
      store(to, narrow<T, V>(&values[0][0]));
    }
  }

 private:
  __device__ __forceinline__ void scatter(T* to, const S (&values)[V][Q]) const {
    if constexpr (!Tile::interleaved) {
      if (piece_ >= 8 && !skip_w_) return pieces<8>(to, values);
      if (piece_ >= 4 && !skip_w_) return pieces<4>(to, values);
    }
#pragma unroll
    for (int v = 0; v < V; ++v)
#pragma unroll
      for (int q = 0; q < Q; ++q)
        if (v < now_ && q < lanes_ && !((column_ + v) & skip_w_))
          store(to + (((column_ + v) >> skip_w_) - (column_ >> skip_w_)) * view_.stride[3] + q * view_.stride[1],
                narrow<T, 1>(values[v] + q));
  }

  template <int bytes>
  __device__ __forceinline__ void pieces(T* to, const S (&values)[V][Q]) const {
    if constexpr (bytes >= sizeof(T) && bytes <= Tile::unit) {
      constexpr int n = bytes / sizeof(T);
#pragma unroll
      for (int v = 0; v < V; v += n)
        if (v < now_) store(to + v, narrow<T, n>(&values[v][0]));
    }
  }

  const View& view_;
  T *base_, *next_;  // the columns in the first row of the first image; in the next row
  int64_t last_image_;
  int skip_h_, skip_w_, image_, column_, lanes_;
  int columns_, now_ = 0;  // of the tensor; in this image
  int piece_;
  bool direct_;  // by accesses as wide as the unit of a row in shared memory
};

}  // namespace evenconv::cuda
