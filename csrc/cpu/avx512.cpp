#include "isa.h"

#ifdef EVENCONV_X86_KERNELS
#include <cstdint>
#include <cstring>
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,f16c")
#define EVENCONV_ISA avx512
#define EVENCONV_VECTOR_BYTES 64
#include "kernels.h"

namespace evenconv {
const Kernels kAvx512Kernels = {"avx512", avx512::forward, avx512::backward, avx512::reduce};
}
#endif
