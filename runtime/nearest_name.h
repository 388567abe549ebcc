// Which of the names there are someone may have meant by one that there is not.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace bert {

// How many single-character changes lead from `a` to `b` (Levenshtein 1966).
std::size_t edit_distance(std::string_view a, std::string_view b);

// The first of `names` that takes the fewest changes; "" when all take more than `most`.
std::string nearest_name(std::string_view name, const std::vector<std::string>& names,
                         std::size_t most);

}  // namespace bert
