#include "isa.h"

#ifdef EVENCONV_X86_KERNELS
#include <cstdint>
#include <cstring>
#pragma GCC target("avx2,fma,f16c")
#define EVENCONV_ISA avx2
#define EVENCONV_VECTOR_BYTES 32
#include "kernels.h"

namespace evenconv {
const Kernels kAvx2Kernels = {"avx2", avx2::forward, avx2::backward, avx2::reduce};
}
#endif
