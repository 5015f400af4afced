// Pixels on their way between a tensor of any strides and a tile's interleaved channels.
#pragma once

#include "simd.h"

namespace evenconv::EVENCONV_ISA {

// Pixels that are evenly spaced in the tensor, and in the tile's scratch form rows of `width`: `pitch` pixels of
// scratch from row to row, and `step` within one.
struct Run {
  int64_t pixels, width;
  int64_t pitch, step;
};

// What the processor's prefetchers do not find is asked for. They follow few streams, each within a page: too little
// where pixels lie far apart, and for planes so small that several share a page.
constexpr int64_t kPixelsAhead = 32, kSmallPlane = 512;

// Into the second-level cache, as the first holds the tile. The address may be behind the tensor. (GCC 12 takes a
// function that only prefetches in a loop for one without effect and drops it.)
template <class Storage>
inline void prefetch(const Storage* p) {
  __builtin_prefetch(p, 0, 2);
}

// Channels side by side in the tensor as in the tile.
template <int C, class T, class Storage>
void load_interleaved(const Run& run, T* to, const Storage* from, int64_t stride) {
  const int64_t width = run.width, step = run.step * C, pitch = run.pitch * C;
  for (int64_t i = 0; i < run.pixels; i += width, to += pitch)
    for (int64_t w = 0; w < width; ++w, from += stride) {
      prefetch(from + kPixelsAhead * stride);
      widen_run(to + w * step, from, C);
    }
}
template <int C, class T, class Storage>
void store_interleaved(const Run& run, Storage* to, int64_t stride, const T* from) {
  const int64_t width = run.width, step = run.step * C, pitch = run.pitch * C;
  for (int64_t i = 0; i < run.pixels; i += width, from += pitch)
    for (int64_t w = 0; w < width; ++w, to += stride) {
      prefetch(to + kPixelsAhead * stride);
      narrow_run(to, from + w * step, C);
    }
}

// Goes through a run's pixels by their positions in scratch.
template <int C>
class Walk {
 public:
  Walk(const Run& run, int64_t pixel)
      : next_((pixel / run.width * run.pitch + pixel % run.width * run.step) * C),
        left_(run.width - pixel % run.width),
        width_(run.width),
        step_(run.step * C),
        turn_((run.pitch - (run.width - 1) * run.step) * C) {}
  int64_t next() {
    const int64_t here = next_;
    const bool end = --left_ == 0;
    next_ += end ? turn_ : step_;
    left_ = end ? width_ : left_;
    return here;
  }

