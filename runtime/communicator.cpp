#include "runtime/communicator.h"

#include <utility>

namespace bert {

std::vector<std::string> Communicator::all_gather(std::string bytes) {
  std::vector<std::string> all(static_cast<std::size_t>(size()));
  all[static_cast<std::size_t>(rank())] = std::move(bytes);
  for (int from = 0; from < size(); ++from) broadcast(all[static_cast<std::size_t>(from)], from);
  return all;
}

}  // namespace bert
