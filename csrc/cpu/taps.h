// The loops that do all arithmetic. A tile (tile.h) keeps zeros between its rows, so that a tap of any kernel is one
// constant offset. (Weight gradients multiply these zeros like pixels: a NaN or an infinity in x may reach every tap of
// its channel.) A convolution is
//
//     correlate:   out[i]    = bias + sum over taps t of weight[t] * in[i + offset[t]]
//     accumulate:  sums[t]  += sum over i of grad[i] * in[i + offset[t]]
//
// Both go by blocks of vectors that lie as far apart as the taps of a kernel's line do: pixels of a row for a 1×K
// kernel, rows for any other. So a block reads every vector once and uses it for each tap of the line, from registers.
#pragma once

#include "simd.h"

namespace evenconv::EVENCONV_ISA {

constexpr int kMaxTaps = 32;
constexpr int kMaxLine = 8;  // taps of a line whose weights or sums fit in registers; longer lines are cut
constexpr int kBlock = 7;    // vectors of a block: maps mostly have a multiple of seven rows and columns

// Elements that a packed weight fills: that of channel l % channels in lane l.
template <class T>
constexpr int kPeriod = kLineBytes / sizeof(T);

// Lines of `along` taps that lie `step` apart; tap t = l * across + a is the l-th of line a, and the lines are a pixel
// apart.
template <class T>
struct Taps {
  int along, across;
  int64_t first, step;  // offset of tap 0; distance of taps
  int64_t last(int channels) const { return first + (along - 1) * step + (across - 1) * channels; }
  alignas(kLineBytes) T weight[kMaxTaps][kPeriod<T>];
  alignas(kLineBytes) T bias[kPeriod<T>];
};

// Pixels of a tile: `rows` rows of `length` elements, `pitch` elements apart, of interleaved channels.
struct Area {
  int64_t rows, length, pitch;
  int channels;
};

// Blocks in a row: `count` of them, `next` apart, of vectors `step` apart.
struct Strip {
  int64_t offset, count, next, step;
  int lane;   // of a packed weight, that the vectors begin at
  int lanes;  // of a vector, that belong to the area
};

// Calls f(strip, whether its blocks are of kBlock vectors, else of one) for strips that together are the area. Where a
// vector has more lanes than a pixel has channels, strips go over the zeros between rows, and the last is part of a
// vector.
template <class T, class F>
[[gnu::always_inline]] inline void for_each_strip(const Area& area, int64_t step, F&& f) {
  constexpr int V = Simd<T>::size;
  const int64_t S = area.channels, flat = (area.rows - 1) * area.pitch + area.length;
  if (S < V) {
    const int64_t vectors = flat / V;
    f(Strip{0, vectors, V, step, 0, V}, false);
    if (flat % V) f(Strip{vectors * V, 1, V, step, 0, static_cast<int>(flat % V)}, false);
    return;
  }
  if (step == S) {
    const int64_t pixels = flat / S, blocks = pixels / kBlock;
    for (int lane = 0; lane < S; lane += V) {
      f(Strip{lane, blocks, kBlock * S, step, lane, V}, true);
      f(Strip{lane + blocks * kBlock * S, pixels - blocks * kBlock, S, step, lane, V}, false);
    }
    return;
  }
  for (int64_t row = 0; row < area.rows;) {
    const bool full = area.rows - row >= kBlock;
    for (int lane = 0; lane < S; lane += V) f(Strip{row * area.pitch + lane, area.length / S, S, step, lane, V}, full);
    row += full ? kBlock : 1;
  }
}

// The block loops of each kind of line: of 1 to kMaxLine taps, and the lines of 2×2 and 4×4.
template <template <int Along, int Across, int U> class Loop>
inline auto loop_of(int along, int across, bool full) {
  using F = decltype(&Loop<1, 1, 1>::run);
  static constexpr F loops[2][kMaxLine + 2] = {
      {Loop<1, 1, 1>::run, Loop<2, 1, 1>::run, Loop<3, 1, 1>::run, Loop<4, 1, 1>::run, Loop<5, 1, 1>::run,
       Loop<6, 1, 1>::run, Loop<7, 1, 1>::run, Loop<8, 1, 1>::run, Loop<2, 2, 1>::run, Loop<4, 4, 1>::run},
      {Loop<1, 1, kBlock>::run, Loop<2, 1, kBlock>::run, Loop<3, 1, kBlock>::run, Loop<4, 1, kBlock>::run,
       Loop<5, 1, kBlock>::run, Loop<6, 1, kBlock>::run, Loop<7, 1, kBlock>::run, Loop<8, 1, kBlock>::run,
       Loop<2, 2, kBlock>::run, Loop<4, 4, kBlock>::run}};
  return loops[full][across == 1 ? along - 1 : across == 2 ? kMaxLine : kMaxLine + 1];
}

// Calls f(first tap, taps) for the pieces of a line, as even as they get.
template <class F>
[[gnu::always_inline]] inline void for_each_piece(int along, F&& f) {
  for (int l = 0, pieces = (along + kMaxLine - 1) / kMaxLine; l < along; --pieces) {
    const int taps = (along - l + pieces - 1) / pieces;
    f(l, taps);
    l += taps;
  }
}

template <class T>
struct Correlate {
  template <int Along, int Across, int U>
  struct Loop {
    // weight: of tap 0; `turn` elements to the next. bias: null to add to what is there.
    static void run(const Strip& strip, const T* in, T* out, int64_t line, const T* weight, int64_t turn,
                    const T* bias) {
      Vec<T> w[Along][Across];
#pragma GCC unroll 16
      for (int t = 0; t < Along * Across; ++t) w[t / Across][t % Across] = load(weight + t * turn);
      const int64_t step = strip.step;
      for (int64_t n = 0; n < strip.count; ++n, in += strip.next, out += strip.next) {
        Vec<T> sum[U];
#pragma GCC unroll 16
        for (int u = 0; u < U; ++u) sum[u] = bias ? load(bias) : load(out + u * step);
#pragma GCC unroll 16
        for (int j = 0; j < U + Along - 1; ++j) {
#pragma GCC unroll 16
          for (int a = 0; a < Across; ++a) {
            const Vec<T> v = load(in + j * step + a * line);
#pragma GCC unroll 16
            for (int u = 0; u < U; ++u)
              if (j - u >= 0 && j - u < Along) sum[u] += w[j - u][a] * v;
          }
        }
#pragma GCC unroll 16
        for (int u = 0; u < U; ++u) store(out + u * step, sum[u]);
      }
    }
  };
};

// sign = 1 convolves; sign = -1 is the transposed convolution, without a bias: the same taps turned around.
template <class T>
void correlate(const T* in, T* out, const Area& area, const Taps<T>& taps, int sign) {
  static constexpr T kNoBias[kPeriod<T>] = {};
  const int count = taps.along * taps.across;
  const int64_t first = sign > 0 ? taps.first : -taps.last(area.channels);
  for_each_strip<T>(area, taps.step, [&](const Strip& strip, bool full) {
    for_each_piece(taps.along, [&](int l, int along) {
      const T* weight = taps.weight[sign > 0 ? l : count - 1 - l] + strip.lane;
      const T* bias = sign > 0 ? taps.bias + strip.lane : kNoBias;
      loop_of<Correlate<T>::template Loop>(along, taps.across, full)(strip, in + strip.offset + first + l * taps.step,
                                                                     out + strip.offset, area.channels, weight,
                                                                     sign * kPeriod<T>, l ? nullptr : bias);
    });
  });
}

template <class T>
struct Accumulate {
  template <int Along, int Across, int U>
  struct Loop {
    static constexpr int kSets = Along * Across > 4 ? 1 : 2;  // enough independent sums to hide the latency of one

