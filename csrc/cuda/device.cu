// The launches of each operator: one forward, two (the second only for weights' gradients) backward.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <stdexcept>
#include <string>

#include "../device.h"
#include "launchers.h"

namespace evenconv {
namespace cuda {
namespace {

constexpr int64_t kMostRows = 1 << 30;  // and columns: the kernels count them in 32 bits

Plan checked_plan(const ChainParams& p, bool backward) {
  if (p.H > kMostRows || p.W > kMostRows)
    throw std::runtime_error("x has H = " + std::to_string(p.H) + " and W = " + std::to_string(p.W) +
                             "; accepted on CUDA are at most " + std::to_string(kMostRows));
  return make_plan(p, backward);
}

cudaStream_t stream_of(const Runtime& runtime) { return static_cast<cudaStream_t>(runtime.stream); }

void forward(const ChainParams& p, const Runtime& runtime) {
  if (p.N == 0) return;
  const Plan plan = checked_plan(p, false);
  switch (p.dtype) {
    case Dtype::float32: return launch_forward<float>(p, plan, stream_of(runtime));
    case Dtype::float64: return launch_forward<double>(p, plan, stream_of(runtime));
    case Dtype::float16: return launch_forward<__half>(p, plan, stream_of(runtime));
    case Dtype::bfloat16: return launch_forward<__nv_bfloat16>(p, plan, stream_of(runtime));
  }
}

int64_t workspace_bytes(const ChainParams& p) {
  const Plan plan = checked_plan(p, true);
  return plan.sums ? plan.splits() * plan.gradients * p.C * (p.dtype == Dtype::float64 ? 8 : 4) : 0;
}

void launch(const ChainParams& p, const Plan& plan, void* partials, cudaStream_t stream) {
  switch (p.dtype) {
    case Dtype::float32: return launch_backward<float>(p, plan, partials, stream);
    case Dtype::float64: return launch_backward<double>(p, plan, partials, stream);
    case Dtype::float16: return launch_backward<__half>(p, plan, partials, stream);
    case Dtype::bfloat16: return launch_backward<__nv_bfloat16>(p, plan, partials, stream);
  }
}

void backward(const ChainParams& p, void* workspace, const Runtime& runtime) {
  const Plan plan = checked_plan(p, true);
  launch(p, plan, workspace, stream_of(runtime));
  if (plan.sums) launch_reduce(p, plan, workspace, stream_of(runtime));
}

void pad(const PadParams& p, const Runtime& runtime) { launch_pad(p, stream_of(runtime)); }
void crop(const PadParams& p, const Runtime& runtime) { launch_crop(p, stream_of(runtime)); }

}  // namespace
}  // namespace cuda

const Device kCudaDevice = {cuda::forward, cuda::workspace_bytes, cuda::backward, cuda::pad, cuda::crop};

}  // namespace evenconv
