// The CUDA kernels on the CPU, as what runs the operators.
#pragma once

#include "../device.h"

namespace evenconv {

extern const Device kCudaOnHostDevice;

}  // namespace evenconv
