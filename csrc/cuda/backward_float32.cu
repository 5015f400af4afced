#include "chain_backward.h"

namespace evenconv::cuda {
template void launch_backward<float>(const ChainParams&, const Plan&, void*, cudaStream_t);
}  // namespace evenconv::cuda
