// Symmetric padding and the crop that is its gradient: one read of a tensor and one write of the other. A thread writes
// 16 bytes of the result, which lies dense in memory, and gathers them; neighbouring threads read what it reads from
// the same lines of cache.
#include "launchers.h"
#include "walk.h"

namespace evenconv::cuda {
namespace {

constexpr int kThreads = 256, kUnit = 16;

// Element h, w of the result is element h + shift, w + shift of the source, or 0 beyond it.
struct Gather {
  View from, to;
  int64_t N, C, to_H, to_W, from_H, from_W;
  int32_t sign;  // 1 where padding is taken away, -1 where it is added
  int32_t kernel_size;
  Direction direction[4];
  bool interleaved;
  bool together;  // channels of the source lie side by side, units of them aligned
};

template <class T>
struct Shift {
  int64_t h, w;
  int64_t channels;  // from this one on that are shifted alike

  __device__ Shift(const Gather& g, int64_t c) {
    int group = 3;
    while (group > 0 && c < group_begin(g.C, group)) --group;
    const Direction direction = g.direction[group];
    h = g.sign * leading_pad(g.kernel_size, pads_top(direction));
    w = g.sign * leading_pad(g.kernel_size, pads_left(direction));
    channels = group_begin(g.C, group + 1) - c;
  }
};

template <class T>
__global__ void __launch_bounds__(kThreads) gather(const __grid_constant__ Gather g, int64_t elements) {
  constexpr int U = kUnit / sizeof(T);
  const int64_t first = (int64_t{blockIdx.x} * kThreads + threadIdx.x) * U;
  if (first >= elements) return;
  const int count = elements - first < U ? static_cast<int>(elements - first) : U;
  // From the fastest coordinate of the result to the slowest.
  int64_t c, h, w, n;
  if (g.interleaved) {
    c = first % g.C;
    w = first / g.C % g.to_W;
    h = first / g.C / g.to_W % g.to_H;
    n = first / g.C / g.to_W / g.to_H;
  } else {
    w = first % g.to_W;
    h = first / g.to_W % g.to_H;
    c = first / g.to_W / g.to_H % g.C;
    n = first / g.to_W / g.to_H / g.C;
  }
  const T* const from = static_cast<const T*>(g.from.data);
  const auto source = [&](int64_t from_h, int64_t from_w) {
    return from + n * g.from.stride[0] + c * g.from.stride[1] + from_h * g.from.stride[2] + from_w * g.from.stride[3];
  };
  const auto inside = [&](int64_t from_h, int64_t from_w) {
    return from_h >= 0 && from_h < g.from_H && from_w >= 0 && from_w < g.from_W;
  };
  T* const to = static_cast<T*>(g.to.data) + first;
  Shift<T> shift(g, c);
  if (g.together && count == U && shift.channels >= U) {
    Pack<T, U> unit{};
    if (inside(h + shift.h, w + shift.w)) unit = load<Pack<T, U>>(source(h + shift.h, w + shift.w));
    return store(to, unit);
  }
  Pack<T, U> unit{};
#pragma unroll
  for (int i = 0; i < U; ++i) {
    if (i >= count) break;
    if (inside(h + shift.h, w + shift.w)) unit.value[i] = load<Pack<T, 1>>(source(h + shift.h, w + shift.w)).value[0];
    if (g.interleaved) {
      if (++c == g.C) {
        c = 0;
        if (++w == g.to_W) {
          w = 0;
          if (++h == g.to_H) h = 0, ++n;
        }
      }
      if (--shift.channels == 0 || c == 0) shift = Shift<T>(g, c);
    } else if (++w == g.to_W) {
      w = 0;
      if (++h == g.to_H) {
        h = 0;
        if (++c == g.C) c = 0, ++n;
        shift = Shift<T>(g, c);
      }
    }
  }
  if (count == U) return store(to, unit);
#pragma unroll
  for (int i = 0; i < U; ++i)
    if (i < count) store(to + i, Pack<T, 1>{unit.value[i]});
}

void launch_gather(const PadParams& p, bool crop, cudaStream_t stream) {
  const int64_t added = p.kernel_size - 1;
  Gather g{};
  g.from = crop ? p.padded : p.plain;
  g.to = crop ? p.plain : p.padded;
  g.N = p.N, g.C = p.C;
  g.to_H = p.H + (crop ? 0 : added), g.to_W = p.W + (crop ? 0 : added);
  g.from_H = p.H + (crop ? added : 0), g.from_W = p.W + (crop ? added : 0);
  g.sign = crop ? 1 : -1;
  g.kernel_size = p.kernel_size;
  for (int i = 0; i < 4; ++i) g.direction[i] = p.direction[i];
  g.interleaved = g.to.stride[1] == 1 && g.to.stride[3] != 1;
  const int64_t* stride = g.from.stride;
  const int64_t bytes = (stride[0] | stride[2] | stride[3]) * p.element_size;
  g.together = g.interleaved && stride[1] == 1 && (bytes | reinterpret_cast<intptr_t>(g.from.data)) % kUnit == 0 &&
               p.C * p.element_size % kUnit == 0;
  const int64_t elements = p.N * p.C * g.to_H * g.to_W, each = kThreads * kUnit / p.element_size;
  const int64_t blocks = (elements + each - 1) / each;
  switch (p.element_size) {
    case 2: return launch(gather<uint16_t>, blocks, kThreads, 0, stream, g, elements);
    case 4: return launch(gather<uint32_t>, blocks, kThreads, 0, stream, g, elements);
    default: return launch(gather<uint64_t>, blocks, kThreads, 0, stream, g, elements);
  }
}

}  // namespace

void launch_pad(const PadParams& p, cudaStream_t stream) { launch_gather(p, false, stream); }
void launch_crop(const PadParams& p, cudaStream_t stream) { launch_gather(p, true, stream); }

}  // namespace evenconv::cuda
