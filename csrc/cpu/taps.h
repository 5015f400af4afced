// The two loops that do all arithmetic. A tile (tile.h) lays its pixels end to end with zeros between the rows, so that
// a tap of any kernel, row, column or square, is one constant offset, and a convolution is
//
//     correlate:   out[i]    = bias + sum over taps t of weight[t] * in[i + offset[t]]
//     accumulate:  sums[t]  += sum over i of grad[i] * in[i + offset[t]]
//
// over one flat range. Lanes of neighbouring elements belong to `period` interleaved channels (1 for NCHW), so a tap's
// weight is a vector that repeats with that period.
#pragma once

#include "simd.h"

namespace evenconv::EVENCONV_ISA {

constexpr int kMaxTaps = 32;

template <class T>
struct Taps {
  static constexpr int kPeriod = kLineBytes / sizeof(T);  // elements that a packed weight fills
  int count;
  int64_t offset[kMaxTaps];
  alignas(kLineBytes) T weight[kMaxTaps][kPeriod];
  alignas(kLineBytes) T bias[kPeriod];
};

// How the vectors of a flat range lie: vector v of phase p starts at p * V + v * step.
template <class T>
struct Lanes {
  int phases;
  int64_t step;
  explicit Lanes(int channels)
      : phases(channels > Simd<T>::size ? channels / Simd<T>::size : 1),
        step(channels > Simd<T>::size ? channels : Simd<T>::size) {}
};

template <int U, class T>
inline void correlate_block(const T* in, T* out, int64_t step, const Taps<T>& taps, int sign, int lane) {
  Vec<T> sum[U];
  const Vec<T> bias = sign > 0 ? load(taps.bias + lane) : Vec<T>{};
#pragma GCC unroll 8
  for (int u = 0; u < U; ++u) sum[u] = bias;
  for (int t = 0; t < taps.count; ++t) {
    const Vec<T> weight = load(taps.weight[t] + lane);
    const T* p = in + sign * taps.offset[t];
#pragma GCC unroll 8
    for (int u = 0; u < U; ++u) sum[u] += weight * load(p + u * step);
  }
#pragma GCC unroll 8
  for (int u = 0; u < U; ++u) store(out + u * step, sum[u]);
}

// sign = 1 convolves; sign = -1 is the transposed convolution, without a bias. Writes whole vectors: up to a
// vector's elements past length.
template <class T>
void correlate(const T* in, T* out, int64_t length, int channels, const Taps<T>& taps, int sign) {
  constexpr int U = 8;
  const Lanes<T> lanes(channels);
  for (int phase = 0; phase < lanes.phases; ++phase) {
    const int lane = phase * Simd<T>::size;
    int64_t i = lane;
    for (; i + (U - 1) * lanes.step < length; i += U * lanes.step)
      correlate_block<U>(in + i, out + i, lanes.step, taps, sign, lane);
    for (; i < length; i += lanes.step) correlate_block<1>(in + i, out + i, lanes.step, taps, sign, lane);
  }
}

// Adds the products of J taps from the first on, for the lanes of one phase.
template <int J, class T>
inline void accumulate_block(const T* grad, const T* in, int64_t length, int64_t step, const int64_t* offset,
                             Vec<T>* sums) {
  constexpr int U = J > 4 ? 1 : 2;  // enough independent sums to hide the latency of one
  Vec<T> sum[U][J] = {};
  const T* tap[J];
  for (int j = 0; j < J; ++j) tap[j] = in + offset[j];
  int64_t i = 0;
  for (; i + (U - 1) * step + Simd<T>::size <= length; i += U * step) {
#pragma GCC unroll 2
    for (int u = 0; u < U; ++u) {
      const Vec<T> g = load(grad + i + u * step);
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) sum[u][j] += g * load(tap[j] + i + u * step);
    }
  }
  for (; i < length; i += step) {
    const int rest = length - i < Simd<T>::size ? static_cast<int>(length - i) : Simd<T>::size;
    const bool whole = rest == Simd<T>::size;
    const Vec<T> g = whole ? load(grad + i) : load_partial(grad + i, rest);
    for (int j = 0; j < J; ++j) sum[0][j] += g * (whole ? load(tap[j] + i) : load_partial(tap[j] + i, rest));
  }
  for (int j = 0; j < J; ++j) sums[j] += U == 1 ? sum[0][j] : sum[0][j] + sum[U - 1][j];
}

// sums: per phase and tap one vector.
template <class T>
void accumulate(const T* grad, const T* in, int64_t length, int channels, int count, const int64_t* offset,
                Vec<T>* sums) {
  const Lanes<T> lanes(channels);
  for (int phase = 0; phase < lanes.phases; ++phase) {
    const int64_t lane = phase * Simd<T>::size;
    for (int t = 0, blocks = (count + 7) / 8; t < count; --blocks) {
      const int taps = (count - t + blocks - 1) / blocks;
      constexpr decltype(&accumulate_block<1, T>) block[] = {
          accumulate_block<1, T>, accumulate_block<2, T>, accumulate_block<3, T>, accumulate_block<4, T>,
          accumulate_block<5, T>, accumulate_block<6, T>, accumulate_block<7, T>, accumulate_block<8, T>};
      block[taps - 1](grad + lane, in + lane, length - lane, lanes.step, offset + t, sums + phase * count + t);
      t += taps;
    }
  }
}

// sums[phase] += sum over i of grad[i].
template <class T>
void total(const T* grad, int64_t length, int channels, Vec<T>* sums) {
  constexpr int V = Simd<T>::size;
  const Lanes<T> lanes(channels);
  for (int phase = 0; phase < lanes.phases; ++phase) {
    Vec<T> even{}, odd{};
    int64_t i = phase * V;
    for (; i + lanes.step + V <= length; i += 2 * lanes.step) {
      even += load(grad + i);
      odd += load(grad + i + lanes.step);
    }
    for (; i < length; i += lanes.step)
      even += i + V <= length ? load(grad + i) : load_partial(grad + i, static_cast<int>(length - i));
    sums[phase] += even + odd;
  }
}

}  // namespace evenconv::EVENCONV_ISA
