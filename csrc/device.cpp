#include "device.h"

#include <atomic>

namespace evenconv {
namespace {

std::atomic<const Device*> current = &kCpuDevice;

}  // namespace

const Device& host_device() { return *current.load(std::memory_order_relaxed); }

void set_host_device(const Device* device) { current.store(device ? device : &kCpuDevice, std::memory_order_relaxed); }

}  // namespace evenconv
