// The weights' and biases' gradients from the blocks' partial sums, in a fixed order: kParts threads add every
// kParts-th split each, in double, and one adds up what they found.
#include "launchers.h"
#include "walk.h"

namespace evenconv::cuda {
namespace {

constexpr int kThreads = 256, kParts = 8, kSums = kThreads / kParts;

// Where the gradient of a chain's counting goes: an element of a weight's or a bias's gradient, or nowhere.
struct Place {
  void* to;
  int64_t index;

  __device__ Place(const ChainParams& p, int64_t gradient, int64_t channel) : to(nullptr), index(0) {
    for (int s = 0; s < p.stages; ++s) {
      const int64_t count = p.stage[s].kh * p.stage[s].kw;
      if (gradient <= count) {
        to = gradient < count ? p.stage[s].grad_weight : p.stage[s].grad_bias;
        index = gradient < count ? channel * count + gradient : channel;
        return;
      }
      gradient -= count + 1;
    }
  }
};

template <class S, class Weight>
__global__ void __launch_bounds__(kThreads)
    reduce(const __grid_constant__ ChainParams p, int64_t splits, int64_t sums, const S* partials) {
  const int lane = threadIdx.x % kSums, part = threadIdx.x / kSums;
  const int64_t sum = int64_t{blockIdx.x} * kSums + lane;
  double total = 0;
  if (sum < sums)
    for (int64_t split = part; split < splits; split += kParts)
      total += load<Pack<S, 1>>(partials + split * sums + sum).value[0];
  double* const totals = reinterpret_cast<double*>(dynamic_shared());
  store(totals + part * kSums + lane, Pack<double, 1>{total});
  __syncthreads();
  if (part > 0 || sum >= sums) return;
  for (int i = 1; i < kParts; ++i) total += load<Pack<double, 1>>(totals + i * kSums + lane).value[0];
  const Place place(p, sum / p.C, sum % p.C);
  if (!place.to) return;
  Pack<Weight, 1> result;
  narrow(result.value[0], static_cast<Sum<Weight>>(total));
  store(static_cast<Weight*>(place.to) + place.index, result);
}

template <class S, class Weight>
void launch_types(const ChainParams& p, const Plan& plan, const void* partials, cudaStream_t stream) {
  const int64_t sums = plan.gradients * p.C;
  launch(reduce<S, Weight>, (sums + kSums - 1) / kSums, kThreads, kThreads * sizeof(double), stream, p, plan.splits(),
         sums, static_cast<const S*>(partials));
}

}  // namespace

void launch_reduce(const ChainParams& p, const Plan& plan, const void* partials, cudaStream_t stream) {
  switch (p.weight_dtype) {
    case Dtype::float32: return launch_types<float, float>(p, plan, partials, stream);
    case Dtype::float64: return launch_types<double, double>(p, plan, partials, stream);
    case Dtype::float16: return launch_types<float, __half>(p, plan, partials, stream);
    case Dtype::bfloat16: return launch_types<float, __nv_bfloat16>(p, plan, partials, stream);
  }
}

}  // namespace evenconv::cuda
