// A tile: one block of channels of some rows of some images, in scratch buffers laid out as plan.h says, and its way in
// from a tensor of any strides and out again.
#pragma once

#include "../params.h"
#include "plan.h"
#include "simd.h"

namespace evenconv::EVENCONV_ISA {

struct Rows {
  int64_t begin, end;
};

template <class T>
struct Tile {
  const Plan& plan;
  Block block;
  int64_t H, W;
  int64_t image, images;  // first image and count
  Rows band;

  int64_t image_rows() const { return plan.band_rows + plan.halo; }
  int64_t row_size() const { return int64_t{plan.pitch} * block.channels; }
  int64_t index(int64_t n, int64_t h) const { return (n * image_rows() + h - band.begin + plan.halo) * row_size(); }

  // The band and `reach` rows above and below it, as far as the map goes.
  Rows around_band(int64_t reach) const {
    const int64_t begin = band.begin - reach, end = band.end + reach;
    return {begin < 0 ? 0 : begin, end > H ? H : end};
  }

  // The flat range of these rows of all images of the tile, without the last row's padding.
  int64_t first(Rows rows) const { return index(0, rows.begin); }
  int64_t length(Rows rows) const {
    return index(images - 1, rows.end) - index(0, rows.begin) - (plan.pitch - W) * block.channels;
  }

  // Writes the zeros around freshly written rows: between the rows, and above and below where the map ends.
  void seal(T* buffer, Rows rows) const {
    const int64_t S = block.channels, gap = (plan.pitch - W) * S;
    for (int64_t n = 0; n < images; ++n) {
      if (rows.begin == 0)
        zero(buffer + index(n, band.begin - plan.halo), (plan.halo - band.begin) * row_size());
      else if (gap)
        zero(buffer + index(n, rows.begin) - gap, gap);
      if (gap)
        for (int64_t h = rows.begin; h < rows.end; ++h) zero(buffer + index(n, h) + W * S, gap);
      if (rows.end == H) zero(buffer + index(n, H), (band.end + plan.halo - H) * row_size());
    }
    if (rows.begin == 0) zero(buffer + index(0, band.begin - plan.halo) - gap, gap);
  }
};

// Channels side by side in the tensor as in the tile.
template <int C, class T, class Storage>
void load_interleaved(T* to, int64_t step, const Storage* from, int64_t stride, int64_t pixels) {
  for (; pixels > 0; --pixels, to += step * C, from += stride) widen_run(to, from, C);
}
template <int C, class T, class Storage>
void store_interleaved(Storage* to, int64_t stride, const T* from, int64_t step, int64_t pixels) {
  for (; pixels > 0; --pixels, from += step * C, to += stride) narrow_run(to, from, C);
}

// Pixels side by side in the tensor, channels in the tile: squares are transposed in registers. A load goes up the
// pixels, as its whole vectors reach into the next ones; what it leaves behind the last is for seal() to clear.
template <int C, class T, class Storage>
void load_planar(T* to, const Storage* from, int64_t stride, int64_t pixels) {
  constexpr int V = Simd<T>::size, rows = C < V ? C : V;
  for (int64_t w = 0; w < pixels; w += V, to += V * C, from += V) {
    const int count = pixels - w < V ? static_cast<int>(pixels - w) : V;
    for (int c = 0; c < C; c += V) {
      Vec<T> square[V] = {};
      if (count == V)
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) square[r] = widen_vector<T>(from + (c + r) * stride);
      else
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) square[r] = widen_vector<T>(from + (c + r) * stride, count);
      transpose<T>(square);
      if (count == V)
#pragma GCC unroll 16
        for (int r = 0; r < V; ++r) store(to + r * C + c, square[r]);
      else
        for (int r = 0; r < count; ++r) store(to + r * C + c, square[r]);
    }
  }
}
template <int C, class T, class Storage>
void store_planar(Storage* to, int64_t stride, const T* from, int64_t pixels) {
  constexpr int V = Simd<T>::size, rows = C < V ? C : V;
  for (int64_t w = 0; w < pixels; w += V, to += V, from += V * C) {
    const int count = pixels - w < V ? static_cast<int>(pixels - w) : V;
    for (int c = 0; c < C; c += V) {
      Vec<T> square[V];  // of a narrow row's end the tile's next elements are taken along, and left out below
#pragma GCC unroll 16
      for (int r = 0; r < V; ++r) square[r] = load(from + r * C + c);
      transpose<T>(square);
      if (count == V)
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) narrow_vector<T>(to + (c + r) * stride, square[r]);
      else
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) narrow_vector<T>(to + (c + r) * stride, square[r], count);
    }
  }
}

