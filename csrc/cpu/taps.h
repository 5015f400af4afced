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

// A flat range is gone through in steps of a vector or, where a pixel's channels fill more than one, of a packed weight:
// then each vector of a step is a phase with weights of its own.
template <class T>
constexpr int flat_step(int channels) {
  return channels > Simd<T>::size ? Taps<T>::kPeriod : Simd<T>::size;
}

template <int Step, int U, class T>
[[gnu::always_inline]] inline void correlate_block(const T* in, T* out, const Taps<T>& taps, int sign, int lane) {
  Vec<T> sum[U];
  const Vec<T> bias = sign > 0 ? load(taps.bias + lane) : Vec<T>{};
#pragma GCC unroll 8
  for (int u = 0; u < U; ++u) sum[u] = bias;
  for (int t = 0; t < taps.count; ++t) {
    const Vec<T> weight = load(taps.weight[t] + lane);
    const T* p = in + sign * taps.offset[t];
#pragma GCC unroll 8
    for (int u = 0; u < U; ++u) sum[u] += weight * load(p + u * Step);
  }
#pragma GCC unroll 8
  for (int u = 0; u < U; ++u) store(out + u * Step, sum[u]);
}

template <int Step, class T>
void correlate_phases(const T* in, T* out, int64_t length, const Taps<T>& taps, int sign) {
  constexpr int U = 8;
  for (int lane = 0; lane < Step; lane += Simd<T>::size) {
    int64_t i = lane;
    for (; i + (U - 1) * Step < length; i += U * Step)
      correlate_block<Step, U>(in + i, out + i, taps, sign, lane);
    for (; i < length; i += Step) correlate_block<Step, 1>(in + i, out + i, taps, sign, lane);
  }
}

// sign = 1 convolves; sign = -1 is the transposed convolution, without a bias. Writes whole vectors: up to a vector's
// elements past length.
template <class T>
void correlate(const T* in, T* out, int64_t length, int channels, const Taps<T>& taps, int sign) {
  if (flat_step<T>(channels) == Simd<T>::size)
    correlate_phases<Simd<T>::size>(in, out, length, taps, sign);
  else
    correlate_phases<Taps<T>::kPeriod>(in, out, length, taps, sign);
}

// Adds the products of J taps to sums, for the lanes of one phase.
template <int Step, int J, class T>
void accumulate_block(const T* grad, const T* in, int64_t length, const int64_t* offset, Vec<T>* sums) {
  constexpr int V = Simd<T>::size, U = J > 4 ? 1 : 2;  // enough independent sums to hide the latency of one
  Vec<T> sum[U][J] = {};
  const T* tap[J];
  for (int j = 0; j < J; ++j) tap[j] = in + offset[j];
  int64_t i = 0;
  for (; i + (U - 1) * Step + V <= length; i += U * Step) {
#pragma GCC unroll 2
    for (int u = 0; u < U; ++u) {
      const Vec<T> g = load(grad + i + u * Step);
#pragma GCC unroll 8
      for (int j = 0; j < J; ++j) sum[u][j] += g * load(tap[j] + i + u * Step);
    }
  }
  for (; i < length; i += Step) {
    const int rest = length - i < V ? static_cast<int>(length - i) : V;
    const Vec<T> g = rest == V ? load(grad + i) : load_partial(grad + i, rest);
    for (int j = 0; j < J; ++j) sum[0][j] += g * (rest == V ? load(tap[j] + i) : load_partial(tap[j] + i, rest));
  }
  for (int j = 0; j < J; ++j) sums[j] += U == 1 ? sum[0][j] : sum[0][j] + sum[U - 1][j];
}

template <int Step, class T>
void accumulate_phases(const T* grad, const T* in, int64_t length, int count, const int64_t* offset, Vec<T>* sums) {
  using Block = decltype(&accumulate_block<Step, 1, T>);
  constexpr Block block[] = {accumulate_block<Step, 1, T>, accumulate_block<Step, 2, T>, accumulate_block<Step, 3, T>,
                             accumulate_block<Step, 4, T>, accumulate_block<Step, 5, T>, accumulate_block<Step, 6, T>,
                             accumulate_block<Step, 7, T>, accumulate_block<Step, 8, T>};
  for (int lane = 0; lane < Step; lane += Simd<T>::size, sums += count) {
    for (int t = 0, blocks = (count + 7) / 8; t < count; --blocks) {
      const int taps = (count - t + blocks - 1) / blocks;
      block[taps - 1](grad + lane, in + lane, length - lane, offset + t, sums + t);
      t += taps;
    }
  }
}

// sums: per phase and tap one vector.
template <class T>
void accumulate(const T* grad, const T* in, int64_t length, int channels, int count, const int64_t* offset,
                Vec<T>* sums) {
  if (flat_step<T>(channels) == Simd<T>::size)
    accumulate_phases<Simd<T>::size>(grad, in, length, count, offset, sums);
  else
    accumulate_phases<Taps<T>::kPeriod>(grad, in, length, count, offset, sums);
}

// sums[phase] += sum over i of grad[i].
template <class T>
void total(const T* grad, int64_t length, int channels, Vec<T>* sums) {
  constexpr int V = Simd<T>::size;
  const int step = flat_step<T>(channels);
  for (int lane = 0; lane < step; lane += V, ++sums) {
    Vec<T> even{}, odd{};
    int64_t i = lane;
    for (; i + step + V <= length; i += 2 * step) {
      even += load(grad + i);
      odd += load(grad + i + step);
    }
    for (; i < length; i += step)
      even += i + V <= length ? load(grad + i) : load_partial(grad + i, static_cast<int>(length - i));
    *sums += even + odd;
  }
}

}  // namespace evenconv::EVENCONV_ISA
