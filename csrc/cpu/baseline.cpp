// The instruction set that every processor of the target has: SSE2 on x86-64, NEON on AArch64.
#define EVENCONV_ISA baseline
#include "isa.h"
#include "kernels.h"

namespace evenconv {
const Kernels kBaselineKernels = {"baseline", baseline::forward, baseline::backward, baseline::reduce};
}
