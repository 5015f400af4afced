// The instruction set that every processor of the target has: SSE2 on x86-64, NEON on AArch64.
#define EVENCONV_ISA baseline
#define EVENCONV_VECTOR_BYTES 16
#include "isa.h"
#include "kernels.h"

namespace evenconv {
const Kernels kBaselineKernels = {"baseline", baseline::forward, baseline::backward, baseline::reduce};
}
