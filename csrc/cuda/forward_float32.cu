#include "chain_forward.h"

namespace evenconv::cuda {
template void launch_forward<float>(const ChainParams&, const Plan&, cudaStream_t);
}  // namespace evenconv::cuda
