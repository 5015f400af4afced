#include "isa.h"

#include <atomic>
#include <cstdlib>

namespace evenconv {

std::vector<const Kernels*> available_kernels() {
  std::vector<const Kernels*> found = {&kBaselineKernels};
#ifdef EVENCONV_X86_KERNELS
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) {
    found.push_back(&kAvx2Kernels);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
      found.push_back(&kAvx512Kernels);
  }
#endif
  return found;
}

namespace {

std::atomic<const Kernels*>& current() {
  static std::atomic<const Kernels*> kernels = available_kernels().back();
  return kernels;
}

}  // namespace

const Kernels& kernels() { return *current().load(std::memory_order_relaxed); }

bool select_kernels(const std::string& isa) {
  for (const Kernels* candidate : available_kernels()) {
    if (candidate->isa != isa) continue;
    current().store(candidate, std::memory_order_relaxed);
    return true;
  }
  return false;
}

}  // namespace evenconv
