// Symmetric padding: one read of the tensor, one write of the padded one, and the crop that is its gradient.
#pragma once

#include "../params.h"

namespace evenconv {

// Tasks are planes (NCHW) or rows of all channels (channels_last) of the tensor that is written.
int64_t pad_tasks(const PadParams& params);
void pad(const PadParams& params, int64_t task);
int64_t crop_tasks(const PadParams& params);
void crop(const PadParams& params, int64_t task);

}  // namespace evenconv
