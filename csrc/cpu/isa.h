// The chain kernels of one instruction set. A kernel does one task of a plan; tasks are independent and may run in any
// order on any thread.
#pragma once

#include <string>
#include <vector>

#include "../params.h"
#include "plan.h"

namespace evenconv {

struct Kernels {
  const char* isa;
  // scratch: the plan's bytes, of a cache line's alignment.
  void (*forward)(const ChainParams&, const Plan&, int64_t task, void* scratch);
  // partials: zeros at first, (chunks × bands, C, gradients).
  void (*backward)(const ChainParams&, const Plan&, int64_t task, void* scratch, double* partials);
  // Sums the partials of one channel in a fixed order into the weights' and biases' gradients.
  void (*reduce)(const ChainParams&, const Plan&, int64_t channel, const double* partials);
};

extern const Kernels kBaselineKernels;
// clang has no target pragma for whole files: what it builds is the baseline.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EVENCONV_X86_KERNELS
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
#endif

// Every instruction set that this build has and this processor runs, the best last.
std::vector<const Kernels*> available_kernels();

// The one in use: the best available, unless another was selected.
const Kernels& kernels();

// False if there is no such one.
bool select_kernels(const std::string& isa);

}  // namespace evenconv