    // sums: of tap 0; a packed weight's elements to the next.
    static void run(const Strip& strip, const T* grad, const T* in, int64_t line, T* sums) {
      Vec<T> sum[kSets][Along][Across] = {};
      const int64_t step = strip.step;
      for (int64_t n = 0; n < strip.count; ++n, in += strip.next, grad += strip.next) {
        Vec<T> g[U];
#pragma GCC unroll 16
        for (int u = 0; u < U; ++u) g[u] = load(grad + u * step);
#pragma GCC unroll 16
        for (int j = 0; j < U + Along - 1; ++j) {
#pragma GCC unroll 16
          for (int a = 0; a < Across; ++a) {
            const Vec<T> v = load(in + j * step + a * line);
#pragma GCC unroll 16
            for (int u = 0; u < U; ++u)
              if (j - u >= 0 && j - u < Along) sum[u % kSets][j - u][a] += g[u] * v;
          }
        }
      }
#pragma GCC unroll 16
      for (int l = 0; l < Along; ++l) {
#pragma GCC unroll 16
        for (int a = 0; a < Across; ++a, sums += kPeriod<T>)
          store(sums, load(sums) + (kSets == 1 ? sum[0][l][a] : sum[0][l][a] + sum[kSets - 1][l][a]));
      }
    }
  };
};

// sums: of each tap a packed weight's lanes.
template <class T>
void accumulate(const T* grad, const T* in, const Area& area, const Taps<T>& taps, T (*sums)[kPeriod<T>]) {
  for_each_strip<T>(area, taps.step, [&](const Strip& strip, bool full) {
    if (strip.lanes < Simd<T>::size) {
      const Vec<T> g = load_partial(grad + strip.offset, strip.lanes);
      for (int t = 0; t < taps.along * taps.across; ++t) {
        const int64_t offset = taps.first + t / taps.across * taps.step + t % taps.across * area.channels;
        store(sums[t], load(sums[t]) + g * load_partial(in + strip.offset + offset, strip.lanes));
      }
      return;
    }
    for_each_piece(taps.along, [&](int l, int along) {
      loop_of<Accumulate<T>::template Loop>(along, taps.across, full)(strip, grad + strip.offset,
                                                                      in + strip.offset + taps.first + l * taps.step,
                                                                      area.channels, sums[l] + strip.lane);
    });
  });
}

// Adds the sum of grad to sums.
template <class T>
void total(const T* grad, const Area& area, T* sums) {
  for_each_strip<T>(area, area.channels, [&](const Strip& strip, bool full) {
    Vec<T> sum[kBlock] = {};
    const int U = full ? kBlock : 1;
    const T* p = grad + strip.offset;
    if (strip.lanes < Simd<T>::size) {
      sum[0] = load_partial(p, strip.lanes);
    } else {
      for (int64_t n = 0; n < strip.count; ++n, p += strip.next)
        for (int u = 0; u < U; ++u) sum[u] += load(p + u * strip.step);
    }
    for (int u = 1; u < U; ++u) sum[0] += sum[u];
    store(sums + strip.lane, load(sums + strip.lane) + sum[0]);
  });
}

}  // namespace evenconv::EVENCONV_ISA