// A row of `pixels` pixels, `step` pixels of the tile apart, between tile and tensor. stride[1] and stride[3] are the
// tensor's.
template <class T, class Storage>
void load_row(T* to, int64_t step, const Storage* from, const int64_t* stride, int channels, int64_t pixels) {
  if (stride[3] == 1 && step == 1) {
    switch (channels) {
      case 1: return widen_run(to, from, pixels);
      case 2: return load_planar<2>(to, from, stride[1], pixels);
      case 4: return load_planar<4>(to, from, stride[1], pixels);
      case 8: return load_planar<8>(to, from, stride[1], pixels);
      case 16: return load_planar<16>(to, from, stride[1], pixels);
    }
  }
  if (stride[1] == 1) {
    switch (channels) {
      case 2: return load_interleaved<2>(to, step, from, stride[3], pixels);
      case 4: return load_interleaved<4>(to, step, from, stride[3], pixels);
      case 8: return load_interleaved<8>(to, step, from, stride[3], pixels);
      case 16: return load_interleaved<16>(to, step, from, stride[3], pixels);
    }
  }
  for (int64_t w = 0; w < pixels; ++w)
    for (int c = 0; c < channels; ++c) widen(to[w * step * channels + c], from[w * stride[3] + c * stride[1]]);
}

template <class T, class Storage>
void store_row(Storage* to, const int64_t* stride, const T* from, int64_t step, int channels, int64_t pixels) {
  if (stride[3] == 1 && step == 1) {
    switch (channels) {
      case 1: return narrow_run(to, from, pixels);
      case 2: return store_planar<2>(to, stride[1], from, pixels);
      case 4: return store_planar<4>(to, stride[1], from, pixels);
      case 8: return store_planar<8>(to, stride[1], from, pixels);
      case 16: return store_planar<16>(to, stride[1], from, pixels);
    }
  }
  if (stride[1] == 1) {
    switch (channels) {
      case 2: return store_interleaved<2>(to, stride[3], from, step, pixels);
      case 4: return store_interleaved<4>(to, stride[3], from, step, pixels);
      case 8: return store_interleaved<8>(to, stride[3], from, step, pixels);
      case 16: return store_interleaved<16>(to, stride[3], from, step, pixels);
    }
  }
  for (int64_t w = 0; w < pixels; ++w)
    for (int c = 0; c < channels; ++c) narrow(to[w * stride[3] + c * stride[1]], from[w * step * channels + c]);
}

template <class Storage>
Storage* row_of(const View& view, int64_t n, int64_t c, int64_t h) {
  return static_cast<Storage*>(view.data) + n * view.stride[0] + c * view.stride[1] + h * view.stride[2];
}

// The tensor's rows into the tile; with a stride, every stride-th pixel is the tensor's and the others are zero (what the
// gradient of a strided result is). Zeros around them included.
template <class Storage, class T>
void load_tile(const Tile<T>& tile, T* buffer, Rows rows, const View& view, int32_t stride_h, int32_t stride_w) {
  const int32_t S = tile.block.channels;
  const int64_t pixels = (tile.W + stride_w - 1) / stride_w;
  for (int64_t n = 0; n < tile.images; ++n) {
    for (int64_t h = rows.begin; h < rows.end; ++h) {
      T* row = buffer + tile.index(n, h);
      if (stride_w > 1 || h % stride_h) zero(row, tile.W * S);
      if (h % stride_h) continue;
      const Storage* from = row_of<Storage>(view, tile.image + n, tile.block.channel, h / stride_h);
      load_row(row, stride_w, from, view.stride, S, pixels);
    }
  }
  tile.seal(buffer, rows);
}

// The band's rows out of the tile; with a stride, every stride-th pixel.
template <class Storage, class T>
void store_tile(const Tile<T>& tile, const T* buffer, const View& view, int32_t stride_h, int32_t stride_w) {
  const int64_t pixels = (tile.W + stride_w - 1) / stride_w;
  for (int64_t n = 0; n < tile.images; ++n) {
    for (int64_t h = tile.band.begin; h < tile.band.end; ++h) {
      if (h % stride_h) continue;
      Storage* to = row_of<Storage>(view, tile.image + n, tile.block.channel, h / stride_h);
      store_row(to, view.stride, buffer + tile.index(n, h), stride_w, tile.block.channels, pixels);
    }
  }
}

// Asks for the lines of the tensor's rows ahead of their use; write says for what use.
template <class Storage, bool write, class T>
void prefetch_tile(const Tile<T>& tile, Rows rows, const View& view) {
  const bool interleaved = view.stride[1] == 1;
  const int64_t step = interleaved ? view.stride[3] : kLineBytes / static_cast<int64_t>(sizeof(Storage));
  const int64_t planes = interleaved ? 1 : tile.block.channels;
  const bool joined = !interleaved && view.stride[2] == tile.W;  // rows follow each other
  const int64_t pixels = interleaved ? tile.W * view.stride[3] : joined ? tile.W * (rows.end - rows.begin) : tile.W;
  for (int64_t n = 0; n < tile.images; ++n)
    for (int64_t c = 0; c < planes; ++c)
      for (int64_t h = rows.begin; h < (joined ? rows.begin + 1 : rows.end); ++h) {
        const Storage* row = row_of<Storage>(view, tile.image + n, tile.block.channel + c, h);
        for (int64_t i = 0; i < pixels; i += step) __builtin_prefetch(row + i, write, 2);
      }
}

}  // namespace evenconv::EVENCONV_ISA
