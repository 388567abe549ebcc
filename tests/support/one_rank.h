// A rank of a job whose other ranks are not there.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "runtime/communicator.h"

namespace bert {

// Reductions leave what it has itself; what a test wants to hear of the others, it overrides.
class OneRank : public Communicator {
 public:
  explicit OneRank(int rank = 0, int size = 2) : rank_(rank), size_(size) {}
  std::string name() const override { return "one rank"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  int local_rank() const override { return rank_; }
  int local_size() const override { return size_; }
  void all_reduce_sum(const Tensor&) override {}
  void all_reduce_max(std::vector<std::int64_t>&) override {}
  void broadcast(std::string&, int) override {}
  void barrier() override {}
  [[noreturn]] void abort(int exit_code) override { std::_Exit(exit_code); }

 private:
  int rank_, size_;
};

}  // namespace bert
