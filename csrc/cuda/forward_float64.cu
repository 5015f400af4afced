#include "chain_forward.h"

namespace evenconv::cuda {
template void launch_forward<double>(const ChainParams&, const Plan&, cudaStream_t);
}  // namespace evenconv::cuda
