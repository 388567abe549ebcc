// Numbers as people read them.
#pragma once

#include <cstddef>
#include <string>

namespace bert {

std::string format_duration(double seconds);  // "7s", "4m05s", "3h07m", "2d04h"
std::string format_rate(double per_second);   // "812", "8.8k", "1.25M"
std::string format_perplexity(double loss);   // exp(loss): "57.3", "1.2e+06"
std::string format_size(std::size_t bytes);   // "0.1 MB", "3.8 MB", "22.84 GB"; a MB is 10^6 bytes

}  // namespace bert
