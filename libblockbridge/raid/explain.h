// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "raid/array.h"

namespace bb::raid {

// Why the array is in its state and what happens next, in sentences for people, the most important
// first.
std::vector<std::string> explain(const ArrayInfo& info);

// How many more members may be lost, whichever they are, of those whose slots are in `there_mask`;
// counted up to three.
uint32_t losses_borne(const Shape& shape, uint64_t there_mask);

}  // namespace bb::raid
