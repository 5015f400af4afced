// What starts the kernels, one function for each; every dtype is compiled in a file of its own.
#pragma once

#include <cuda_runtime.h>

#include "plan.h"

namespace evenconv::cuda {

// T is the type of the maps: float, double, __half or __nv_bfloat16.
template <class T>
void launch_forward(const ChainParams& params, const Plan& plan, cudaStream_t stream);

// partials: (splits, gradients, C) of the type of sums.
template <class T>
void launch_backward(const ChainParams& params, const Plan& plan, void* partials, cudaStream_t stream);

// The sums of the partials, in a fixed order, to the weights' and biases' gradients.
void launch_reduce(const ChainParams& params, const Plan& plan, const void* partials, cudaStream_t stream);

void launch_pad(const PadParams& params, cudaStream_t stream);
void launch_crop(const PadParams& params, cudaStream_t stream);

}  // namespace evenconv::cuda
