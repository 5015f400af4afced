// Stands where the CUDA kernels would: a forward that copies x, and makes the fault that the program's argument names,
// to see that the copies of the tensors in csrc/cuda_on_host/device.cpp show it.
#include <cuda_runtime.h>

#include <cstdio>
#include <stdexcept>
#include <string>

#include "../csrc/cuda_on_host/device.h"

namespace {

using namespace evenconv;

std::string wanted;

void launch(const void* pointer, bool is_write) {
  cudaLaunchConfig_t config{};
  config.gridDim = config.blockDim = dim3(1);
  const auto kernel = +[](const void* pointer, bool is_write) { EVENCONV_OBSERVE(pointer, 4, is_write); };
  cudaLaunchKernelEx(&config, kernel, pointer, is_write);
}

// Rows of 3, 4 elements apart.
void forward(const ChainParams& p, const Runtime&) {
  const float* x = static_cast<const float*>(p.x.data);
  float* y = static_cast<float*>(p.y.data);
  for (int h = 0; h < 2; ++h)
    for (int w = 0; w < 3; ++w)
      if (wanted != "leave out" || h == 0 || w < 2) y[4 * h + w] = x[4 * h + w];
  // Accesses that a kernel would have to announce, and ones that it does not.
  if (wanted == "announced beside") launch(y + 7, true);
  if (wanted == "announced to x") launch(x, true);
  if (wanted == "announced read beside") launch(x - 1, false);
  if (wanted == "after") y[7] = 1;
  if (wanted == "before") y[-1] = 1;
  if (wanted == "between rows") y[3] = 1;
  if (wanted == "between rows of x") y[0] = x[3];
}

}  // namespace

namespace evenconv {
const Device kCudaDevice = {forward, nullptr, nullptr, nullptr, nullptr};
}

int main(int, char** argv) {
  wanted = argv[1];
  alignas(16) float x[8] = {0, 1, 2, 3, 4, 5, 6, 7}, y[8];
  ChainParams p{};
  p.N = p.C = 1, p.H = 2, p.W = 3;
  p.stride_h = p.stride_w = 1;
  p.x = {x, {0, 0, 4, 1}}, p.y = {y, {0, 0, 4, 1}};
  for (float& value : y) value = -1;
  try {
    kCudaOnHostDevice.forward(p, {});
    for (float value : y) std::printf("%g ", value);
  } catch (const std::runtime_error& error) {
    std::printf("%s", error.what());
  }
}