 private:
  int64_t next_, left_, width_, step_, turn_;
};

// Pixels side by side in the tensor, channels in the tile: squares of V pixels are transposed in registers. The last
// square overlaps the one before, so that only a run shorter than a square takes part of one.
//
// Calls f(offset of the square's first pixel in the plane, its pixels, the walk from there), which returns where the
// walk goes on.
template <int C, class T, class F>
[[gnu::always_inline]] inline void for_each_square(const Run& run, F&& f) {
  constexpr int V = Simd<T>::size;
  Walk<C> walk(run, 0);
  if (run.pixels < V) {
    f(0, static_cast<int>(run.pixels), walk);
    return;
  }
  int64_t i = 0;
  for (; i + V <= run.pixels; i += V) walk = f(i, V, walk);
  if (i < run.pixels) f(run.pixels - V, V, Walk<C>(run, run.pixels - V));
}
template <int C, class T, class Storage>
void load_planar(const Run& run, T* to, const Storage* from, int64_t stride, int64_t image) {
  constexpr int V = Simd<T>::size, rows = C < V ? C : V;
  for_each_square<C, T>(run, [&](int64_t i, int count, const Walk<C>& begin) {
    Walk<C> walk = begin;
    int64_t apart = stride;
    asm("" : "+r"(apart));  // or GCC keeps the multiples of stride, which fill the registers
    for (int c = 0; c < C; c += V) {
      Vec<T> square[V] = {};
      const Storage* plane = from + c * stride + i;
      if (stride <= kSmallPlane) {
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) prefetch(plane + image + r * apart);
      }
      if (count == V) {
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r, plane += apart) square[r] = widen_vector(plane);
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r, plane += apart) square[r] = widen_partial<T>(plane, count);
      }
      transpose<T>(square);
      // In ascending order: with fewer channels than lanes a store zeroes the pixels behind, which are stored later.
      walk = begin;
      if (count == V) {
#pragma GCC unroll 16
        for (int r = 0; r < V; ++r) store(to + walk.next() + c, square[r]);
      } else {
        for (int r = 0; r < count; ++r) store(to + walk.next() + c, square[r]);
      }
    }
    return walk;
  });
}
template <int C, class T, class Storage>
void store_planar(const Run& run, Storage* to, int64_t stride, int64_t image, const T* from) {
  constexpr int V = Simd<T>::size, rows = C < V ? C : V;
  for_each_square<C, T>(run, [&](int64_t i, int count, const Walk<C>& begin) {
    Walk<C> walk = begin;
    int64_t apart = stride;
    asm("" : "+r"(apart));  // or GCC keeps the multiples of stride, which fill the registers
    for (int c = 0; c < C; c += V) {
      Vec<T> square[V] = {};
      walk = begin;
      if (count == V) {
#pragma GCC unroll 16
        for (int r = 0; r < V; ++r) square[r] = load(from + walk.next() + c);
      } else {
        for (int r = 0; r < count; ++r) square[r] = load(from + walk.next() + c);
      }
      transpose<T>(square);
      Storage* plane = to + c * stride + i;
      if (stride <= kSmallPlane) {
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r) prefetch(plane + image + r * apart);
      }
      if (count == V) {
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r, plane += apart) narrow_vector(plane, square[r]);
      } else {
#pragma GCC unroll 16
        for (int r = 0; r < rows; ++r, plane += apart) narrow_partial<T>(plane, square[r], count);
      }
    }
    return walk;
  });
}

// stride is the tensor's.
template <int C, class T, class Storage>
void load_block(const Run& run, T* to, const Storage* from, const int64_t* stride) {
  if (stride[1] == 1 && C > 1) return load_interleaved<C>(run, to, from, stride[3]);
  if (stride[3] == 1) return load_planar<C>(run, to, from, stride[1], stride[0]);
  for (int64_t i = 0; i < run.pixels; i += run.width, to += run.pitch * C)
    for (int64_t w = 0; w < run.width; ++w, from += stride[3])
      for (int c = 0; c < C; ++c) widen(to[w * run.step * C + c], from[c * stride[1]]);
}
template <int C, class T, class Storage>
void store_block(const Run& run, Storage* to, const int64_t* stride, const T* from) {
  if (stride[1] == 1 && C > 1) return store_interleaved<C>(run, to, stride[3], from);
  if (stride[3] == 1) return store_planar<C>(run, to, stride[1], stride[0], from);
  for (int64_t i = 0; i < run.pixels; i += run.width, from += run.pitch * C)
    for (int64_t w = 0; w < run.width; ++w, to += stride[3])
      for (int c = 0; c < C; ++c) narrow(to[c * stride[1]], from[w * run.step * C + c]);
}

template <class T, class Storage>
void load_pixels(const Run& run, int channels, T* to, const Storage* from, const int64_t* stride) {
  switch (channels) {
    case 1: return load_block<1>(run, to, from, stride);
    case 2: return load_block<2>(run, to, from, stride);
    case 4: return load_block<4>(run, to, from, stride);
    case 8: return load_block<8>(run, to, from, stride);
    default: return load_block<kLineBytes / sizeof(T)>(run, to, from, stride);
  }
}
template <class T, class Storage>
void store_pixels(const Run& run, int channels, Storage* to, const int64_t* stride, const T* from) {
  switch (channels) {
    case 1: return store_block<1>(run, to, stride, from);
    case 2: return store_block<2>(run, to, stride, from);
    case 4: return store_block<4>(run, to, stride, from);
    case 8: return store_block<8>(run, to, stride, from);
    default: return store_block<kLineBytes / sizeof(T)>(run, to, stride, from);
  }
}

}  // namespace evenconv::EVENCONV_ISA
