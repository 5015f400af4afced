#include "chain_backward.h"

namespace evenconv::cuda {
template void launch_backward<__half>(const ChainParams&, const Plan&, void*, cudaStream_t);
}  // namespace evenconv::cuda
