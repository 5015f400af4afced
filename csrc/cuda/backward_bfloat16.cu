#include "chain_backward.h"

namespace evenconv::cuda {
template void launch_backward<__nv_bfloat16>(const ChainParams&, const Plan&, void*, cudaStream_t);
}  // namespace evenconv::cuda
