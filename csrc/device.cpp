#include "device.h"

#include <atomic>

namespace evenconv {
namespace {

std::atomic<const Device*> current = &kCpuDevice;

}  // namespace

const Device& host_device() { return *current.load(std::memory_order_relaxed); }

bool select_host_device(const std::string& name) {
  if (name == "cpu") {
    current = &kCpuDevice;
    return true;
  }
#ifdef EVENCONV_CUDA_ON_HOST
  if (name == "cuda_on_host") {
    current = &kCudaOnHostDevice;
    return true;
  }
#endif
  return false;
}

}  // namespace evenconv
