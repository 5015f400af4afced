// The plain structs between PyTorch and the kernels: no torch, no CUDA, no allocation.
#pragma once

#include <cstdint>

namespace evenconv {

enum class Dtype : int32_t { float32, float64, float16, bfloat16 };

// The side of the map that receives the (larger) padding of an even-sized kernel. evenconv_cuda/directions.py holds the
// same order.
enum class Direction : int32_t { BR, TL, BL, TR };

// A tensor N, C, H, W with strides counted in elements; any strides, zero included.
struct View {
  void* data;
  int64_t stride[4];
};

// One depthwise convolution of a chain. weight is (C, 1, kh, kw) contiguous, bias (C) or null; the gradients are of the
// same shape, null where they are not wanted.
struct Stage {
  const void* weight;
  const void* bias;
  void* grad_weight;
  void* grad_bias;
  int32_t kh, kw;
};

constexpr int kMaxStages = 3;
constexpr int kMaxKernel = 31;

// A chain of depthwise convolutions, each of which keeps H×W by zero padding, and a stride on its result. Every
// depthwise operator of the package is such a chain: 2×2 or 4×4 alone, 1×K and K×1, or the three of XSepConv.
struct ChainParams {
  int64_t N, C, H, W;  // of x; the result has ceil(H / stride_h) × ceil(W / stride_w)
  int32_t stride_h, stride_w;
  Dtype dtype;             // of x, y, dx; sums are float32 (float64 for float64)
  Dtype weight_dtype;      // of every weight, bias and their gradients
  Direction direction[4];  // of an even kernel's padding, per channel group
  int32_t stages;
  Stage stage[kMaxStages];
  View x;
  View y;   // forward: the result; backward: its gradient
  View dx;  // backward: the gradient of x, data null where it is not wanted
};

// Zero padding of a k×k kernel (k even) so that k - 1 rows and columns are added, or its inverse, a crop.
struct PadParams {
  int64_t N, C, H, W;  // of the unpadded tensor
  int32_t kernel_size;
  int32_t element_size;
  Direction direction[4];
  View plain;
  View padded;
};

// Channels are split into four groups; the first C % 4 of them are one larger.
constexpr int64_t group_begin(int64_t C, int group) {
  const int64_t quotient = C / 4, rest = C % 4;
  return group * quotient + (group < rest ? group : rest);
}

constexpr bool pads_top(Direction d) { return d == Direction::TL || d == Direction::TR; }
constexpr bool pads_left(Direction d) { return d == Direction::TL || d == Direction::BL; }

// Rows above (columns left of) the map that a kernel of size k reads: k / 2 for odd k, and for even k one less on the
// side that is not padded.
constexpr int32_t leading_pad(int32_t k, bool larger_side) { return (k % 2 || larger_side) ? k / 2 : k / 2 - 1; }

}  // namespace evenconv
