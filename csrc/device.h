// What runs the operators: the CPU's kernels or the CUDA kernels. Between ops.cpp, which knows PyTorch, and the
// kernels, which do not.
#pragma once

#include <functional>

#include "params.h"

namespace evenconv {

// What a device may use of the caller's.
struct Runtime {
  using Body = std::function<void(int64_t begin, int64_t end)>;
  void (*parallel_for)(int64_t count, int64_t grain, const Body& body);  // the CPU's threads
  void* stream;                                                          // CUDA's
};

// Errors are std::runtime_error.
struct Device {
  void (*forward)(const ChainParams&, const Runtime&);
  // Scratch memory that a backward needs, of any content.
  int64_t (*workspace_bytes)(const ChainParams&);
  void (*backward)(const ChainParams&, void* workspace, const Runtime&);
  void (*pad)(const PadParams&, const Runtime&);
  void (*crop)(const PadParams&, const Runtime&);
};

extern const Device kCpuDevice;
extern const Device kCudaDevice;  // in builds with EVENCONV_CUDA

// The device of CPU tensors: the CPU's kernels, unless a test has put the emulator's in their place.
const Device& host_device();

// For every thread from now on; nullptr is the CPU's kernels.
void set_host_device(const Device* device);

}  // namespace evenconv
